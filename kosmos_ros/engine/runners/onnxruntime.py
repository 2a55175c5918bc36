"""ONNX Runtime on the CPU: light, without torch, on any machine."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
import os
from pathlib import Path
from typing import cast

import numpy as np
from safetensors import safe_open

from kosmos_ros.engine.base import Floats, Tokens
from kosmos_ros.engine.directory.directory import VISION_GRAPH, WEIGHTS_FILE, decoder_graph
from kosmos_ros.engine.directory.recipe import Recipe
from kosmos_ros.engine.runners.geometry import (
    CHUNK,
    GROWTH,
    attention_mask,
    check_positions,
    head_rows,
    image_slots,
    positions,
)
from kosmos_ros.engine.runners.runner import KeyValues, Runner
from kosmos_ros.engine.tensorrt.tiers import MATMUL
from kosmos_ros.errors import EngineFileError, RunnerUnavailable
from kosmos_ros.model.config import EMBEDDING, HEAD, Kosmos2Config
from kosmos_ros.model.network.positions import sinusoidal_positions

# Before the import: from 1.32 on, ONNX Runtime writes which program runs which models on which
# device into the user's home folder.
os.environ.setdefault('ORT_DISABLE_TELEMETRY', '1')
import onnxruntime

# Keys and values of all layers: 2 L arrays [B,H,S,C], as the graph names them.
Arrays = tuple[Floats, ...]


@dataclass(frozen=True, slots=True)
class OnnxRuntimeKeyValues:
    """Satisfies `KeyValues`."""

    own: Arrays
    prefix: Arrays
    lengths: Tokens  # [B], slots of `own` that are filled
    shared: int  # tokens of `prefix`

    def select(self, rows: Tokens) -> 'OnnxRuntimeKeyValues':
        own = tuple(array[rows] for array in self.own)
        return replace(self, own=own, lengths=self.lengths[rows])

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.own)

    def has_capacity(self, new: int) -> bool:
        slots: int = self.own[0].shape[2]
        return int(self.lengths.max(initial=0)) + new <= slots

    def with_capacity(self, new: int) -> 'OnnxRuntimeKeyValues':
        """Return the same with slots for at least `new` more tokens."""
        if self.has_capacity(new):
            return self
        more = int(self.lengths.max(initial=0)) + new - self.own[0].shape[2]
        padding = ((0, 0), (0, 0), (0, more), (0, 0))
        return replace(self, own=tuple(np.pad(array, padding) for array in self.own))


class OnnxRuntimeRunner(Runner):
    """Runs ``vision.onnx`` and one of the decoder's graphs; embedding and head are NumPy."""

    chunk = CHUNK

    def __init__(
        self,
        directory: Path,
        config: Kosmos2Config,
        image_token: int,
        recipe: Recipe,
        tier: str = MATMUL.name,
    ) -> None:
        """Load a verified engine directory.

        :param image_token: id of ``<image>``; image embeddings follow it.
        :param tier: of the decoder's graph; both give the same.
        :raises RunnerUnavailable: when the engine's type is not one of ONNX Runtime's CPU.
        :raises EngineFileError: when ONNX Runtime refuses a graph.
        """
        if recipe.activations == 'bf16':
            raise RunnerUnavailable('ONNX Runtime has no bfloat16 on the CPU')
        self.name = f'ONNX Runtime {onnxruntime.__version__}, CPU, {recipe.precision}'
        self.capacity = config.text.max_position_embeddings
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
        # Graphs for TensorRT have a prefix of static length, others one of any length.
        length = next(one.shape[2] for one in self._decoder.get_inputs() if '.' in one.name)
        self._static_prefix: int | None = length if isinstance(length, int) else None

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
        past: KeyValues | None = None,
        images: Sequence[object] = (),
        reserve: int = 0,
    ) -> tuple[Floats, OnnxRuntimeKeyValues]:
        """See `Runner.prefill`.

        :raises EngineError: when the model has too few positions.
        :raises ValueError: when both a prefix and a past are given.
        """
        if prefix is not None and past is not None:
            raise ValueError('a prefix and a past cannot be given both')
        tokens = self._embedding[ids]
        if images:
            slots = image_slots(ids, self._image_token, self._config.latent_query_num)
            tokens[0, slots] = np.concatenate([cast(Floats, image)[0] for image in images])
        if past is None:
            shared, before = self._as_prefix(cast(OnnxRuntimeKeyValues | None, prefix))
            empty = self._empty(len(ids), 0)
            past = OnnxRuntimeKeyValues(empty, before, np.zeros_like(lengths), shared)
        return self._read(tokens, cast(OnnxRuntimeKeyValues, past), lengths, reserve)

    def decode(self, ids: Tokens, past: KeyValues) -> tuple[Floats, OnnxRuntimeKeyValues]:
        """See `Runner.decode`.

        :raises EngineError: as `prefill`.
        """
        past = cast(OnnxRuntimeKeyValues, past)
        # A cache that was too small once will be again, so it grows by more than one slot.
        reserve = 0 if past.has_capacity(1) else GROWTH
        return self._read(self._embedding[ids[:, None]], past, np.ones_like(past.lengths), reserve)

    def logits(self, hidden: object, first: int, last: int) -> Floats:
        """See `Runner.logits`."""
        state = self.fetch(hidden)
        scores = [
            state @ self._head[rows].T.astype(np.float32, copy=False)
            for rows in head_rows(first, last)
        ]
        return np.concatenate(scores, axis=1)

    def fetch(self, value: object) -> Floats:
        """See `Runner.fetch`."""
        return cast(Floats, value).astype(np.float32, copy=False)

    def close(self) -> None:
        """See `Runner.close`."""
        del self._vision, self._decoder

    def _read(
        self, tokens: Floats, past: OnnxRuntimeKeyValues, lengths: Tokens, reserve: int
    ) -> tuple[Floats, OnnxRuntimeKeyValues]:
        """Read tokens [B,Q,D], of which `lengths` [B] are real, after `past`."""
        new = tokens.shape[1]
        check_positions(past.lengths, new, past.shared, self.capacity)
        past = past.with_capacity(new + reserve)
        slots = past.own[0].shape[2]
        where = positions(past.lengths, new, past.shared)
        embeds = tokens.astype(np.float32) * self._scale + self._positions[where]
        hidden, *fresh = self._decoder.run(
            None,
            {
                'embeds': embeds.astype(tokens.dtype),
                'mask': attention_mask(
                    past.lengths, new, past.shared, slots, past.prefix[0].shape[2]
                ),
                'last': lengths - 1,
                **dict(zip(self._prefix_names, past.prefix, strict=True)),
                **dict(zip(self._cache_names, past.own, strict=True)),
            },
        )
        rows, places = np.arange(len(tokens))[:, None], past.lengths[:, None] + np.arange(new)
        for array, part in zip(past.own, fresh, strict=True):
            array[rows, :, places] = part.swapaxes(1, 2)
        return cast(Floats, hidden), replace(past, lengths=past.lengths + lengths)

    def _as_prefix(self, past: OnnxRuntimeKeyValues | None) -> tuple[int, Arrays]:
        """Return the number of tokens, and the arrays that the graph takes."""
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
