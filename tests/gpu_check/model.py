"""The part `model`: random weights in a checkpoint directory, and an engine made of it."""

import gc
import json
import math
import shutil

from safetensors.torch import save_file
import torch
from torch import Tensor

from gpu_check.attempt import refusals
from gpu_check.questions import WORDS
from gpu_check.task import Findings, Task
from kosmos_ros.engine.building.build import build_engine
from kosmos_ros.engine.directory.directory import CONFIG_FILE, WEIGHTS_FILE
from kosmos_ros.engine.directory.recipe import recipe_named
from kosmos_ros.model.config import EMBEDDING, HEAD, Kosmos2Config
from kosmos_ros.model.network.kosmos2 import Kosmos2
from kosmos_ros.model.vocabulary import LOCATIONS, TAGS

_DECODER = 'text_model.model.'
_SPECIAL = ('<s>', '<pad>', '</s>', '<unk>')
_DEVIATION = 0.02
# Of the scores of locations.  With rows as small as the others all boxes would be about equally
# probable, and the search for the best one would take a hundred steps; the trained model's takes
# one.
_LOCATION_DEVIATION = 3.6


def make_engine(task: Task, findings: Findings) -> None:
    """Make the engine directory that all other parts use."""
    checkpoint = task.folder / 'checkpoint'
    checkpoint.mkdir()
    (checkpoint / CONFIG_FILE).write_text(json.dumps(task.config.to_dict()), encoding='utf-8')
    tokenizer = json.dumps(_tokenizer(task.config.text.vocab_size))
    (checkpoint / 'tokenizer.json').write_text(tokenizer, encoding='utf-8')
    weights = random_weights(task.config)
    findings.figure('parameters', sum(weight.numel() for weight in weights.values()))
    findings.figure('layers', task.config.text.layers)
    findings.figure('bytes_of_a_pass', _bytes_of_a_pass(weights))
    save_file(weights, checkpoint / WEIGHTS_FILE)
    # The build needs the memory.
    del weights
    gc.collect()
    findings.line('random weights are drawn')
    recipe = task.recipe or recipe_named('desktop')
    with refusals():
        build_engine(
            checkpoint,
            task.engine,
            recipe,
            name='Kosmos-2 of random weights',
            report=findings.line,
        )
    shutil.rmtree(checkpoint)


def random_weights(config: Kosmos2Config) -> dict[str, Tensor]:
    """Draw all weights of a model whose head is its embedding, in float16."""
    with torch.device('meta'):
        shapes = {name: weight.shape for name, weight in Kosmos2(config).state_dict().items()}
    del shapes[HEAD]
    torch.manual_seed(0)
    # Drawing 1.7 billion numbers takes long: all weights come from one strip.
    strip = (torch.randn(2**24 + 43) * _DEVIATION).half()
    weights = {}
    for index, (name, shape) in enumerate(shapes.items()):
        weight = torch.empty(shape, dtype=torch.float16)
        # Each begins at its own place, so that no two are equal.
        flat, filled, begin = weight.view(-1), 0, index * 12_345
        while filled < len(flat):
            part = strip[begin : begin + len(flat) - filled]
            flat[filled : filled + len(part)] = part
            filled, begin = filled + len(part), 0
        if weight.dim() == 1 and name.endswith('weight'):
            weight += 1
        weights[name] = weight
    # The last state has a deviation of 1 in each of its dimensions.
    present = _DEVIATION * math.sqrt(config.text.embed_dim)
    weights[EMBEDDING][-LOCATIONS:] *= _LOCATION_DEVIATION / present
    return weights


def _bytes_of_a_pass(weights: dict[str, Tensor]) -> int:
    """Return what any run of the decoder for a box reads at least: its layers, and the rows of the
    head that belong to locations.
    """
    layers = [
        weight.nbytes
        for name, weight in weights.items()
        if name.startswith(_DECODER) and name != EMBEDDING
    ]
    return sum(layers) + weights[EMBEDDING][-LOCATIONS:].nbytes


def _tokenizer(size: int) -> dict[str, object]:
    """Return the ``tokenizer.json`` of a vocabulary with this number of ids: `WORDS` and made-up
    ones.
    """
    count = size - LOCATIONS - len(TAGS) - len(_SPECIAL)
    made_up = (f'word{index}' for index in range(count - len(WORDS)))
    pieces = [*_SPECIAL, *(f'\u2581{word}' for word in (*WORDS, *made_up))]
    model = {'type': 'Unigram', 'vocab': [[piece, -10.0] for piece in pieces]}
    return {'model': model, 'normalizer': None}
