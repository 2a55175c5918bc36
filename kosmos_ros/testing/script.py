"""What the fake engine does and says: the words of its scripts."""

import builtins
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from kosmos_ros import errors
from kosmos_ros.engine.base import ScoredBox
from kosmos_ros.model.boxes import Box

MIDDLE = ScoredBox(Box(0.25, 0.25, 0.75, 0.75), 0.9)


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

    boxes: Sequence[ScoredBox] = (MIDDLE,)
    latency_s: float = 0.0
    burn_s: float = 0.0
    failure: BaseException | None = None
    hangs: bool = False
    colour: tuple[int, int, int] | None = None


@dataclass(frozen=True, slots=True)
class Speech:
    """What the fake says when it is asked a question.

    :param words: each is one token; '{before}' becomes the texts of the earlier questions of the
        conversation, joined by '+', and '{steps}' the number of steps that all answers before it
        have taken.
    :param boxes: of words that have some.
    :param endless: whether it begins again behind the last word.
    :param act: what each step costs; its failure or its hanging comes behind `after` tokens.
    :param nbytes: what the memory of a conversation takes.
    """

    words: Sequence[str] = ('a', 'fake', 'answer')
    boxes: Mapping[str, Sequence[ScoredBox]] = field(default_factory=dict)
    endless: bool = False
    act: Act = Act()
    after: int = 0
    nbytes: int = 0


def speech_from(words: dict[str, object]) -> Speech:
    """Read a speech from its fields in JSON.

    :raises ValueError, TypeError, AttributeError: as `act_from`.
    """
    changed = dict(words)
    if 'words' in words:
        changed['words'] = tuple(str(words['words']).split())
    if 'boxes' in words:
        changed['boxes'] = {word: _boxes(rows) for word, rows in words['boxes'].items()}  # type: ignore[attr-defined]
    if 'act' in words:
        changed['act'] = act_from(words['act'])  # type: ignore[arg-type]
    return Speech(**changed)  # type: ignore[arg-type]


def _boxes(rows: object) -> tuple[ScoredBox, ...]:
    return tuple(
        ScoredBox(Box(*row[:4]), row[4]) for row in np.asarray(rows, float).reshape(-1, 5).tolist()
    )


def act_from(words: dict[str, object]) -> Act:
    """Read an act from its fields in JSON.

    :raises ValueError, TypeError: when a word is unknown or has a wrong value.
    """
    changed = dict(words)
    if 'boxes' in words:
        changed['boxes'] = _boxes(words['boxes'])
    if 'failure' in words:
        changed['failure'] = _failure(str(words['failure']))
    return Act(**changed)  # type: ignore[arg-type]


def _failure(text: str) -> BaseException:
    name, _, message = text.partition(': ')
    kind = getattr(errors, name, None) or getattr(builtins, name, None)
    if not (isinstance(kind, type) and issubclass(kind, BaseException)):
        raise ValueError(f'{name!r} is not an exception')
    return kind(message)
