"""A tiny Kosmos-2 with random weights: its checkpoint, and engines of it of all precisions; and
graphs of a deeper one.
"""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
import fcntl
import hashlib
from importlib.metadata import version
import json
import multiprocessing
import os
from pathlib import Path
import platform
import shutil
import time
import warnings

from safetensors.torch import save_file
import torch

from kosmos_ros.engine.building.build import build_engine
from kosmos_ros.engine.building.export import export_graphs
from kosmos_ros.engine.directory.directory import WEIGHTS_FILE, EngineDirectory
from kosmos_ros.engine.directory.recipe import recipe_named
from kosmos_ros.model.config import HEAD, Kosmos2Config, TextConfig, VisionConfig
from kosmos_ros.model.network.kosmos2 import Kosmos2
from kosmos_ros.model.network.quantize import quantized
from kosmos_ros.model.vocabulary import Vocabulary
from kosmos_ros.tabletop.language.word_model import write_word_model

PACKAGE = Path(__file__).resolve().parents[2] / 'kosmos_ros'
# Small shapes for a small model, on ONNX Runtime.
RECIPE = replace(
    recipe_named('cpu'),
    prefix=16,
    prefill=((1, 24, 32), (1, 8, 32), (4, 16, 32), (1, 8, 112), (1, 24, 112)),
    decode=((1, 32), (4, 32), (8, 32), (1, 112), (4, 88)),
)
# Runner and precision.
ENGINES = (
    ('tensorrt', 'fp32'),
    ('tensorrt', 'fp16'),
    ('tensorrt', 'int8'),
    ('tensorrt', 'bf16'),
    ('onnxruntime', 'fp32'),
    ('onnxruntime', 'int8'),
)
# Of nothing is there a multiple of eight.
ODD = Kosmos2Config(
    text=TextConfig(vocab_size=1097, embed_dim=60, layers=3, ffn_dim=100, attention_heads=3),
    vision=VisionConfig(
        hidden_size=50,
        intermediate_size=70,
        num_hidden_layers=2,
        num_attention_heads=5,
        image_size=30,
        patch_size=10,
    ),
    latent_query_num=5,
)
DEEP = Kosmos2Config(
    text=TextConfig(vocab_size=1100, embed_dim=32, layers=5, ffn_dim=64, attention_heads=4),
    vision=VisionConfig(
        hidden_size=24,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=3,
        image_size=42,
    ),
    latent_query_num=6,
)
# Folders with graphs and weights of these, and their precision.
GRAPHS = {'deep': (DEEP, 'fp16'), 'odd-fp16': (ODD, 'fp16'), 'odd-int8': (ODD, 'int8')}
# What else of this environment ends up in an engine.
LIBRARIES = (
    *('numpy', 'onnx', 'onnx-ir', 'onnxruntime', 'onnxscript', 'protobuf'),
    *('safetensors', 'sentencepiece', 'torch'),
)
MOST_PROCESSES = 4  # each takes some 0.7 GB
KEPT_S = 24 * 3600


def write_checkpoint(directory: Path) -> None:
    """Write a directory as `save_pretrained` lays it out, always the same."""
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
    weights = {name: value for name, value in network.state_dict().items() if name != HEAD}
    save_file(weights, directory / WEIGHTS_FILE)


def engines_in(cache: Path) -> Path:
    """Return a folder with an engine directory for each of `ENGINES`, and those of `GRAPHS`.

    It is made once for each state of the sources and of the libraries, by whichever process comes
    first; others wait for it.

    :param cache: holds such folders; those that no one has asked for of late are removed.
    """
    cache.mkdir(parents=True, exist_ok=True)
    made = cache / _key()
    with _locked(cache / 'lock'):
        partial = cache / 'partial'
        shutil.rmtree(partial, ignore_errors=True)
        if not made.is_dir():
            _build_all(partial)
            partial.rename(made)
        os.utime(made)
        for other in cache.iterdir():
            if other.is_dir() and time.time() - other.stat().st_mtime > KEPT_S:
                # Renamed first, as half of one must not pass for a whole one.
                shutil.rmtree(other.rename(partial))
    return made


def _build_all(folder: Path) -> None:
    checkpoint = folder / 'checkpoint'
    checkpoint.mkdir(parents=True)
    write_checkpoint(checkpoint)
    processes = min(len(os.sched_getaffinity(0)), MOST_PROCESSES)
    # A fork of a process with threads may hang.
    context = multiprocessing.get_context('spawn')
    with ProcessPoolExecutor(processes, context, _prepare) as pool:
        # What takes longest comes first: at the end, the others would wait for it.
        builds = [pool.submit(_build, checkpoint, folder, *one) for one in ENGINES]
        builds += [pool.submit(_export, folder / name, *one) for name, one in GRAPHS.items()]
        for build in builds:
            build.result()
    shutil.rmtree(checkpoint)


def _prepare() -> None:
    """As pytest has it for tests."""
    torch.set_num_threads(1)
    warnings.simplefilter('error')


def _export(folder: Path, config: Kosmos2Config, precision: str) -> None:
    folder.mkdir()
    weights = Kosmos2(config).half().state_dict()
    del weights[HEAD]
    save_file(quantized(weights) if precision == 'int8' else weights, folder / WEIGHTS_FILE)
    export_graphs(config, replace(RECIPE, runner='tensorrt', precision=precision), folder)


def _build(checkpoint: Path, folder: Path, runner: str, precision: str) -> None:
    out = folder / f'{runner}-{precision}'
    recipe = replace(RECIPE, runner=runner, precision=precision)
    build_engine(checkpoint, out, recipe, name='tiny', report=lambda line: None)
    EngineDirectory.verified(out)


def _key() -> str:
    """A hash of everything that the engines depend on."""
    digest = hashlib.sha256()
    sources = [Path(__file__).resolve(), *PACKAGE.glob('*.py')]
    for folder in ('engine', 'model', 'tabletop'):
        sources += (PACKAGE / folder).rglob('*.py')
    for path in sorted(sources):
        digest.update(f'{path.relative_to(PACKAGE.parent)}\0'.encode())
        digest.update(path.read_bytes() + b'\0')
    libraries = [f'{name} {version(name)}' for name in LIBRARIES]
    machine = (platform.python_version(), platform.machine())
    # What it takes of the packaged recipes is in none of these files.
    digest.update('\0'.join((*machine, *libraries, repr(RECIPE))).encode())
    return digest.hexdigest()[:16]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open('w') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
