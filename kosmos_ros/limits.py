"""The bounds within which the node promises to answer."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What is refused before any work is done for it."""

    # 32 Mpx is an 8K camera; a header that claims more is a mistake or an attack.
    max_pixels: int = 32_000_000
    max_expression_chars: int = 512
    max_expression_tokens: int = 64
    max_results: int = 64
    # Of questions with an answer in words.
    max_text_chars: int = 4000
    max_images: int = 16
    max_regions: int = 64
    max_beams: int = 8
    # Such questions that may be under way at once; one more is BUSY at once.
    max_asks: int = 4
    # Calls that may wait for the worker; one more is BUSY at once.
    max_waiting: int = 4
    max_timeout_s: float = 60.0
    max_ask_timeout_s: float = 600.0
