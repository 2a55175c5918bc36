"""The rules of the house that a machine can check; docs/architecture.md explains them."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
import subprocess
import sys

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / 'kosmos_ros'
MODULES = sorted(PACKAGE.rglob('*.py'))
# What everything may import.
BASE = {'errors', 'limits', '__version__'}
# Folder -> what it may import of this package, besides itself and BASE.  The longest name counts.
MAY_IMPORT = {
    'model': set(),
    'engine': {'model'},
    'testing': {'model', 'engine'},
    'drawing': {'model', 'engine/base'},
    'tabletop': {'model'},
    'tabletop/demo': {'model', 'engine', 'drawing', 'tabletop', 'node', 'environment'},
    'evaluation': {'model', 'engine', 'tabletop'},
    'console': {'model', 'engine', 'drawing', 'environment', 'evaluation', 'tabletop'},
    'node': {'model', 'engine', 'drawing', 'environment'},
    'installation': {'environment'},
}
# Folders that may import ROS.
ROS_FOLDERS = {'node', 'tabletop/demo'}
ROS = {
    'ament_index_python',
    'builtin_interfaces',
    'cv_bridge',
    'diagnostic_msgs',
    'geometry_msgs',
    'kosmos_ros_msgs',
    'launch',
    'lifecycle_msgs',
    'rcl_interfaces',
    'rclpy',
    'sensor_msgs',
    'std_msgs',
    'vision_msgs',
    'visualization_msgs',
}
# Modules that need torch, and no others.
TORCH = {
    'engine/building/build.py',
    'engine/building/export.py',
    'engine/building/layer_calls.py',
    'engine/machine.py',
    'engine/runners/cuda.py',
    'engine/runners/embeddings.py',
    'engine/runners/kv_arena.py',
    'engine/runners/static.py',
    'engine/runners/torch.py',
    'engine/runners/torch_program.py',
    'engine/tensorrt/program.py',
    'model/network/kosmos2.py',
    'model/network/layers.py',
    'model/network/quantize.py',
    'model/network/vision.py',
    'model/network/weights.py',
}
# Modules of a folder: what a newcomer can look over at once.
MOST_MODULES = 12


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


def of_package(path: Path) -> Iterator[Path]:
    """The modules of this package that a file imports."""
    for name in imported(path):
        first, *parts = name.split('.')
        if first != 'kosmos_ros':
            continue
        # The last part may be something in a module.
        for end in (len(parts), len(parts) - 1):
            base = PACKAGE.joinpath(*parts[:end])
            found = base.with_suffix('.py') if end else base / '__init__.py'
            if found.is_file() or (found := base / '__init__.py').is_file():
                yield found
                break


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def allowed_in(folder: str) -> set[str] | None:
    """What a folder may import; None: anything."""
    rules = [rule for rule in MAY_IMPORT if f'{folder}/'.startswith(f'{rule}/')]
    return MAY_IMPORT[max(rules, key=len)] | {max(rules, key=len)} if rules else None


@pytest.mark.parametrize('path', MODULES, ids=name_of)
def test_folders_import_only_what_they_may(path: Path) -> None:
    folder = path.parent.relative_to(PACKAGE).as_posix()
    allowed = allowed_in(folder)
    if allowed is None:
        return
    for found in of_package(path):
        name = name_of(found).removesuffix('.py').removesuffix('/__init__')
        fits = name in BASE | {'__init__'} or any(f'{name}/'.startswith(f'{a}/') for a in allowed)
        assert fits, f'{path} imports {name}'
    if not any(f'{folder}/'.startswith(f'{ros}/') for ros in ROS_FOLDERS):
        ros = {name for name in imported(path) if name.split('.')[0] in ROS}
        assert not ros, f'{path} imports {ros}'


def test_imports_have_no_circles() -> None:
    graph = {name_of(path): {name_of(one) for one in of_package(path)} for path in MODULES}
    # Raises CycleError, which names the circle.
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize(
    'path',
    [*MODULES, *sorted(Path(__file__).parent.rglob('*.py'))],
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_modules_are_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 350


def test_folders_are_small() -> None:
    counts: dict[str, int] = defaultdict(int)
    for path in MODULES:
        counts[path.parent.relative_to(PACKAGE).as_posix()] += path.name != '__init__.py'
    assert {name: count for name, count in counts.items() if count > MOST_MODULES} == {}


def test_torch_stays_in_the_modules_that_train_export_or_run_it() -> None:
    found = {
        name_of(path)
        for path in MODULES
        if any(name.split('.')[0] == 'torch' for name in imported(path))
    }
    assert {name for name in found if not name.startswith('tabletop/training/')} == TORCH


# What a robot with the embedded engine imports; tests/engine/test_load.py also loads one so.
LIGHT = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in {'torch', 'onnx', 'onnxscript', 'tensorrt', 'transformers'}:
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)

sys.meta_path.insert(0, Refuse())
import kosmos_ros.console.main
import kosmos_ros.engine.load
import kosmos_ros.engine.runners.onnxruntime
import kosmos_ros.engine.verify
"""


def test_running_an_engine_on_onnxruntime_imports_nothing_heavier() -> None:
    done = subprocess.run(
        [sys.executable, '-W', 'error', '-c', LIGHT], capture_output=True, text=True, timeout=60
    )
    assert (done.stderr, done.returncode) == ('', 0)


def test_no_two_classes_have_one_name() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(name_of(path))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
