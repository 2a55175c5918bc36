"""Checks of the machine before the first download.

Every check returns nothing, or raises :class:`SetupError` with a remedy.
"""

import importlib.util
import os
from pathlib import Path
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile

from kosmos_ros.installation.failure import SetupError
from kosmos_ros.installation.layout import Interpreter

OLDEST_GLIBC = (2, 28)  # the wheels of ROS 2 were linked against it
GIGABYTE = 10**9

_BUILD_TOOLS = 'install a C++ compiler (Debian, Ubuntu: sudo apt install build-essential)'
_PROGRAM = '#include <optional>\n#include <string>\nint main() { return 0; }\n'


def check_machine() -> None:
    """Check for Linux on x86-64 with glibc; the wheels of ROS 2 exist for nothing else."""
    machine = f'{platform.system()} on {platform.machine()}'
    if machine != 'Linux on x86_64':
        raise SetupError(
            f'this is {machine}, and ROS 2 comes as wheels for Linux on x86_64 only: '
            'use a ROS distribution here, as the README says'
        )
    library, version = platform.libc_ver()
    if library != 'glibc' or _numbers(version) < OLDEST_GLIBC:
        raise SetupError(
            f'the C library here is {library or "unknown"} {version}, and the wheels of ROS 2 '
            'need glibc 2.28 or newer: use a newer Linux, or a ROS distribution'
        )


def check_python() -> None:
    """Check that the running Python fits the wheels and can create an environment."""
    if platform.python_implementation() != 'CPython' or sysconfig.get_config_var(
        'Py_GIL_DISABLED'
    ):
        raise SetupError(
            f'{sys.executable} is not the usual CPython, and the wheels of ROS 2 need that: '
            'run the same make command with PYTHON=/usr/bin/python3, say'
        )
    for module in ('venv', 'ensurepip'):
        if importlib.util.find_spec(module) is None:
            name = f'python{sys.version_info[0]}.{sys.version_info[1]}'
            raise SetupError(
                f'this {name} has no module {module!r} to make a virtual environment with: '
                f'install it (Debian, Ubuntu: sudo apt install {name}-venv)'
            )


def check_disk_space(folder: Path, gigabytes: float) -> None:
    """Check that the disk has this much free space."""
    free = shutil.disk_usage(folder).free / GIGABYTE
    if free < gigabytes:
        raise SetupError(
            f'only {free:.1f} GB are free on this disk and the set-up takes {gigabytes:.1f} GB: '
            'free some space and run the same command again'
        )


def check_compilers(interpreter: Interpreter) -> None:
    """Check that a C and a C++ compiler work and find Python's headers."""
    cxx_compiler = _compiler('CXX', ('c++', 'g++', 'clang++'))
    c_compiler = _compiler('CC', ('cc', 'gcc', 'clang'))
    if not (interpreter.include / 'Python.h').is_file():
        raise SetupError(
            f'the C headers of {interpreter.name} are missing: install them '
            f'(Debian, Ubuntu: sudo apt install {interpreter.name}-dev)'
        )
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch, 'probe.cpp')
        source.write_text(f'#include <Python.h>\n{_PROGRAM}')
        _compile([*cxx_compiler, '-std=c++17', f'-I{interpreter.include}', str(source)], scratch)
        source = Path(scratch, 'probe.c')
        source.write_text('#include <stdlib.h>\nint main(void) { return EXIT_SUCCESS; }\n')
        _compile([*c_compiler, str(source)], scratch)


def _compiler(variable: str, names: tuple[str, ...]) -> list[str]:
    """Return the command line of the compiler that CMake would choose."""
    chosen = shlex.split(os.environ.get(variable, ''))
    if chosen:
        if shutil.which(chosen[0]) is None:
            raise SetupError(
                f'{variable} names the compiler {chosen[0]!r}, which is not here: '
                f'unset {variable} or name another'
            )
        return chosen
    for name in names:
        if shutil.which(name):
            return [name]
    language = 'C++' if variable == 'CXX' else 'C'
    raise SetupError(f'no {language} compiler found: {_BUILD_TOOLS}')


def _compile(command: list[str], scratch: str) -> None:
    try:
        result = subprocess.run(
            [*command, '-o', os.path.join(scratch, 'probe')],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    except OSError as error:
        raise SetupError(f'the compiler {command[0]!r} does not start: {error}') from error
    if result.returncode:
        error_line = next(
            (line for line in result.stderr.splitlines() if 'error' in line), 'no reason'
        )
        raise SetupError(
            f'the compiler {command[0]!r} cannot build a small program ("{error_line.strip()}"): '
            f'{_BUILD_TOOLS}'
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split('.') if part.isdigit())
