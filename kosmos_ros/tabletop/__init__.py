"""A simulated table with a camera: the demo's world, and the school of the embedded model."""
