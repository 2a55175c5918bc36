"""An engine is loaded as the settings say, in the thread that will use it."""

from dataclasses import replace
import threading

import pytest

from kosmos_ros.engine.directory.directory import EngineDirectory
from kosmos_ros.engine.directory.packaged import embedded_engine
from kosmos_ros.errors import EngineFileError, RunnerUnavailable, ShuttingDown
from kosmos_ros.limits import Limits
from kosmos_ros.node.engine import engine_worker as module
from kosmos_ros.node.engine.engine_worker import EngineWorker
from kosmos_ros.node.parameters import TABLE, Settings, settings_from
from kosmos_ros.testing.fake_engine import FakeEngine


@pytest.fixture
def engine_worker():
    engine_worker = EngineWorker(Limits(), [].append)
    yield engine_worker
    engine_worker.close(ShuttingDown(), 5)


def settings(**changed: str) -> Settings:
    return settings_from({row.name: row.default for row in TABLE} | changed)


@pytest.mark.parametrize(
    ('changed', 'engine', 'words'),
    [
        ({}, None, ('auto', 'quick')),
        (
            {'engine': '/an/engine', 'runner': 'tensorrt', 'self_check': 'full'},
            '/an/engine',
            ('tensorrt', 'full'),
        ),
        ({'engine': 'colour:0.2'}, 'colour:0.2', ('auto', 'quick')),
    ],
)
def test_loads_what_the_settings_say(engine_worker, monkeypatch, changed, engine, words) -> None:
    calls: list[tuple[object, ...]] = []
    lines: list[tuple[str, str]] = []

    def load_engine(given, runner, limits, *, self_check, report):
        calls.append((given, limits, runner, self_check))
        report('half')
        return FakeEngine(name='loaded')

    monkeypatch.setattr(module, 'load_engine', load_engine)
    engine_worker.load(
        settings(**changed), lambda line: lines.append((line, threading.current_thread().name))
    )
    assert calls == [(engine, Limits(), *words)]
    assert lines == [('half', 'engine')]
    assert engine_worker.engine.name == 'loaded'


class Plans:
    """Stands in for the build of plans and for loading; notes the order of both."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: Exception | None = None) -> None:
        self.calls: list[str] = []

        def build_plans(directory, report):
            self.calls.append(f'build {directory.recipe.runner}')
            if error is not None:
                raise error

        def load_engine(given, runner, limits, *, self_check, report):
            self.calls.append(f'load {runner}')
            return FakeEngine(remarks=['not by TensorRT: no plans'] if error else [])

        monkeypatch.setattr(module, 'build_plans', build_plans)
        monkeypatch.setattr(module, 'load_engine', load_engine)


@pytest.mark.parametrize('build_plans', ['missing', 'only'])
def test_plans_are_built_before_loading(engine_worker, monkeypatch, build_plans: str) -> None:
    plans = Plans(monkeypatch)
    engine_worker.load(settings(build_plans=build_plans), [].append)
    assert plans.calls == ['build onnxruntime', 'load auto']
    assert engine_worker.remarks == ()


def test_missing_plans_that_cannot_be_built_are_a_remark(engine_worker, monkeypatch) -> None:
    Plans(monkeypatch, RunnerUnavailable('there is no GPU'))
    engine_worker.load(settings(build_plans='missing'), [].append)
    assert engine_worker.remarks == (
        'plans were not built: there is no GPU',
        'not by TensorRT: no plans',
    )


@pytest.mark.parametrize(
    ('build_plans', 'error'),
    [('only', RunnerUnavailable('there is no GPU')), ('missing', EngineFileError('read-only'))],
)
def test_other_failures_of_plans_are_errors(
    engine_worker, monkeypatch, build_plans: str, error: Exception
) -> None:
    plans = Plans(monkeypatch, error)
    with pytest.raises(type(error), match=str(error)):
        engine_worker.load(settings(build_plans=build_plans), [].append)
    assert plans.calls == ['build onnxruntime']


def test_only_plans_are_loaded_by_tensorrt_alone(engine_worker, monkeypatch) -> None:
    """Another runner would hide that they are refused."""
    plans = Plans(monkeypatch)
    embedded = EngineDirectory.verified(embedded_engine())
    recipe = replace(embedded.recipe, runner='tensorrt')
    monkeypatch.setattr(
        module.EngineDirectory, 'verified', lambda path: replace(embedded, recipe=recipe)
    )
    engine_worker.load(settings(build_plans='only'), [].append)
    engine_worker.load(settings(build_plans='missing'), [].append)
    assert plans.calls == ['build tensorrt', 'load tensorrt', 'build tensorrt', 'load auto']


def test_what_cannot_be_loaded_is_told(engine_worker, tmp_path) -> None:
    with pytest.raises(EngineFileError, match='no script'):
        engine_worker.load(settings(engine=f'fake:{tmp_path / "none"}'), [].append)
    with pytest.raises(RuntimeError, match='not been loaded'):
        _ = engine_worker.engine
