"""The hub as a stand-in, and its user."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

from huggingface_hub import constants, file_download
from huggingface_hub.utils import close_session
import pytest

from .hub_user import CHUNK, User
from .stand_in_hub import FIRST, Hub, served


@pytest.fixture
def hub(checkpoint: Path) -> Hub:
    """Holds the tiny checkpoint, and beside it what repositories have."""
    files = {path.name: path.read_bytes() for path in checkpoint.iterdir()}
    beside = ('README.md', 'generation_config.json', 'tokenizer.json', 'modeling.py')
    pickles = ('pytorch_model.bin', 'optimizer.bin', 'original/model.safetensors')
    return Hub({FIRST: files | dict.fromkeys(beside + pickles, b'not for us')})


@pytest.fixture
def user(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[User]:
    cache = tmp_path / 'cache'
    for name in ('HF_TOKEN', 'HUGGING_FACE_HUB_TOKEN', 'HTTP_PROXY', 'http_proxy'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('NO_PROXY', '*')
    for name, value in {
        'HF_HUB_CACHE': str(cache),
        'HF_TOKEN_PATH': str(tmp_path / 'token'),
        'HF_HUB_OFFLINE': False,
        'HF_HUB_DISABLE_TELEMETRY': True,
        'DOWNLOAD_CHUNK_SIZE': CHUNK,
    }.items():
        monkeypatch.setattr(constants, name, value)
    # Between its attempts.
    monkeypatch.setattr(file_download, 'time', SimpleNamespace(sleep=lambda seconds: None))
    # The next one must know these settings.
    close_session()
    with served(hub) as endpoint:
        user = User(cache, monkeypatch)
        user.goes_to(endpoint)
        yield user
        close_session()
