"""The API surface of real TensorRT releases, taken from NVIDIA's own Python bindings.

The bindings on PyPI come without the libraries that they bind, so libraries that do nothing stand
in for these.  The wheels' licence is proprietary: what is made of them lies in the environment,
outside the repository, and is made again on every machine.
"""

from collections.abc import Callable
from dataclasses import dataclass
import hashlib
import os
from pathlib import Path
import shutil
import subprocess
import sys
import tempfile
import zipfile

import pytest

from . import stubs

# TensorRT for RTX, from the installed wheels.
RTX = '1.7.1.116'
PACKAGES = {
    '10.3.0': 'tensorrt-cu12-bindings',  # JetPack 6
    '10.13.3.9': 'tensorrt-cu12-bindings',  # JetPack 7.0
    '10.16.1.11': 'tensorrt-cu12-bindings',  # JetPack 7.2
    '11.4.0.106': 'tensorrt-cu13-bindings',
}
VERSIONS = (*PACKAGES, RTX)
NATIVE = 'tensorrt_bindings.tensorrt'
DUMP = Path(__file__).with_name('dump.py')

# Of the wheels for x86-64; those of other machines are taken as they come.
SHA256 = {
    ('10.3.0', 'cp310'): '1d6e4cf08ef1f54f6fd44a33cf6b253050af2fc6e9a1d92e40e1436a1d858eb0',
    ('10.3.0', 'cp311'): '59ace22d7f2ca1e9dcde2cb0cb5916912cb3cd5a9d72dd7852be0160d9b3a0ee',
    ('10.3.0', 'cp312'): 'f5c2582aeaa7f5628d2c4d4148a701ebe97be78f7ff3b46a617f0ee0cb5460f2',
    ('10.13.3.9', 'cp310'): '3ca2635394789dd62346ff5ee3f02def53cee2cd21247cc342461dc721893a1e',
    ('10.13.3.9', 'cp311'): '33aa9d104c04b008871645a97bd8a1a02279cf498d251df5e767d9d5183e0646',
    ('10.13.3.9', 'cp312'): '193174cd0aa5ec7d63943d8d3f84ca9ec525477a9db3a9100bf2f77071b3fae8',
    ('10.13.3.9', 'cp313'): '90c7d502682d868a918665f1035b4acb07254bcd76cc551febea9a7009ee6269',
    ('10.16.1.11', 'cp310'): 'c1b6a156db4eab526360f5dba375e5c33e1275e3f36b0a7d375febb3db6202fc',
    ('10.16.1.11', 'cp311'): '150ef2b672487e29a8ea916353467c3e199994fb33589167e3641a928e243aa7',
    ('10.16.1.11', 'cp312'): '8e339335e7255b3fb3954eca61b4acbbdfcf7b28505bd711914519647ba310c8',
    ('10.16.1.11', 'cp313'): 'f2a08cedfa48e300720e5bed070a45e390ea67dbcf475ffce725d10e0a2b3ba7',
    ('11.4.0.106', 'cp310'): '1d17853da33a186c4d4d39995c1186bb59f643689aabac9c3e33ae5f0ba402f5',
    ('11.4.0.106', 'cp311'): 'd072ac2a095e2be749fefc847adfb25d5ebe70303401df62ede8fe67a59f27fc',
    ('11.4.0.106', 'cp312'): '5fc7a6c412881f7212030893bd5531b1a0ff415c72c7678dfe4ead7a7765b38d',
    ('11.4.0.106', 'cp313'): 'bac9a362c9189b5f5dd0444213913846e4b46003237834958e890eff57d86ed5',
    ('11.4.0.106', 'cp314'): '233f5f02af7940b7cf15a5b526fc16b203d93181473a58588937bf401ca1d293',
}

# All that the bindings ask of NVIDIA's libraries when they are imported.
LIBRARIES = ('libnvinfer', 'libnvonnxparser', 'libnvinfer_plugin')
SYMBOLS = (
    'createInferBuilder_INTERNAL',
    'createInferRefitter_INTERNAL',
    'createInferRuntime_INTERNAL',
    'createNvOnnxParserRefitter_INTERNAL',
    'createNvOnnxParser_INTERNAL',
    'getBuilderPluginRegistry',
    'getNvOnnxParserVersion',
    'getPluginRegistry',
    'initLibNvInferPlugins',
)


