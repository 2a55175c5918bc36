"""Sinusoidal position embeddings, in NumPy because runners without torch need them too."""

import numpy as np
import numpy.typing as npt


def sinusoidal_positions(length: int, width: int, pad_token_id: int) -> npt.NDArray[np.float32]:
    """Return a table float32[length, width]; row i belongs to token i of a sequence (first: 0).

    The layout is tensor2tensor's: sines in the first half, cosines in the second.  fairseq numbers
    real tokens from ``pad_token_id + 1``, so row i is evaluated at i + pad_token_id + 1
    (transformers, Kosmos2TextSinusoidalPositionalEmbedding).
    """
    half = width // 2
    exponent = np.arange(half, dtype=np.float32) * np.float32(-np.log(10000) / (half - 1))
    # exp is computed in float64: NumPy's float32 exp differs from torch's in the last bit, and
    # that error grows to 2e-4 at position 2,000.
    frequency = np.exp(exponent.astype(np.float64)).astype(np.float32)
    index = np.arange(length, dtype=np.float32) + np.float32(pad_token_id + 1)
    angle = index[:, None] * frequency[None]
    table = np.concatenate(
        [np.sin(angle), np.cos(angle), np.zeros((length, width % 2), np.float32)], axis=1
    )
    return table.astype(np.float32)
