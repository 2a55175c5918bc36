"""Masks, positions and slots of tokens in caches: the same for all runners."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from kosmos_ros.engine.base import Tokens
from kosmos_ros.errors import EngineError

# Where shapes are free: the most tokens that one prefill reads, since other work waits for its
# end, and the slots by which a full cache grows.
CHUNK = 256
GROWTH = 64
# Rows of the head that are converted to float32 at once.
_HEAD_ROWS = 8192


def attention_mask(
    start: Tokens, new: int, shared: int, slots: int, prefix: int | None = None
) -> npt.NDArray[np.bool_]:
    """Return which slots each new token attends to: the whole prefix, its own row's past, and the
    new tokens up to itself.

    Slots from `start` on hold padding or old tokens; they are hidden until they are overwritten.

    :param start: int64[B], slot of each row's first new token.
    :param new: new tokens per row, Q.
    :param shared: tokens of the prefix.
    :param slots: slots of a row's own cache, S.
    :param prefix: prefix slots, P, of which the first `shared` are filled; all, if not given.
    :return: bool[B,Q,P+S+Q].
    """
    filled = np.arange(shared if prefix is None else prefix) < shared
    past = np.arange(slots) < start[:, None, None]
    parts = (filled, past, np.tri(new, dtype=np.bool_))
    return np.concatenate(
        [np.broadcast_to(part, (len(start), new, part.shape[-1])) for part in parts], axis=2
    )


def positions(start: Tokens, new: int, shared: int) -> Tokens:
    """Return the position of each new token in its sequence, from 0: int64[B,Q]."""
    return shared + start[:, None] + np.arange(new)


def image_slots(ids: Tokens, image_token: int, latents: int) -> Tokens:
    """Return the indices in a single row [1,Q] that image embeddings replace: the `latents` ids
    after each ``<image>``.
    """
    begins = np.nonzero(ids[0] == image_token)[0] + 1
    return (begins[:, None] + np.arange(latents)).ravel()


def check_positions(start: Tokens, new: int, shared: int, most: int) -> None:
    """Check that a model of `most` positions has one for each new token; see `attention_mask`.

    :raises EngineError: when it has not.
    """
    needed = shared + int(start.max(initial=0)) + new
    if needed > most:
        raise EngineError(f'the model has {most} positions, and {needed} are needed')


def head_rows(first: int, last: int) -> Iterator[slice]:
    """Yield rows first..last-1 of the head in pieces.

    The whole head in float32 may be larger than all other memory that a step needs.
    """
    for begin in range(first, last, _HEAD_ROWS):
        yield slice(begin, min(begin + _HEAD_ROWS, last))
