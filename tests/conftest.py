"""What tests of several rooms share."""

from pathlib import Path
import sys

import pytest

# An installed package, as far as Python can tell, whose engine `fake` is the scripted one.
sys.path.append(str(Path(__file__).parent / 'plugins'))
SHARED_DATA = Path(__file__).resolve().parents[2] / 'shared' / 'data' / 'kosmos2'


@pytest.fixture(scope='session')
def shared_data() -> Path:
    """The released tokenizer model and photos; they lie beside the repository."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f'the released tokenizer and the photos are not in {SHARED_DATA}')
    return SHARED_DATA
