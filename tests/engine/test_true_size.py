"""The released model's true size as an engine for TensorRT, with random weights: built by the
whole chain, and each of its graphs run by ONNX Runtime.

Every shape is the released one.  Of the 24 equal layers of the decoder and of the vision encoder,
the usual run keeps two each: 0.3 of 1.7 billion parameters, as all take minutes and 18 GB.  So it
does not see how rounding adds up over 24 layers, nor a weight file of 3.3 GB; for offsets as large
as those there is building/test_weight_offsets.py.  `make nightly` has all layers.
"""

from collections.abc import Iterator
from dataclasses import replace
import gc
import json
import os
from pathlib import Path
import resource
import shutil
import time

from memory import needs_memory
import pytest
from safetensors.torch import save_file
import torch
from torch import Tensor

from kosmos_ros.engine.building.build import build_engine
from kosmos_ros.engine.directory.directory import (
    CONFIG_FILE,
    REFERENCE_FILE,
    TOKENIZER_FILE,
    WEIGHTS_FILE,
    EngineDirectory,
)
from kosmos_ros.engine.directory.recipe import recipe_named
from kosmos_ros.engine.directory.reference import ReferenceAnswers, self_check
from kosmos_ros.engine.runners.onnxruntime import OnnxRuntimeRunner
from kosmos_ros.engine.tensorrt.tiers import TIERS
from kosmos_ros.model.config import HEAD, Kosmos2Config
from kosmos_ros.model.network.kosmos2 import Kosmos2

FULL = Kosmos2Config()
SHALLOW = replace(
    FULL, text=replace(FULL.text, layers=2), vision=replace(FULL.vision, num_hidden_layers=2)
)
pytestmark = pytest.mark.engines
PARAMETERS = {FULL: 1_664_485_376, SHALLOW: 279_035_904}


class Log:
    """What a stage took, for docs/log.md: shown by pytest -s."""

    def __init__(self) -> None:
        self._begin = time.monotonic()

    def __call__(self, line: str) -> None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(f'{time.monotonic() - self._begin:6.1f} s, peak {peak:5.2f} GB: {line}', flush=True)


def random_weights(config: Kosmos2Config) -> dict[str, Tensor]:
    """All tensors in float16, as they never were anything wider."""
    with torch.device('meta'):
        shapes = {name: weight.shape for name, weight in Kosmos2(config).state_dict().items()}
    del shapes[HEAD]
    torch.manual_seed(0)
    # Drawing 1.7 billion numbers takes long: all weights come from one strip.
    strip = (torch.randn(2**24 + 43) * 0.02).half()
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
    return weights


@pytest.fixture(
    scope='module',
    params=[
        pytest.param(
            SHALLOW,
            id='2 layers',
            # Twenty seconds, most of it in the exporter: on a busy machine, minutes.
            marks=[pytest.mark.timeout(480), needs_memory(4)],
        ),
        pytest.param(
            FULL,
            id='24 layers',
            # Three minutes on two idle cores.
            marks=[pytest.mark.slow, pytest.mark.timeout(1500), needs_memory(18)],
        ),
    ],
)
def engine(
    request: pytest.FixtureRequest, shared_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    config: Kosmos2Config = request.param
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
    recipe = recipe_named('desktop')
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
    # Parameters of two bytes, and a header.
    parameters = PARAMETERS[Kosmos2Config.from_json(engine / CONFIG_FILE)]
    assert 0 < sizes[WEIGHTS_FILE] - 2 * parameters < 200_000
