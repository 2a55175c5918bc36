"""PyTorch: the golden reference on the CPU, and the way to a GPU that has no compiled plans."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor
import torch.nn.functional as F

from kosmos_ros.engine.base import Floats, Tokens
from kosmos_ros.engine.directory.recipe import Shape
from kosmos_ros.engine.runners.geometry import (
    CHUNK,
    GROWTH,
    check_places,
    head_rows,
    image_slots,
    positions,
    visible,
)
from kosmos_ros.engine.runners.runner import KeyValues
from kosmos_ros.engine.runners.static import Buffers
from kosmos_ros.model.network.kosmos2 import Kosmos2, appended_attention, stacked, write_new


@dataclass(frozen=True, slots=True)
class _KeyValues:
    own: Tensor  # [L,2,B,H,S,C]
    prefix: Tensor  # [L,2,1,H,P,C]
    lengths: Tokens  # [B], slots of `own` that are filled

    def select(self, rows: Tokens) -> '_KeyValues':
        index = torch.from_numpy(rows).to(self.own.device)
        return _KeyValues(self.own.index_select(2, index), self.prefix, self.lengths[rows])

    @property
    def nbytes(self) -> int:
        return self.own.nbytes

    def has_room(self, new: int) -> bool:
        return int(self.lengths.max(initial=0)) + new <= self.own.shape[-2]

    def with_room(self, new: int) -> '_KeyValues':
        """The same with slots for so many more tokens, at least."""
        if self.has_room(new):
            return self
        more = int(self.lengths.max(initial=0)) + new - self.own.shape[-2]
        return _KeyValues(F.pad(self.own, (0, 0, 0, more)), self.prefix, self.lengths)


class TorchRunner:
    """Runs the network itself, in the type and on the device of its weights, and in whatever shape
    it is asked for.
    """

    chunk = CHUNK

    def __init__(self, network: Kosmos2, image_token: int) -> None:
        """Take over a network; `image_token` is the id of ``<image>``, image embeddings go behind
        it.
        """
        self._network = network.eval()
        self._image_token = image_token
        self.room = network.config.text.max_position_embeddings
        weight = network.text_model.lm_head.weight
        self._device = weight.device
        precision = str(weight.dtype).removeprefix('torch.')
        self.name = f'PyTorch {torch.__version__}, {weight.device}, {precision}'

    @torch.inference_mode()
    def vision(self, pixels: Floats) -> Tensor:
        """See `Runner.vision`: [1,K,D]."""
        dtype = self._network.text_model.lm_head.weight.dtype
        return self._network.vision(self._here(pixels).to(dtype))

    @torch.inference_mode()
    def prefill(
        self,
        ids: Tokens,
        lengths: Tokens,
        *,
        prefix: KeyValues | None = None,
        past: KeyValues | None = None,
        images: Sequence[object] = (),
        room: int = 0,
    ) -> tuple[Tensor, _KeyValues]:
        """See `Runner.prefill`.

        :raises EngineError: when the model has no positions for so many tokens.
        :raises ValueError: when both a prefix and a past are given.
        """
        if prefix is not None and past is not None:
            raise ValueError('a prefix and a past cannot be given both')
        tokens = self._network.decoder.embed_tokens(self._here(ids))
        if images:
            slots = image_slots(ids, self._image_token, self._network.config.latent_query_num)
            tokens[0, self._here(slots)] = torch.cat([cast(Tensor, image)[0] for image in images])
        if past is None:
            empty = self._network.empty_cache(1, 0)
            shared = _as_prefix(prefix) if prefix is not None else empty
            own = self._network.empty_cache(len(ids), 0)
            past = _KeyValues(own, shared, np.zeros_like(lengths))
        return self._read(tokens, cast(_KeyValues, past), lengths, room)

    @torch.inference_mode()
    def decode(self, ids: Tokens, past: KeyValues) -> tuple[Tensor, _KeyValues]:
        """See `Runner.decode`.

        :raises EngineError: as `prefill`.
        """
        past = cast(_KeyValues, past)
        tokens = self._network.decoder.embed_tokens(self._here(ids[:, None]))
        # Once there is no room, there is soon none again.
        room = 0 if past.has_room(1) else GROWTH
        return self._read(tokens, past, np.ones_like(past.lengths), room)

    @torch.inference_mode()
    def logits(self, hidden: object, first: int, last: int) -> Floats:
        """See `Runner.logits`."""
        head, state = self._network.text_model.lm_head.weight, cast(Tensor, hidden).float()
        scores = [state @ head[rows].float().T for rows in head_rows(first, last)]
        return self.fetch(torch.cat(scores, dim=1))

    def fetch(self, value: object) -> Floats:
        """See `Runner.fetch`."""
        return cast(Floats, cast(Tensor, value).float().cpu().numpy())

    def close(self) -> None:
        """See `Runner.close`."""
        del self._network

    def _read(
        self, tokens: Tensor, past: _KeyValues, lengths: Tokens, room: int
    ) -> tuple[Tensor, _KeyValues]:
        """Read tokens [B,Q,D], of which `lengths` [B] are real, behind `past`."""
        decoder = self._network.decoder
        new, shared = tokens.shape[1], past.prefix.shape[4]
        check_places(past.lengths, new, shared, self.room)
        past = past.with_room(new + room)
        embeds = decoder.embed(tokens, self._here(positions(past.lengths, new, shared)))
        mask = self._here(visible(past.lengths, new, shared, past.own.shape[4]))
        start = self._here(past.lengths)
        hidden, fresh = decoder(embeds, mask, start, past.prefix, past.own, appended_attention)
        write_new(past.own, stacked(fresh), start)
        state = hidden[torch.arange(len(hidden), device=self._device), self._here(lengths - 1)]
        return state, _KeyValues(past.own, past.prefix, past.lengths + lengths)

    def _here(self, array: Floats | Tokens | np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self._device)


class TorchProgram:
    """The network on the buffers of the static loop; satisfies
    `kosmos_ros.engine.runners.static.Program`.
    """

    def __init__(self, network: Kosmos2) -> None:
        """Take over a network that is on the device already."""
        self._network = network.eval()
        weight = network.text_model.lm_head.weight
        precision = str(weight.dtype).removeprefix('torch.')
        self.name = f'PyTorch {torch.__version__}, {weight.device.type}, {precision}'

    def bind_vision(self, pixels: Tensor, embeds: Tensor) -> Callable[[], None]:
        """See `Program.bind_vision`."""

        def work() -> None:
            embeds.copy_(self._network.vision(pixels.to(embeds.dtype)))

        return work

    def bind_decoder(self, shape: Shape, buffers: Buffers) -> Callable[[], None]:
        """See `Program.bind_decoder`."""
        rows = torch.arange(shape[0], device=buffers.embeds.device)

        def work() -> None:
            hidden, fresh = self._network.decoder(
                buffers.embeds,
                buffers.mask,
                # Nothing is written into the cache here, so nobody asks from where on.
                buffers.last,
                buffers.prefix,
                buffers.past,
                appended_attention,
            )
            buffers.hidden.copy_(hidden[rows, buffers.last])
            for place, pair in zip(buffers.fresh, fresh, strict=True):
                place[0].copy_(pair[0])
                place[1].copy_(pair[1])

        return work

    def close(self) -> None:
        """See `Program.close`."""
        del self._network


def _as_prefix(past: KeyValues) -> Tensor:
    past = cast(_KeyValues, past)
    return past.own[..., : int(past.lengths[0]), :]
