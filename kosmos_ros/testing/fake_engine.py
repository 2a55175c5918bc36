"""An engine that does what its script says: for tests of everything that calls an engine.

It needs no model and no image of anything.  What it answers depends on the text, so that a test
may run many calls at once and still know the answer to each.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
import json
from pathlib import Path
import threading
import time

import numpy as np

from kosmos_ros.engine.base import (
    Answer,
    Draft,
    Finish,
    Image,
    ImageContext,
    Located,
    PhraseGrounding,
    Transcript,
)
from kosmos_ros.errors import BadExpression, EngineFileError
from kosmos_ros.limits import Limits
from kosmos_ros.model.boxes import Box, encode_box
from kosmos_ros.model.expressions import check_expression
from kosmos_ros.model.prompts import check_task, phrase_spans
from kosmos_ros.model.tasks import Ask, Region, Task, checked
from kosmos_ros.testing.script import Act, Speech, act_from, speech_from

# As many as are usual, and as many as there is room for.
_TOKENS, _POSITIONS = 128, 2048


@dataclass(slots=True)
class Calls:
    """What the fake was asked, in order.

    :param order: what it did: 'encode', 'locate', 'step'.
    """

    checked: list[str] = field(default_factory=list)
    encoded: list[Image] = field(default_factory=list)
    located: list[tuple[str, ...]] = field(default_factory=list)
    top_k: list[int] = field(default_factory=list)
    asked: list[Ask] = field(default_factory=list)
    order: list[str] = field(default_factory=list)
    closed: int = 0


class FakeEngine:
    """Satisfies `kosmos_ros.engine.base.Engine`; refuses what a real engine could not take.

    :param acts: what to do, by expression.
    :param otherwise: what to do for all other expressions.
    :param steps: what to do at the first, second, ... `locate`, before `acts` is looked at.
    :param encode: what looking at an image costs, or how it fails.
    :param speeches: what to say, by text, or by the task's name where there is no text.
    :param speech: what to say to all other questions.
    :param remarks: what to say about how it was loaded.
    """

    def __init__(
        self,
        acts: Mapping[str, Act] | None = None,
        otherwise: Act | None = None,
        steps: Sequence[Act] = (),
        encode: Act | None = None,
        speeches: Mapping[str, Speech] | None = None,
        speech: Speech | None = None,
        name: str = 'fake',
        limits: Limits | None = None,
        remarks: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.remarks = tuple(remarks)
        self.calls = Calls()
        self.release = threading.Event()
        self.entered = threading.Event()
        self._acts = dict(acts or {})
        self._otherwise = otherwise or Act()
        self._steps = list(steps)
        self._encode = encode or Act()
        self._speeches = dict(speeches or {})
        self._speech = speech or Speech()
        self._limits = limits or Limits()
        self._thread = threading.Lock()

    @classmethod
    def from_file(
        cls, path: Path, report: Callable[[str], None] = lambda line: None
    ) -> 'FakeEngine':
        """Read a script: JSON with `name`, `remarks`, `progress`, `load_s`, `acts` (by
        expression), `otherwise`, `steps`, `encode`, `speeches` (by text or task) and `speech`.

        An act has the fields of `Act`; `boxes` are lists of x0, y0, x1, y1, score, and `failure`
        is 'ClassName: text', a class of `kosmos_ros.errors` or of Python.  A speech has the fields
        of `Speech`, its `words` in one text.  `progress` is a list of [line, seconds]: what to
        report while it loads, and how long to sleep after each line.

        :param report: is given the lines of `progress`.
        :raises EngineFileError: when the file cannot be read or means nothing.
        """
        try:
            script = json.loads(path.read_text(encoding='utf-8'))
            for line, seconds in script.get('progress', []):
                report(line)
                time.sleep(seconds)
            time.sleep(script.get('load_s', 0.0))
            return cls(
                {text: act_from(words) for text, words in script.get('acts', {}).items()},
                act_from(script.get('otherwise', {})),
                [act_from(words) for words in script.get('steps', [])],
                act_from(script.get('encode', {})),
                {text: speech_from(words) for text, words in script.get('speeches', {}).items()},
                speech_from(script.get('speech', {})),
                script.get('name', 'fake'),
                remarks=script.get('remarks', ()),
            )
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise EngineFileError(f'{path} is no script of a fake engine: {error}') from error

    def check_expression(self, expression: str) -> None:
        """See `Engine.check_expression`."""
        self.calls.checked.append(expression)
        check_expression(expression, self._limits)

    def encode_image(self, image: Image) -> ImageContext:
        """See `Engine.encode_image`.

        :raises TypeError: when it is not a NumPy array of bytes.
        :raises ValueError: when its shape is not [height, width, 3].
        """
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
            raise TypeError(f'an image is a NumPy array of uint8, not {image!r:.80}')
        if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise ValueError(f'an image has the shape [height, width, 3], not {image.shape}')
        with self._alone():
            self.calls.order.append('encode')
            self.calls.encoded.append(image)
            self._play(self._encode)
        return ImageContext(image)

    def locate(
        self, context: ImageContext, expressions: Sequence[str], top_k: int = 1
    ) -> list[tuple[Located, ...]]:
        """See `Engine.locate`."""
        _check_context(context)
        with self._alone():
            self.calls.order.append('locate')
            self.calls.located.append(tuple(expressions))
            self.calls.top_k.append(top_k)
            return [self._answer(context.seen, text)[:top_k] for text in expressions]  # type: ignore[arg-type]

    def check_ask(self, ask: Ask, past: Transcript | None = None) -> None:
        """See `Engine.check_ask`.

        :raises TypeError: when something is of another type than is promised.
        """
        _check_types(ask, past)
        ask = checked(ask, self._limits)
        check_task(ask)
        phrase_spans(ask.text, ask.phrases)
        for regions in (ask.regions, *(example.regions for example in ask.examples)):
            _check_regions(regions)
        used = 0 if past is None else len(past.ids)
        if used + ask.max_tokens > _POSITIONS:
            raise BadExpression(
                f'There is room for {_POSITIONS} tokens, {used} of which are used; '
                f'max_tokens is {ask.max_tokens}.'
            )

    def ask(
        self, ask: Ask, contexts: Sequence[ImageContext], past: Transcript | None = None
    ) -> Iterator[Draft]:
        """See `Engine.ask`.  The first step reads the prompt; then each says one word."""
        self.check_ask(ask, past)
        for context in contexts:
            _check_context(context)
        if len(contexts) != ask.images + len(ask.examples):
            raise ValueError(f'{len(contexts)} images were given for {ask}')
        self.calls.asked.append(ask)
        return self._say(ask, Transcript(()) if past is None else past, contexts)

    def close(self) -> None:
        """See `Engine.close`."""
        self.calls.closed += 1
        self.release.set()

    def _answer(self, image: Image, expression: str) -> tuple[Located, ...]:
        act = self._steps.pop(0) if self._steps else self._acts.get(expression, self._otherwise)
        self._play(act)
        if act.colour is not None:
            return _coloured(image, act.colour)
        return tuple(act.boxes)

    def _say(
        self, ask: Ask, past: Transcript, contexts: Sequence[ImageContext]
    ) -> Iterator[Draft]:
        speech = self._speeches.get(ask.text or ask.task.name, self._speech)
        most = ask.max_tokens or _TOKENS
        number = len(self.calls.asked) - 1
        before = '+'.join(self.calls.asked[one].text for one in past.ids if one >= 0)
        steps = self.calls.order.count('step')
        words = [word.format(before=before, steps=steps) for word in speech.words]
        said: list[str] = []

        def draft(finish: Finish) -> Draft:
            told = tuple(said)

            def transcript() -> Transcript:
                if len(told) < len(said):
                    raise RuntimeError('a transcript was asked for after a further step')
                if ask.task is not Task.CHAT:
                    raise ValueError('this task is no part of a conversation')
                ids = (*past.ids, number, *range(-1, -len(told) - 1, -1))
                return Transcript(ids, (*past.images, *contexts), object(), speech.nbytes)

            return Draft(len(told), finish, lambda: _answer_of(told, speech.boxes), transcript)

        self._step(speech, said)
        yield draft(Finish.NONE)
        finish = Finish.NONE
        while finish is Finish.NONE:
            self._step(speech, said)
            said.append(words[len(said) % len(words)])
            if len(said) == len(words) and not speech.endless:
                finish = Finish.END
            elif len(said) == most:
                finish = Finish.LENGTH
            yield draft(finish)

    def _step(self, speech: Speech, said: Sequence[str]) -> None:
        quiet = replace(speech.act, failure=None, hangs=False)
        with self._alone():
            self.calls.order.append('step')
            self._play(speech.act if len(said) == speech.after else quiet)

    def _play(self, act: Act) -> None:
        self.entered.set()
        if act.hangs:
            self.release.wait()
        if act.latency_s:
            time.sleep(act.latency_s)
        end = time.monotonic() + act.burn_s
        while time.monotonic() < end:
            pass
        if act.failure is not None:
            raise act.failure

    def _alone(self) -> '_Alone':
        return _Alone(self._thread)


class _Alone:
    """One thread at a time, or an error: the protocol's promise, checked."""

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            raise RuntimeError('two threads are in the engine at once')

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def _coloured(image: Image, colour: tuple[int, int, int]) -> tuple[Located, ...]:
    """The box around all pixels within 48 grey levels of a colour; none without such a pixel."""
    near = np.all(np.abs(image.astype(np.int16) - np.array(colour, np.int16)) < 48, axis=2)
    if not near.any():
        return ()
    height, width = image.shape[:2]
    rows, columns = np.flatnonzero(np.any(near, axis=1)), np.flatnonzero(np.any(near, axis=0))
    box = Box(
        float(columns[0] / width),
        float(rows[0] / height),
        float((columns[-1] + 1) / width),
        float((rows[-1] + 1) / height),
    )
    return (Located(box, float(near.mean())),)


