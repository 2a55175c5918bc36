"""Engines of all kinds, and a picture to ask about."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
import re

import numpy as np
import pytest

from kosmos_ros import Engine, Limits, load_engine
from kosmos_ros.engine.base import ignore_progress
from kosmos_ros.testing import Act, FakeEngine, Speech

COLOUR_ENGINE = Path(__file__).parents[3] / 'docs' / 'examples' / 'colour_engine'
Make = Callable[[], Engine]


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


def picture() -> np.ndarray:
    """Grey with a red square."""
    pixels = np.full((48, 64, 3), 120, np.uint8)
    pixels[12:30, 16:40] = (255, 0, 0)
    return pixels


def is_sentence(error: BaseException) -> bool:
    """Whether a message is one sentence for a person."""
    text = str(error)
    return bool(text) and '\n' not in text and not re.search(r'\. +[A-Z]', text)
