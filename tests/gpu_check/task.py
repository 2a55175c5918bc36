"""What every part is given, and how it says what it finds."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
import pkgutil
from typing import TYPE_CHECKING, Protocol

from gpu_check.report import Figure, State
from kosmos_ros.model.config import Kosmos2Config

if TYPE_CHECKING:
    from kosmos_ros.engine.directory.recipe import Recipe
    from kosmos_ros.engine.runners.cuda import Device


class Accelerator(Protocol):
    """A GPU as this check sees it: the only part of it that a test replaces."""

    def describe(self) -> dict[str, Figure]:
        """Return what it is and what drives it.

        :raises RunnerUnavailable: when there is none.
        """

    def device(self, graphs: bool) -> 'Device':
        """Return it for the static loop.

        :param graphs: whether work is captured and replayed, instead of launched.
        """

    def synchronize(self) -> None:
        """Wait until everything is done."""

    def free_bytes(self) -> int:
        """Return its memory that nobody uses."""

    def used_bytes(self) -> int:
        """Return its memory that is in use, by whomever."""

    def peak_bytes(self) -> int:
        """Return the most memory that tensors of this process have taken at any time."""


@dataclass(frozen=True, slots=True)
class Task:
    """What to check.  It names what a part imports, as that may be missing here.

    :param folder: to work in; empty at first.
    :param config: sizes of the model.
    :param recipe: None: desktop, in fp16.
    :param accelerator: 'module:class' of an `Accelerator`.
    :param runs: how often each question is timed.
    :param most_s: seconds after which fewer runs are enough.
    """

    folder: Path
    config: Kosmos2Config
    recipe: 'Recipe | None' = None
    accelerator: str = 'gpu_check.gpu:Cuda'
    runs: int = 100
    most_s: float = 4.0

    @property
    def engine(self) -> Path:
        """The engine directory that the part `model` makes."""
        return self.folder / 'engine'

    def open_accelerator(self) -> Accelerator:
        """Import what stands for the GPU.

        :raises ImportError: when PyTorch is missing.
        """
        accelerator: Accelerator = pkgutil.resolve_name(self.accelerator)()
        return accelerator


@dataclass(frozen=True, slots=True)
class Line:
    """Progress, for people."""

    text: str


@dataclass(frozen=True, slots=True)
class Found:
    """A figure."""

    name: str
    figure: Figure


@dataclass(frozen=True, slots=True)
class Ended:
    """The last message of a part."""

    state: State
    words: str = ''


Message = Line | Found | Ended


class Findings:
    """Passes on what a part finds as soon as it is found: the part may be killed at any time."""

    def __init__(self, send: Callable[[Message], None]) -> None:
        self._send = send

    def line(self, text: str) -> None:
        """Tell how far the part has come."""
        self._send(Line(text))

    def figure(self, name: str, figure: Figure) -> None:
        """Tell a figure, with its unit in its name."""
        self._send(Found(name, figure))


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the check.

    :param work: 'module:function' of a function of a `Task` and `Findings`.
    :param share: of the time, as much as the other parts' shares make it.
    :param needs: parts without which there is nothing to do.
    """

    name: str
    work: str
    share: float
    needs: tuple[str, ...] = ()
