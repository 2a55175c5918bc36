"""What a build will need, estimated before it starts, and what this machine has."""

import ctypes
from dataclasses import dataclass
from pathlib import Path
import shutil

import psutil

from kosmos_ros.engine.directory.recipe import Recipe
from kosmos_ros.engine.tensorrt.installed import Release
from kosmos_ros.errors import EngineError
from kosmos_ros.model.config import Kosmos2Config

_BYTES = {'fp32': 4, 'fp16': 2, 'bf16': 2}
# For the interpreter, torch, graphs and activations.
_BESIDE = 1_500_000_000
# Of plans, besides the weights; and while they are built.
_CODE = 100_000_000
_BUILDER = 1_700_000_000
# See mallopt(3); bytes.
_M_MMAP_THRESHOLD = -3
_LARGE = 1 << 20


@dataclass(frozen=True, slots=True)
class Estimates:
    """Bytes.

    :param parameters: numbers in the model, not bytes.
    :param weights: the weight file.
    :param caches: keys and values that a GPU runner reserves: of all rows' slots, of what is being
        read, and of the prefix.
    :param export_memory: memory for the weights' and the reference's stage.
    """

    parameters: int
    weights: int
    caches: int
    export_memory: int

    @classmethod
    def of(cls, config: Kosmos2Config, recipe: Recipe) -> 'Estimates':
        """Estimate the sizes of a model built by a recipe."""
        text = config.text
        embedding = text.vocab_size * text.embed_dim
        decoder, image = _decoder(config), _image(config)
        parameters = embedding + decoder + image
        wide = _BYTES[recipe.activations]
        narrow = 1 if recipe.precision == 'int8' else wide
        weights = (embedding + image) * wide + decoder * narrow
        slots = recipe.cached + recipe.fresh + recipe.prefix
        return cls(
            parameters,
            weights,
            caches=slots * text.layers * 2 * text.embed_dim * wide,
            export_memory=4 * parameters + weights + _BESIDE,
        )


@dataclass(frozen=True, slots=True)
class PlanEstimates:
    """Bytes.

    :param plans: vision and decoder plan together, an upper estimate.
    :param memory: memory while TensorRT builds the larger plan, without its workspace: the weights
        as it read them, as it arranges them, and as it writes them.
    """

    plans: int
    memory: int

    @classmethod
    def of(cls, config: Kosmos2Config, recipe: Recipe, release: Release) -> 'PlanEstimates':
        """Estimate the plans of a model built by a recipe."""
        wide = _BYTES[recipe.activations]
        # TensorRT itself may keep int8 weights in the type of the activations.
        narrow = 1 if recipe.precision == 'int8' and release.is_rtx else wide
        decoder = _decoder(config) * narrow
        plans = decoder + _image(config) * wide + _CODE
        return cls(plans, 3 * decoder + _BUILDER)


def _decoder(config: Kosmos2Config) -> int:
    """Return the number of parameters of all decoder layers."""
    text = config.text
    return text.layers * (4 * text.embed_dim**2 + 2 * text.embed_dim * text.ffn_dim)


def _image(config: Kosmos2Config) -> int:
    """Return the number of parameters of the vision transformer and the resampler."""
    text, vision = config.text, config.vision
    layer = 4 * vision.hidden_size**2 + 2 * vision.hidden_size * vision.intermediate_size
    between = 4 * text.embed_dim**2 + vision.hidden_size * text.embed_dim
    return vision.num_hidden_layers * layer + between


def check_disk(directory: Path, needed: int, cure: str) -> None:
    """Check that a disk has room.

    :param cure: what to do when there is too little.
    :raises EngineError: when the file system of `directory` has less than this free.
    """
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise EngineError(
            f'{directory} has {gigabytes(free)} free and {gigabytes(needed)} are needed; {cure}'
        )


def check_memory(needed: int, what: str, cure: str) -> None:
    """Check that the system has memory.

    :param what: what needs it.
    :param cure: what to do when there is too little.
    :raises EngineError: when the system could not give this much memory now.
    """
    available = available_memory()
    if available < needed:
        raise EngineError(
            f'{what} takes {gigabytes(needed)} of memory and {gigabytes(available)} are '
            f'available; {cure}'
        )


def available_memory() -> int:
    """Return the bytes that the system could give now, swap space included."""
    return int(psutil.virtual_memory().available + psutil.swap_memory().free)


def return_freed_memory() -> None:
    """Let the C library return large blocks to the system as soon as they are free.  Else it keeps
    gigabytes of a stage, and the next one, or TensorRT, may need all there is.
    """
    set_option = getattr(ctypes.CDLL(None), 'mallopt', None)
    # Not in every C library.
    if set_option is not None:
        set_option(_M_MMAP_THRESHOLD, _LARGE)


def gigabytes(number: int) -> str:
    """Return a number of bytes for people."""
    return f'{number / 1e9:.1f} GB' if number >= 1e8 else f'{number / 1e6:.1f} MB'
