"""An engine that does what its script says: for tests of everything that calls an engine.

It needs no model and no image of anything.  What it answers depends on the expression, so that a
test may run many calls at once and still know the answer to each.
"""

import builtins
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
import json
from pathlib import Path
import threading
import time

import numpy as np

from kosmos_ros import errors
from kosmos_ros.engine.base import Image, ImageContext, Located
from kosmos_ros.errors import EngineFileError
from kosmos_ros.limits import Limits
from kosmos_ros.model.boxes import Box
from kosmos_ros.model.expressions import check_expression

MIDDLE = Located(Box(0.25, 0.25, 0.75, 0.75), 0.9)


@dataclass(frozen=True, slots=True)
class Act:
    """What the fake does when it is asked for one expression.

    :param boxes: the answers, best first; `top_k` of them are given.
    :param latency_s: how long it takes, asleep like a thread that waits for a GPU.
    :param burn_s: how long it takes, computing in Python.
    :param failure: raised instead of an answer.
    :param hangs: never ends, until `FakeEngine.release` is set.
    :param colour: answer with the box around all pixels of about this RGB colour instead of
        `boxes`, so that a test sees which pixels have arrived here.
    """

    boxes: Sequence[Located] = (MIDDLE,)
    latency_s: float = 0.0
    burn_s: float = 0.0
    failure: BaseException | None = None
    hangs: bool = False
    colour: tuple[int, int, int] | None = None


@dataclass(slots=True)
class Calls:
    """What the fake was asked, in order."""

    checked: list[str] = field(default_factory=list)
    encoded: list[Image] = field(default_factory=list)
    located: list[tuple[str, ...]] = field(default_factory=list)
    top_k: list[int] = field(default_factory=list)
    closed: int = 0


class FakeEngine:
    """Satisfies `kosmos_ros.engine.base.Engine`; refuses what a real engine could not take.

    :param acts: what to do, by expression.
    :param otherwise: what to do for all other expressions.
    :param steps: what to do at the first, second, ... `locate`, before `acts` is looked at.
    :param encode: what looking at an image costs, or how it fails.
    :param remarks: what to say about how it was loaded.
    """

    def __init__(
        self,
        acts: Mapping[str, Act] | None = None,
        otherwise: Act | None = None,
        steps: Sequence[Act] = (),
        encode: Act | None = None,
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
        self._limits = limits or Limits()
        self._thread = threading.Lock()

    @classmethod
    def from_file(
        cls, path: Path, report: Callable[[str], None] = lambda line: None
    ) -> 'FakeEngine':
        """Read a script: JSON with `name`, `remarks`, `progress`, `load_s`, `acts` (by
        expression), `otherwise`, `steps` and `encode`.

        An act has the fields of `Act`; `boxes` are lists of x0, y0, x1, y1, score, and `failure`
        is 'ClassName: text', a class of `kosmos_ros.errors` or of Python.  `progress` is a list
        of [line, seconds]: what to report while it loads, and how long to sleep after each line.

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
                {text: _act(words) for text, words in script.get('acts', {}).items()},
                _act(script.get('otherwise', {})),
                [_act(words) for words in script.get('steps', [])],
                _act(script.get('encode', {})),
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
            self.calls.encoded.append(image)
            self._play(self._encode)
        return ImageContext(image)

    def locate(
        self, context: ImageContext, expressions: Sequence[str], top_k: int = 1
    ) -> list[tuple[Located, ...]]:
        """See `Engine.locate`."""
        if not isinstance(context.prefix, np.ndarray):
            raise TypeError('this context was made by another engine')
        with self._alone():
            self.calls.located.append(tuple(expressions))
            self.calls.top_k.append(top_k)
            return [self._answer(context.prefix, text)[:top_k] for text in expressions]

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


def _act(words: dict[str, object]) -> Act:
    """
    :raises ValueError, TypeError: when a word is unknown or has a senseless value.
    """
    changed = dict(words)
    if 'boxes' in words:
        rows = np.asarray(words['boxes'], float).reshape(-1, 5).tolist()
        changed['boxes'] = tuple(Located(Box(*row[:4]), row[4]) for row in rows)
    if 'failure' in words:
        changed['failure'] = _failure(str(words['failure']))
    return Act(**changed)  # type: ignore[arg-type]


def _failure(text: str) -> BaseException:
    name, _, message = text.partition(': ')
    kind = getattr(errors, name, None) or getattr(builtins, name, None)
    if not (isinstance(kind, type) and issubclass(kind, BaseException)):
        raise ValueError(f'{name!r} is not an exception')
    return kind(message)
