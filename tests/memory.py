"""Tests that need much memory."""

import psutil
import pytest


def needs_memory(gb: int) -> pytest.MarkDecorator:
    """Skip where fewer gigabytes are available."""
    return pytest.mark.skipif(
        psutil.virtual_memory().available < gb * 1e9,
        reason=f'less than {gb} GB of memory is available',
    )
