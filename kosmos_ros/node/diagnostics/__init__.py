"""What an operator sees on ``/diagnostics``."""
