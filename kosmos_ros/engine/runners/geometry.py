"""How tokens lie in caches: shared by all runners, so that masks and positions cannot differ
between them.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from kosmos_ros.engine.base import Tokens
from kosmos_ros.errors import EngineError

# Where shapes are free: tokens that one prefill reads at most, since others wait for its end, and
# slots that a cache without room for one more token gets at once.
CHUNK = 256
GROWTH = 64
# Rows of the head that are wanted at once as float32.
_HEAD_ROWS = 8192


def visible(
    start: Tokens, new: int, shared: int, slots: int, prefix: int | None = None
) -> npt.NDArray[np.bool_]:
    """What each new token may look at: the whole prefix, its own row's past, and of the new tokens
    those up to itself.

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
    """Place of each new token in its sequence, first 0: int64[B,Q]."""
    return shared + start[:, None] + np.arange(new)


def image_slots(ids: Tokens, image_token: int, latents: int) -> Tokens:
    """Where in a single row [1,Q] the image embeddings go: the `latents` places behind each
    ``<image>``.
    """
    begins = np.nonzero(ids[0] == image_token)[0] + 1
    return (begins[:, None] + np.arange(latents)).ravel()


def check_places(start: Tokens, new: int, shared: int, most: int) -> None:
    """
    :raises EngineError: when the new tokens, see `visible`, have no places among `most`.
    """
    needed = shared + int(start.max(initial=0)) + new
    if needed > most:
        raise EngineError(f'the model has {most} positions, and {needed} are needed')


def head_rows(first: int, last: int) -> Iterator[slice]:
    """Rows first..last-1 of the head, in pieces: the whole of it in float32 may be larger than all
    other memory that a step needs.
    """
    for begin in range(first, last, _HEAD_ROWS):
        yield slice(begin, min(begin + _HEAD_ROWS, last))
