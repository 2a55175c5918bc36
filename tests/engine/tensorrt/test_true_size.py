"""The released model's true size as an engine for TensorRT, with random weights: built by the
whole chain, each of its graphs run by ONNX Runtime, and made a plan by NVIDIA's builder.

Every shape is the released one.  Of the 24 equal layers of the decoder and of the vision encoder,
the usual run keeps two each: 0.3 of 1.7 billion parameters, as all take minutes and 18 GB.  So it
does not see how rounding adds up over 24 layers, nor a weight file of 3.3 GB; for offsets as large
as those there is building/test_weight_offsets.py.  `make nightly` has all layers.
"""

from collections.abc import Iterator
from dataclasses import replace
import gc
from importlib import import_module
import json
import os
from pathlib import Path
import resource
import shutil
import time

from gpu_check.model import random_weights
from memory import needs_memory
import pytest
from safetensors.torch import save_file
import torch

from kosmos_ros.engine.building.build import build_engine
from kosmos_ros.engine.building.plans import build_plans
from kosmos_ros.engine.directory.directory import (
    CONFIG_FILE,
    RECIPE_FILE,
    REFERENCE_FILE,
    TOKENIZER_FILE,
    WEIGHTS_FILE,
    EngineDirectory,
)
from kosmos_ros.engine.directory.recipe import Recipe, recipe_named
from kosmos_ros.engine.directory.reference import ReferenceAnswers, self_check
from kosmos_ros.engine.runners.onnxruntime import OnnxRuntimeRunner
from kosmos_ros.engine.tensorrt.plans import stored_plans
from kosmos_ros.engine.tensorrt.tiers import TIERS
from kosmos_ros.model.config import Kosmos2Config

FULL = Kosmos2Config()
SHALLOW = replace(
    FULL, text=replace(FULL.text, layers=2), vision=replace(FULL.vision, num_hidden_layers=2)
)
# Parameters of one layer of the decoder, without biases and norms.
DECODER_LAYER = 4 * 2048**2 + 2 * 2048 * 8192
# Most bytes of a plan that are not weights.
CODE = 30_000_000
pytestmark = pytest.mark.engines
PARAMETERS = {FULL: 1_664_485_376, SHALLOW: 279_035_904}


class Log:
    """What a stage took, for docs/log.md: shown by pytest -s."""

    def __init__(self) -> None:
        self._begin = time.monotonic()

    def __call__(self, line: str) -> None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(f'{time.monotonic() - self._begin:6.1f} s, peak {peak:5.2f} GB: {line}', flush=True)


@pytest.fixture(
    scope='module',
    params=[
        pytest.param(
            (SHALLOW, precision),
            id=f'2 layers, {precision}',
            # Twenty seconds, most of it in the exporter: on a busy machine, minutes.
            marks=[pytest.mark.timeout(480), needs_memory(4)],
        )
        for precision in ('fp16', 'int8')
    ]
    + [
        pytest.param(
            (FULL, 'fp16'),
            id='24 layers, fp16',
            # Three minutes on two idle cores.
            marks=[pytest.mark.slow, pytest.mark.timeout(1500), needs_memory(18)],
        ),
    ],
)
def engine(
    request: pytest.FixtureRequest, shared_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    config, precision = request.param
    # Other tests have only one.
    torch.set_num_threads(os.cpu_count() or 1)
    folder = tmp_path_factory.mktemp('true_size')
    checkpoint = folder / 'checkpoint'
    checkpoint.mkdir()
    log = Log()
    (checkpoint / CONFIG_FILE).write_text(json.dumps(config.to_dict()))
    shutil.copy(shared_data / TOKENIZER_FILE, checkpoint)
    weights = random_weights(config)
    log('drawn')
    save_file(weights, checkpoint / WEIGHTS_FILE)
    del weights
    gc.collect()
    recipe = recipe_named('rtx').with_precision(precision)
    build_engine(checkpoint, folder / 'engine', recipe, name='true size', report=log)
    shutil.rmtree(checkpoint)
    yield folder / 'engine'
    # pytest would keep it, and those of the two runs before.
    shutil.rmtree(folder)
    torch.set_num_threads(1)


@pytest.mark.parametrize('tier', [tier.name for tier in TIERS])
def test_answers_as_the_reference(engine: Path, tier: str) -> None:
    log = Log()
    files = EngineDirectory.verified(engine)
    reference = ReferenceAnswers.read(engine / REFERENCE_FILE)
    image_token = files.vocabulary.image_open
    runner = OnnxRuntimeRunner(engine, files.config, image_token, files.recipe, tier)
    log(f'{tier} loaded')
    for line in self_check(runner, reference, 'full', files.recipe.precision):
        log(line)
    runner.close()
    del runner
    gc.collect()


def test_graphs_hold_no_weights(engine: Path) -> None:
    """All of them lie in the one weight file."""
    sizes = {path.name: path.stat().st_size for path in engine.iterdir()}
    print(sizes)
    graphs = [name for name in sizes if name.endswith('.onnx')]
    assert len(graphs) == 1 + len(TIERS)
    assert all(sizes[name] < 1_000_000 for name in graphs)
    # Parameters of two bytes, and a header; with int8, those of the decoder's layers have one.
    config = Kosmos2Config.from_json(engine / CONFIG_FILE)
    two_bytes = 2 * PARAMETERS[config]
    if Recipe.from_yaml(engine / RECIPE_FILE).precision == 'int8':
        two_bytes -= DECODER_LAYER * config.text.layers
    assert 0 < sizes[WEIGHTS_FILE] - two_bytes < 400_000


def test_plans_have_fused_attention_and_each_weight_once(
    engine: Path, rtx: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Built without a GPU, with attention that must not be decomposed."""
    builder = import_module('kosmos_ros.engine.tensorrt.builder')
    monkeypatch.setattr(builder, 'allow_decomposition', lambda network: None)
    log, files = Log(), EngineDirectory.verified(engine)
    build_plans(files, lambda line: None if line.endswith('%') else log(line))
    (stored,) = stored_plans(engine)
    sizes = {path.name: path.stat().st_size for path in stored.folder.iterdir()}
    wide = 1 if files.recipe.precision == 'int8' else 2
    decoder = wide * DECODER_LAYER * files.config.text.layers
    assert decoder < sizes['decoder.plan'] < decoder + CODE
    image = 2 * (PARAMETERS[files.config] - files.config.text.layers * DECODER_LAYER)
    image -= 2 * files.config.text.vocab_size * files.config.text.embed_dim
    assert abs(sizes['vision.plan'] - image) < CODE
    plan = (stored.folder / 'decoder.plan').read_bytes()
    assert b'[profile 1]' in plan
    assert b'[profile 2]' not in plan
    # The kernels of fused attention are named so.
    assert b'_gemv_mha' in plan
