"""Texts that every middleware can carry."""


def one_line(text: str, at_most: int = 400) -> str:
    """Return any text as one printable line.

    A character that cannot be encoded would raise while the reply is sent, and the client would
    wait until its own time-out.
    """
    return ''.join(c if c.isprintable() else f'\\x{ord(c):02x}' for c in text[:at_most])
