"""Engine directories: what is in them, and the proof that it is what was put there."""
