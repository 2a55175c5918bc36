"""The house's rules that a machine can check."""

import ast
from pathlib import Path
import subprocess
import sys

import pytest

PACKAGE = Path(__file__).parents[1] / 'kosmos_ros'
MODULES = sorted(PACKAGE.rglob('*.py'))
# Room -> what it may import of this package, besides itself, errors and limits.
MAY_IMPORT = {
    'model': set(),
    'engine': {'model'},
    'tabletop': {'model'},
    'evaluation': {'model', 'engine', 'tabletop'},
    'console': {'model', 'engine', 'drawing', 'posters'},
}
ROS = {
    'rclpy',
    'sensor_msgs',
    'std_msgs',
    'vision_msgs',
    'kosmos_ros_msgs',
    'lifecycle_msgs',
    'cv_bridge',
    'launch',
}


def imported(path: Path) -> set[str]:
    """Absolute names of all modules that a file imports, at its top or inside."""
    names: set[str] = set()
    for statement in ast.walk(ast.parse(path.read_text())):
        if isinstance(statement, ast.Import):
            names |= {alias.name for alias in statement.names}
        elif isinstance(statement, ast.ImportFrom):
            assert statement.level == 0, f'{path}: imports are absolute'
            names |= {f'{statement.module}.{alias.name}' for alias in statement.names}
    return names


@pytest.mark.parametrize('path', MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_rooms_import_only_what_they_may(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0]
    if room not in MAY_IMPORT:
        return
    allowed = MAY_IMPORT[room] | {room, 'errors', 'limits', '__version__'}
    for name in imported(path):
        parts = name.split('.')
        assert parts[0] not in ROS, f'{path} imports {name}: only kosmos_ros/node may'
        if parts[0] == 'kosmos_ros' and len(parts) > 1:
            assert parts[1] in allowed, f'{path} imports {name}'


@pytest.mark.parametrize('path', MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_fit_in_a_head(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 350


def test_the_demo_needs_no_torch() -> None:
    """torch stays in the modules that train, export or run it."""
    allowed = {
        'model/layers.py',
        'model/network.py',
        'model/quantize.py',
        'model/vision.py',
        'model/weights.py',
        'engine/build.py',
        'engine/export.py',
        'engine/machine.py',
        'engine/runners/arena.py',
        'engine/runners/device.py',
        'engine/runners/static.py',
        'engine/runners/tables.py',
        'engine/runners/tensorrt.py',
        'engine/runners/torch.py',
    }
    found = {
        str(path.relative_to(PACKAGE))
        for path in MODULES
        if any(name.split('.')[0] == 'torch' for name in imported(path))
    }
    assert {name for name in found if not name.startswith('tabletop/')} == allowed


# What a robot with the embedded engine imports; tests/engine/test_load.py also loads one so.
LIGHT = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in {'torch', 'onnx', 'onnxscript', 'tensorrt', 'transformers'}:
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)

sys.meta_path.insert(0, Refuse())
import kosmos_ros.cli
import kosmos_ros.engine.load
import kosmos_ros.engine.runners.onnxruntime
import kosmos_ros.engine.verify
"""


def test_running_an_engine_on_onnxruntime_imports_nothing_heavier() -> None:
    done = subprocess.run(
        [sys.executable, '-W', 'error', '-c', LIGHT], capture_output=True, text=True, timeout=60
    )
    assert (done.stderr, done.returncode) == ('', 0)
