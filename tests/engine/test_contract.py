"""Every engine keeps the promises of `Engine`, and refuses the same things at the same moment."""

from collections.abc import Callable, Iterator
from importlib import import_module
from io import BytesIO
from pathlib import Path
import re

import numpy as np
from PIL import Image as Pillow
import pytest

from kosmos_ros import (
    Ask,
    BadExpression,
    BadImage,
    Box,
    Engine,
    EngineError,
    EngineFileError,
    Example,
    Finish,
    ImageContext,
    Limits,
    Region,
    Task,
    Transcript,
    load_engine,
)
from kosmos_ros.engine.base import ignore_progress
from kosmos_ros.testing import Act, FakeEngine, Speech

COLOUR_ENGINE = Path(__file__).parents[2] / 'docs' / 'examples' / 'colour_engine'
Make = Callable[[], Engine]
Call = Callable[[Engine, ImageContext], object]


def colour_engine() -> Engine:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(COLOUR_ENGINE))
        module = import_module('colour_engine')
    engine: Engine = module.ColourEngine('', Limits(), ignore_progress)
    return engine


def fake_engine() -> Engine:
    return FakeEngine(otherwise=Act(colour=(255, 0, 0)), speech=Speech(('it', 'is', 'red')))


KINDS: dict[str, Make] = {
    'fake': fake_engine,
    # ONNX Runtime, whatever this machine has.
    'embedded': lambda: load_engine(runner='onnxruntime'),
    'colour': colour_engine,
}


@pytest.fixture(scope='module', params=KINDS)
def make(request: pytest.FixtureRequest) -> Make:
    """Makes an engine of one kind."""
    return KINDS[request.param]


@pytest.fixture(scope='module')
def engine(make: Make) -> Iterator[Engine]:
    with make() as engine:
        yield engine


@pytest.fixture(scope='module')
def other(make: Make) -> Iterator[Engine]:
    """Another engine of the same kind."""
    with make() as engine:
        yield engine


@pytest.fixture
def context(engine: Engine) -> ImageContext:
    return engine.encode_image(picture())


def picture() -> np.ndarray:
    """Grey with a red square."""
    pixels = np.full((48, 64, 3), 120, np.uint8)
    pixels[12:30, 16:40] = (255, 0, 0)
    return pixels


def is_sentence(error: BaseException) -> bool:
    """Whether a message is one sentence for a person."""
    text = str(error)
    return bool(text) and '\n' not in text and not re.search(r'\. +[A-Z]', text)


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


def opened(path: Path) -> Pillow.Image:
    """An image whose pixels Pillow has not read yet; it leaves no file open."""
    return Pillow.open(BytesIO(path.read_bytes()))


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


BAD_IMAGES: dict[str, tuple[type[Exception], Callable[[Path], object]]] = {
    'floats': (TypeError, lambda folder: picture().astype(np.float32)),
    'wide integers': (TypeError, lambda folder: picture().astype(np.uint16)),
    'a list': (TypeError, lambda folder: picture().tolist()),
    'nothing': (TypeError, lambda folder: None),
    'bytes': (TypeError, lambda folder: picture().tobytes()),
    'grey': (ValueError, lambda folder: picture()[:, :, 0]),
    'four channels': (ValueError, lambda folder: np.zeros((4, 4, 4), np.uint8)),
    'a batch': (ValueError, lambda folder: picture()[None]),
    'no rows': (ValueError, lambda folder: picture()[:0]),
    'no columns': (ValueError, lambda folder: picture()[:, :0]),
    'no pixels': (BadImage, lambda folder: Pillow.new('RGB', (0, 4))),
    'a large image': (BadImage, lambda folder: Pillow.new('1', (8000, 8000))),
    'a text file': (BadImage, lambda folder: folder / 'words.txt'),
    'an empty file': (BadImage, lambda folder: folder / 'empty.png'),
    'a cut file': (BadImage, lambda folder: folder / 'cut.png'),
    'an opened cut file': (
        BadImage,
        lambda folder: Pillow.open(BytesIO((folder / 'cut.png').read_bytes())),
    ),
    'a missing file': (BadImage, lambda folder: folder / 'missing.png'),
    'a missing file by text': (BadImage, lambda folder: str(folder / 'missing.png')),
    'a folder': (BadImage, lambda folder: folder),
    'an empty path': (BadImage, lambda folder: ''),
    'a very long path': (BadImage, lambda folder: 'x' * 5000),
    'a path with a zero': (BadImage, lambda folder: 'x\0y'),
}


@pytest.mark.parametrize('case', BAD_IMAGES)
def test_refuses_what_is_no_image(engine: Engine, tmp_path: Path, case: str) -> None:
    (tmp_path / 'words.txt').write_text('no picture')
    (tmp_path / 'empty.png').touch()
    Pillow.fromarray(picture()).save(tmp_path / 'whole.png')
    (tmp_path / 'cut.png').write_bytes((tmp_path / 'whole.png').read_bytes()[:-60])
    kind, source = BAD_IMAGES[case]
    with pytest.raises(kind) as caught:
        engine.encode_image(source(tmp_path))  # type: ignore[arg-type]
    assert caught.type is kind
    assert is_sentence(caught.value)


