"""The network against Kosmos-2 of ``transformers``, in float32."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from transformers import Kosmos2ForConditionalGeneration

from kosmos_ros.model.config import Kosmos2Config
from kosmos_ros.model.network.kosmos2 import Kosmos2, stacked
from model.reference import CONFIGS, full_logits, image_embeds, prompts, reference

pytestmark = pytest.mark.parity

CLOSE = 1e-4


@dataclass(frozen=True, slots=True)
class BothNetworks:
    """The same weights in both implementations."""

    theirs: Kosmos2ForConditionalGeneration
    ours: Kosmos2


def network(model: Kosmos2ForConditionalGeneration) -> Kosmos2:
    """Return our network with the weights of theirs."""
    made = Kosmos2(Kosmos2Config.from_dict(model.config.to_dict()))
    # Assigned, not copied: an untied head would overwrite the embedding that ours is tied to.
    made.load_state_dict(model.state_dict(), strict=True, assign=True)
    return made.eval().requires_grad_(False)


@pytest.fixture(scope='module', params=CONFIGS)
def pair(request: pytest.FixtureRequest) -> BothNetworks:
    model = reference(request.param)
    return BothNetworks(model, network(model))


class Reader:
    """A reader of tokens with a cache, like a runner."""

    def __init__(self, ours: Kosmos2, rows: int, slots: int, prefix: Tensor | None = None) -> None:
        self.ours = ours
        self.cache = ours.empty_cache(rows, slots)
        self.prefix = ours.empty_cache(1, 0) if prefix is None else prefix

    @torch.no_grad()
    def read(self, ids: Tensor, start: Tensor | int = 0, images: Tensor | None = None) -> Tensor:
        """Return logits [B,Q,V] of tokens [B,Q] at slots start..; images [B,K,D] go to slot 2."""
        ours, (rows, count) = self.ours, ids.shape
        shared, slots = self.prefix.shape[-2], self.cache.shape[-2]
        start = torch.as_tensor(start).expand(rows)
        tokens = ours.decoder.embed_tokens(ids)
        if images is not None:
            tokens = torch.cat([tokens[:, :2], images, tokens[:, 2 + images.shape[1] :]], dim=1)
        slots_read = start[:, None] + torch.arange(count)
        own = torch.arange(slots) <= slots_read[..., None]
        mask = torch.cat([torch.ones(rows, count, shared, dtype=torch.bool), own], dim=-1)
        embeds = ours.decoder.embed(tokens, shared + slots_read)
        hidden, present = ours.decoder(embeds, mask, start, self.prefix, self.cache)
        self.cache = stacked(present)
        return ours.text_model.lm_head(hidden)


def max_difference(ours: Tensor, theirs: Tensor) -> float:
    """Return the greatest absolute difference."""
    return (ours - theirs).abs().max().item()


def test_image_embeddings(pair: BothNetworks) -> None:
    _, pixels = prompts(pair.theirs, rows=3, length=20)
    assert max_difference(pair.ours.vision(pixels), image_embeds(pair.theirs, pixels)) < CLOSE


def test_prefill(pair: BothNetworks) -> None:
    ids, pixels = prompts(pair.theirs, rows=3, length=30)
    images = image_embeds(pair.theirs, pixels)
    ours = Reader(pair.ours, rows=3, slots=30).read(ids, images=pair.ours.vision(pixels))
    assert max_difference(ours, full_logits(pair.theirs, ids, images)) < CLOSE


@pytest.mark.parametrize('chunk', [1, 3, 5])
def test_cached_decode(pair: BothNetworks, chunk: int) -> None:
    ids, pixels = prompts(pair.theirs, rows=2, length=40)
    images = image_embeds(pair.theirs, pixels)
    reader = Reader(pair.ours, rows=2, slots=45)
    parts = [reader.read(ids[:, :20], images=images)]
    for start in range(20, 40, chunk):
        parts.append(reader.read(ids[:, start : start + chunk], start=start))
    assert max_difference(torch.cat(parts, dim=1), full_logits(pair.theirs, ids, images)) < CLOSE


def test_all_positions(pair: BothNetworks) -> None:
    length = pair.theirs.config.text_config.max_position_embeddings
    ids, pixels = prompts(pair.theirs, rows=1, length=length)
    images = image_embeds(pair.theirs, pixels)
    ours = Reader(pair.ours, rows=1, slots=length).read(ids, images=images)
    assert max_difference(ours, full_logits(pair.theirs, ids, images)) < CLOSE


def test_ragged_batch(pair: BothNetworks) -> None:
    """Rows of different lengths are padded on the right, then decoded together."""
    ids, pixels = prompts(pair.theirs, rows=4, length=40)
    images = image_embeds(pair.theirs, pixels)
    lengths = torch.tensor([19, 23, 30, 21])
    reader = Reader(pair.ours, rows=4, slots=40)
    first = reader.read(ids[:, :30], images=images)
    later = [
        reader.read(ids[torch.arange(4), lengths + step, None], start=lengths + step)
        for step in range(5)
    ]
    for row, length in enumerate(lengths.tolist()):
        alone = full_logits(pair.theirs, ids[row : row + 1, : length + 5], images[row : row + 1])[
            0
        ]
        ours = torch.cat([first[row, :length], *(logits[row] for logits in later)])
        assert max_difference(ours, alone) < CLOSE


def test_prefix_shared_by_all_rows(pair: BothNetworks) -> None:
    """The common beginning of all rows is read once, as one row."""
    ids, pixels = prompts(pair.theirs, rows=3, length=35)
    shared = pair.theirs.config.latent_query_num + 3
    ids[:, :shared] = ids[0, :shared]
    images = image_embeds(pair.theirs, pixels[:1])
    first = Reader(pair.ours, rows=1, slots=shared)
    first.read(ids[:1, :shared], images=images)
    reader = Reader(pair.ours, rows=3, slots=35 - shared, prefix=first.cache)
    ours = [reader.read(ids[:, shared:30])]
    ours += [reader.read(ids[:, start, None], start=start - shared) for start in range(30, 35)]
    theirs = full_logits(pair.theirs, ids, images.repeat(3, 1, 1))
    assert max_difference(torch.cat(ours, dim=1), theirs[:, shared:]) < CLOSE


def test_contents_of_unread_slots_do_not_matter(pair: BothNetworks) -> None:
    ids, pixels = prompts(pair.theirs, rows=2, length=25)
    images = image_embeds(pair.theirs, pixels)
    clean, used = (Reader(pair.ours, rows=2, slots=30) for _ in range(2))
    used.cache = torch.randn_like(used.cache) * 100
    assert torch.equal(clean.read(ids, images=images), used.read(ids, images=images))


def greedy_ours(ours: Kosmos2, ids: Tensor, lengths: Tensor, images: Tensor, steps: int) -> Tensor:
    """Return tokens [rows, steps] from cached decoding of a ragged batch."""
    every = torch.arange(len(ids))
    reader = Reader(ours, len(ids), ids.shape[1] + steps)
    tokens = [reader.read(ids, images=images)[every, lengths - 1].argmax(-1)]
    for step in range(steps - 1):
        logits = reader.read(tokens[-1][:, None], start=lengths + step)
        tokens.append(logits[:, 0].argmax(-1))
    return torch.stack(tokens, dim=1)


def greedy_theirs(
    theirs: Kosmos2ForConditionalGeneration,
    ids: Tensor,
    lengths: Tensor,
    images: Tensor,
    steps: int,
) -> tuple[Tensor, float]:
    """Return tokens [rows, steps] from a full pass each, and the smallest gap of candidates."""
    every = torch.arange(len(ids))
    ids = torch.cat([ids, torch.full((len(ids), steps), 5)], dim=1)
    gap = float('inf')
    for step in range(steps):
        logits = full_logits(theirs, ids, images, lengths + step)[every, lengths + step - 1]
        best, second = logits.topk(2).values.unbind(-1)
        gap = min(gap, (best - second).min().item())
        ids[every, lengths + step] = logits.argmax(-1)
    return ids[every[:, None], lengths[:, None] + torch.arange(steps)], gap


def test_greedy_decoding_of_200_prompts(pair: BothNetworks) -> None:
    torch.manual_seed(5)
    slots = pair.theirs.config.latent_query_num + 3
    ids, pixels = prompts(pair.theirs, rows=200, length=slots + 12)
    lengths = slots + torch.randint(1, 13, (200,))
    images = image_embeds(pair.theirs, pixels)
    theirs, gap = greedy_theirs(pair.theirs, ids, lengths, images, steps=12)
    # With a gap as small as rounding errors, either answer would be right.
    assert gap > 1e-5
    assert torch.equal(greedy_ours(pair.ours, ids, lengths, images, steps=12), theirs)


def test_tied_head(pair: BothNetworks) -> None:
    text = pair.ours.text_model
    tied = torch.equal(text.lm_head.weight, text.model.embed_tokens.weight)
    assert tied == pair.theirs.config.text_config.tie_word_embeddings
