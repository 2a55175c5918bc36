"""What tests of several rooms share."""

from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / 'shared' / 'data' / 'kosmos2'


@pytest.fixture(scope='session')
def shared_data() -> Path:
    """The released tokenizer model and photos; they lie beside the repository."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f'the released tokenizer and the photos are not in {SHARED_DATA}')
    return SHARED_DATA
