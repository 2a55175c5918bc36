"""Which TensorRT is found, and what is said of one that is not installed as it should be."""

from importlib.metadata import PackageNotFoundError
import sys
from types import ModuleType

import pytest

from kosmos_ros.engine.tensorrt import installed
from kosmos_ros.engine.tensorrt.installed import CLASSIC, RTX, Release, installed_tensorrt
from kosmos_ros.errors import RunnerUnavailable

from .surface import RTX as VERSION

BINDINGS, LIBS = 'tensorrt-rtx-cu13-bindings', 'tensorrt-rtx-cu13-libs'


@pytest.fixture(autouse=True)
def _nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No TensorRT of any kind."""
    have(monkeypatch, {}, {})


def have(
    monkeypatch: pytest.MonkeyPatch,
    modules: dict[str, str | Exception],
    distributions: dict[str, str],
) -> None:
    """Let there be modules by their versions, or what their import raises, and distributions."""

    def import_module(name: str) -> ModuleType:
        found = modules.get(name)
        if found is None:
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)
        if isinstance(found, Exception):
            raise found
        module = ModuleType(name)
        module.__version__ = found
        return module

    def version(name: str) -> str:
        if name not in distributions:
            raise PackageNotFoundError(name)
        return distributions[name]

    monkeypatch.setattr(installed, 'import_module', import_module)
    monkeypatch.setattr(installed, 'version', version)


def test_none_says_what_to_install() -> None:
    with pytest.raises(RunnerUnavailable, match=r"pip install 'kosmos_ros\[rtx\]'"):
        installed_tensorrt()


@pytest.mark.parametrize(
    ('modules', 'release'),
    [
        ({'tensorrt': '10.3.0'}, Release(CLASSIC, '10.3.0')),
        ({'tensorrt': '10.3.0', 'tensorrt_rtx': '1.7.1'}, Release(CLASSIC, '10.3.0')),
        ({'tensorrt_rtx': '1.7.1'}, Release(RTX, '1.7.1')),
        ({'tensorrt_rtx_bindings': '1.7.1'}, Release(RTX, '1.7.1')),
    ],
)
def test_tensorrt_itself_comes_first(
    monkeypatch: pytest.MonkeyPatch, modules: dict[str, str | Exception], release: Release
) -> None:
    have(monkeypatch, modules, {})
    assert installed_tensorrt().release == release


def test_one_that_does_not_load_leaves_it_to_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = ImportError('libnvinfer.so.10: cannot open shared object file')
    have(monkeypatch, {'tensorrt': broken}, {})
    with pytest.raises(RunnerUnavailable, match=r'^TensorRT does not load \(libnvinfer'):
        installed_tensorrt()
    have(monkeypatch, {'tensorrt': broken, 'tensorrt_rtx': '1.7.1'}, {})
    assert installed_tensorrt().release == Release(RTX, '1.7.1')


@pytest.mark.parametrize(
    ('modules', 'distributions', 'message'),
    [
        (
            {'tensorrt_rtx_bindings': ImportError('libtensorrt_rtx.so.1: cannot open')},
            {BINDINGS: '1.7.1'},
            f'has {BINDINGS} 1.7.1 without {LIBS} of the same version; pip install {LIBS}==1.7.1',
        ),
        ({}, {LIBS: '1.7.1'}, f'without {BINDINGS} of the same version; pip install {BINDINGS}=='),
        (
            {'tensorrt_rtx_bindings': '1.7.1'},
            {BINDINGS: '1.7.1', LIBS: '1.6.0'},
            f'{BINDINGS} 1.7.1 without {LIBS} of the same version',
        ),
        (
            {'tensorrt_rtx_bindings': '1.7.1'},
            {BINDINGS: '1.7.1', LIBS: '1.7.1', 'tensorrt-rtx-cu12-libs': '1.7.1'},
            r'for two versions of CUDA; pip uninstall tensorrt-rtx-cu12-libs .*, then pip install',
        ),
    ],
    ids=['no libraries', 'no bindings', 'other libraries', 'two versions of CUDA'],
)
def test_wheels_that_do_not_fit_say_the_cure(
    monkeypatch: pytest.MonkeyPatch,
    modules: dict[str, str | Exception],
    distributions: dict[str, str],
    message: str,
) -> None:
    have(monkeypatch, modules, distributions)
    with pytest.raises(RunnerUnavailable, match=message) as caught:
        installed_tensorrt()
    assert '\n' not in str(caught.value)


def test_wheels_that_fit_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    distributions = {BINDINGS: '1.7.1', LIBS: '1.7.1'}
    have(monkeypatch, {'tensorrt_rtx_bindings': '1.7.1'}, distributions)
    assert installed_tensorrt().release == Release(RTX, '1.7.1')


def test_what_the_tests_install_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    for name in ('tensorrt', 'tensorrt_rtx'):
        monkeypatch.setitem(sys.modules, name, None)
    assert installed_tensorrt().release == Release(RTX, VERSION)
