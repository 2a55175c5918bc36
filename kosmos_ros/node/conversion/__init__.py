"""Messages to what an engine takes, and answers to messages."""
