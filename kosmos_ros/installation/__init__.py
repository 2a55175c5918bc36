"""Setting up ``.venv``: checks, stages, and one clear line for whatever goes wrong.

Only the standard library is used here: this runs before anything is installed.
"""
