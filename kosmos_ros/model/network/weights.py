"""Reading a Hugging Face checkpoint of Kosmos-2: safetensors only, names and shapes checked."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
import json
from pathlib import Path
import re
from typing import Protocol, cast

from safetensors import SafetensorError, safe_open
import torch
from torch import Tensor

from kosmos_ros.errors import EngineFileError
from kosmos_ros.model.config import EMBEDDING, HEAD, Kosmos2Config
from kosmos_ros.model.network.kosmos2 import Kosmos2
from kosmos_ros.model.network.quantize import SCALE, dequantized

# Names of precisions, as engines and their builders use them.
DTYPES = {'fp32': torch.float32, 'fp16': torch.float16, 'bf16': torch.bfloat16}

_ONE_FILE = 'model.safetensors'
_INDEX = 'model.safetensors.index.json'
# Tables that older versions of transformers saved; they follow from the configuration.
_COMPUTED = re.compile(r'(^|\.)embed_positions(\.|$)|\.position_ids$')
_SHOWN_NAMES = 5


def load_model(directory: Path, dtype: torch.dtype) -> Kosmos2:
    """Load a checkpoint directory, as ``save_pretrained`` or the hub lays it out, to the CPU.

    The head is the embedding unless the checkpoint holds a head that differs from it.  Needs
    little more memory than the weights take in `dtype`.  Do not change the type of the model
    afterwards (``model.half()``): its table of positions must stay float32.

    Weights of an int8 engine, which have scales beside them, are dequantised.

    :param directory: with ``config.json`` and ``model.safetensors``, or shards and
        ``model.safetensors.index.json``.
    :param dtype: floating type that the weights are converted to.
    :return: the model for inference, without gradients.
    :raises EngineFileError: when something is missing, damaged, not expected or of the wrong
        shape; it says which.
    """
    directory = Path(directory)
    config = Kosmos2Config.from_json(directory / 'config.json')
    places = {
        name: path for name, path in _places(directory).items() if not _COMPUTED.search(name)
    }
    scales = {name: places.pop(name + SCALE) for name in list(places) if name + SCALE in places}
    with torch.device('meta'):
        model = Kosmos2(config)
    wanted = {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
    _check_names(directory, places.keys(), wanted.keys())
    weights = _read(places, scales, wanted, dtype)
    embedding = weights[EMBEDDING]
    head = weights.setdefault(HEAD, embedding)
    # Assigning makes the head a parameter of its own; what was one must be tied again.
    model.load_state_dict(weights, strict=True, assign=True)
    if torch.equal(head, embedding):
        model.text_model.lm_head.weight = model.decoder.embed_tokens.weight
    return model.eval().requires_grad_(False)


def _places(directory: Path) -> dict[str, Path]:
    """Which file holds which tensor."""
    if (directory / _ONE_FILE).is_file():
        path = directory / _ONE_FILE
        with _opened(path) as file:
            return dict.fromkeys(file.keys(), path)
    if (directory / _INDEX).is_file():
        return _places_from_index(directory / _INDEX)
    if any(directory.glob('pytorch_model*.bin*')):
        raise EngineFileError(
            f'{directory} holds its weights as a pickle (pytorch_model.bin), which can run code '
            'and is never read; convert them to safetensors '
            '(in transformers: from_pretrained, then save_pretrained)'
        )
    raise EngineFileError(f'{directory} holds neither {_ONE_FILE} nor {_INDEX}')


def _places_from_index(path: Path) -> dict[str, Path]:
    try:
        index = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError, RecursionError) as error:
        raise EngineFileError(f'{path} cannot be read: {error}') from None
    weight_map = index.get('weight_map') if isinstance(index, dict) else None
    if not isinstance(weight_map, dict):
        raise EngineFileError(f"{path} has no 'weight_map'")
    for name in weight_map.values():
        # A shard lies beside its index.  Anything with a folder in it could reach any file of the
        # machine.
        if not isinstance(name, str) or not re.fullmatch(r'[\w-][\w.-]*\.safetensors', name):
            raise EngineFileError(
                f'{path} names {name!r}, which is not a safetensors file of the same directory'
            )
    shards = {name: path.parent / name for name in sorted(set(weight_map.values()))}
    held = {}
    for name, shard in shards.items():
        with _opened(shard) as file:
            held[name] = set(file.keys())
    for tensor, name in weight_map.items():
        if tensor not in held[name]:
            raise EngineFileError(
                f'{shards[name]} does not hold {tensor}, although {path.name} says so'
            )
    return {tensor: shards[name] for tensor, name in weight_map.items()}


def _check_names(directory: Path, held: Iterable[str], wanted: Iterable[str]) -> None:
    missing = set(wanted) - set(held) - {HEAD}
    unexpected = set(held) - set(wanted)
    for word, names in (('lacks', missing), ('holds unexpected', unexpected)):
        if names:
            shown = ', '.join(sorted(names)[:_SHOWN_NAMES])
            more = f' and {len(names) - _SHOWN_NAMES} more' if len(names) > _SHOWN_NAMES else ''
            raise EngineFileError(f'the checkpoint in {directory} {word} {shown}{more}')


def _read(
    places: Mapping[str, Path],
    scales: Mapping[str, Path],
    wanted: Mapping[str, tuple[int, ...]],
    dtype: torch.dtype,
) -> dict[str, Tensor]:
    weights = {}
    for path in sorted(set(places.values())):
        with _opened(path) as file:
            for name in (name for name, place in places.items() if place == path):
                shape = tuple(file.get_slice(name).get_shape())
                if shape != wanted[name]:
                    raise EngineFileError(
                        f'{name} in {path} has the shape {list(shape)}; '
                        f'config.json asks for {list(wanted[name])}'
                    )
                weight = file.get_tensor(name)
                # Both of an engine's lie in its one file.
                if scales.get(name) == path and weight.dtype == torch.int8:
                    weights[name] = dequantized(weight, file.get_tensor(name + SCALE), dtype)
                    continue
                if not weight.is_floating_point():
                    raise EngineFileError(
                        f'{name} in {path} holds {weight.dtype}, not floating-point weights'
                    )
                # A copy: what is read may be a view of the file, which somebody could change under
                # us.
                weights[name] = weight.to(dtype, copy=True)
    return weights


class _Slice(Protocol):
    def get_shape(self) -> list[int]: ...


class _File(Protocol):
    """What safetensors leaves untyped."""

    def keys(self) -> list[str]: ...
    def get_slice(self, name: str) -> _Slice: ...
    def get_tensor(self, name: str) -> Tensor: ...


@contextmanager
def _opened(path: Path) -> Iterator[_File]:
    try:
        with safe_open(path, framework='pt', device='cpu') as file:
            yield cast(_File, file)
    except (OSError, SafetensorError) as error:
        raise EngineFileError(f'{path} cannot be read as safetensors: {error}') from None
