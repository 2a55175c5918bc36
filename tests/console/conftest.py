"""A picture, and an engine that says what a test wants."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
import pytest
from running import HEIGHT, WIDTH, Command

from kosmos_ros.console import engines
from kosmos_ros.testing.fake_engine import FakeEngine


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory in which commands run, with cup.png and mug.jpg."""
    monkeypatch.chdir(tmp_path)
    picture = Image.fromarray(np.full((HEIGHT, WIDTH, 3), 128, np.uint8))
    picture.save('cup.png')
    picture.save('mug.jpg')
    return tmp_path


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeEngine]:
    """Makes the commands use a `FakeEngine` made of these arguments; returns it."""

    def use(*arguments: object, **names: object) -> FakeEngine:
        engine = FakeEngine(*arguments, **names)  # type: ignore[arg-type]
        monkeypatch.setattr(engines, 'load_engine', lambda name, runner, limits: engine)
        return engine

    return use


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], here: Path) -> Command:
    return Command(capsys)
