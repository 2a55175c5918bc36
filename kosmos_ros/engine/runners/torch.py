"""PyTorch: the golden reference on the CPU, and the way to a GPU that has no compiled plans."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from kosmos_ros.engine.base import Floats, Tokens
from kosmos_ros.engine.recipe import Shape
from kosmos_ros.engine.runner import KeyValues
from kosmos_ros.engine.runners.layout import image_slots, positions, visible
from kosmos_ros.engine.runners.static import Buffers
from kosmos_ros.model.network import Kosmos2, Pair, cache_slots, mix, stacked


@dataclass(frozen=True, slots=True)
class _KeyValues:
    own: Tensor  # [L,2,B,H,S,C]
    prefix: Tensor  # [L,2,1,H,P,C]
    lengths: Tokens  # [B], slots of `own` that are filled

    def select(self, rows: Tokens) -> '_KeyValues':
        index = torch.from_numpy(rows).to(self.own.device)
        return _KeyValues(self.own.index_select(2, index), self.prefix, self.lengths[rows])


class TorchRunner:
    """Runs the network itself, in the type and on the device of its weights, and in whatever shape
    it is asked for.
    """

    def __init__(self, network: Kosmos2, image_token: int) -> None:
        """Take over a network; `image_token` is the id of ``<image>``, image embeddings go behind
        it.
        """
        self._network = network.eval()
        self._image_token = image_token
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
        images: Sequence[object] = (),
        room: int = 0,
    ) -> tuple[Tensor, _KeyValues]:
        """See `Runner.prefill`."""
        tokens = self._network.decoder.embed_tokens(self._here(ids))
        if images:
            slots = image_slots(ids, self._image_token, self._network.config.latent_query_num)
            tokens[0, self._here(slots)] = torch.cat([cast(Tensor, image)[0] for image in images])
        shared = _as_prefix(prefix) if prefix is not None else self._network.empty_cache(1, 0)
        empty = self._network.empty_cache(len(ids), ids.shape[1] + room)
        hidden, own = self._run(tokens, _KeyValues(empty, shared, np.zeros_like(lengths)))
        last = self._here(lengths - 1)
        return hidden[torch.arange(len(ids), device=self._device), last], _KeyValues(
            own, shared, lengths
        )

    @torch.inference_mode()
    def decode(self, ids: Tokens, past: KeyValues) -> tuple[Tensor, _KeyValues]:
        """See `Runner.decode`."""
        past = cast(_KeyValues, past)
        hidden, own = self._run(self._network.decoder.embed_tokens(self._here(ids[:, None])), past)
        return hidden[:, 0], _KeyValues(own, past.prefix, past.lengths + 1)

    @torch.inference_mode()
    def logits(self, hidden: object, first: int, last: int) -> Floats:
        """See `Runner.logits`."""
        head = self._network.text_model.lm_head.weight[first:last]
        return self.fetch(cast(Tensor, hidden).float() @ head.float().T)

    def fetch(self, value: object) -> Floats:
        """See `Runner.fetch`."""
        return cast(Floats, cast(Tensor, value).float().cpu().numpy())

    def close(self) -> None:
        """See `Runner.close`."""
        del self._network

    def _run(self, tokens: Tensor, past: _KeyValues) -> tuple[Tensor, Tensor]:
        decoder = self._network.decoder
        new, shared, slots = tokens.shape[1], past.prefix.shape[4], past.own.shape[4]
        embeds = decoder.embed(tokens, self._here(positions(past.lengths, new, shared)))
        mask = self._here(visible(past.lengths, new, shared, slots))
        hidden, own = decoder(embeds, mask, self._here(past.lengths), past.prefix, past.own)
        return hidden, stacked(own)

    def _here(self, array: Floats | Tokens | np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self._device)


class TorchProgram:
    """The network on the buffers of the static loop; satisfies
    `kosmos_ros.engine.runners.static.Program`.
    """

    in_place = True

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
            hidden, _ = self._network.decoder(
                buffers.embeds,
                buffers.mask,
                buffers.start,
                buffers.prefix,
                buffers.present,
                _attention_in_place,
            )
            buffers.hidden.copy_(hidden[rows, buffers.last])

        return work

    def close(self) -> None:
        """See `Program.close`."""
        del self._network


def _attention_in_place(
    q: Tensor, new: Pair, mask: Tensor, start: Tensor, prefix: Pair, cache: Pair
) -> tuple[Tensor, Pair]:
    """As `scatter_attention`, into the cache itself."""
    index = cache_slots(start, q)
    for old, fresh in zip(cache, new, strict=True):
        old.scatter_(2, index, fresh)
    return mix(q, mask, prefix, cache), cache


def _as_prefix(past: KeyValues) -> Tensor:
    past = cast(_KeyValues, past)
    return past.own[..., : int(past.lengths[0]), :]
