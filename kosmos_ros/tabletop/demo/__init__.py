"""`make demo`: a simulated camera, a client of the node, and its report."""
