"""The simulated table: random scenes and their rendering."""