def _check_types(ask: object, past: object) -> None:
    if not isinstance(ask, Ask) or not isinstance(ask.task, Task):
        raise TypeError(f'a question is an Ask, not {ask!r:.80}')
    for one in (ask.phrases, ask.regions, ask.examples):
        if not isinstance(one, tuple):
            raise TypeError(f'phrases, regions and examples are tuples, not {one!r:.80}')
    if past is not None and not isinstance(past, Transcript):
        raise TypeError(f'a conversation is a Transcript, not {past!r:.80}')


def _check_regions(regions: Sequence[Region]) -> None:
    for region in regions:
        try:
            encode_box(region.box_in_image)
        except ValueError as error:
            raise BadExpression(f'A region cannot be used: {error}.') from None


def _check_context(context: object) -> None:
    if not isinstance(context, ImageContext) or not isinstance(context.seen, np.ndarray):
        raise TypeError('this context was made by another engine')


def _answer_of(said: Sequence[str], boxes: Mapping[str, Sequence[Located]]) -> Answer:
    groundings, begin = [], 0
    for word in said:
        if word in boxes:
            groundings.append(
                PhraseGrounding(word, (begin, begin + len(word)), tuple(boxes[word]))
            )
        begin += len(word) + 1
    return Answer(' '.join(said), tuple(groundings))