@dataclass(frozen=True)
class Surface:
    """What is known of one release.

    :ivar path: surface.json.
    :ivar stubs: directory with tensorrt/__init__.pyi.
    """

    version: str
    path: Path
    stubs: Path


def obtain(version: str) -> Surface:
    """Surface of a release, from the cache when it has been made before.

    Skips the test that asks when this machine cannot make it.
    """
    if sys.prefix == sys.base_prefix:
        pytest.skip('the surface of TensorRT is kept in a virtual environment, and this is none')
    cache = Path(sys.prefix) / 'tensorrt' / version
    # Those for RTX are installed here, with their libraries.
    bindings = cache / 'bindings'
    if version != RTX:
        bindings = _made_once(bindings, lambda out: _download(version, out))
    writers = b''.join(path.read_bytes() for path in (DUMP, Path(stubs.__file__)))
    directory = cache / f'surface-{hashlib.sha256(writers).hexdigest()[:12]}'
    made = _made_once(directory, lambda out: _introspect(version, bindings, out))
    return Surface(version, made / 'surface.json', made / 'stubs')


def _made_once(directory: Path, make: Callable[[Path], None]) -> Path:
    """The directory, complete: another process never sees half of it."""
    if not directory.is_dir():
        directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory.parent, prefix='.new-') as scratch:
            out = Path(scratch) / 'made'
            out.mkdir()
            make(out)
            try:
                out.rename(directory)
            except OSError:
                # Another process was faster, which is as good.
                if not directory.is_dir():
                    raise
    return directory


def _download(version: str, out: Path) -> None:
    """Unpack the wheel for this interpreter."""
    wanted = f'{PACKAGES[version]}=={version}'
    with tempfile.TemporaryDirectory() as scratch:
        pip = [sys.executable, '-m', 'pip', 'download', '--quiet', '--no-deps']
        patience = ['--retries', '1', '--timeout', '20']
        choice = ['--only-binary', ':all:', '--dest', scratch, wanted]
        done = subprocess.run([*pip, *patience, *choice], capture_output=True, text=True)
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or ['pip says nothing'])[-1]
            pytest.skip(f'no {wanted} for this interpreter can be had: {reason}')
        (wheel,) = Path(scratch).glob('*.whl')
        found = hashlib.sha256(wheel.read_bytes()).hexdigest()
        python = f'cp{sys.version_info.major}{sys.version_info.minor}'
        expected = SHA256.get((version, python)) if 'x86_64' in wheel.name else None
        if expected not in (None, found):
            raise ValueError(f'{wheel.name} has sha256 {found}, not {expected}')
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(out)


def _introspect(version: str, bindings: Path, out: Path) -> None:
    """Write surface.json and stubs."""
    with tempfile.TemporaryDirectory() as scratch:
        libraries = Path(scratch)
        _compile(version, libraries)
        native = 'tensorrt_rtx_bindings.tensorrt_rtx' if version == RTX else NATIVE
        command = [sys.executable, DUMP, bindings, native, out / 'surface.json', libraries]
        environment = {**os.environ, 'LD_LIBRARY_PATH': str(libraries)}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode != 0:
            raise RuntimeError(f'the bindings of {version} cannot be read:\n{done.stderr}')
        package = out / 'stubs' / 'tensorrt'
        package.mkdir(parents=True)
        written = (libraries / f'{native.replace(".", "/")}.pyi').read_text()
        (package / '__init__.pyi').write_text(stubs.repaired(written))


def _compile(version: str, libraries: Path) -> None:
    """Build stand-ins for NVIDIA's libraries: every function gives null."""
    compiler = shutil.which('cc') or shutil.which('gcc')
    if compiler is None:
        pytest.skip('no C compiler to build stand-ins for the libraries of TensorRT')
    source = libraries / 'nothing.c'
    source.write_text(''.join(f'void *{symbol}(void) {{ return 0; }}\n' for symbol in SYMBOLS))
    for library in LIBRARIES:
        name = f'{library}.so.{version.partition(".")[0]}'
        target = ['-o', str(libraries / name), f'-Wl,-soname,{name}', str(source)]
        subprocess.run([compiler, '-shared', '-fPIC', *target], check=True)
