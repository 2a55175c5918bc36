"""A scripted engine, for tests of everything that calls an engine; docs/library.md shows how."""

from pathlib import Path

from kosmos_ros.engine.base import Report
from kosmos_ros.limits import Limits
from kosmos_ros.testing.fake_engine import Calls, FakeEngine
from kosmos_ros.testing.script import Act, Speech

__all__ = ['Act', 'Calls', 'FakeEngine', 'Speech', 'fake_engine_from_script']


def fake_engine_from_script(argument: str, limits: Limits, report: Report) -> FakeEngine:
    """Make a fake engine, as the factory of an entry point in ``kosmos_ros.engines``.

    A test that declares ``fake = kosmos_ros.testing:fake_engine_from_script`` starts the node with
    ``engine:=fake:PATH``.

    :param argument: path of the script, see `FakeEngine.from_file`.
    :raises EngineFileError: when the script cannot be read, or has an unknown word.
    """
    return FakeEngine.from_file(Path(argument), report, limits)
