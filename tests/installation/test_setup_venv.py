"""The set-up of a machine without ROS: its checks, its stages, its failures.

No test here uses the network; ``make demo`` runs the complete set-up.
"""

import ast
from dataclasses import replace
import importlib.util
import io
import os
from pathlib import Path
import platform
import re
import shutil
import subprocess
import sys

import pytest

from kosmos_ros import setup_venv
from kosmos_ros.installation import checks
from kosmos_ros.installation.actions import StageActions
from kosmos_ros.installation.exports import rewrite_exports
from kosmos_ros.installation.failure import SetupError
from kosmos_ros.installation.layout import Installation, Interpreter, running_interpreter
from kosmos_ros.installation.links import console_scripts, link_project
from kosmos_ros.installation.processes import pip_install
from kosmos_ros.installation.report import StageReport
from kosmos_ros.installation.stages import Stamps, plan

ROOT = Path(__file__).resolve().parents[2]
PYTHON_312 = Interpreter(Path('/usr/bin/python3.12'), (3, 12), Path('/usr/include/python3.12'))


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    """Return a repository with the files that the set-up depends on, before the set-up."""
    for name in ('requirements.txt', 'requirements-test.txt', 'setup.cfg'):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / 'msg', tmp_path / 'msg')
    return Installation(tmp_path)


# Checks of Python and of the machine.


