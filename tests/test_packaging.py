"""What the packages say about themselves is true."""

import ast
from pathlib import Path
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

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
    command = [sys.executable, '-c', f'{listing}; import setup']
    said = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    installed = dict(ast.literal_eval(said.stdout))

    assert installed['share/ament_index/resource_index/packages'] == ['resource/kosmos_ros']
    assert installed['share/kosmos_ros'] == ['package.xml']
    assert 'launch/kosmos.launch.py' in installed['share/kosmos_ros/launch']
    assert 'engines/tabletop/manifest.json' in installed['share/kosmos_ros/engines/tabletop']


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
