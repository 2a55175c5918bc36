"""What a build will need, computed before it starts; what this machine has."""

from dataclasses import dataclass
from pathlib import Path
import shutil

from kosmos_ros.engine.directory.recipe import Recipe
from kosmos_ros.errors import EngineError
from kosmos_ros.model.config import Kosmos2Config

_BYTES = {'fp32': 4, 'fp16': 2, 'bf16': 2}
# For the interpreter, torch, graphs and activations.
_BESIDE = 1_500_000_000
_MEMORY_FILE = Path('/proc/meminfo')


@dataclass(frozen=True, slots=True)
class Sizes:
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
    def of(cls, config: Kosmos2Config, recipe: Recipe) -> 'Sizes':
        """Estimate."""
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
    """
    :raises EngineError: when the file system of `directory` has less than this free.
    """
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise EngineError(
            f'{directory} has {gigabytes(free)} free and {gigabytes(needed)} are needed; '
            'make room or choose another --out'
        )


def check_memory(needed: int, what: str, cure: str) -> None:
    """
    :raises EngineError: when the system could not give this much memory now.
    """
    available = available_memory()
    if available is not None and available < needed:
        raise EngineError(
            f'{what} takes {gigabytes(needed)} of memory and {gigabytes(available)} are '
            f'available; {cure}'
        )


def available_memory() -> int | None:
    """Bytes that the system could give now, swap space included; None where it does not say."""
    try:
        lines = _MEMORY_FILE.read_text(encoding='ascii').splitlines()
    except OSError:
        return None
    kibibytes = {name: int(rest.split()[0]) for name, _, rest in (x.partition(':') for x in lines)}
    if 'MemAvailable' not in kibibytes:
        return None
    return 1024 * (kibibytes['MemAvailable'] + kibibytes.get('SwapFree', 0))


def gigabytes(number: int) -> str:
    """For people."""
    return f'{number / 1e9:.1f} GB' if number >= 1e8 else f'{number / 1e6:.1f} MB'