@pytest.mark.parametrize('version', [(3, 9, 18), (3, 15, 0)])
def test_unsupported_pythons_are_refused_in_one_line(
    version: tuple[int, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, 'version_info', version)

    assert setup_venv.main() == 2
    output = capsys.readouterr().err
    assert output.count('\n') == 1
    assert f'Python {version[0]}.{version[1]}' in output
    assert 'PYTHON=python3' in output


def test_old_pythons_can_parse_setup_venv() -> None:
    ast.parse((ROOT / 'kosmos_ros' / 'setup_venv.py').read_text(), feature_version=(3, 6))


@pytest.mark.parametrize('module', ['venv', 'ensurepip'])
def test_missing_venv_module(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, 'find_spec', lambda name: None if name == module else find(name)
    )

    with pytest.raises(SetupError, match=rf'{module}.*apt install python3\.\d+-venv'):
        checks.check_python()


@pytest.mark.parametrize(
    ('system', 'machine', 'library', 'clue'),
    [
        ('Linux', 'aarch64', ('glibc', '2.39'), 'ROS distribution'),
        ('Darwin', 'x86_64', ('', ''), 'ROS distribution'),
        ('Linux', 'x86_64', ('glibc', '2.27'), 'glibc 2.28'),
        ('Linux', 'x86_64', ('', ''), 'glibc 2.28'),
    ],
)
def test_unsupported_machines_are_refused(
    system: str, machine: str, library: tuple[str, str], clue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, 'system', lambda: system)
    monkeypatch.setattr(platform, 'machine', lambda: machine)
    monkeypatch.setattr(platform, 'libc_ver', lambda: library)

    with pytest.raises(SetupError, match=clue):
        checks.check_machine()


def test_full_disk(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match='free some space'):
        checks.check_disk_space(tmp_path, gigabytes=1e9)


def test_compilers_of_this_machine_work() -> None:
    checks.check_compilers(running_interpreter())


def test_no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('PATH', str(tmp_path))
    for variable in ('CC', 'CXX'):
        monkeypatch.delenv(variable, raising=False)

    with pytest.raises(SetupError, match=r'no C\+\+ compiler found.*apt install build-essential'):
        checks.check_compilers(running_interpreter())


@pytest.mark.parametrize(
    ('compiler', 'clue'), [('nowhere', 'unset CXX'), ('false', 'small program')]
)
def test_compiler_that_does_not_work(
    compiler: str, clue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('CXX', compiler)

    with pytest.raises(SetupError, match=clue):
        checks.check_compilers(running_interpreter())


def test_no_python_headers(tmp_path: Path) -> None:
    bare = Interpreter(Path(sys.executable), (3, 12), tmp_path)

    with pytest.raises(SetupError, match=r'apt install python3\.12-dev'):
        checks.check_compilers(bare)


# An existing environment.


def test_environment_of_this_folder_is_used(installation: Installation) -> None:
    _pretend_venv(installation, made_in=installation.venv)

    found = installation.interpreter()

    assert found is not None
    assert found.version == sys.version_info[:2]


def test_moved_environment_is_not_used(installation: Installation, tmp_path: Path) -> None:
    _pretend_venv(installation, made_in=tmp_path / 'elsewhere' / '.venv')

    assert installation.interpreter() is None


def test_environment_without_its_python_is_not_used(installation: Installation) -> None:
    _pretend_venv(installation, made_in=installation.venv)
    installation.python.unlink()
    installation.python.symlink_to('/nowhere/python3')

    assert installation.interpreter() is None


def test_a_foreign_folder_is_not_deleted(installation: Installation) -> None:
    installation.venv.mkdir()
    (installation.venv / 'treasure').touch()

    with pytest.raises(SetupError, match='move it away'):
        StageActions(installation, PYTHON_312).make_venv(lambda progress: None)
    assert (installation.venv / 'treasure').exists()


# Stages and changes that make them stale.


def test_stage_is_fresh_once_recorded(installation: Installation) -> None:
    installation.venv.mkdir()
    stamps = Stamps(installation.stamps)
    first, second, *_ = plan(installation, PYTHON_312, with_test=False)

    stamps.record(first)

    assert stamps.is_fresh(first)
    assert not stamps.is_fresh(second)


@pytest.mark.parametrize('text', ['', '{', '[]', '{"venv": 1}'])
def test_damaged_stamps_are_ignored(text: str, installation: Installation) -> None:
    installation.venv.mkdir()
    installation.stamps.write_text(text)

    assert not any(
        Stamps(installation.stamps).is_fresh(stage)
        for stage in plan(installation, PYTHON_312, True)
    )


@pytest.mark.parametrize(
    ('changed', 'first_stale'),
    [
        ('requirements.txt', 'wheels'),
        ('msg/vision_msgs/msg/Pose2D.msg', 'vision_msgs'),
        ('msg/srv/Refer.srv', 'kosmos_ros_msgs'),
        ('setup.cfg', 'links'),
    ],
)
def test_change_makes_later_stages_stale(
    changed: str, first_stale: str, installation: Installation
) -> None:
    before = {stage.name: stage.key for stage in plan(installation, PYTHON_312, with_test=True)}
    with (installation.root / changed).open('a') as file:
        file.write('# changed\n')
    after = {stage.name: stage.key for stage in plan(installation, PYTHON_312, with_test=True)}

    stale = [name for name in before if before[name] != after[name]]

    order = [name for name in before if name != 'test']
    assert stale == order[order.index(first_stale) :]


def test_another_folder_or_python_makes_everything_stale(
    installation: Installation, tmp_path_factory: pytest.TempPathFactory
) -> None:
    here = {stage.key for stage in plan(installation, PYTHON_312, with_test=True)}
    moved = Installation(tmp_path_factory.mktemp('elsewhere') / 'moved')
    shutil.copytree(installation.root, moved.root)
    python_313 = replace(PYTHON_312, version=(3, 13))

    assert here.isdisjoint(stage.key for stage in plan(moved, PYTHON_312, with_test=True))
    assert here.isdisjoint(stage.key for stage in plan(installation, python_313, with_test=True))


# Actions of the stages.


def test_exports_contain_the_folders_of_this_machine(tmp_path: Path) -> None:
    cmake = tmp_path / 'std_msgs' / 'cmake'
    cmake.mkdir(parents=True)
    there = '/opt/python/cp312-cp312'
    folders = (
        f'{there}/include/python3.12;{there}/lib/python3.12/site-packages/numpy/_core/include'
    )
    (cmake / 'pyExport.cmake').write_text(f'INTERFACE_INCLUDE_DIRECTORIES "{folders}"\n')
    (cmake / 'other.cmake').write_text('# nothing of interest\n')

    assert rewrite_exports(tmp_path, Path('/usr/include/py'), Path('/venv/sp')) == 1
    assert (cmake / 'pyExport.cmake').read_text() == (
        'INTERFACE_INCLUDE_DIRECTORIES "/usr/include/py;/venv/sp/numpy/_core/include"\n'
    )
    assert rewrite_exports(tmp_path, Path('/usr/include/py'), Path('/venv/sp')) == 0


def test_linked_project_runs_from_a_folder_with_a_space(tmp_path: Path) -> None:
    root = tmp_path / 'a folder'
    (root / 'kosmos_ros' / 'console').mkdir(parents=True)
    (root / 'kosmos_ros' / '__init__.py').touch()
    (root / 'kosmos_ros' / 'environment.py').write_text('def prepare():\n    print("prepared")\n')
    (root / 'kosmos_ros' / 'console' / 'main.py').write_text('def main():\n    return 7\n')
    (root / 'setup.cfg').write_text(
        '[options.entry_points]\nconsole_scripts =\n'
        '    kosmos_ros = kosmos_ros.console.main:main\n'
    )
    venv = root / '.venv'
    site_packages = venv / 'lib' / 'site-packages'
    site_packages.mkdir(parents=True)
    (venv / 'bin').mkdir()
    (venv / 'bin' / 'python').symlink_to(sys.executable)

    link_project(root, venv, site_packages)
    link_project(root, venv, site_packages)

    assert (site_packages / 'kosmos_ros.pth').read_text() == f'{root}\n'
    assert (venv / 'share' / 'kosmos_ros' / 'engines').readlink() == root / 'engines'
    output = subprocess.run(
        [venv / 'bin' / 'kosmos_ros'],
        env={'PATH': os.defpath, 'PYTHONPATH': str(root)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (output.returncode, output.stdout, output.stderr) == (7, 'prepared\n', '')


def test_all_commands_are_linked() -> None:
    names = [name for name, _, _ in console_scripts(ROOT / 'setup.cfg')]

    assert names == ['kosmos_ros', 'kosmos_node', 'tabletop_camera']


@pytest.mark.parametrize(
    ('output', 'clue'),
    [
        (
            "WARNING: Retrying after 'NewConnectionError(... Connection refused)'",
            'check the network',
        ),
        ('ERROR: Could not install packages: [Errno 28] No space left on device', 'free some'),
        ('ERROR: No matching distribution found for numpy==2.4.6', 'offers no numpy==2.4.6'),
        ('ERROR: something new', 'pip failed with "ERROR: something new"'),
    ],
)
def test_pip_failures_are_one_line(output: str, clue: str, installation: Installation) -> None:
    installation.python.parent.mkdir(parents=True)
    installation.python.write_text(f'#!/bin/sh\necho "{output}"\nexit 1\n')
    installation.python.chmod(0o755)

    with pytest.raises(SetupError) as failure:
        pip_install(installation, ['numpy'], lambda line: None)

    assert clue in str(failure.value)
    assert str(failure.value).endswith('(details in .venv/setup.log)')
    assert '\n' not in str(failure.value)
    assert output in installation.log.read_text()


@pytest.mark.parametrize('name', ['requirements.txt', 'requirements-test.txt'])
def test_every_requirement_is_pinned(name: str) -> None:
    lines = [line for line in (ROOT / name).read_text().splitlines() if line and line[0] != '#']

    assert not [line for line in lines if not re.match(r'[a-z0-9-]+==[\w.]+(; |$)', line)]


def test_the_demo_does_not_require_torch() -> None:
    assert not re.search(r'^(torch|transformers)\b', (ROOT / 'requirements.txt').read_text(), re.M)


def test_report_is_a_line_per_stage() -> None:
    stream = io.StringIO()
    report = StageReport(stream, total=2)

    for title in ('one', 'two'):
        with report.stage(title) as report_progress:
            report_progress('half')

    assert re.fullmatch(r'\[1/2\] one \.+ \d\.\d s\n\[2/2\] two \.+ \d\.\d s\n', stream.getvalue())


def _pretend_venv(installation: Installation, made_in: Path) -> None:
    installation.python.parent.mkdir(parents=True)
    installation.python.symlink_to(sys.executable)
    (installation.venv / 'bin' / 'pip').write_text(f'#!{made_in}/bin/python\n')
