"""The set-up command and make, as users run them; no test here uses the network."""

import fcntl
import os
from pathlib import Path
import shutil
import subprocess
import sys
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]


class CommandResult(NamedTuple):
    code: int
    lines: list[str]


def test_command_fails_in_one_line_before_it_creates_anything(tmp_path: Path) -> None:
    root = _copy_of_the_command(tmp_path)

    result = _run_without_compiler(root)

    assert result.code == 2
    assert len(result.lines) == 1
    assert 'no C++ compiler found' in result.lines[0]
    assert not (root / '.venv').exists()


def test_second_command_waits_for_the_first(tmp_path: Path) -> None:
    root = _copy_of_the_command(tmp_path)
    folder = os.open(root, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)

    waiting = _start_without_compiler(root)
    assert waiting.stdout is not None
    assert 'waiting' in waiting.stdout.readline()
    os.close(folder)
    _, error = waiting.communicate(timeout=60)

    assert waiting.returncode == 2
    assert 'no C++ compiler found' in error


def test_make_reports_a_missing_python() -> None:
    command = ['make', '--directory', str(ROOT), 'demo', 'PYTHON=no-such-python']

    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert result.returncode == 2
    assert 'no no-such-python here: install Python 3.10 to 3.14' in result.stderr


def test_make_lists_its_targets() -> None:
    command = ['make', '--no-print-directory', '--directory', str(ROOT)]

    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)

    targets = [line.split()[1] for line in result.stdout.splitlines()]
    tests = ['test', 'test-fast', 'nightly', 'gpu-check']
    assert targets == ['help', 'setup', 'demo', *tests, 'lint', 'colcon', 'clean']


def _copy_of_the_command(tmp_path: Path) -> Path:
    package = tmp_path / 'kosmos_ros'
    shutil.copytree(ROOT / 'kosmos_ros' / 'installation', package / 'installation')
    for name in ('__init__.py', 'environment.py', 'setup_venv.py'):
        shutil.copy(ROOT / 'kosmos_ros' / name, package)
    for name in ('requirements.txt', 'setup.cfg'):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / 'msg', tmp_path / 'msg')
    return tmp_path


def _start_without_compiler(root: Path) -> subprocess.Popen[str]:
    nothing = root / 'nothing'
    nothing.mkdir()
    return subprocess.Popen(
        [sys.executable, str(root / 'kosmos_ros' / 'setup_venv.py')],
        env={'PATH': str(nothing)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _run_without_compiler(root: Path) -> CommandResult:
    process = _start_without_compiler(root)
    output, error = process.communicate(timeout=60)
    return CommandResult(process.returncode, (output + error).splitlines())
