"""Boxes and words on pictures, for people."""
