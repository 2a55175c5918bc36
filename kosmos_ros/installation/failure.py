"""The error of the set-up."""


class SetupError(Exception):
    """An error that stops the set-up; its message is one line with the problem and a remedy."""
