"""PyTorch in free shapes: the reference that every other runner is compared with."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor
import torch.nn.functional as F

from kosmos_ros.engine.base import Floats, Tokens
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
from kosmos_ros.model.network.kosmos2 import Kosmos2, appended_attention, stacked, write_new


@dataclass(frozen=True, slots=True)
class TorchKeyValues:
    """Satisfies `KeyValues`."""

    own: Tensor  # [L,2,B,H,S,C]
    prefix: Tensor  # [L,2,1,H,P,C]
    lengths: Tokens  # [B], slots of `own` that are filled

    def select(self, rows: Tokens) -> 'TorchKeyValues':
        index = torch.from_numpy(rows).to(self.own.device)
        return TorchKeyValues(self.own.index_select(2, index), self.prefix, self.lengths[rows])

    @property
    def nbytes(self) -> int:
        return self.own.nbytes

    def has_capacity(self, new: int) -> bool:
        return int(self.lengths.max(initial=0)) + new <= self.own.shape[-2]

    def with_capacity(self, new: int) -> 'TorchKeyValues':
        """Return the same with slots for at least `new` more tokens."""
        if self.has_capacity(new):
            return self
        more = int(self.lengths.max(initial=0)) + new - self.own.shape[-2]
        return TorchKeyValues(F.pad(self.own, (0, 0, 0, more)), self.prefix, self.lengths)


class TorchRunner(Runner):
    """Runs the network itself, in the type and on the device of its weights, in any shape."""

    chunk = CHUNK

    def __init__(self, network: Kosmos2, image_token: int) -> None:
        """Take over a network.

        :param image_token: id of ``<image>``; image embeddings follow it.
        """
        self._network = network.eval()
        self._image_token = image_token
        self.capacity = network.config.text.max_position_embeddings
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
        reserve: int = 0,
    ) -> tuple[Tensor, TorchKeyValues]:
        """See `Runner.prefill`.

        :raises EngineError: when the model has too few positions.
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
            past = TorchKeyValues(own, shared, np.zeros_like(lengths))
        return self._read(tokens, cast(TorchKeyValues, past), lengths, reserve)

    @torch.inference_mode()
    def decode(self, ids: Tokens, past: KeyValues) -> tuple[Tensor, TorchKeyValues]:
        """See `Runner.decode`.

        :raises EngineError: as `prefill`.
        """
        past = cast(TorchKeyValues, past)
        tokens = self._network.decoder.embed_tokens(self._here(ids[:, None]))
        # A cache that was too small once will be again, so it grows by more than one slot.
        reserve = 0 if past.has_capacity(1) else GROWTH
        return self._read(tokens, past, np.ones_like(past.lengths), reserve)

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
        self, tokens: Tensor, past: TorchKeyValues, lengths: Tokens, reserve: int
    ) -> tuple[Tensor, TorchKeyValues]:
        """Read tokens [B,Q,D], of which `lengths` [B] are real, after `past`."""
        decoder = self._network.decoder
        new, shared = tokens.shape[1], past.prefix.shape[4]
        check_positions(past.lengths, new, shared, self.capacity)
        past = past.with_capacity(new + reserve)
        embeds = decoder.embed(tokens, self._here(positions(past.lengths, new, shared)))
        mask = self._here(attention_mask(past.lengths, new, shared, past.own.shape[4]))
        start = self._here(past.lengths)
        hidden, fresh = decoder(embeds, mask, start, past.prefix, past.own, appended_attention)
        write_new(past.own, stacked(fresh), start)
        state = hidden[torch.arange(len(hidden), device=self._device), self._here(lengths - 1)]
        return state, TorchKeyValues(past.own, past.prefix, past.lengths + lengths)

    def _here(self, array: Floats | Tokens | np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self._device)


def _as_prefix(past: KeyValues) -> Tensor:
    past = cast(TorchKeyValues, past)
    return past.own[..., : int(past.lengths[0]), :]
