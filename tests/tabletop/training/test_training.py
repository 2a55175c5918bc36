"""The parts of the training, and a very short training."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Kosmos2ForConditionalGeneration

from kosmos_ros.errors import EngineFileError
from kosmos_ros.model.boxes import Box, encode_box
from kosmos_ros.model.network.kosmos2 import Kosmos2
from kosmos_ros.model.network.weights import load_model
from kosmos_ros.model.prompts import image_prefix, refer_prompt
from kosmos_ros.model.vocabulary import Vocabulary
from kosmos_ros.tabletop.language.questions import KINDS
from kosmos_ros.tabletop.language.word_model import write_word_model
from kosmos_ros.tabletop.training.batches import PADDING, Batch, BatchMaker, BatchSize, centres
from kosmos_ros.tabletop.training.checkpoint import WORD_MODEL, save
from kosmos_ros.tabletop.training.checks import ExpressionScore
from kosmos_ros.tabletop.training.greedy import greedy_answers
from kosmos_ros.tabletop.training.initial_weights import (
    fresh_model,
    model_from_checkpoint,
    tabletop_config,
)
from kosmos_ros.tabletop.training.losses import losses, make_probes, soft_targets
from kosmos_ros.tabletop.training.muon import orthogonal
from kosmos_ros.tabletop.training.packed import decode_packed
from kosmos_ros.tabletop.training.train import (
    TrainingPlan,
    TrainingProgress,
    target_blur,
    train_with_plan,
)

SIZE = BatchSize(rows=3, tokens=67 + 120, side=112, patch=14, latents=64, uses=2)


@pytest.fixture(scope='module')
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    path = tmp_path_factory.mktemp('words') / 'sentencepiece.bpe.model'
    write_word_model(path)
    return Vocabulary.from_file(path)


@pytest.fixture(scope='module')
def batch(vocabulary: Vocabulary) -> Batch:
    maker = BatchMaker(3, vocabulary, SIZE)
    maker.batch()
    return maker.batch()


def test_rows_hold_the_prefix_and_whole_questions(vocabulary: Vocabulary, batch: Batch) -> None:
    prefix = image_prefix(vocabulary, 64)
    assert batch.images.shape == (3, 112, 112, 3)
    for row in range(3):
        assert batch.ids[row, :67].tolist() == prefix
        for number in range(1, batch.segments[row].max() + 1):
            (indices,) = np.nonzero(batch.segments[row] == number)
            assert batch.positions[row, indices].tolist() == list(range(67, 67 + len(indices)))
        mine = [index for index, owner in enumerate(batch.row) if owner == row]
        assert len(mine) >= 1
        for index in mine:
            at = int(batch.at[index])
            (indices,) = np.nonzero(batch.segments[row] == batch.segments[row, at])
            tokens = batch.ids[row, indices]
            assert batch.ids[row, at] == vocabulary.object_open
            words = vocabulary.decode(tokens[2 : at - indices[0] - 1])
            assert tokens[: at - indices[0] + 1].tolist() == refer_prompt(vocabulary, words)
            (x0, y0), _ = batch.corners[index]
            assert batch.ids[row, at + 1] == vocabulary.location(int(y0) * 32 + int(x0))
            assert len(indices) - (at - indices[0]) == (4 if batch.closed[index] else 2)
        assert (batch.segments[row] == PADDING).sum() < 40


def test_every_token_of_an_answer_is_a_target(vocabulary: Vocabulary, batch: Batch) -> None:
    assert batch.dialogues == sum(batch.segments.max(1)) - len(batch.row)
    ends = 0
    for row, at, token in batch.token_targets.tolist():
        assert vocabulary.location_cell(token) is None
        ends += token == vocabulary.eos
        if token != vocabulary.eos:
            assert batch.ids[row, at + 1] == token
            assert batch.segments[row, at] == batch.segments[row, at + 1] > 0
    assert ends >= batch.dialogues
    assert len(batch.corner_at) > 0
    for (row, at), (x, y) in zip(batch.corner_at.tolist(), batch.dialogue_corners, strict=True):
        assert batch.ids[row, at + 1] == vocabulary.location(int(y) * 32 + int(x))


def test_the_centre_of_each_box_is_marked_once() -> None:
    boxes = [Box(0.1, 0.1, 0.3, 0.4), Box(0.5, 0.9, 1.0, 1.0)]
    assert np.flatnonzero(centres(boxes, 8)).tolist() == [2 * 8 + 1, 7 * 8 + 6]


def test_patch_targets_lie_in_their_boxes(batch: Batch) -> None:
    middle = (np.arange(8) + 0.5) / 8
    x, y = np.tile(middle, 8), np.repeat(middle, 8)
    there = batch.attributes[..., 0] >= 0
    assert 0.02 < there.mean() < 0.7
    for row in range(3):
        x0, y0, x1, y1 = batch.boxes[row].T
        inside = (x >= x0) & (x <= x1) & (y >= y0) & (y <= y1)
        assert np.array_equal(inside, there[row])


def test_packed_rows_equal_the_network_question_by_question(
    vocabulary: Vocabulary, batch: Batch
) -> None:
    """Against ``Decoder.forward`` over a cache, as engines run it."""
    model = fresh_model(tabletop_config(vocabulary.size), 1).eval()
    decoder = model.decoder
    ids = torch.from_numpy(batch.ids)
    pixels = torch.randn(3, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        image = model.vision(pixels)
        positions, segments = torch.from_numpy(batch.positions), torch.from_numpy(batch.segments)
        packed = decode_packed(model, ids, positions, segments, image)
        for row, number in ((0, 1), (1, 2), (2, 2)):
            (indices,) = np.nonzero(batch.segments[row] == number)
            alone = torch.cat([ids[row, :67], ids[row, indices]])
            embeds = decoder.embed_tokens(alone)[None]
            embeds[:, 2:66] = image[row]
            length = len(alone)
            x = decoder.embed(embeds, torch.arange(length)[None])
            mask = torch.ones(length, length, dtype=torch.bool).tril()[None]
            cache = model.empty_cache(1, length)
            no_prefix = model.empty_cache(1, 0)
            hidden, _ = decoder(x, mask, torch.zeros(1, dtype=torch.int64), no_prefix, cache)
            torch.testing.assert_close(packed[row, indices], hidden[0, 67:], atol=2e-4, rtol=1e-3)


def test_a_fresh_model_is_small_and_determined_by_its_seed(vocabulary: Vocabulary) -> None:
    config = tabletop_config(vocabulary.size)
    first, again, other = (fresh_model(config, seed).state_dict() for seed in (0, 0, 1))
    assert sum(p.numel() for p in fresh_model(config, 0).parameters()) < 2.2e6
    name = 'text_model.model.layers.0.ffn.fc1.weight'
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first[name], other[name])


def test_each_latent_query_initially_attends_to_its_own_patch(vocabulary: Vocabulary) -> None:
    resampler = fresh_model(tabletop_config(vocabulary.size), 0).image_to_text_projection
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


def test_target_blur_decreases_to_zero() -> None:
    blurs = [target_blur(done) for done in np.linspace(0, 1, 21)]
    assert blurs[0] == 0.8
    assert blurs[-1] == 0
    assert all(later <= earlier for earlier, later in zip(blurs, blurs[1:], strict=False))


def test_orthogonal_equalises_singular_values() -> None:
    matrices = torch.randn(3, 16, 40, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonal(matrices))
    assert values.min() > 0.5
    assert values.max() < 1.3


def test_every_weight_has_a_gradient(vocabulary: Vocabulary, batch: Batch) -> None:
    model = fresh_model(tabletop_config(vocabulary.size), 0)
    probes = make_probes(128, 128)
    loss, answer, words = losses(model, probes, vocabulary, batch, 0.8)
    torch.autograd.backward(loss)
    assert 0 < answer < 12
    assert words > 0
    assert all(parameter.grad is not None for parameter in probes.parameters())
    without = [name for name, value in model.named_parameters() if value.grad is None]
    assert without == []


def test_trains_and_writes_a_checkpoint_that_transformers_reads(tmp_path: Path) -> None:
    lines: list[str] = []
    plan = TrainingPlan(
        minutes=5, rows=2, check_scenes=5, check_dialogues=12, max_steps=2, threads=1
    )
    threads = torch.get_num_threads()
    try:
        progress = train_with_plan(tmp_path, plan, lines.append)
    finally:
        torch.set_num_threads(threads)
    assert 0 <= progress.expressions.iou50 <= 1
    assert set(progress.dialogues) == set(KINDS)
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


def test_continues_from_a_model_with_another_vocabulary(
    vocabulary: Vocabulary, tmp_path: Path
) -> None:
    words = ('cone', 'banana', 'red')
    write_word_model(tmp_path / WORD_MODEL, words)
    before = Vocabulary.from_file(tmp_path / WORD_MODEL)
    old = fresh_model(tabletop_config(before.size), 5)
    save(old, tmp_path)
    config = tabletop_config(vocabulary.size)
    model, fresh = model_from_checkpoint(config, vocabulary, 0, tmp_path), fresh_model(config, 0)
    table, known = model.decoder.embed_tokens.weight, old.decoder.embed_tokens.weight
    assert model.text_model.lm_head.weight is table
    for word in ('cone', 'red'):
        ((now,), (then,)) = vocabulary.encode(word), before.encode(word)
        assert torch.equal(table[now], known[then])
    (ball,) = vocabulary.encode('ball')
    assert torch.equal(table[ball], fresh.decoder.embed_tokens.weight[ball])
    assert torch.equal(table[vocabulary.mask :], known[before.mask :])
    name = 'text_model.model.layers.0.ffn.fc1.weight'
    assert torch.equal(model.state_dict()[name], old.state_dict()[name])


def test_refuses_to_continue_from_a_model_of_other_sizes(
    vocabulary: Vocabulary, tmp_path: Path
) -> None:
    write_word_model(tmp_path / WORD_MODEL)
    config = tabletop_config(vocabulary.size)
    save(Kosmos2(replace(config, text=replace(config.text, layers=1))), tmp_path)
    with pytest.raises(EngineFileError, match='other sizes'):
        model_from_checkpoint(config, vocabulary, 0, tmp_path)


def progress(iou50: float, ask: float) -> TrainingProgress:
    return TrainingProgress(ExpressionScore(iou50, 0.8, 0.4, {}), {'count': ask, 'caption': ask})


def test_quality_weighs_expressions_most() -> None:
    assert progress(0.994, 0.9).quality > progress(0.994, 0.8).quality
    assert progress(1.0, 0.9).quality > progress(0.994, 0.91).quality
    assert progress(0.993, 0.1).quality > progress(0.99, 1.0).quality


def test_greedy_answers_equal_the_network_without_cache(vocabulary: Vocabulary) -> None:
    """Ragged prompts over a cache, against whole sequences without one."""
    model = fresh_model(tabletop_config(vocabulary.size), 1).eval()
    prefix = image_prefix(vocabulary, 64)
    prompts = [
        [*prefix, *refer_prompt(vocabulary, text)] for text in ('ball', 'the small red ball')
    ]
    pixels = torch.randn(2, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    answers = greedy_answers(model, prompts, pixels, vocabulary.eos, 5)
    with torch.inference_mode():
        image = model.vision(pixels)
        for row, (tokens, answer) in enumerate(zip(prompts, answers, strict=True)):
            ids = torch.tensor([[*tokens, *answer]])
            hidden = decode_packed(
                model,
                ids,
                torch.arange(ids.shape[1])[None],
                torch.zeros_like(ids),
                image[row : row + 1],
            )
            best = model.text_model.lm_head(hidden)[0, len(tokens) - 1 :].argmax(-1).tolist()
            assert answer == best[: len(answer)]
            assert len(answer) == 5 or best[len(answer)] == vocabulary.eos


def test_boxes_of_batches_are_encoded_as_published(batch: Batch) -> None:
    for (x0, y0), (x1, y1) in batch.corners.tolist():
        box = Box(x0 / 32, y0 / 32, x1 / 32, y1 / 32)
        assert encode_box(box) == (int(y0) * 32 + int(x0), int(y1) * 32 + int(x1))
