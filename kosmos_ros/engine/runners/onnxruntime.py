"""ONNX Runtime on the CPU: light, no torch, any machine."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import onnxruntime

from kosmos_ros.engine.base import Floats, Tokens
from kosmos_ros.engine.runner import KeyValues
from kosmos_ros.engine.runners.layout import image_slots, positions, visible
from kosmos_ros.errors import EngineFileError
from kosmos_ros.model.config import Kosmos2Config
from kosmos_ros.model.positions import sinusoidal_positions


@dataclass(frozen=True, slots=True)
class _KeyValues:
    own: Floats  # [L,2,B,H,S,C]
    prefix: Floats  # [L,2,1,H,P,C]
    lengths: Tokens  # [B], slots of `own` that are filled

    def select(self, rows: Tokens) -> '_KeyValues':
        return _KeyValues(self.own[:, :, rows], self.prefix, self.lengths[rows])


class OnnxRuntimeRunner:
    """Runs ``vision.onnx`` and ``decoder.onnx``; embedding and head are NumPy."""

    def __init__(self, directory: Path, config: Kosmos2Config, image_token: int) -> None:
        """Load a verified engine directory.

        :param image_token: id of ``<image>``; image embeddings go behind it.
        :raises EngineFileError: when ONNX Runtime refuses a graph.
        """
        self.name = f'ONNX Runtime {onnxruntime.__version__}, CPU, fp32'
        self._config = config
        self._image_token = image_token
        self._vision = _session(directory / 'vision.onnx')
        self._decoder = _session(directory / 'decoder.onnx')
        self._embedding: Floats = np.load(directory / 'embedding.npy', allow_pickle=False)
        head = directory / 'head.npy'
        self._head: Floats = (
            np.load(head, allow_pickle=False) if head.exists() else self._embedding
        )
        text = config.text
        self._scale = np.float32(np.sqrt(text.embed_dim) if text.scale_embedding else 1)
        self._positions = sinusoidal_positions(
            text.max_position_embeddings, text.embed_dim, text.pad_token_id
        )

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
        """See `Runner.prefill`."""
        tokens = self._embedding[ids]
        if images:
            slots = image_slots(ids, self._image_token, self._config.latent_query_num)
            tokens[0, slots] = np.concatenate([cast(Floats, image)[0] for image in images])
        shared = _as_prefix(prefix) if prefix is not None else self._empty(rows=1, slots=0)
        past = _KeyValues(
            self._empty(len(ids), ids.shape[1] + room), shared, np.zeros_like(lengths)
        )
        hidden, own = self._run(tokens, past)
        return hidden[np.arange(len(ids)), lengths - 1], _KeyValues(own, shared, lengths)

    def decode(self, ids: Tokens, past: KeyValues) -> tuple[Floats, _KeyValues]:
        """See `Runner.decode`."""
        past = cast(_KeyValues, past)
        hidden, own = self._run(self._embedding[ids[:, None]], past)
        return hidden[:, 0], _KeyValues(own, past.prefix, past.lengths + 1)

    def logits(self, hidden: object, first: int, last: int) -> Floats:
        """See `Runner.logits`."""
        return cast(Floats, hidden) @ self._head[first:last].T

    def close(self) -> None:
        """See `Runner.close`."""
        del self._vision, self._decoder

    def _run(self, tokens: Floats, past: _KeyValues) -> tuple[Floats, Floats]:
        new, shared, slots = tokens.shape[1], past.prefix.shape[4], past.own.shape[4]
        where = positions(past.lengths, new, shared)
        hidden, own = self._decoder.run(
            None,
            {
                'embeds': tokens * self._scale + self._positions[where],
                'mask': visible(past.lengths, new, shared, slots),
                'start': past.lengths,
                'prefix': past.prefix,
                'cache': past.own,
            },
        )
        return cast(Floats, hidden), cast(Floats, own)

    def _empty(self, rows: int, slots: int) -> Floats:
        text = self._config.text
        return np.zeros(
            (text.layers, 2, rows, text.attention_heads, slots, text.head_dim), np.float32
        )


def _as_prefix(past: KeyValues) -> Floats:
    past = cast(_KeyValues, past)
    return past.own[..., : int(past.lengths[0]), :]


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
