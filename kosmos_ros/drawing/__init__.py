"""Pictures for users: boxes and text drawn on images."""
