"""What a build will need, estimated before it starts, and what this machine has."""

from dataclasses import dataclass
from pathlib import Path
import shutil

import psutil

from kosmos_ros.engine.directory.recipe import Recipe
from kosmos_ros.errors import EngineError
from kosmos_ros.model.config import Kosmos2Config

_BYTES = {'fp32': 4, 'fp16': 2, 'bf16': 2}
# For the interpreter, torch, graphs and activations.
_BESIDE = 1_500_000_000


@dataclass(frozen=True, slots=True)
class Estimates:
    """Bytes.

    :param parameters: numbers in the model, not bytes.
    :param weights: the weight file.
    :param plans: vision and decoder plan together, an upper estimate.
    :param caches: keys and values that a GPU runner reserves: of all rows' slots, of what is being
        read, and of the prefix.
    :param export_memory: memory for the weights' and the reference's stage.
    :param plan_memory: memory while TensorRT builds the larger plan, without its workspace: the
        weights as it read them, as it arranges them, and as it writes them.
    """

    parameters: int
    weights: int
    plans: int
    caches: int
    export_memory: int
    plan_memory: int

    @classmethod
    def of(cls, config: Kosmos2Config, recipe: Recipe) -> 'Estimates':
        """Estimate the sizes of a model built by a recipe."""
        text, vision = config.text, config.vision
        width, ffn = text.embed_dim, text.ffn_dim
        embedding = text.vocab_size * width
        decoder = text.layers * (4 * width * width + 2 * width * ffn)
        inner = 4 * vision.hidden_size**2 + 2 * vision.hidden_size * vision.intermediate_size
        image = vision.num_hidden_layers * inner + 4 * width * width + vision.hidden_size * width
        parameters = embedding + decoder + image
        wide = _BYTES[recipe.activations]
        narrow = 1 if recipe.precision == 'int8' else wide
        weights = (embedding + image) * wide + decoder * narrow
        # TensorRT may keep int8 weights in the type of the activations.
        plans = (decoder + image) * wide if recipe.runner == 'tensorrt' else 0
        return cls(
            parameters,
            weights,
            plans,
            caches=(recipe.cached + recipe.fresh + recipe.prefix) * text.layers * 2 * width * wide,
            export_memory=4 * parameters + weights + _BESIDE,
            plan_memory=3 * decoder * wide + _BESIDE,
        )


def check_disk(directory: Path, needed: int) -> None:
    """Check that a disk has room.

    :raises EngineError: when the file system of `directory` has less than this free.
    """
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise EngineError(
            f'{directory} has {gigabytes(free)} free and {gigabytes(needed)} are needed; '
            'make room or choose another --out'
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


def gigabytes(number: int) -> str:
    """Return a number of bytes for people."""
    return f'{number / 1e9:.1f} GB' if number >= 1e8 else f'{number / 1e6:.1f} MB'
