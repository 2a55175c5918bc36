"""An engine that follows a script: a double for tests of everything that calls an engine.

It needs no model.  Its answer depends on the text alone, so a test may run many calls at once and
still know the answer to each.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
import json
from pathlib import Path
import threading
import time
from typing import cast

import numpy as np

from kosmos_ros.engine.answering.arguments import (
    check_locate,
    check_question,
    check_question_with_images,
)
from kosmos_ros.engine.base import (
    Answer,
    Draft,
    Engine,
    Finish,
    Image,
    ImageContext,
    ImageSource,
    PhraseGrounding,
    Report,
    ScoredBox,
    Transcript,
    ignore_progress,
)
from kosmos_ros.errors import BadExpression, EngineError, EngineFileError
from kosmos_ros.limits import Limits
from kosmos_ros.model.boxes import Box
from kosmos_ros.model.expressions import check_expression
from kosmos_ros.model.images import image_from
from kosmos_ros.model.tasks import Ask, Task
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


class FakeEngine(Engine):
    """Answers as scripted; refuses what a real engine refuses, and at the same moment.

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
        cls, path: Path, report: Report = ignore_progress, limits: Limits | None = None
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
                limits=limits,
            )
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise EngineFileError(f'{path} is no script of a fake engine: {error}') from error

    def check_expression(self, expression: str) -> None:
        """See `Engine.check_expression`."""
        self.calls.checked.append(expression)
        check_expression(expression, self._limits)

    def encode_image(self, image: ImageSource) -> ImageContext:
        """See `Engine.encode_image`."""
        self._check_open()
        pixels = image_from(image, self._limits)
        with self._one_thread():
            self.calls.order.append('encode')
            self.calls.encoded.append(pixels)
            self._play(self._encode)
        return ImageContext(pixels, self)

    def locate(
        self, context: ImageContext, expressions: Sequence[str], top_k: int = 1
    ) -> list[tuple[ScoredBox, ...]]:
        """See `Engine.locate`."""
        self._check_open()
        check_locate(self, context, expressions, top_k)
        image = cast(Image, context.encoded)
        with self._one_thread():
            self.calls.order.append('locate')
            self.calls.located.append(tuple(expressions))
            self.calls.top_k.append(top_k)
            return [self._answer(image, text)[:top_k] for text in expressions]

    def check_ask(self, ask: Ask, history: Transcript | None = None) -> None:
        """See `Engine.check_ask`."""
        self._check_room(check_question(self, ask, history, self._limits), history)

    def ask(
        self, ask: Ask, contexts: Sequence[ImageContext], history: Transcript | None = None
    ) -> Iterator[Draft]:
        """See `Engine.ask`.  The first step reads the prompt; each later one gives one word."""
        self._check_open()
        ask = check_question_with_images(self, ask, contexts, history, self._limits)
        self._check_room(ask, history)
        self.calls.asked.append(ask)
        return self._say(ask, Transcript(()) if history is None else history, contexts)

    def close(self) -> None:
        """See `Engine.close`."""
        self.calls.closed += 1
        self.release.set()

    def _check_room(self, ask: Ask, history: Transcript | None) -> None:
        used = 0 if history is None else len(history.ids)
        if used + ask.max_tokens > _POSITIONS:
            raise BadExpression(
                f'There is room for {_POSITIONS} tokens, {used} of which are used; '
                f'max_tokens is {ask.max_tokens}.'
            )

    def _check_open(self) -> None:
        if self.calls.closed:
            raise EngineError(f'{self.name} has been closed; load it again.')

    def _answer(self, image: Image, expression: str) -> tuple[ScoredBox, ...]:
        act = self._steps.pop(0) if self._steps else self._acts.get(expression, self._otherwise)
        self._play(act)
        if act.colour is not None:
            return _coloured(image, act.colour)
        return tuple(act.boxes)

    def _say(
        self, ask: Ask, history: Transcript, contexts: Sequence[ImageContext]
    ) -> Iterator[Draft]:
        speech = self._speeches.get(ask.text or ask.task.name, self._speech)
        most = ask.max_tokens or _TOKENS
        number = len(self.calls.asked) - 1
        before = '+'.join(self.calls.asked[one].text for one in history.ids if one >= 0)
        steps = self.calls.order.count('step')
        words = [word.format(before=before, steps=steps) for word in speech.words]
        said: list[str] = []

        def draft(finish: Finish) -> Draft:
            words_so_far = tuple(said)

            def transcript() -> Transcript:
                if len(words_so_far) < len(said):
                    raise RuntimeError('a transcript was asked for after a further step')
                if ask.task is not Task.CHAT:
                    raise ValueError('this task is no part of a conversation')
                ids = (*history.ids, number, *range(-1, -len(words_so_far) - 1, -1))
                return Transcript(ids, (*history.images, *contexts), object(), speech.nbytes, self)

            return Draft(
                len(words_so_far),
                finish,
                lambda: _answer_of(words_so_far, speech.boxes),
                transcript,
            )

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
        self._check_open()
        quiet = replace(speech.act, failure=None, hangs=False)
        with self._one_thread():
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

    def _one_thread(self) -> '_OneThread':
        return _OneThread(self._thread)


class _OneThread:
    """Raises when two threads are in the engine at once, which the protocol forbids."""

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            raise RuntimeError('two threads are in the engine at once')

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def _coloured(image: Image, colour: tuple[int, int, int]) -> tuple[ScoredBox, ...]:
    """Return the box around all pixels within 48 grey levels of a colour, if there are any."""
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
    return (ScoredBox(box, float(near.mean())),)


def _answer_of(said: Sequence[str], boxes: Mapping[str, Sequence[ScoredBox]]) -> Answer:
    groundings, begin = [], 0
    for word in said:
        if word in boxes:
            groundings.append(
                PhraseGrounding(word, (begin, begin + len(word)), tuple(boxes[word]))
            )
        begin += len(word) + 1
    return Answer(' '.join(said), tuple(groundings))
