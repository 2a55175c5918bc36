"""The parts of the training, and all of it for a moment."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Kosmos2ForConditionalGeneration

from kosmos_ros.model.boxes import encode_box
from kosmos_ros.model.prompts import image_prefix, refer
from kosmos_ros.model.vocabulary import Vocabulary
from kosmos_ros.model.weights import load_model
from kosmos_ros.tabletop.batches import PADDING, Batch, BatchSize, Maker
from kosmos_ros.tabletop.losses import losses, make_probes, soft_targets
from kosmos_ros.tabletop.muon import orthogonal
from kosmos_ros.tabletop.packed import decode_packed
from kosmos_ros.tabletop.start import fresh_model, sizes
from kosmos_ros.tabletop.train import Plan, carry_out, sigma
from kosmos_ros.tabletop.wording import write_word_model

SIZE = BatchSize(rows=3, tokens=67 + 60, side=112, patch=14, latents=64, uses=2)


@pytest.fixture(scope='module')
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    path = tmp_path_factory.mktemp('words') / 'sentencepiece.bpe.model'
    write_word_model(path)
    return Vocabulary.from_file(path)


@pytest.fixture(scope='module')
def batch(vocabulary: Vocabulary) -> Batch:
    maker = Maker(3, vocabulary, SIZE)
    maker.batch()
    return maker.batch()


def test_rows_hold_the_prefix_and_whole_questions(vocabulary: Vocabulary, batch: Batch) -> None:
    prefix = image_prefix(vocabulary, 64)
    assert batch.images.shape == (3, 112, 112, 3)
    for row in range(3):
        assert batch.ids[row, :67].tolist() == prefix
        mine = [index for index, owner in enumerate(batch.row) if owner == row]
        assert len(mine) >= 3
        for number, index in enumerate(mine, start=1):
            (places,) = np.nonzero(batch.segments[row] == number)
            tokens, at = batch.ids[row, places], int(batch.at[index])
            assert batch.positions[row, places].tolist() == list(range(67, 67 + len(places)))
            assert batch.ids[row, at] == vocabulary.object_open
            words = vocabulary.decode(tokens[2 : at - places[0] - 1])
            assert tokens[: at - places[0] + 1].tolist() == refer(vocabulary, words)
            (x0, y0), _ = batch.corners[index]
            assert batch.ids[row, at + 1] == vocabulary.location(int(y0) * 32 + int(x0))
            assert len(places) - (at - places[0]) == (4 if batch.closed[index] else 2)
        assert (batch.segments[row] == PADDING).sum() < 25


def test_patch_targets_lie_in_their_boxes(batch: Batch) -> None:
    middle = (np.arange(8) + 0.5) / 8
    x, y = np.tile(middle, 8), np.repeat(middle, 8)
    there = batch.looks[..., 0] >= 0
    assert 0.02 < there.mean() < 0.7
    for row in range(3):
        x0, y0, x1, y1 = batch.boxes[row].T
        inside = (x >= x0) & (x <= x1) & (y >= y0) & (y <= y1)
        assert np.array_equal(inside, there[row])


def test_packed_rows_equal_the_network_question_by_question(
    vocabulary: Vocabulary, batch: Batch
) -> None:
    """Against ``Decoder.forward`` over a cache, as engines run it."""
    model = fresh_model(sizes(vocabulary.size), 1).eval()
    decoder = model.decoder
    ids = torch.from_numpy(batch.ids)
    pixels = torch.randn(3, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        image = model.vision(pixels)
        positions, segments = torch.from_numpy(batch.positions), torch.from_numpy(batch.segments)
        packed = decode_packed(model, ids, positions, segments, image)
        for row, number in ((0, 1), (1, 3), (2, 2)):
            (places,) = np.nonzero(batch.segments[row] == number)
            alone = torch.cat([ids[row, :67], ids[row, places]])
            embeds = decoder.embed_tokens(alone)[None]
            embeds[:, 2:66] = image[row]
            length = len(alone)
            x = decoder.embed(embeds, torch.arange(length)[None])
            mask = torch.ones(length, length, dtype=torch.bool).tril()[None]
            cache = model.empty_cache(1, length)
            no_prefix = model.empty_cache(1, 0)
            hidden, _ = decoder(x, mask, torch.zeros(1, dtype=torch.int64), no_prefix, cache)
            torch.testing.assert_close(packed[row, places], hidden[0, 67:], atol=2e-4, rtol=1e-3)


def test_a_fresh_model_is_small_and_decided_by_its_seed(vocabulary: Vocabulary) -> None:
    config = sizes(vocabulary.size)
    first, again, other = (fresh_model(config, seed).state_dict() for seed in (0, 0, 1))
    assert sum(p.numel() for p in fresh_model(config, 0).parameters()) < 2.2e6
    name = 'text_model.model.layers.0.ffn.fc1.weight'
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first[name], other[name])


def test_each_latent_query_begins_on_its_own_patch(vocabulary: Vocabulary) -> None:
    resampler = fresh_model(sizes(vocabulary.size), 0).image_to_text_projection
    attention = resampler.x_attn
    q = attention.q_proj(resampler.latent_query)
    k = attention.k_proj(resampler.latent_query)
    assert torch.equal((q @ k.T).argmax(1), torch.arange(64))


def test_soft_targets_sum_to_one_and_point_at_the_cell() -> None:
    corners = np.array([[[3.2, 5.9], [10.5, 31.1]], [[0.1, 0.1], [31.9, 31.9]]], np.float32)
    for blur in (0.8, 0.3, 0.0):
        targets = soft_targets(corners, blur)
        assert targets.shape == (2, 2, 1024)
        assert targets.sum(-1) == pytest.approx(1, abs=1e-5)
        assert targets.argmax(-1).tolist() == [[5 * 32 + 3, 31 * 32 + 10], [0, 1023]]
    assert soft_targets(corners, 0.0).max(-1) == pytest.approx(1)


def test_targets_grow_sharp() -> None:
    blurs = [sigma(done) for done in np.linspace(0, 1, 21)]
    assert blurs[0] == 0.8
    assert blurs[-1] == 0
    assert all(later <= earlier for earlier, later in zip(blurs, blurs[1:], strict=False))


def test_orthogonal_evens_out_singular_values() -> None:
    matrices = torch.randn(3, 16, 40, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonal(matrices))
    assert values.min() > 0.5
    assert values.max() < 1.3


def test_loss_reaches_every_weight(vocabulary: Vocabulary, batch: Batch) -> None:
    model = fresh_model(sizes(vocabulary.size), 0)
    probes = make_probes(128, 128)
    loss, answer = losses(model, probes, vocabulary, batch, 0.8)
    torch.autograd.backward(loss)
    assert 0 < answer < 12
    assert all(parameter.grad is not None for parameter in probes.parameters())
    without = [name for name, value in model.named_parameters() if value.grad is None]
    assert without == []


def test_trains_and_leaves_a_checkpoint_that_transformers_reads(tmp_path: Path) -> None:
    lines: list[str] = []
    plan = Plan(minutes=5, rows=2, check_scenes=5, most_steps=2, threads=1)
    threads = torch.get_num_threads()
    try:
        score = carry_out(tmp_path, plan, lines.append)
    finally:
        torch.set_num_threads(threads)
    assert 0 <= score.iou50 <= 1
    assert 'step     2' in lines[-1]
    files = {'config.json', 'model.safetensors', 'sentencepiece.bpe.model'}
    assert {path.name for path in tmp_path.iterdir()} == files
    ours = load_model(tmp_path, torch.float32)
    theirs = Kosmos2ForConditionalGeneration.from_pretrained(tmp_path).eval()
    pixels = torch.randn(1, 3, 112, 112)
    ids = torch.tensor(
        [image_prefix(Vocabulary.from_file(tmp_path / 'sentencepiece.bpe.model'), 64)]
    )
    slots = torch.zeros(1, 67)
    slots[:, 2:66] = 1
    with torch.inference_mode():
        expected = theirs(pixel_values=pixels, input_ids=ids, image_embeds_position_mask=slots)
        hidden = decode_packed(
            ours, ids, torch.arange(67)[None], torch.zeros_like(ids), ours.vision(pixels)
        )
        logits = ours.text_model.lm_head(hidden)
    torch.testing.assert_close(logits, expected.logits, atol=1e-3, rtol=1e-3)


def test_boxes_of_batches_are_encoded_as_published(batch: Batch) -> None:
    from kosmos_ros.model.boxes import Box

    for (x0, y0), (x1, y1) in batch.corners.tolist():
        box = Box(x0 / 32, y0 / 32, x1 / 32, y1 / 32)
        assert encode_box(box) == (int(y0) * 32 + int(x0), int(y1) * 32 + int(x1))
