"""The tiny Kosmos-2 of `tiny.py` as fixtures."""

from pathlib import Path
import shutil
import tempfile

import pytest
import torch

from kosmos_ros.engine.directory.directory import EngineDirectory
from kosmos_ros.engine.directory.recipe import Recipe

from .cases import KINDS, Case
from .tiny import ENGINES, RECIPE, engines_in, write_checkpoint

BUILT = pytest.StashKey[Path | Exception]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build the tiny engines if a test wants them: before the first test, as it takes longer than
    any test may.
    """
    wanted = any('tiny_engines' in getattr(item, 'fixturenames', ()) for item in session.items)
    if not wanted or session.config.option.collectonly:
        return
    try:
        session.config.stash[BUILT] = engines_in(_cache(session.config))
    except Exception as error:
        # For the tests that want them; others can do without.
        session.config.stash[BUILT] = error


def _cache(config: pytest.Config) -> Path:
    if hasattr(config, 'cache'):
        return Path(config.cache.mkdir('tiny-engines'))
    # With -p no:cacheprovider.
    folder = Path(tempfile.mkdtemp())
    config.add_cleanup(lambda: shutil.rmtree(folder))
    return folder


@pytest.fixture(scope='session', autouse=True)
def _one_thread() -> None:
    """Threads that wait for each other on a busy machine take thirty times as long for networks as
    small as these.
    """
    torch.set_num_threads(1)


@pytest.fixture(scope='session')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory as `save_pretrained` lays it out."""
    directory = tmp_path_factory.mktemp('checkpoint')
    write_checkpoint(directory)
    return directory


@pytest.fixture(scope='session')
def recipe() -> Recipe:
    """Small shapes for a small model, on ONNX Runtime."""
    return RECIPE


@pytest.fixture(scope='session')
def tiny_engines(pytestconfig: pytest.Config) -> Path:
    """Where the engines and graphs of `tiny.py` have been built: nothing is to change there."""
    built = pytestconfig.stash[BUILT]
    if isinstance(built, Exception):
        raise built
    return built


@pytest.fixture(scope='session')
def engines(tiny_engines: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Engine directories by runner and precision: copies, so that no later run sees what a test
    does to one.
    """
    out = tmp_path_factory.mktemp('engines')
    names = [f'{runner}-{precision}' for runner, precision in ENGINES]
    return {name: Path(shutil.copytree(tiny_engines / name, out / name)) for name in names}


@pytest.fixture(scope='module', params=KINDS)
def case(request: pytest.FixtureRequest, engines: dict[str, Path]) -> Case:
    """Every runner with every graph that it can run."""
    make, tolerance = KINDS[request.param]
    files = EngineDirectory.verified(engines[request.param.split()[0]])
    return Case(files, make(files), tolerance)
