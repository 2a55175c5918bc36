"""Benchmarks: protocols and the figures that they print."""
