"""What a check has found, as JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from importlib.metadata import PackageNotFoundError, version
import json
import os
from pathlib import Path
import platform

from kosmos_ros import __version__

Figure = float | str | Mapping[str, float]
# Distributions; TensorRT comes as one of the last ones.
_PACKAGES = (
    *('numpy', 'torch', 'transformers', 'onnx', 'onnxscript', 'safetensors', 'sentencepiece'),
    *('tensorrt', 'tensorrt-rtx-cu12-libs', 'tensorrt-rtx-cu13-libs'),
)


class State(str, Enum):
    """How a part ended.

    REFUSED: this machine cannot do it; no failure.  FAILED: a number was wrong, or the program.
    """

    NOT_RUN = 'not run'
    OK = 'ok'
    REFUSED = 'refused'
    FAILED = 'failed'


@dataclass(slots=True)
class PartReport:
    """What one part has found.

    :param words: why it was refused or has failed.
    :param figures: units are in their names; times of questions are p50_ms and p95_ms.
    :param lines: what it said meanwhile.
    """

    name: str
    state: State = State.NOT_RUN
    words: str = ''
    seconds: float = 0.0
    figures: dict[str, Figure] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    def number(self, name: str) -> float | None:
        """Return a figure, of times the median; None where it was not found."""
        figure = self.figures.get(name)
        if isinstance(figure, Mapping):
            figure = figure['p50_ms']
        return None if isinstance(figure, str) else figure


@dataclass(frozen=True, slots=True)
class Goal:
    """What an engine is meant to reach.

    :param part: where it was measured.
    :param what: what the ratio refers to, and its bound.
    """

    part: str
    what: str
    ratio: float
    met: bool


@dataclass(slots=True)
class CheckReport:
    """What all parts have found."""

    kosmos_ros: str = __version__
    python: str = platform.python_version()
    machine: str = f'{platform.system()} {platform.machine()}, {os.cpu_count()} processors'
    versions: dict[str, str] = field(default_factory=lambda: dict(_versions()))
    seconds: float = 0.0
    parts: list[PartReport] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)

    def part(self, name: str) -> PartReport:
        """Return a part.

        :raises KeyError: when there is none of that name.
        """
        return {part.name: part for part in self.parts}[name]

    @property
    def exit_code(self) -> int:
        """0, or 1 when a part has failed."""
        return int(any(part.state is State.FAILED for part in self.parts))

    def write(self, path: Path) -> None:
        """Write everything as JSON; the file is always whole."""
        draft = path.with_name(f'{path.name}.part')
        draft.write_text(json.dumps(asdict(self), indent=2) + '\n', encoding='utf-8')
        draft.replace(path)


def _versions() -> list[tuple[str, str]]:
    found = []
    for name in _PACKAGES:
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:
            continue
    return found
