"""The one error of the set-up."""


class SetupError(Exception):
    """Something that stops the set-up; its text is one line: what is wrong, and the cure."""
