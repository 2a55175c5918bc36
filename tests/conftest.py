"""What tests of several rooms share."""

from pathlib import Path
import sys

import pytest

TESTS = Path(__file__).resolve().parent
SYSTEM = TESTS / 'system'
SHARED_DATA = TESTS.parents[1] / 'shared' / 'data' / 'kosmos2'
# An installed package, as far as Python can tell, whose engine `fake` is the scripted one.
sys.path.append(str(TESTS / 'plugins'))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what `make test-fast` leaves out; first, as -m asks for the marks."""
    for item in items:
        if SYSTEM in item.path.parents:
            item.add_marker('system')
        if 'tiny_engines' in getattr(item, 'fixturenames', ()):
            item.add_marker('engines')


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Keep the tests of a module in one process, and all tests of the system in one: they have
    deadlines, and their nodes would disturb each other.
    """
    from xdist.scheduler import LoadFileScheduling

    class ByModule(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            system = f'{SYSTEM.relative_to(config.rootpath).as_posix()}/'
            return system if nodeid.startswith(system) else super()._split_scope(nodeid)

    return ByModule(config, log)


@pytest.fixture(scope='session')
def shared_data() -> Path:
    """The released tokenizer model and photos; they lie beside the repository."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f'the released tokenizer and the photos are not in {SHARED_DATA}')
    return SHARED_DATA
