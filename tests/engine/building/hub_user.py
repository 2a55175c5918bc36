"""A user of the hub whose cache is empty at first."""

import json
from pathlib import Path

from huggingface_hub import constants
import pytest
from safetensors.torch import load_file, save

from kosmos_ros.engine.building.hub import Checkpoint, find_checkpoint
from kosmos_ros.errors import EngineFileError
from kosmos_ros.model.tokenizer import SENTENCEPIECE

from .stand_in_hub import FIRST, REPOSITORY, Hub

CONFIG, WEIGHTS = 'config.json', 'model.safetensors'
INDEX = 'model.safetensors.index.json'
NEEDED = [CONFIG, SENTENCEPIECE, WEIGHTS]
CHUNK = 1000
CLOSED = 'http://127.0.0.1:9'


class User:
    """Calls as a user does, on a machine whose cache is empty at first."""

    def __init__(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cache, self._monkeypatch = cache, monkeypatch
        self.lines: list[str] = []

    def __call__(self, checkpoint: str = REPOSITORY, revision: str | None = None) -> Checkpoint:
        self.lines.clear()
        return find_checkpoint(checkpoint, revision, self.lines.append)

    def refused(self, checkpoint: str = REPOSITORY, revision: str | None = None) -> str:
        """What the user is told, in one line."""
        with pytest.raises(EngineFileError) as caught:
            self(checkpoint, revision)
        assert '\n' not in str(caught.value)
        return str(caught.value)

    def goes_to(self, endpoint: str) -> None:
        template = endpoint + '/{repo_id}/resolve/{revision}/{filename}'
        self._monkeypatch.setattr(constants, 'ENDPOINT', endpoint)
        self._monkeypatch.setattr(constants, 'HUGGINGFACE_CO_URL_TEMPLATE', template)

    def incomplete(self) -> list[int]:
        """Sizes of what was left for another time."""
        return [path.stat().st_size for path in self.cache.rglob('*.incomplete')]


def shard(hub: Hub, checkpoint: Path) -> None:
    """Spread the weights over two files."""
    weights = load_file(checkpoint / WEIGHTS)
    names = sorted(weights)
    held = {'a-1.safetensors': names[::2], 'a-2.safetensors': names[1::2]}
    files = hub.commits[FIRST]
    del files[WEIGHTS]
    for file, tensors in held.items():
        files[file] = save({name: weights[name] for name in tensors})
    weight_map = {name: file for file, tensors in held.items() for name in tensors}
    files[INDEX] = json.dumps({'weight_map': weight_map}).encode()
