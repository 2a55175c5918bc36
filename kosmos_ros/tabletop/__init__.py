"""A simulated table with a camera, for the demo and for training the embedded model."""