def grey() -> Pillow.Image:
    """Dark with a light square, each grey a sum of few bits, so that all modes can hold it."""
    pixels = np.zeros((48, 64), np.uint8)
    pixels[12:30, 16:40] = 255
    return Pillow.fromarray(pixels)


def deep() -> Pillow.Image:
    return Pillow.fromarray(np.asarray(grey()).astype(np.uint16) * 257)


def with_transparency() -> Pillow.Image:
    image = grey().convert('P')
    image.info['transparency'] = bytes([0] * 256)
    return image


def turned() -> np.ndarray:
    return np.asarray(grey().convert('RGB')).transpose(1, 0, 2).copy().transpose(1, 0, 2)


def mirrored() -> np.ndarray:
    return np.asarray(grey().convert('RGB'))[:, ::-1].copy()[:, ::-1]


IMAGES: dict[str, Callable[[Path], object]] = {
    'L': lambda path: grey(),
    'RGB': lambda path: grey().convert('RGB'),
    'RGBA': lambda path: grey().convert('RGBA'),
    'LA': lambda path: grey().convert('LA'),
    'P': lambda path: grey().convert('P'),
    'P with transparency': lambda path: with_transparency(),
    '1': lambda path: grey().convert('1'),
    'CMYK': lambda path: grey().convert('RGB').convert('CMYK'),
    'I;16': lambda path: deep(),
    'F': lambda path: grey().convert('F'),
    'a path': lambda path: path,
    'a path as text': str,
    'an opened file': opened,
    'mirrored twice': lambda path: mirrored(),
    'transposed twice': lambda path: turned(),
    # NumPy may not write what Pillow owns.
    'read-only': lambda path: np.asarray(grey().convert('RGB')),
    'a part': lambda path: np.pad(np.asarray(grey().convert('RGB')), ((3, 3), (5, 5), (0, 1)))[
        3:-3, 5:-5, :3
    ],
}


@pytest.mark.parametrize('case', IMAGES)
def test_equal_pixels_give_equal_answers(engine: Engine, tmp_path: Path, case: str) -> None:
    path = tmp_path / 'grey.png'
    grey().save(path)
    image = IMAGES[case](path)
    before = np.array(image) if isinstance(image, np.ndarray) else None
    plain = engine.encode_image(np.array(grey().convert('RGB')))
    found = engine.locate(engine.encode_image(image), ['the red ball'], 2)  # type: ignore[arg-type]
    assert found == engine.locate(plain, ['the red ball'], 2)
    assert before is None or np.array_equal(before, image)


def test_it_is_closed_once_and_for_all(make: Make) -> None:
    engine = make()
    context = engine.encode_image(picture())
    drafts = engine.ask(Ask(Task.CAPTION), [context])
    begun = engine.ask(Ask(Task.CAPTION), [context])
    more = next(begun).finish is Finish.NONE
    engine.close()
    engine.close()
    for call in (
        lambda: engine.encode_image(picture()),
        lambda: engine.locate(context, ['the red ball']),
        lambda: engine.ask(Ask(Task.CAPTION), [context]),
        # An answer of one draft has been computed by then.
        *((lambda: next(drafts), lambda: next(begun)) if more else ()),
    ):
        with pytest.raises(EngineError) as caught:
            call()
        assert caught.type is EngineError
        assert is_sentence(caught.value)
    with pytest.raises(EngineError), engine:
        engine.encode_image(picture())


def test_with_closes_it_whatever_happens(make: Make) -> None:
    with pytest.raises(KeyError), make() as engine:
        raise KeyError('the body')
    with pytest.raises(EngineError):
        engine.encode_image(picture())
    with make() as engine:
        pass
    with pytest.raises(EngineError):
        engine.encode_image(picture())


def test_closed_after_the_last_word_it_ends_as_usual(make: Make) -> None:
    engine = make()
    for draft in engine.ask(Ask(Task.CAPTION), [engine.encode_image(picture())]):
        if draft.finish is not Finish.NONE:
            engine.close()
    assert draft.read().text


@pytest.mark.parametrize('runner', ['gpu', '', None, 'ONNXRUNTIME'])
def test_names_the_runners(runner: str) -> None:
    with pytest.raises(ValueError, match='auto, tensorrt, torch, onnxruntime') as caught:
        load_engine(runner=runner)
    assert is_sentence(caught.value)


@pytest.mark.parametrize('level', ['no', '', None, True])
def test_names_the_levels_of_the_self_check(level: str) -> None:
    with pytest.raises(ValueError, match='off, quick, full') as caught:
        load_engine(self_check=level)
    assert is_sentence(caught.value)


@pytest.mark.parametrize(
    ('name', 'cure'),
    [
        ('nobody', 'install the package'),
        ('nobody:0.5', 'install the package'),
        ('x' * 5000, 'install the package'),
        ('./nobody', 'correct the path'),
        (Path('nobody'), 'correct the path'),
        (Path('x' * 5000), 'correct the path'),
        (Path(__file__), 'correct the path'),
        (Path(__file__).parent, 'engine build'),
    ],
    ids=lambda value: str(value)[:20],
)
def test_says_how_to_get_an_engine(name: str | Path, cure: str) -> None:
    with pytest.raises(EngineFileError, match=cure) as caught:
        load_engine(name)
    assert caught.type is EngineFileError
    assert is_sentence(caught.value)
