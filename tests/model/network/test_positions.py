"""The table of sinusoidal positions."""

import numpy as np
import pytest
from transformers.models.kosmos2.modeling_kosmos2 import (
    Kosmos2TextSinusoidalPositionalEmbedding,
)

from kosmos_ros.model.network.positions import sinusoidal_positions

pytestmark = pytest.mark.parity


@pytest.mark.parametrize(
    ('length', 'width', 'pad'),
    [(2048, 2048, 1), (128, 32, 1), (300, 16, 1), (100, 40, 0), (10, 9, 3)],
)
def test_equals_transformers(length: int, width: int, pad: int) -> None:
    table = sinusoidal_positions(length, width, pad)
    assert table.shape == (length, width)
    assert table.dtype == np.float32
    theirs = Kosmos2TextSinusoidalPositionalEmbedding(length + pad, width, pad).weights.numpy()
    # Their frequencies are float32, and processors round them differently: the tolerance is half a
    # unit in the last place, times the position.
    assert np.abs(table - theirs[pad + 1 : pad + 1 + length]).max() < 1e-5 + length * 2**-24
