"""The simulated table: what lies on it, and how a camera sees it."""
