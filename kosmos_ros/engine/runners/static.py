"""The loop of all runners on a GPU: static shapes, fixed buffers, captured graphs.  Needs torch.

What runs the network on these buffers is a `Program`: a compiled TensorRT plan, or the PyTorch
network itself.  Everything else (which shape, what is written where, whose keys and values lie in
the arena) is here, once.

Letters in shapes: B rows, Q tokens, P prefix slots, S slots of a row's own cache, L layers, H
heads, C head width, D text width, K latent queries, I image side.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
import torch
from torch import Tensor
import torch.nn.functional as F

from kosmos_ros.engine.base import Floats, Tokens
from kosmos_ros.engine.recipe import Recipe, Shape
from kosmos_ros.engine.runner import KeyValues
from kosmos_ros.engine.runners.arena import Arena, StaticKeyValues
from kosmos_ros.engine.runners.device import Device
from kosmos_ros.engine.runners.layout import image_slots, positions, visible
from kosmos_ros.engine.runners.tables import Tables
from kosmos_ros.errors import EngineError
from kosmos_ros.model.config import Kosmos2Config


@dataclass(frozen=True, slots=True)
class Buffers:
    """Where one shape of the decoder finds its input and leaves its output, for ever."""

    embeds: Tensor  # [B,Q,D]
    mask: Tensor  # bool[B,Q,P+S]
    start: Tensor  # int64[B]
    last: Tensor  # int64[B]
    prefix: Tensor  # [L,2,1,H,P,C]
    past: Tensor  # [L,2,B,H,S,C]
    present: Tensor  # [L,2,B,H,S,C]; the memory of `past`, if the program updates in place
    hidden: Tensor  # [B,D]


class Program(Protocol):
    """The network on fixed buffers.  What `bind_` gives may be called once the buffers are full;
    it only enqueues work on the device's stream.
    """

    @property
    def name(self) -> str:
        """Backend, its version, device and precision, for people."""

    @property
    def in_place(self) -> bool:
        """Whether it updates caches where they lie, or reads one memory and writes another."""

    def bind_vision(self, pixels: Tensor, embeds: Tensor) -> Callable[[], None]:
        """float32[1,3,I,I] -> [1,K,D]."""

    def bind_decoder(self, shape: Shape, buffers: Buffers) -> Callable[[], None]:
        """One run of the decoder for a shape of the recipe."""

    def close(self) -> None:
        """Give memory back."""


class _Captured:
    """Work that is launched as it is the first time, and as one captured graph from then on."""

    def __init__(self, device: Device, work: Callable[[], None]) -> None:
        self._device = device
        self._work = work
        self._replay: Callable[[], None] | None = None

    def __call__(self) -> None:
        if self._replay is not None:
            self._replay()
            return
        self._work()
        self._replay = self._device.capture(self._work)


@dataclass(frozen=True, slots=True)
class _Step:
    """The decoder in one shape: buffers and work for each half of the arena that holds the
    past.
    """

    buffers: tuple[Buffers, Buffers]
    work: tuple[Callable[[], None], Callable[[], None]]


class StaticRunner:
    """Satisfies `kosmos_ros.engine.runner.Runner`."""

    def __init__(
        self,
        program: Program,
        device: Device,
        tables: Tables,
        config: Kosmos2Config,
        recipe: Recipe,
        image_token: int,
    ) -> None:
        """Reserve all memory that a run needs.

        :param image_token: id of ``<image>``; image embeddings go behind it.
        """
        self.name = program.name
        self._program = program
        self._device = device
        self._tables = tables
        self._config = config
        self._recipe = recipe
        self._image_token = image_token
        with device.active():
            side = config.vision.image_size
            self._pixels = device.empty((1, 3, side, side), torch.float32)
            self._embeds = self._empty(1, config.latent_query_num, config.text.embed_dim)
            self._see = _Captured(device, program.bind_vision(self._pixels, self._embeds))
            most = max(rows for rows, _ in recipe.shapes)
            self._arena = Arena(
                self._cache, most, recipe.slots, recipe.prefix, in_place=program.in_place
            )
            self._steps = {shape: self._step(shape) for shape in dict.fromkeys(recipe.shapes)}

    @torch.inference_mode()
    def vision(self, pixels: Floats) -> Tensor:
        """See `Runner.vision`: [1,K,D]."""
        with self._device.active():
            self._pixels.copy_(torch.from_numpy(pixels))
            self._see()
            return self._embeds.clone()

    @torch.inference_mode()
    def prefill(
        self,
        ids: Tokens,
        lengths: Tokens,
        *,
        prefix: KeyValues | None = None,
        images: Sequence[object] = (),
        room: int = 0,
    ) -> tuple[Tensor, StaticKeyValues]:
        """See `Runner.prefill`.

        :raises EngineError: when the prompts are longer than the recipe's shapes.
        """
        shared = cast(StaticKeyValues | None, prefix)
        with self._device.active():
            tokens = self._tables.embedding[self._here(ids)]
            if images:
                slots = image_slots(ids, self._image_token, self._config.latent_query_num)
                tokens[0, self._here(slots)] = torch.cat([cast(Tensor, i)[0] for i in images])
            nothing = self._arena.prefix[..., :0, :]
            hidden, parts = [], []
            for rows, shape in self._split(len(ids), ids.shape[1]):
                part = StaticKeyValues(nothing, shared, np.zeros_like(lengths[rows]))
                state, read = self._run(shape, tokens[rows], part, lengths[rows])
                # Of its own: a search asks for this again when the arena holds something else.
                self._arena.move_out()
                hidden.append(state)
                parts.append(read.tensor)
            return torch.cat(hidden), StaticKeyValues(_joined(parts), shared, lengths)

    @torch.inference_mode()
    def decode(self, ids: Tokens, past: KeyValues) -> tuple[Tensor, StaticKeyValues]:
        """See `Runner.decode`."""
        past = cast(StaticKeyValues, past)
        one = np.ones_like(past.lengths)
        with self._device.active():
            tokens = self._tables.embedding[self._here(ids[:, None])]
            split = self._split(len(ids), 1)
            if len(split) == 1:
                return self._run(split[0][1], tokens, past, one)
            self._arena.move_out()
            hidden, parts = [], []
            for rows, shape in split:
                part = StaticKeyValues(past.tensor[:, :, rows], past.prefix, past.lengths[rows])
                state, read = self._run(shape, tokens[rows], part, one[rows])
                hidden.append(state)
                parts.append(read)
            own = _joined([part.tensor for part in parts])
            return torch.cat(hidden), StaticKeyValues(own, past.prefix, past.lengths + 1)

    @torch.inference_mode()
    def logits(self, hidden: object, first: int, last: int) -> Floats:
        """See `Runner.logits`."""
        with self._device.active():
            scores = cast(Tensor, hidden).float() @ self._tables.head[first:last].float().T
            result: Floats = scores.cpu().numpy()
            if not np.isfinite(result).all():
                self._arena.forget()
            return result

    def fetch(self, value: object) -> Floats:
        """See `Runner.fetch`."""
        with self._device.active():
            return cast(Floats, cast(Tensor, value).float().cpu().numpy())

    def close(self) -> None:
        """See `Runner.close`."""
        self._program.close()

    def _run(
        self, shape: Shape, tokens: Tensor, past: StaticKeyValues, new: Tokens
    ) -> tuple[Tensor, StaticKeyValues]:
        """Read tokens [B,Q,D], of which `new` [B] are real, behind `past`."""
        (rows, width), (count, length) = shape, tokens.shape[:2]
        if int(past.lengths.max(initial=0)) + width > self._recipe.slots:
            raise EngineError(
                f'the engine has room for {self._recipe.slots} tokens behind the image; '
                'build it by a recipe with more slots'
            )
        self._arena.load(past, rows)
        step = self._steps[shape]
        buffers = step.buffers[self._arena.now]
        start = np.zeros(rows, np.int64)
        start[:count] = past.lengths
        last = np.zeros(rows, np.int64)
        last[:count] = new - 1
        where = positions(start[:count], length, past.shared)
        buffers.embeds.zero_()
        buffers.embeds[:count, :length] = self._tables.embed(tokens, self._here(where))
        mask = visible(start, width, past.shared, self._recipe.slots, self._recipe.prefix)
        buffers.mask.copy_(torch.from_numpy(mask))
        buffers.start.copy_(torch.from_numpy(start))
        buffers.last.copy_(torch.from_numpy(last))
        step.work[self._arena.now]()
        read = StaticKeyValues(buffers.present[:, :, :count], past.prefix, past.lengths + new)
        self._arena.turn(read)
        return buffers.hidden[:count].clone(), read

    def _split(self, count: int, length: int) -> list[tuple[slice, Shape]]:
        """Which rows run together, and in which shape."""
        shapes = self._recipe.prefill if length > 1 else self._recipe.shapes
        long_enough = [shape for shape in shapes if shape[1] >= length]
        if not long_enough:
            most = max(tokens for _, tokens in shapes)
            raise EngineError(
                f'the engine reads {most} tokens at once, not {length}; build it by a recipe with '
                'longer shapes'
            )
        fitting = [shape for shape in long_enough if shape[0] >= count]
        if fitting:
            return [(slice(0, count), min(fitting, key=lambda shape: shape[0] * shape[1]))]
        most = max(rows for rows, _ in long_enough)
        rest = self._split(count - most, length)
        first = (slice(0, most), min(shape for shape in long_enough if shape[0] == most))
        moved = [(slice(rows.start + most, rows.stop + most), shape) for rows, shape in rest]
        return [first, *moved]

    def _step(self, shape: Shape) -> _Step:
        rows, tokens = shape
        text, recipe = self._config.text, self._recipe
        embeds = self._empty(rows, tokens, text.embed_dim)
        mask = self._device.empty((rows, tokens, recipe.prefix + recipe.slots), torch.bool)
        start, last = (self._device.empty((rows,), torch.int64) for _ in range(2))
        hidden = self._empty(rows, text.embed_dim)
        first, second = self._arena.halves(rows)
        forth, back = (
            Buffers(embeds, mask, start, last, self._arena.prefix, past, present, hidden)
            for past, present in ((first, second), (second, first))
        )
        go = _Captured(self._device, self._program.bind_decoder(shape, forth))
        if self._program.in_place:
            return _Step((forth, forth), (go, go))
        return _Step(
            (forth, back), (go, _Captured(self._device, self._program.bind_decoder(shape, back)))
        )

    def _cache(self, rows: int, slots: int) -> Tensor:
        text = self._config.text
        return self._empty(text.layers, 2, rows, text.attention_heads, slots, text.head_dim)

    def _empty(self, *shape: int) -> Tensor:
        return self._device.empty(shape, self._tables.embedding.dtype)

    def _here(self, array: Tokens) -> Tensor:
        return torch.from_numpy(array).to(self._device.torch_device)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Rows [L,2,b,H,s,C] of several steps, each with its own s -> [L,2,B,H,S,C]."""
    longest = max(part.shape[-2] for part in parts)
    return torch.cat([F.pad(part, (0, 0, 0, longest - part.shape[-2])) for part in parts], dim=2)
