"""Writing of checkpoints in the layout of `transformers`' save_pretrained."""

import json
import os
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from kosmos_ros.model.config import HEAD
from kosmos_ros.model.network.kosmos2 import Kosmos2

WORD_MODEL = 'sentencepiece.bpe.model'


def save(model: Kosmos2, directory: Path) -> None:
    """Write `model.safetensors` and `config.json`, each atomically.

    The head is tied to the embedding, so it is not written.
    """
    state = model.state_dict()
    state.pop(HEAD)
    weights = directory / 'model.safetensors'
    save_file(state, weights.with_suffix('.part'), metadata={'format': 'pt'})
    os.replace(weights.with_suffix('.part'), weights)
    config = directory / 'config.json'
    text = json.dumps(config_content(model), indent=2, sort_keys=True) + '\n'
    config.with_suffix('.part').write_text(text, encoding='utf-8')
    os.replace(config.with_suffix('.part'), config)


def config_content(model: Kosmos2) -> dict[str, Any]:
    """Return the content of `config.json`, with the additional fields of `transformers`."""
    return {
        'architectures': ['Kosmos2ForConditionalGeneration'],
        'dtype': 'float32',
        'tie_word_embeddings': True,
        **model.config.to_dict(),
    }
