"""The engine room: an engine is loaded as the settings say, in the thread that will use it."""

from pathlib import Path
import threading

import pytest

from kosmos_ros.errors import EngineFileError, ShuttingDown
from kosmos_ros.limits import Limits
from kosmos_ros.node.engine import engine_worker as module
from kosmos_ros.node.engine.engine_worker import EngineRoom
from kosmos_ros.node.parameters import TABLE, Settings, settings_from
from kosmos_ros.testing.fake_engine import FakeEngine


@pytest.fixture
def room():
    room = EngineRoom(Limits(), [].append)
    yield room
    room.close(ShuttingDown(), 5)


def settings(**changed: str) -> Settings:
    return settings_from({row.name: row.default for row in TABLE} | changed)


@pytest.mark.parametrize(
    ('changed', 'path', 'words'),
    [
        ({}, None, ('auto', 'quick', 'never')),
        (
            {
                'engine': '/an/engine',
                'runner': 'tensorrt',
                'self_check': 'full',
                'build_plans': 'missing',
            },
            Path('/an/engine'),
            ('tensorrt', 'full', 'missing'),
        ),
    ],
)
def test_loads_what_the_settings_say(room, monkeypatch, changed, path, words) -> None:
    calls: list[tuple[object, ...]] = []
    lines: list[tuple[str, str]] = []

    def load_engine(given, runner, limits, *, self_check, build_plans, report):
        calls.append((given, limits, runner, self_check, build_plans))
        report('half')
        return FakeEngine(name='loaded')

    monkeypatch.setattr(module, 'load_engine', load_engine)
    room.load(
        settings(**changed), lambda line: lines.append((line, threading.current_thread().name))
    )
    assert calls == [(path, Limits(), *words)]
    assert lines == [('half', 'engine')]
    assert room.engine.name == 'loaded'


def test_what_cannot_be_loaded_is_told(room, tmp_path) -> None:
    with pytest.raises(EngineFileError, match='no script'):
        room.load(settings(runner='fake', engine=str(tmp_path / 'none')), [].append)
    with pytest.raises(RuntimeError, match='not been loaded'):
        _ = room.engine
