"""Every engine answers, and refuses the same things at the same moment."""

from collections.abc import Callable

import pytest

from kosmos_ros import (
    Ask,
    BadExpression,
    Box,
    Engine,
    Example,
    Finish,
    ImageContext,
    Region,
    Task,
    Transcript,
)

from .engines import Make, colour_engine, is_sentence, picture

Call = Callable[[Engine, ImageContext], object]
LOCATE: dict[str, tuple[type[Exception], Call]] = {
    'top_k 0': (ValueError, lambda e, c: e.locate(c, ['red'], 0)),
    'top_k -1': (ValueError, lambda e, c: e.locate(c, ['red'], -1)),
    'top_k True': (TypeError, lambda e, c: e.locate(c, ['red'], True)),
    'top_k 1.5': (TypeError, lambda e, c: e.locate(c, ['red'], 1.5)),
    'top_k None': (TypeError, lambda e, c: e.locate(c, ['red'], None)),
    'one text': (TypeError, lambda e, c: e.locate(c, 'red')),
    'bytes': (TypeError, lambda e, c: e.locate(c, b'red')),
    'no list': (TypeError, lambda e, c: e.locate(c, None)),
    'a generator': (TypeError, lambda e, c: e.locate(c, (one for one in ['red']))),
    'pixels': (TypeError, lambda e, c: e.locate(picture(), ['red'])),
    'a list of contexts': (TypeError, lambda e, c: e.locate([c], ['red'])),
    "somebody's context": (TypeError, lambda e, c: e.locate(ImageContext(c.encoded), ['red'])),
    'no text': (BadExpression, lambda e, c: e.locate(c, ['red', ''])),
    'spaces': (BadExpression, lambda e, c: e.locate(c, ['  '])),
    'a number': (BadExpression, lambda e, c: e.locate(c, [3])),
    'a tag': (BadExpression, lambda e, c: e.locate(c, ['the <object> red'])),
    'a long text': (BadExpression, lambda e, c: e.locate(c, ['red ' * 1000])),
    'a control character': (BadExpression, lambda e, c: e.locate(c, ['red\x00ball'])),
}  # fmt: skip
BALL = Region(Box(0.1, 0.1, 0.5, 0.5), 'ball')
OUTSIDE = Region(Box(2, 2, 3, 3), 'ball')
NOWHERE = Region(BALL.box_in_image, 'cube')
BARE = Region((0.1, 0.1, 0.5, 0.5), 'ball')
TWICE = Ask(Task.CAPTION, images=2)
SHOWN = Ask(Task.CAPTION, examples=(Example('a ball'),))


def question(**fields: object) -> Ask:
    return Ask(Task.QUESTION, 'where is the ball ?', **fields)  # type: ignore[arg-type]


ASK: dict[str, tuple[type[Exception], Call]] = {
    'max_tokens -5': (BadExpression, lambda e, c: e.ask(question(max_tokens=-5), [c])),
    'max_tokens 1.5': (TypeError, lambda e, c: e.ask(question(max_tokens=1.5), [c])),
    'max_tokens 10**9': (BadExpression, lambda e, c: e.ask(question(max_tokens=10**9), [c])),
    'beams 0': (BadExpression, lambda e, c: e.ask(question(beams=0), [c])),
    'beams True': (TypeError, lambda e, c: e.ask(question(beams=True), [c])),
    'beams 1000': (BadExpression, lambda e, c: e.ask(question(beams=1000), [c])),
    'images -1': (BadExpression, lambda e, c: e.ask(question(images=-1), [c])),
    'a list of phrases': (TypeError, lambda e, c: e.ask(question(phrases=[]), [c])),
    'a list of regions': (TypeError, lambda e, c: e.ask(question(regions=[BALL]), [c])),
    'a list of examples': (TypeError, lambda e, c: e.ask(question(examples=[]), [c])),
    'a list in an example': (
        TypeError, lambda e, c: e.ask(question(examples=(Example('a ball', [BALL]),)), [c, c])
    ),
    'a tuple for a box': (TypeError, lambda e, c: e.ask(question(regions=(BARE,)), [c])),
    'a text for a region': (TypeError, lambda e, c: e.ask(question(regions=('ball',)), [c])),
    'a text for an example': (TypeError, lambda e, c: e.ask(question(examples=('x',)), [c, c])),
    'a number for a phrase': (
        BadExpression, lambda e, c: e.ask(Ask(Task.GROUND_CAPTION, 'a ball', (3,)), [c])
    ),
    'a region outside': (
        BadExpression, lambda e, c: e.ask(question(regions=(OUTSIDE,)), [c])
    ),
    'a region without its phrase': (
        BadExpression, lambda e, c: e.ask(question(regions=(NOWHERE,)), [c])
    ),
    'a phrase without its text': (
        BadExpression, lambda e, c: e.ask(Ask(Task.GROUND_CAPTION, 'a ball', ('a cube',)), [c])
    ),
    'too few tokens for a box': (
        BadExpression,
        lambda e, c: e.ask(Ask(Task.GROUND_CAPTION, 'a ball', ('a ball',), max_tokens=2), [c]),
    ),
    'no text': (BadExpression, lambda e, c: e.ask(Ask(Task.QUESTION), [c])),
    'a text too many': (BadExpression, lambda e, c: e.ask(Ask(Task.CAPTION, 'red'), [c])),
    'a tag': (BadExpression, lambda e, c: e.ask(Ask(Task.QUESTION, 'a </phrase> ball'), [c])),
    'a number for the text': (BadExpression, lambda e, c: e.ask(Ask(Task.QUESTION, 3), [c])),
    'a text for the question': (TypeError, lambda e, c: e.ask('where is the ball ?', [c])),
    'a number for the task': (TypeError, lambda e, c: e.ask(Ask(0), [c])),
    'no conversation': (TypeError, lambda e, c: e.ask(Ask(Task.CAPTION), [c], (1, 2))),
    "somebody else's conversation": (
        TypeError, lambda e, c: e.ask(Ask(Task.CAPTION), [c], Transcript((1,), made_by='another'))
    ),
    'a single context': (TypeError, lambda e, c: e.ask(Ask(Task.CAPTION), c)),
    'pixels': (TypeError, lambda e, c: e.ask(Ask(Task.CAPTION), picture())),
    'a list of pixels': (TypeError, lambda e, c: e.ask(Ask(Task.CAPTION), [picture()])),
    'no contexts': (TypeError, lambda e, c: e.ask(Ask(Task.CAPTION), None)),
    "somebody's context": (TypeError, lambda e, c: e.ask(Ask(Task.CAPTION), [ImageContext(c)])),
    'no image': (BadExpression, lambda e, c: e.ask(Ask(Task.CAPTION), [])),
    'too few images': (ValueError, lambda e, c: e.ask(TWICE, [c])),
    'too many images': (ValueError, lambda e, c: e.ask(TWICE, [c] * 3)),
    'very many images': (BadExpression, lambda e, c: e.ask(Ask(Task.CAPTION), [c] * 100)),
    'no image for an example': (BadExpression, lambda e, c: e.ask(SHOWN, [c])),
}  # fmt: skip


