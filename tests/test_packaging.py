"""What the packages say about themselves is true."""

import ast
import os
from pathlib import Path
import re
import shutil
import subprocess
import sys
from typing import Any
import xml.etree.ElementTree as ElementTree
import zipfile

import pytest

import kosmos_ros

ROOT = Path(__file__).resolve().parents[1]
# Modules whose package has another name, and what is imported only where a user has installed it.
KEYS = {
    'PIL': 'python3-pil',
    'numpy': 'python3-numpy',
    'packaging': 'python3-packaging',
    'psutil': 'python3-psutil',
    'yaml': 'python3-yaml',
}
OPTIONAL = {
    'cv_bridge',
    'httpx2',
    'huggingface_hub',
    'onnx',
    'onnx_ir',
    'onnxruntime',
    'onnxscript',
    'safetensors',
    'sentencepiece',
    'tensorrt',
    'torch',
    'transformers',
}

# Optional in a ROS distribution, which has no package of them; pip has.
RUNS_EMBEDDED = {'onnxruntime', 'safetensors', 'sentencepiece'}
PACKAGES_OF_PIP = {'PIL': 'pillow', 'yaml': 'pyyaml'}


def declared(manifest: Path) -> ElementTree.Element:
    """A package.xml, read."""
    return ElementTree.parse(manifest).getroot()


@pytest.mark.parametrize('manifest', ['package.xml', 'msg/package.xml'])
def test_packages_have_one_version(manifest: str) -> None:
    assert declared(ROOT / manifest).findtext('version') == kosmos_ros.__version__


def test_changelog_speaks_of_this_version() -> None:
    assert re.search(rf'^{re.escape(kosmos_ros.__version__)} \(', _text('CHANGELOG.rst'), re.M)


def test_everything_imported_is_declared() -> None:
    sources = [*(ROOT / 'kosmos_ros').rglob('*.py'), *(ROOT / 'launch').rglob('*.py')]
    imported = set().union(*(_imported_packages(source) for source in sources))
    ours_or_standard = {'kosmos_ros', 'setuptools', *sys.stdlib_module_names}
    needed = {KEYS.get(name, name) for name in imported - ours_or_standard - OPTIONAL}
    manifest = declared(ROOT / 'package.xml')
    kinds = ('depend', 'exec_depend')
    named = {element.text for kind in kinds for element in manifest.findall(kind)}

    assert needed <= named
    # What a distribution cannot release: keys that stand for packages of pip.
    assert not [name for name in named if name and name.endswith('-pip')]


def test_colcon_is_given_every_shared_file() -> None:
    listing = 'import setuptools; setuptools.setup = lambda **given: print(given["data_files"])'
    installed = dict(_told_by_setup(listing))

    assert installed['share/ament_index/resource_index/packages'] == ['resource/kosmos_ros']
    assert installed['share/kosmos_ros'] == ['package.xml']
    assert 'launch/kosmos.launch.py' in installed['share/kosmos_ros/launch']
    assert 'engines/tabletop/manifest.json' in installed['share/kosmos_ros/engines/tabletop']


def test_pip_is_told_what_is_imported_without_ros() -> None:
    listing = (
        'import setuptools; setuptools.setup = lambda **given: '
        'print([given["install_requires"], given["extras_require"]])'
    )
    required, extras = _told_by_setup(listing)
    names = {re.split('[<>=]', one)[0] for one in required}
    extra = {re.split('[<>=]', one)[0] for group in extras.values() for one in group}

    in_distributions = {PACKAGES_OF_PIP.get(module, module) for module in KEYS}
    assert names == in_distributions | RUNS_EMBEDDED
    rtx = {'tensorrt-rtx-cu13-bindings', 'tensorrt-rtx-cu13-libs'}
    assert extra == rtx | {'huggingface_hub', 'onnx', 'onnxscript', 'safetensors', 'torch'}
    # The release whose plans are built in the tests.
    pinned = (ROOT / 'requirements-test.txt').read_text().splitlines()
    assert {one for one in extras['rtx'] if 'tensorrt' in one} <= set(pinned)


# Runs where neither ROS nor torch is, nor this checkout.
USE = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in {'rclpy', 'torch', 'onnx', 'tensorrt'}:
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)

sys.meta_path.insert(0, Refuse())
import numpy as np
from PIL import Image
from kosmos_ros import Ask, Task, load_engine

pixels = np.full((240, 320, 3), 200, np.uint8)
pixels[80:160, 100:180] = (220, 30, 30)
Image.fromarray(pixels).save('photo.png')
with load_engine() as engine:
    image = engine.encode_image(pixels)
    ((best, *_),) = engine.locate(image, ['the red ball'], top_k=3)
    *_, last = engine.ask(Ask(Task.CAPTION), [image])
assert 0.2 < best.box_in_image.x0 < 0.4 < best.box_in_image.x1 < 0.7
assert last.read().text
from kosmos_ros.console.main import main
assert main(['refer', 'photo.png', 'the red ball']) == 0
import kosmos_ros
print(kosmos_ros.__file__)
"""


def test_the_wheel_works_without_ros_and_torch(tmp_path: Path) -> None:
    # A copy, for setuptools builds in the folder that it is given.
    source, away = tmp_path / 'source', tmp_path / 'away'
    for name in ('kosmos_ros', 'engines', 'launch', 'resource'):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns('__pycache__'))
    for name in ('setup.py', 'setup.cfg', 'pyproject.toml', 'package.xml', 'README.md', 'LICENSE'):
        shutil.copy(ROOT / name, source)
    away.mkdir()
    pip = [sys.executable, '-m', 'pip', '--disable-pip-version-check', '--quiet', '--no-input']
    offline = ['--no-index', '--no-deps']
    _run([*pip, 'wheel', *offline, '--no-build-isolation', '-w', tmp_path, source], away)
    (wheel,) = tmp_path.glob('kosmos_ros-*.whl')
    with zipfile.ZipFile(wheel) as archive:
        names = {name.partition('.data/data/share/kosmos_ros/')[2] for name in archive.namelist()}
    recipes = {f'engines/{path.name}' for path in (ROOT / 'engines').glob('*.yaml')}
    engine = {f'engines/tabletop/{path.name}' for path in (ROOT / 'engines/tabletop').iterdir()}
    assert recipes | engine <= names
    site = tmp_path / 'site'
    _run([*pip, 'install', *offline, '--target', site, wheel], away)
    said = _run([sys.executable, '-W', 'error', '-c', USE], away, PYTHONPATH=str(site))

    assert said.splitlines()[-1] == str(site / 'kosmos_ros' / '__init__.py')
    assert 'the red ball' in said
    assert list(away.glob('photo.refer.png'))


def _run(command: list[str | Path], folder: Path, **variables: str) -> str:
    """Run a program that must succeed, and return what it says."""
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _told_by_setup(listing: str) -> Any:
    """Return what setup.py says about the package, without building anything."""
    return ast.literal_eval(_run([sys.executable, '-c', f'{listing}; import setup'], ROOT))


def _imported_packages(source: Path) -> set[str]:
    names: set[str] = set()
    for statement in ast.walk(ast.parse(source.read_text(encoding='utf-8'))):
        if isinstance(statement, ast.Import):
            names |= {alias.name for alias in statement.names}
        elif isinstance(statement, ast.ImportFrom):
            names.add(statement.module or '')
    return {name.split('.')[0] for name in names}


def _text(name: str) -> str:
    return (ROOT / name).read_text(encoding='utf-8')
