"""Answers in words: step by step, in pieces, over several turns, beside other work."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from kosmos_ros.engine.answering.request import RequestBuilder
from kosmos_ros.engine.base import Answer, Draft, Engine, Finish, ImageContext, Transcript
from kosmos_ros.engine.load import load_engine
from kosmos_ros.errors import BadExpression, EngineError
from kosmos_ros.limits import Limits
from kosmos_ros.model.boxes import Box
from kosmos_ros.model.config import Kosmos2Config
from kosmos_ros.model.tasks import Ask, Example, Region, Task
from kosmos_ros.model.vocabulary import Vocabulary

QUESTION = Ask(Task.GROUNDED_QUESTION, 'how many balls', images=1, max_tokens=12)
CHAT = Ask(Task.CHAT, 'the red ball', images=1, max_tokens=8)
GO_ON = Ask(Task.CHAT, 'the blue box', max_tokens=8)


@pytest.fixture(scope='module', params=['onnxruntime', 'torch'])
def engine(request: pytest.FixtureRequest, engines: dict[str, Path]) -> Engine:
    with pytest.MonkeyPatch.context() as patch:
        # A GPU would compute in 16 bits.
        patch.setattr(torch.cuda, 'is_available', lambda: False)
        return load_engine(engines['onnxruntime-fp32'], request.param)


@pytest.fixture(scope='module')
def contexts(engine: Engine) -> list[ImageContext]:
    rng = np.random.default_rng(0)
    return [engine.encode_image(rng.integers(0, 256, (48, 64, 3), np.uint8)) for _ in range(4)]


def last(drafts: Iterator[Draft]) -> Draft:
    *_, draft = drafts
    return draft


def answer_ids(engine: Engine, ask: Ask, contexts: list[ImageContext]) -> tuple[int, ...]:
    return last(engine.ask(ask, contexts)).transcript().ids


def test_runners_agree(engines: dict[str, Path], contexts: list[ImageContext]) -> None:
    image = np.random.default_rng(1).integers(0, 256, (48, 64, 3), np.uint8)
    found = []
    for runner in ('onnxruntime', 'torch'):
        engine = load_engine(engines['onnxruntime-fp32'], runner)
        for beams in (1, 4):
            ask = replace(QUESTION, beams=beams)
            found.append(answer_ids(engine, ask, [engine.encode_image(image)]))
    assert found[:2] == found[2:]


def test_each_step_is_a_piece_or_a_token(engine: Engine, contexts: list[ImageContext]) -> None:
    drafts = list(engine.ask(QUESTION, contexts[:1]))
    # The image, once a question about it was asked, is read already; then comes the prompt.
    tokens = [draft.tokens for draft in drafts]
    assert tokens == [0] * tokens.count(0) + list(range(1, tokens[-1] + 1))
    assert tokens.count(0) == 2
    assert [draft.finish for draft in drafts[:-1]] == [Finish.NONE] * (len(drafts) - 1)
    assert drafts[-1].finish in (Finish.END, Finish.LENGTH)
    texts = [draft.read().text for draft in drafts]
    assert all(after.startswith(before) for before, after in zip(texts, texts[1:], strict=False))


@pytest.mark.parametrize(
    'ask',
    [
        replace(QUESTION, images=3),
        Ask(Task.COMPLETE, 'the red ball', max_tokens=9),
        replace(QUESTION, examples=(Example('a ring'), Example('a cone'))),
    ],
)
def test_pieces_do_not_matter(
    ask: Ask, engine: Engine, contexts: list[ImageContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    images = contexts[: ask.images + len(ask.examples)]
    whole = list(engine.ask(ask, images))
    # The least: an image is never cut.
    monkeypatch.setattr(type(engine._runner), 'chunk', 8)  # type: ignore[attr-defined]
    pieces = list(engine.ask(ask, images))
    assert pieces[-1].transcript().ids == whole[-1].transcript().ids
    assert len(pieces) > len(whole) or not images


def test_other_work_between_steps(engine: Engine, contexts: list[ImageContext]) -> None:
    alone = answer_ids(engine, QUESTION, contexts[:1])
    located = engine.locate(contexts[1], ['the red ball', 'a ring'], top_k=2)
    other = engine.ask(replace(QUESTION, beams=3), contexts[2:3])
    drafts = []
    for draft in engine.ask(QUESTION, contexts[:1]):
        assert engine.locate(contexts[1], ['the red ball', 'a ring'], top_k=2) == located
        next(other, None)
        drafts.append(draft)
    assert drafts[-1].transcript().ids == alone


def test_a_conversation_keeps_its_ids(engine: Engine, contexts: list[ImageContext]) -> None:
    first = last(engine.ask(CHAT, contexts[:1])).transcript()
    second = last(engine.ask(GO_ON, [], first)).transcript()
    assert second.ids[: len(first.ids)] == first.ids
    new_image = last(engine.ask(replace(GO_ON, images=1), contexts[1:2], second)).transcript()
    assert new_image.ids[: len(second.ids)] == second.ids
    assert len(new_image.images) == 2


@pytest.mark.parametrize('beams', [1, 3])
def test_keys_and_values_may_be_dropped(
    beams: int, engine: Engine, contexts: list[ImageContext]
) -> None:
    first = last(engine.ask(replace(CHAT, beams=beams), contexts[:1])).transcript()
    assert (first.nbytes > 0) == (beams == 1)
    light = first.without_kv_cache()
    assert light.nbytes == 0
    kept = last(engine.ask(GO_ON, [], first)).transcript()
    # Also after the first has been used up.
    for again in (light, first):
        assert last(engine.ask(GO_ON, [], again)).transcript().ids == kept.ids


def test_an_answer_that_is_broken_off(engine: Engine, contexts: list[ImageContext]) -> None:
    """Each beginning of an answer can be gone on with, and has no half box in it."""
    vocabulary = engine._vocabulary  # type: ignore[attr-defined]
    ask = replace(CHAT, regions=(Region(Box(0.1, 0.1, 0.5, 0.6), 'the red ball'),), max_tokens=12)
    whole = last(engine.ask(ask, contexts[:1])).transcript()
    for steps in range(1, 15):
        *_, draft = islice(engine.ask(ask, contexts[:1]), steps)
        part = draft.transcript()
        assert whole.ids[: len(part.ids)] == part.ids
        assert part.ids.count(vocabulary.object_open) == part.ids.count(vocabulary.object_close)
        assert last(engine.ask(GO_ON, [], part)).finish is not Finish.NONE


def test_caption_is_grounded_phrase_by_phrase(
    engine: Engine, contexts: list[ImageContext]
) -> None:
    text = 'the red ball left of the blue box'
    ask = Ask(Task.GROUND_CAPTION, text, ('the red ball', 'the blue box'), 1)
    drafts = list(engine.ask(ask, contexts[:1]))
    answer = drafts[-1].read()
    assert drafts[-1].finish is Finish.END
    assert answer.text == text
    assert [(one.phrase, text[slice(*one.span)]) for one in answer.groundings] == [
        ('the red ball', 'the red ball'),
        ('the blue box', 'the blue box'),
    ]
    assert all(one.boxes for one in answer.groundings)
    ((best,),) = engine.locate(contexts[0], ['the red ball'])
    greedy = answer.groundings[0].boxes[0]
    assert greedy.score <= best.score * 1.001
    assert drafts[0].read() == Answer(text)


def test_budget_is_kept(engine: Engine, contexts: list[ImageContext]) -> None:
    for most in (1, 2, 5):
        for beams in (1, 3):
            draft = last(engine.ask(replace(QUESTION, max_tokens=most, beams=beams), contexts[:1]))
            assert draft.tokens <= most
            assert draft.tokens == most or draft.finish is Finish.END


@pytest.mark.parametrize(
    ('ask', 'why'),
    [
        (replace(QUESTION, max_tokens=10**9), 'may have 1000000000; together at most 128'),
        (replace(QUESTION, max_tokens=128), 'together at most 128 are possible'),
        (Ask(Task.COMPLETE, 'red ' * 200), 'has 201 tokens'),
        (replace(QUESTION, images=16, max_tokens=1), 'together at most 128'),
        (Ask(Task.GROUND_CAPTION, 'a ring', ('a ring',), 1, max_tokens=2), 'A box has 3 tokens'),
        (
            Ask(Task.GROUND_CAPTION, 'red ' * 112 + 'ring', ('ring',), 1),
            'has 126 tokens, images and conversation counted, and the answer may have 3',
        ),
        (replace(QUESTION, text='how many dragons'), "does not know 'dragons'"),
        (replace(QUESTION, text='a <box>'), 'contains the tag'),
        (replace(QUESTION, images=0), 'needs an image'),
        (replace(QUESTION, images=20), '20 images'),
    ],
)
def test_what_cannot_be_asked(
    ask: Ask, why: str, engine: Engine, contexts: list[ImageContext]
) -> None:
    with pytest.raises(BadExpression, match=why):
        engine.check_ask(ask)
    with pytest.raises(BadExpression, match=why):
        engine.ask(ask, contexts[: ask.images])


def test_a_conversation_may_become_too_long(engine: Engine) -> None:
    past = Transcript(tuple(range(4, 120)))
    with pytest.raises(BadExpression, match=r'has 1\d\d tokens, images and conversation counted'):
        engine.check_ask(GO_ON, past)


def test_turns_are_joined_by_a_full_stop(shared_data: Path) -> None:
    """Only where the answer before has none."""
    vocabulary = Vocabulary.from_file(shared_data / 'sentencepiece.bpe.model')
    builder = RequestBuilder(vocabulary, Kosmos2Config(), Limits(), capacity=2048, prefix=())
    asked = vocabulary.encode('Question: why Answer:')
    ask = Ask(Task.CHAT, 'why')
    for said, joint in (('a dog', [4]), ('a dog.', []), ('a dog?', []), ('', [])):
        past = (0, vocabulary.object_close, *vocabulary.encode(said))
        (sequence,) = builder.build(ask, Transcript(past)).sequences
        assert list(sequence) == [*past, *joint, *asked]


def test_room_is_used_to_the_last_token(engine: Engine) -> None:
    """Without max_tokens as many come as there is room for."""
    ask = Ask(Task.COMPLETE, 'red ball ' * 58)
    draft = last(engine.ask(ask, []))
    assert draft.tokens <= 128 - 117
    assert draft.finish is not Finish.NONE


def test_images_are_counted(engine: Engine, contexts: list[ImageContext]) -> None:
    with pytest.raises(ValueError, match='2 images were given'):
        engine.ask(QUESTION, contexts[:2])
    with pytest.raises(TypeError, match='this engine has encoded'):
        engine.ask(QUESTION, [ImageContext(None)])


def test_scores_that_are_no_numbers(
    engine: Engine, contexts: list[ImageContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = engine._runner  # type: ignore[attr-defined]

    def broken(hidden: object, first: int, end: int) -> np.ndarray:
        return np.full((1, end - first), np.nan, np.float32)

    monkeypatch.setattr(runner, 'logits', broken)
    with pytest.raises(EngineError, match='not numbers'):
        last(engine.ask(QUESTION, contexts[:1]))


def test_limits_of_the_engine_are_those_it_was_given(engines: dict[str, Path]) -> None:
    engine = load_engine(engines['onnxruntime-fp32'], limits=Limits(max_beams=2))
    with pytest.raises(BadExpression, match='3 beams; at most 2'):
        engine.check_ask(replace(QUESTION, beams=3))
