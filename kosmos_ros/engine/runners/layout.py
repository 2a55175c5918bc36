"""How tokens lie in caches: shared by all runners, so that masks and positions cannot differ
between them.
"""

import numpy as np
import numpy.typing as npt

from kosmos_ros.engine.base import Tokens


def visible(
    start: Tokens, new: int, shared: int, slots: int, prefix: int | None = None
) -> npt.NDArray[np.bool_]:
    """Which slots each new token may look at: the whole prefix, its own row's past, and itself.

    Slots behind a row's newest token hold padding or old tokens; they are hidden until they are
    overwritten.

    :param start: int64[B], slot of each row's first new token.
    :param new: new tokens per row, Q.
    :param shared: tokens of the prefix.
    :param slots: slots of a row's own cache, S.
    :param prefix: prefix slots, P, of which the first `shared` are filled; all, if not given.
    :return: bool[B,Q,P+S].
    """
    last = start[:, None] + np.arange(new)
    own = np.arange(slots) <= last[:, :, None]
    filled = np.arange(shared if prefix is None else prefix) < shared
    return np.concatenate([np.broadcast_to(filled, (*own.shape[:2], len(filled))), own], axis=2)


def positions(start: Tokens, new: int, shared: int) -> Tokens:
    """Place of each new token in its sequence, first 0: int64[B,Q]."""
    return shared + start[:, None] + np.arange(new)


def image_slots(ids: Tokens, image_token: int, latents: int) -> Tokens:
    """Where in a single row [1,Q] the image embeddings go: the `latents` places behind each
    ``<image>``.
    """
    begins = np.nonzero(ids[0] == image_token)[0] + 1
    return (begins[:, None] + np.arange(latents)).ravel()
