"""A tiny Kosmos-2 with random weights as checkpoint and as engines of all precisions."""

from dataclasses import replace
import json
from pathlib import Path

import pytest
from safetensors.torch import save_file
import torch

from kosmos_ros.engine.building.build import build_engine
from kosmos_ros.engine.directory.directory import EngineDirectory
from kosmos_ros.engine.directory.recipe import Recipe, recipe_named
from kosmos_ros.model.config import Kosmos2Config
from kosmos_ros.model.network.kosmos2 import Kosmos2
from kosmos_ros.model.vocabulary import Vocabulary
from kosmos_ros.tabletop.language.word_model import write_word_model

from .cases import KINDS, Case


@pytest.fixture(scope='session', autouse=True)
def _one_thread() -> None:
    """Threads that wait for each other on a busy machine take thirty times as long for networks as
    small as these.
    """
    torch.set_num_threads(1)


@pytest.fixture(scope='session')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory as `save_pretrained` lays it out."""
    directory = tmp_path_factory.mktemp('checkpoint')
    tokenizer = directory / 'sentencepiece.bpe.model'
    write_word_model(tokenizer)
    content = {
        'latent_query_num': 6,
        'text_config': {
            'vocab_size': Vocabulary.from_file(tokenizer).size,
            'embed_dim': 32,
            'layers': 2,
            'ffn_dim': 64,
            'attention_heads': 4,
            'max_position_embeddings': 128,
        },
        'vision_config': {
            'hidden_size': 24,
            'intermediate_size': 48,
            'num_hidden_layers': 2,
            'num_attention_heads': 3,
            'image_size': 42,
            'patch_size': 14,
        },
    }
    (directory / 'config.json').write_text(json.dumps(content))
    torch.manual_seed(3)
    network = Kosmos2(Kosmos2Config.from_dict(content))
    for parameter in network.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    weights = {
        name: value
        for name, value in network.state_dict().items()
        if name != 'text_model.lm_head.weight'
    }
    save_file(weights, directory / 'model.safetensors')
    return directory


@pytest.fixture(scope='session')
def recipe() -> Recipe:
    """Small shapes for a small model, on ONNX Runtime."""
    return replace(
        recipe_named('cpu'),
        prefix=16,
        prefill=((1, 24, 32), (1, 8, 32), (4, 16, 32), (1, 8, 112), (1, 24, 112)),
        decode=((1, 32), (4, 32), (8, 32), (1, 112), (4, 88)),
    )


@pytest.fixture(scope='session')
def engines(
    checkpoint: Path, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Engine directories by runner and precision."""
    out = tmp_path_factory.mktemp('engines')
    for runner, precision in (
        ('onnxruntime', 'fp32'),
        ('onnxruntime', 'int8'),
        ('tensorrt', 'fp32'),
        ('tensorrt', 'fp16'),
        ('tensorrt', 'int8'),
        ('tensorrt', 'bf16'),
    ):
        target = replace(recipe, runner=runner, precision=precision)
        directory = out / f'{runner}-{precision}'
        build_engine(checkpoint, directory, target, name='tiny', report=lambda line: None)
    return {path.name: path for path in out.iterdir()}


@pytest.fixture(scope='module', params=KINDS)
def case(request: pytest.FixtureRequest, engines: dict[str, Path]) -> Case:
    """Every runner with every graph that it can run."""
    make, tolerance = KINDS[request.param]
    files = EngineDirectory.verified(engines[request.param.split()[0]])
    return Case(files, make(files), tolerance)
