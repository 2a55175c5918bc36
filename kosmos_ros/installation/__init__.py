"""The set-up of ``.venv``: checks, stages, and one-line messages for failures.

This package uses only the standard library, because it runs before anything is installed.
"""
