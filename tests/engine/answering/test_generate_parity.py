"""Answers token by token equal to those of ``transformers`` generate: greedy and five beams."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Kosmos2Config as ReferenceConfig
from transformers import (
    Kosmos2ForConditionalGeneration,
    LogitsProcessorList,
    NoRepeatNGramLogitsProcessor,
)

from kosmos_ros.engine.answering.generate import AnswerGenerator
from kosmos_ros.engine.answering.prefill import EncodedImage, ImagePrefix
from kosmos_ros.engine.base import Finish
from kosmos_ros.engine.runners.torch import TorchRunner
from kosmos_ros.limits import Limits
from kosmos_ros.model import prompts
from kosmos_ros.model.boxes import Box
from kosmos_ros.model.config import Kosmos2Config
from kosmos_ros.model.network.kosmos2 import Kosmos2
from kosmos_ros.model.tasks import Ask, Example, Region, Task
from kosmos_ros.model.vocabulary import Vocabulary
from kosmos_ros.tabletop.language.expressions import WORDS as KNOWN
from kosmos_ros.tabletop.language.word_model import write_word_model

pytestmark = pytest.mark.parity

WORDS = tuple(dict.fromkeys((*KNOWN, 'question', 'answer')))
_NEW = 14
# Prompts of each configuration; 200 in all.
_PROMPTS = (67, 67, 66)
_SIZES: tuple[dict[str, Any], ...] = (
    {
        'latent_query_num': 4,
        'text_config': {
            'embed_dim': 32, 'layers': 2, 'ffn_dim': 64, 'attention_heads': 4,
            'no_repeat_ngram_size': 3,
        },
        'vision_config': {
            'hidden_size': 24, 'intermediate_size': 48, 'num_hidden_layers': 1,
            'num_attention_heads': 3, 'image_size': 28, 'patch_size': 14,
        },
    },
    {
        'latent_query_num': 7,
        'text_config': {
            'embed_dim': 48, 'layers': 1, 'ffn_dim': 80, 'attention_heads': 6,
            'no_repeat_ngram_size': 2,
        },
        'vision_config': {
            'hidden_size': 32, 'intermediate_size': 40, 'num_hidden_layers': 2,
            'num_attention_heads': 2, 'image_size': 42, 'patch_size': 14,
        },
    },
    {
        'latent_query_num': 1,
        'text_config': {
            'embed_dim': 16, 'layers': 3, 'ffn_dim': 32, 'attention_heads': 1,
            'layer_norm_eps': 1e-3, 'no_repeat_ngram_size': 0,
        },
        'vision_config': {
            'hidden_size': 8, 'intermediate_size': 16, 'num_hidden_layers': 1,
            'num_attention_heads': 1, 'image_size': 24, 'patch_size': 7,
        },
    },
)  # fmt: skip


class ReferenceRules:
    """What an answer may be, written down a second time: by counting what follows the last
    ``<object>``.
    """

    def __init__(self, vocabulary: Vocabulary, ngram: int, most: int) -> None:
        self._vocabulary, self._most = vocabulary, most
        self._repeats = NoRepeatNGramLogitsProcessor(ngram) if ngram else None

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        fresh = self._repeats(ids, scores) if self._repeats else scores
        chosen = []
        for row, tokens in enumerate(ids.tolist()):
            may = self._may(tokens, self._most - len(tokens))
            best = fresh[row] if torch.isfinite(fresh[row][may]).any() else scores[row]
            chosen.append(torch.where(may, best, -torch.inf))
        return torch.stack(chosen)

    def _may(self, tokens: Sequence[int], left: int) -> torch.Tensor:
        v = self._vocabulary
        may = torch.ones(v.size, dtype=torch.bool)
        structure = [v.bos, v.pad, v.object_close, v.delimiter, *range(v.first_location, v.size)]
        inside: list[int] | None = None
        for token in tokens:
            if token == v.object_open:
                inside = []
            elif token == v.object_close:
                inside = None
            elif inside is not None:
                inside.append(token)
        if inside is None:
            may[structure] = False
            may[v.object_open] &= left >= 4
            return may
        may[:] = False
        if len(inside) % 3 == 2:
            may[v.object_close] = True
            may[v.delimiter] = left >= 4
        else:
            may[v.first_location :] = True
            if len(inside) % 3 == 1:
                row, column = divmod(inside[-1] - v.first_location, 32)
                grid = may[v.first_location :].view(32, 32)
                grid[:row] = False
                grid[:, :column] = False
        return may


@dataclass(frozen=True)
class Pair:
    """The same weights twice."""

    reference: Kosmos2ForConditionalGeneration
    runner: TorchRunner
    generator: AnswerGenerator
    vocabulary: Vocabulary
    config: Kosmos2Config

    @property
    def stops(self) -> list[int]:
        """What ends an answer."""
        return [self.vocabulary.eos, self.vocabulary.document_close, self.vocabulary.image_open]


@pytest.fixture(scope='module')
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    path: Path = tmp_path_factory.mktemp('words') / 'sentencepiece.bpe.model'
    write_word_model(path, WORDS)
    return Vocabulary.from_file(path)


def pair(index: int, vocabulary: Vocabulary) -> Pair:
    size = dict(_SIZES[index])
    size['text_config'] = {
        **size['text_config'], 'vocab_size': vocabulary.size, 'max_position_embeddings': 256
    }  # fmt: skip
    width = size['text_config']['embed_dim']
    torch.manual_seed(index)
    reference = Kosmos2ForConditionalGeneration(ReferenceConfig(**size)).eval()
    with torch.no_grad():
        for weight in reference.parameters():
            weight += 0.2 * torch.randn_like(weight)
        # Two tokens lie in the direction that all last states share, so that boxes are begun and
        # answers ended.
        table, usual = reference.text_model.model.embed_tokens.weight, torch.randn(width)
        reference.text_model.model.layer_norm.bias.copy_(usual)
        for token, share in ((vocabulary.object_open, 0.95), (vocabulary.eos, 0.65)):
            table[token] = share * usual * table.norm(dim=1).median() / usual.norm()
    config = Kosmos2Config.from_dict(size)
    network = Kosmos2(config)
    network.load_state_dict(reference.state_dict(), strict=False)
    runner = TorchRunner(network, vocabulary.image_open)
    prefix = ImagePrefix(runner, vocabulary, config)
    generator = AnswerGenerator(runner, vocabulary, config, prefix, Limits())
    return Pair(reference, runner, generator, vocabulary, config)


def asks(rng: np.random.Generator, count: int) -> list[Ask]:
    """All layouts: text alone, one image, several, examples, regions."""

    def text() -> str:
        return ' '.join(rng.choice(WORDS, int(rng.integers(1, 7))))

    def region(phrase: str) -> Region:
        x, y = np.sort(rng.uniform(0, 1, (2, 2)), axis=1).tolist()
        return Region(Box(x[0], y[0], x[1] + 0.01, y[1] + 0.01), phrase)

    def example() -> Example:
        return Example(said := text(), (region(said.split()[0]),))

    made = []
    for index in range(count):
        said = text()
        kinds = (
            Ask(Task.COMPLETE, said),
            Ask(Task.QUESTION, said, images=1),
            Ask(Task.GROUNDED_QUESTION, said, images=int(rng.integers(2, 4))),
            Ask(Task.CHAT, said, images=1, regions=(region(said.split()[0]),)),
            Ask(Task.QUESTION, said, images=1, examples=tuple(example() for _ in range(2))),
        )
        made.append(kinds[index % len(kinds)])
    return made


@torch.inference_mode()
def by_reference(pair: Pair, ids: list[int], images: list[EncodedImage], beams: int) -> list[int]:
    v = pair.vocabulary
    rules = ReferenceRules(v, pair.config.text.no_repeat_ngram_size, len(ids) + _NEW)
    options: dict[str, Any] = {
        'max_new_tokens': _NEW,
        'num_beams': beams,
        'do_sample': False,
        'eos_token_id': pair.stops,
        'pad_token_id': v.pad,
        'logits_processor': LogitsProcessorList([rules]),
    }
    tokens = torch.tensor([ids])
    if images:
        marks = torch.zeros_like(tokens)
        latents = pair.config.latent_query_num
        for place in (tokens[0] == v.image_open).nonzero():
            marks[0, int(place) + 1 : int(place) + 1 + latents] = 1
        embeds = torch.cat([image.embeddings for image in images], dim=1)  # type: ignore[arg-type]
        made = pair.reference.generate(
            input_ids=tokens,
            image_embeds=embeds,
            image_embeds_position_mask=marks,
            attention_mask=torch.ones_like(tokens),
            **options,
        )
    else:
        made = pair.reference.text_model.generate(
            input_ids=tokens, attention_mask=torch.ones_like(tokens), **options
        )
    found: list[int] = made[0, len(ids) :].tolist()
    return found


@pytest.mark.parametrize('beams', [1, 5])
@pytest.mark.parametrize('index', range(len(_SIZES)))
def test_equals_transformers(index: int, beams: int, vocabulary: Vocabulary) -> None:
    both = pair(index, vocabulary)
    side = both.config.vision.image_size
    rng = np.random.default_rng(index)
    boxes = ends = 0
    for ask in asks(rng, _PROMPTS[index]):
        count = ask.images + len(ask.examples)
        pixels = rng.normal(0, 1, (count, 1, 3, side, side)).astype(np.float32)
        images = [EncodedImage(both.runner.vision(one)) for one in pixels]
        wanted = replace(ask, max_tokens=_NEW, beams=beams)
        (prompt,) = prompts.prompts_for(vocabulary, ask, both.config.latent_query_num, begin=True)
        *_, last = both.generator.answer(both.generator.request(wanted, None), images, None)
        expected = by_reference(both, prompt, images, beams)
        said = expected[:-1] if expected[-1] in both.stops else expected
        assert last.tokens == len(expected)
        assert last.finish is (Finish.LENGTH if said == expected else Finish.END)
        assert last.transcript().ids == (*prompt, *said)
        boxes += vocabulary.object_open in expected
        ends += last.finish is Finish.END
    print(boxes, ends)
    # Otherwise not much was compared.
    assert min(boxes, ends) > 0
