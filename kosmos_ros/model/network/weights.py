"""Loading of Hugging Face checkpoints of Kosmos-2, from safetensors files only."""

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
from kosmos_ros.model.network.quantize import SCALE_SUFFIX, dequantized

# Types of weights, by their names in engines and recipes.
DTYPES = {'fp32': torch.float32, 'fp16': torch.float16, 'bf16': torch.bfloat16}

_ONE_FILE = 'model.safetensors'
_INDEX = 'model.safetensors.index.json'
# Tables that older versions of transformers saved; they are computed from the configuration.
_COMPUTED = re.compile(r'(^|\.)embed_positions(\.|$)|\.position_ids$')
_SHOWN_NAMES = 5


def load_model(directory: Path, dtype: torch.dtype) -> Kosmos2:
    """Load a checkpoint directory, as ``save_pretrained`` or the hub lays it out, to the CPU.

    The head is tied to the embedding unless the checkpoint holds a head that differs from it.
    Loading needs little more memory than the weights take in `dtype`.  Do not change the type of
    the model afterwards (``model.half()``): its table of positions must stay float32.

    The int8 weights of an engine, which are stored with scales, are dequantised.

    :param directory: with ``config.json`` and ``model.safetensors``, or shards and
        ``model.safetensors.index.json``.
    :param dtype: floating type that the weights are converted to.
    :return: the model for inference, without gradients.
    :raises EngineFileError: when a file or weight is missing, damaged, unexpected or of the wrong
        shape; the message names it.
    """
    directory = Path(directory)
    config = Kosmos2Config.from_json(directory / 'config.json')
    files = {
        name: path
        for name, path in _files_by_tensor(directory).items()
        if not _COMPUTED.search(name)
    }
    scales = {
        name: files.pop(name + SCALE_SUFFIX)
        for name in list(files)
        if name + SCALE_SUFFIX in files
    }
    with torch.device('meta'):
        model = Kosmos2(config)
    expected = {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
    _check_names(directory, files.keys(), expected.keys())
    weights = _read(files, scales, expected, dtype)
    embedding = weights[EMBEDDING]
    head = weights.setdefault(HEAD, embedding)
    # Assigning makes the head a separate parameter; a head equal to the embedding is tied again.
    model.load_state_dict(weights, strict=True, assign=True)
    if torch.equal(head, embedding):
        model.text_model.lm_head.weight = model.decoder.embed_tokens.weight
    return model.eval().requires_grad_(False)


def _files_by_tensor(directory: Path) -> dict[str, Path]:
    """Return the file that holds each tensor."""
    if (directory / _ONE_FILE).is_file():
        path = directory / _ONE_FILE
        with _open(path) as file:
            return dict.fromkeys(file.keys(), path)
    if (directory / _INDEX).is_file():
        return _files_by_tensor_from_index(directory / _INDEX)
    if any(directory.glob('pytorch_model*.bin*')):
        raise EngineFileError(
            f'{directory} holds its weights as a pickle (pytorch_model.bin), which can run code '
            'and is never read; convert them to safetensors '
            '(in transformers: from_pretrained, then save_pretrained)'
        )
    raise EngineFileError(f'{directory} holds neither {_ONE_FILE} nor {_INDEX}')


def _files_by_tensor_from_index(path: Path) -> dict[str, Path]:
    try:
        index = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError, RecursionError) as error:
        raise EngineFileError(f'{path} cannot be read: {error}') from None
    weight_map = index.get('weight_map') if isinstance(index, dict) else None
    if not isinstance(weight_map, dict):
        raise EngineFileError(f"{path} has no 'weight_map'")
    for name in weight_map.values():
        # Shards are in the directory of their index.  A name with a folder in it could lead to any
        # file of the machine.
        if not isinstance(name, str) or not re.fullmatch(r'[\w-][\w.-]*\.safetensors', name):
            raise EngineFileError(
                f'{path} names {name!r}, which is not a safetensors file of the same directory'
            )
    shards = {name: path.parent / name for name in sorted(set(weight_map.values()))}
    present = {}
    for name, shard in shards.items():
        with _open(shard) as file:
            present[name] = set(file.keys())
    for tensor, name in weight_map.items():
        if tensor not in present[name]:
            raise EngineFileError(
                f'{shards[name]} does not hold {tensor}, although {path.name} says so'
            )
    return {tensor: shards[name] for tensor, name in weight_map.items()}


def _check_names(directory: Path, present: Iterable[str], expected: Iterable[str]) -> None:
    missing = set(expected) - set(present) - {HEAD}
    unexpected = set(present) - set(expected)
    for word, names in (('lacks', missing), ('holds unexpected', unexpected)):
        if names:
            shown = ', '.join(sorted(names)[:_SHOWN_NAMES])
            more = f' and {len(names) - _SHOWN_NAMES} more' if len(names) > _SHOWN_NAMES else ''
            raise EngineFileError(f'the checkpoint in {directory} {word} {shown}{more}')


def _read(
    files: Mapping[str, Path],
    scales: Mapping[str, Path],
    expected: Mapping[str, tuple[int, ...]],
    dtype: torch.dtype,
) -> dict[str, Tensor]:
    weights = {}
    for path in sorted(set(files.values())):
        with _open(path) as file:
            for name in (name for name, holder in files.items() if holder == path):
                shape = tuple(file.get_slice(name).get_shape())
                if shape != expected[name]:
                    raise EngineFileError(
                        f'{name} in {path} has the shape {list(shape)}; '
                        f'config.json asks for {list(expected[name])}'
                    )
                weight = file.get_tensor(name)
                # An engine stores a weight and its scales in one file.
                if scales.get(name) == path and weight.dtype == torch.int8:
                    scale = file.get_tensor(name + SCALE_SUFFIX)
                    weights[name] = dequantized(weight, scale, dtype)
                    continue
                if not weight.is_floating_point():
                    raise EngineFileError(
                        f'{name} in {path} holds {weight.dtype}, not floating-point weights'
                    )
                # A copy, because the tensor may be a view of a file that can change later.
                weights[name] = weight.to(dtype, copy=True)
    return weights


class _SafetensorsSlice(Protocol):
    def get_shape(self) -> list[int]: ...


class _SafetensorsFile(Protocol):
    """The type of an open safetensors file, which the library leaves untyped."""

    def keys(self) -> list[str]: ...
    def get_slice(self, name: str) -> _SafetensorsSlice: ...
    def get_tensor(self, name: str) -> Tensor: ...


@contextmanager
def _open(path: Path) -> Iterator[_SafetensorsFile]:
    try:
        with safe_open(path, framework='pt', device='cpu') as file:
            yield cast(_SafetensorsFile, file)
    except (OSError, SafetensorError) as error:
        raise EngineFileError(f'{path} cannot be read as safetensors: {error}') from None
