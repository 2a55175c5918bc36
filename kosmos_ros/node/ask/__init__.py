"""The action ``ask``: answers in words."""
