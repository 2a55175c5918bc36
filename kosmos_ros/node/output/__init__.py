"""What the node publishes for planners and for people."""