@pytest.mark.parametrize('case', LOCATE)
def test_refuses_at_the_call_of_locate(engine: Engine, context: ImageContext, case: str) -> None:
    kind, call = LOCATE[case]
    with pytest.raises(kind) as caught:
        call(engine, context)
    assert caught.type is kind
    assert is_sentence(caught.value)


@pytest.mark.parametrize('case', ASK)
def test_refuses_at_the_call_of_ask(engine: Engine, context: ImageContext, case: str) -> None:
    kind, call = ASK[case]
    if 'max_tokens 10**9' in case and 'colour' in type(engine).__name__.lower():
        pytest.skip('its answers have no room to run out of')
    with pytest.raises(kind) as caught:
        call(engine, context)
    assert caught.type is kind
    assert is_sentence(caught.value)


@pytest.mark.parametrize('text', ['', 'the <object> red', 'red\x00ball', 3])
def test_checks_expressions_alone(engine: Engine, text: str) -> None:
    engine.check_expression('the red ball')
    with pytest.raises(BadExpression) as caught:
        engine.check_expression(text)
    assert is_sentence(caught.value)


def test_checks_questions_alone(engine: Engine) -> None:
    engine.check_ask(Ask(Task.CAPTION, images=1))
    for ask, kind in (
        (question(images=1, beams=0), BadExpression),
        (Ask(Task.CAPTION), BadExpression),
        ('a ball', TypeError),
    ):
        with pytest.raises(kind) as caught:
            engine.check_ask(ask)
        assert is_sentence(caught.value)


def test_refuses_the_image_of_another_engine(engine: Engine, other: Engine) -> None:
    context = other.encode_image(picture())
    with pytest.raises(TypeError) as caught:
        engine.locate(context, ['the red ball'])
    assert is_sentence(caught.value)
    with pytest.raises(TypeError):
        engine.ask(Ask(Task.CAPTION), [context])
    with pytest.raises(TypeError):
        engine.ask(Ask(Task.CAPTION, images=2), [engine.encode_image(picture()), context])


def test_gives_as_many_boxes_as_wanted(engine: Engine, context: ImageContext) -> None:
    assert engine.locate(context, []) == []
    for top_k in (1, 3):
        answers = engine.locate(context, ('the red ball', 'the red cube'), top_k)
        assert len(answers) == 2
        for boxes in answers:
            assert isinstance(boxes, tuple)
            assert 1 <= len(boxes) <= top_k
            scores = [one.score for one in boxes]
            assert scores == sorted(scores, reverse=True)
            assert all(0 < one.score <= 1 and one.box_in_image.is_valid for one in boxes)
    (best,), _ = engine.locate(context, ['the red ball', 'the red ball'])
    assert best.box_in_image.iou(Box.from_pixels((16, 12, 40, 30), 64, 48)) > 0.5


def test_answers_in_drafts(engine: Engine, context: ImageContext) -> None:
    drafts = list(engine.ask(Ask(Task.CAPTION), [context]))
    assert [draft.finish for draft in drafts[:-1]] == [Finish.NONE] * (len(drafts) - 1)
    assert drafts[-1].finish is not Finish.NONE
    assert drafts[-1].read().text
    # A caller that takes no further step ends it.
    next(engine.ask(Ask(Task.CAPTION, images=1), [context]))
    assert engine.locate(context, ['the red ball'])


def test_a_conversation_stays_with_its_engine(make: Make, other: Engine) -> None:
    if make is colour_engine:
        pytest.skip('it answers each question by itself')
    engine = make()
    (*_, last) = engine.ask(Ask(Task.CHAT, 'where is the ball ?'), [])
    history = last.transcript()
    with pytest.raises(TypeError) as caught:
        other.ask(Ask(Task.CHAT, 'where is the ball ?'), [], history)
    assert is_sentence(caught.value)
    with pytest.raises(TypeError):
        other.check_ask(Ask(Task.CHAT, 'where is the ball ?'), history.without_kv_cache())
    assert list(engine.ask(Ask(Task.CHAT, 'where is the ball ?'), [], history))
    # Nothing has been said in this one.
    assert list(engine.ask(Ask(Task.CHAT, 'where is the ball ?'), [], Transcript(())))
