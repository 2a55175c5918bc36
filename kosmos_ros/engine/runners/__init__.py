"""Backends.  Each module imports its own library; only the one that is used is ever imported."""
