"""TensorRT: plans for one machine, and the program that runs them."""
