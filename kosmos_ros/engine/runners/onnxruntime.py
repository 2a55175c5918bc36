"""ONNX Runtime on the CPU: light, no torch, any machine."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import onnxruntime
from safetensors import safe_open

from kosmos_ros.engine.base import Floats, Tokens
from kosmos_ros.engine.files import VISION_GRAPH, WEIGHTS_FILE, decoder_graph
from kosmos_ros.engine.recipe import Recipe
from kosmos_ros.engine.runner import KeyValues
from kosmos_ros.engine.runners.layout import image_slots, positions, visible
from kosmos_ros.errors import EngineError, EngineFileError, RunnerUnavailable
from kosmos_ros.model.config import EMBEDDING, HEAD, Kosmos2Config
from kosmos_ros.model.positions import sinusoidal_positions

# Keys and values of all layers: 2 L arrays [B,H,S,C], as the graph names them.
Arrays = tuple[Floats, ...]


@dataclass(frozen=True, slots=True)
class _KeyValues:
    own: Arrays
    prefix: Arrays
    lengths: Tokens  # [B], slots of `own` that are filled
    shared: int  # tokens of `prefix`

    def select(self, rows: Tokens) -> '_KeyValues':
        own = tuple(array[rows] for array in self.own)
        return _KeyValues(own, self.prefix, self.lengths[rows], self.shared)


class OnnxRuntimeRunner:
    """Runs ``vision.onnx`` and the decoder's graph with the older operators; embedding and head
    are NumPy.
    """

    def __init__(
        self,
        directory: Path,
        config: Kosmos2Config,
        image_token: int,
        recipe: Recipe,
        tier: str = 'scatter',
    ) -> None:
        """Load a verified engine directory.

        :param image_token: id of ``<image>``; image embeddings go behind it.
        :param tier: which of the decoder's graphs to run; both give the same.
        :raises RunnerUnavailable: when the engine's type is not one of ONNX Runtime's CPU.
        :raises EngineFileError: when ONNX Runtime refuses a graph.
        """
        if recipe.activations == 'bf16':
            raise RunnerUnavailable('ONNX Runtime has no bfloat16 on the CPU')
        self.name = f'ONNX Runtime {onnxruntime.__version__}, CPU, {recipe.precision}'
        self._config = config
        self._image_token = image_token
        self._vision = _session(directory / VISION_GRAPH)
        self._decoder = _session(directory / decoder_graph(tier))
        with safe_open(directory / WEIGHTS_FILE, framework='numpy') as file:
            self._embedding: Floats = file.get_tensor(EMBEDDING)
            tied = HEAD not in file.keys()  # noqa: SIM118
            self._head: Floats = self._embedding if tied else file.get_tensor(HEAD)
        text = config.text
        self._scale = np.float32(np.sqrt(text.embed_dim) if text.scale_embedding else 1)
        self._positions = sinusoidal_positions(
            text.max_position_embeddings, text.embed_dim, text.pad_token_id
        )
        names = [f'{index}.{part}' for index in range(text.layers) for part in ('key', 'value')]
        self._prefix_names = [f'prefix.{name}' for name in names]
        self._cache_names = [f'cache.{name}' for name in names]
        lengths = {one.name: one.shape[2] for one in self._decoder.get_inputs() if '.' in one.name}
        # Graphs for TensorRT have room for so many tokens, others for as many as come.
        self._static_prefix = _size(lengths[self._prefix_names[0]])
        self._static_slots = _size(lengths[self._cache_names[0]])

    def vision(self, pixels: Floats) -> Floats:
        """See `Runner.vision`: [1,K,D]."""
        (embeds,) = self._vision.run(None, {'pixels': pixels})
        return cast(Floats, embeds)

    def prefill(
        self,
        ids: Tokens,
        lengths: Tokens,
        *,
        prefix: KeyValues | None = None,
        images: Sequence[object] = (),
        room: int = 0,
    ) -> tuple[Floats, _KeyValues]:
        """See `Runner.prefill`.

        :raises EngineError: when the graph has no room for so many tokens.
        """
        tokens = self._embedding[ids]
        if images:
            slots = image_slots(ids, self._image_token, self._config.latent_query_num)
            tokens[0, slots] = np.concatenate([cast(Floats, image)[0] for image in images])
        shared, before = self._as_prefix(cast(_KeyValues | None, prefix))
        needed = ids.shape[1] + room
        if self._static_slots is not None and needed > self._static_slots:
            raise EngineError(
                f'the engine has room for {self._static_slots} tokens behind the image, not '
                f'{needed}; build it by a recipe with more slots'
            )
        empty = self._empty(len(ids), self._static_slots or needed)
        past = _KeyValues(empty, before, np.zeros_like(lengths), shared)
        hidden, own = self._run(tokens, past, lengths - 1)
        return hidden, _KeyValues(own, before, lengths, shared)

    def decode(self, ids: Tokens, past: KeyValues) -> tuple[Floats, _KeyValues]:
        """See `Runner.decode`."""
        past = cast(_KeyValues, past)
        hidden, own = self._run(self._embedding[ids[:, None]], past, np.zeros_like(past.lengths))
        return hidden, _KeyValues(own, past.prefix, past.lengths + 1, past.shared)

    def logits(self, hidden: object, first: int, last: int) -> Floats:
        """See `Runner.logits`."""
        return self.fetch(hidden) @ self._head[first:last].T.astype(np.float32)

    def fetch(self, value: object) -> Floats:
        """See `Runner.fetch`."""
        return cast(Floats, value).astype(np.float32)

    def close(self) -> None:
        """See `Runner.close`."""
        del self._vision, self._decoder

    def _run(self, tokens: Floats, past: _KeyValues, last: Tokens) -> tuple[Floats, Arrays]:
        new, slots = tokens.shape[1], past.own[0].shape[2]
        where = positions(past.lengths, new, past.shared)
        embeds = tokens.astype(np.float32) * self._scale + self._positions[where]
        hidden, *own = self._decoder.run(
            None,
            {
                'embeds': embeds.astype(tokens.dtype),
                'mask': visible(past.lengths, new, past.shared, slots, past.prefix[0].shape[2]),
                'start': past.lengths,
                'last': last,
                **dict(zip(self._prefix_names, past.prefix, strict=True)),
                **dict(zip(self._cache_names, past.own, strict=True)),
            },
        )
        return cast(Floats, hidden), tuple(own)

    def _as_prefix(self, past: _KeyValues | None) -> tuple[int, Arrays]:
        """Tokens, and arrays as the graph wants them."""
        if past is None:
            return 0, self._empty(1, self._static_prefix or 0)
        length = int(past.lengths[0])
        filled = tuple(array[:, :, :length] for array in past.own)
        if self._static_prefix is None:
            return length, filled
        arrays = self._empty(1, self._static_prefix)
        for array, part in zip(arrays, filled, strict=True):
            array[:, :, :length] = part
        return length, arrays

    def _empty(self, rows: int, slots: int) -> Arrays:
        text = self._config.text
        shape = (rows, text.attention_heads, slots, text.head_dim)
        return tuple(np.zeros(shape, self._embedding.dtype) for _ in self._cache_names)


def _size(dimension: object) -> int | None:
    return dimension if isinstance(dimension, int) else None


def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    # Threads that spin while they wait would take a robot's cores from everything else.
    options.add_session_config_entry('session.intra_op.allow_spinning', '0')
    # Shapes change from call to call.
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
    except Exception as error:  # ONNX Runtime's own classes have no common base but this one
        raise EngineFileError(f'ONNX Runtime cannot load {path}: {error}') from error
