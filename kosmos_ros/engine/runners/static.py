"""The loop of all runners on a GPU: static shapes, fixed buffers, captured graphs.  Needs torch.

What runs the network on these buffers is a `Program`: a compiled TensorRT plan, or the PyTorch
network itself.  Everything else is here, once: the choice of a shape, what is written where, and
whose keys and values lie in the arena.

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
from kosmos_ros.engine.directory.recipe import Recipe, Shape
from kosmos_ros.engine.runners.cuda import Device
from kosmos_ros.engine.runners.embeddings import EmbeddingTables
from kosmos_ros.engine.runners.geometry import attention_mask, head_rows, image_slots, positions
from kosmos_ros.engine.runners.kv_arena import KVArena, StaticKeyValues
from kosmos_ros.engine.runners.runner import KeyValues, Runner
from kosmos_ros.errors import EngineError
from kosmos_ros.model.config import Kosmos2Config
from kosmos_ros.model.network.kosmos2 import write_new


@dataclass(frozen=True, slots=True)
class Buffers:
    """The fixed input and output of the decoder in one shape."""

    embeds: Tensor  # [B,Q,D]
    mask: Tensor  # bool[B,Q,P+S+Q]
    last: Tensor  # int64[B]
    prefix: Tensor  # [L,2,1,H,P,C]
    past: Tensor  # [L,2,B,H,S,C]
    hidden: Tensor  # [B,D]
    fresh: Tensor  # [L,2,B,H,Q,C]; what the loop then writes into `past`


class Program(Protocol):
    """The network on fixed buffers.  Functions from `bind_vision` and `bind_decoder` may be called
    when the buffers are full; they only enqueue work on the device's stream.

    :param name: backend, its version, device and precision, for people.
    """

    name: str

    def bind_vision(self, pixels: Tensor, embeds: Tensor) -> Callable[[], None]:
        """Return one run of the vision tower, float32[1,3,I,I] -> [1,K,D]."""

    def bind_decoder(self, shape: Shape, buffers: Buffers) -> Callable[[], None]:
        """Return one run of the decoder for a shape of the recipe."""

    def close(self) -> None:
        """Release memory."""


class _Captured:
    """Work that is launched directly the first time, and as one captured graph from then on."""

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
    """The decoder in one shape."""

    buffers: Buffers
    work: Callable[[], None]


class StaticRunner(Runner):
    """Runs a `Program` in the shapes of a recipe."""

    def __init__(
        self,
        program: Program,
        device: Device,
        tables: EmbeddingTables,
        config: Kosmos2Config,
        recipe: Recipe,
        image_token: int,
    ) -> None:
        """Reserve all memory that a run needs.

        :param image_token: id of ``<image>``; image embeddings follow it.
        """
        self.name = program.name
        self.chunk, self.capacity = recipe.chunk, recipe.capacity
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
            self._arena = KVArena(self._cache, recipe.cached, recipe.fresh, recipe.prefix)
            self._steps = {shape: self._step(shape) for shape in dict.fromkeys(recipe.shapes)}
            self._warm_up()

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
        past: KeyValues | None = None,
        images: Sequence[object] = (),
        reserve: int = 0,
    ) -> tuple[Tensor, StaticKeyValues]:
        """See `Runner.prefill`.

        :raises EngineError: when the prompts are longer than the recipe's shapes, or rows have too
            few slots.
        :raises ValueError: when both a prefix and a past are given.
        """
        if prefix is not None and past is not None:
            raise ValueError('a prefix and a past cannot be given both')
        with self._device.active():
            tokens = self._tables.embedding[self._here(ids)]
            if images:
                slots = image_slots(ids, self._image_token, self._config.latent_query_num)
                tokens[0, self._here(slots)] = torch.cat([cast(Tensor, i)[0] for i in images])
            if past is None:
                nothing = self._cache(len(ids), 0)
                shared = cast(StaticKeyValues | None, prefix)
                past = StaticKeyValues(nothing, shared, np.zeros_like(lengths))
            return self._read(tokens, cast(StaticKeyValues, past), lengths, reserve)

    @torch.inference_mode()
    def decode(self, ids: Tokens, past: KeyValues) -> tuple[Tensor, StaticKeyValues]:
        """See `Runner.decode`.

        :raises EngineError: when rows have no slots for one more token.
        """
        past = cast(StaticKeyValues, past)
        with self._device.active():
            tokens = self._tables.embedding[self._here(ids[:, None])]
            return self._read(tokens, past, np.ones_like(past.lengths), 0)

    @torch.inference_mode()
    def logits(self, hidden: object, first: int, last: int) -> Floats:
        """See `Runner.logits`."""
        with self._device.active():
            head, state = self._tables.head, cast(Tensor, hidden).float()
            scores = [state @ head[rows].float().T for rows in head_rows(first, last)]
            result: Floats = torch.cat(scores, dim=1).cpu().numpy()
            if not np.isfinite(result).all():
                self._arena.clear()
            return result

    def fetch(self, value: object) -> Floats:
        """See `Runner.fetch`."""
        with self._device.active():
            return cast(Floats, cast(Tensor, value).float().cpu().numpy())

    def close(self) -> None:
        """See `Runner.close`."""
        self._program.close()

    def _read(
        self, tokens: Tensor, past: StaticKeyValues, new: Tokens, reserve: int
    ) -> tuple[Tensor, StaticKeyValues]:
        """Read tokens [B,Q,D], of which `new` [B] are real, after `past`."""
        needed = past.filled + tokens.shape[1]
        if needed + reserve > self.capacity:
            raise EngineError(
                f'the engine has slots for {self.capacity} tokens after the shared ones, not '
                f'{needed + reserve}; build it by a recipe with more slots'
            )
        split = self._split(tokens.shape[0], tokens.shape[1], needed)
        if len(split) == 1:
            return self._run(split[0][1], tokens, past, new)
        self._arena.evict()
        hidden, parts = [], []
        for rows, shape in split:
            part = StaticKeyValues(past.tensor[:, :, rows], past.prefix, past.lengths[rows])
            state, read = self._run(shape, tokens[rows], part, new[rows])
            hidden.append(state)
            parts.append(read)
        own = _joined([part.tensor[..., : part.filled, :] for part in parts])
        return torch.cat(hidden), StaticKeyValues(own, past.prefix, past.lengths + new)

    def _run(
        self, shape: Shape, tokens: Tensor, past: StaticKeyValues, new: Tokens
    ) -> tuple[Tensor, StaticKeyValues]:
        """Do the same as `_read` in one run."""
        (rows, width, slots), (count, length) = shape, tokens.shape[:2]
        self._arena.load(past, rows, slots)
        step = self._steps[shape]
        buffers = step.buffers
        start = np.zeros(rows, np.int64)
        start[:count] = past.lengths
        last = np.zeros(rows, np.int64)
        last[:count] = new - 1
        where = positions(past.lengths, length, past.shared)
        buffers.embeds.zero_()
        buffers.embeds[:count, :length] = self._tables.embed(tokens, self._here(where))
        mask = attention_mask(start, width, past.shared, slots, self._recipe.prefix)
        buffers.mask.copy_(torch.from_numpy(mask))
        buffers.last.copy_(torch.from_numpy(last))
        step.work()
        own = buffers.past[:, :, :count]
        write_new(own, buffers.fresh[:, :, :count, :, :length], self._here(past.lengths))
        read = StaticKeyValues(own, past.prefix, past.lengths + new)
        self._arena.set_resident(read)
        return buffers.hidden[:count].clone(), read

    def _split(self, count: int, length: int, needed: int) -> list[tuple[slice, Shape]]:
        """Choose which rows run together, and in which shape that has the slots needed."""
        shapes = self._recipe.prefill if length > 1 else self._recipe.shapes
        fitting = [shape for shape in shapes if shape[1] >= length and shape[2] >= needed]
        if not fitting:
            raise EngineError(
                f'the engine reads {self.chunk} tokens at once, not {length}; build it by a '
                'recipe with longer shapes'
            )
        # As many rows at once as possible, then the shape that costs least.
        most = min(count, max(rows for rows, _, _ in fitting))
        shape = min((shape for shape in fitting if shape[0] >= most), key=_cost)
        rest = self._split(count - most, length, needed) if count > most else []
        moved = [(slice(rows.start + most, rows.stop + most), other) for rows, other in rest]
        return [(slice(0, most), shape), *moved]

    def _step(self, shape: Shape) -> _Step:
        rows, tokens, slots = shape
        width, prefix = self._config.text.embed_dim, self._arena.prefix
        buffers = Buffers(
            embeds=self._empty(rows, tokens, width),
            mask=self._device.empty((rows, tokens, prefix.shape[-2] + slots + tokens), torch.bool),
            last=self._device.empty((rows,), torch.int64),
            prefix=prefix,
            past=self._arena.past(rows, slots),
            hidden=self._empty(rows, width),
            fresh=self._arena.fresh(rows, tokens),
        )
        return _Step(buffers, _Captured(self._device, self._program.bind_decoder(shape, buffers)))

    def _warm_up(self) -> None:
        """Run everything once: kernels are compiled and graphs captured now, not while a robot
        waits for its first answers.
        """
        self._pixels.zero_()
        self._see()
        for step in self._steps.values():
            # Whatever the other buffers hold, these lead to no address outside of them.
            step.buffers.last.zero_()
            step.work()

    def _cache(self, rows: int, slots: int) -> Tensor:
        text = self._config.text
        return self._empty(text.layers, 2, rows, text.attention_heads, slots, text.head_dim)

    def _empty(self, *shape: int) -> Tensor:
        return self._device.empty(shape, self._tables.embedding.dtype)

    def _here(self, array: Tokens) -> Tensor:
        return torch.from_numpy(array).to(self._device.torch_device)


def _cost(shape: Shape) -> int:
    """Estimate what a run costs on a GPU: each token as much as reading 64 slots."""
    rows, tokens, slots = shape
    return rows * (64 * tokens + slots)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Join rows [L,2,b,H,s,C] of several steps, each with its own s, to [L,2,B,H,S,C]."""
    longest = max(part.shape[-2] for part in parts)
    return torch.cat([F.pad(part, (0, 0, 0, longest - part.shape[-2])) for part in parts], dim=2)
