"""The environment of processes, where ROS 2 comes from wheels and where it does not."""

import os
from pathlib import Path
import subprocess
import sys

import pytest

from kosmos_ros import environment
from kosmos_ros.environment import environment_for, is_wheel_home

DISTRIBUTION = '/opt/ros/jazzy'
SOURCED = {
    'AMENT_PREFIX_PATH': DISTRIBUTION,
    'LD_LIBRARY_PATH': f'{DISTRIBUTION}/lib:/usr/local/cuda/lib64',
    'PATH': f'{DISTRIBUTION}/bin:/usr/bin',
    'PYTHONPATH': f'{DISTRIBUTION}/lib/python3.12/site-packages:/home/me/tools',
    'RMW_IMPLEMENTATION': 'rmw_cyclonedds_cpp',
    'ROS_DOMAIN_ID': '42',
}


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """An environment with the wheels, as far as file names go."""
    site_packages = tmp_path / 'lib' / 'python3.12' / 'site-packages'
    for name in ('ros_wheels_bootstrapper', 'ros_rclpy.libs', 'ros_fastdds.libs'):
        (site_packages / name).mkdir(parents=True)
    return tmp_path


def test_knows_a_home_by_its_wheels(
    prefix: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert is_wheel_home(prefix)
    assert not is_wheel_home(tmp_path_factory.mktemp('distribution'))


def test_our_libraries_and_programs_come_first(prefix: Path) -> None:
    wanted = environment_for(prefix, {'PATH': '/usr/bin'})

    libraries = wanted['LD_LIBRARY_PATH'].split(os.pathsep)
    assert libraries[0] == f'{prefix}/lib'
    assert [Path(library).name for library in libraries[1:]] == [
        'ros_fastdds.libs',
        'ros_rclpy.libs',
    ]
    assert wanted['PATH'] == f'{prefix}/bin:/usr/bin'
    assert wanted['AMENT_PREFIX_PATH'] == str(prefix)


def test_a_sourced_distribution_does_not_get_in_the_way(prefix: Path) -> None:
    wanted = environment_for(prefix, SOURCED)

    assert wanted['AMENT_PREFIX_PATH'] == str(prefix)
    assert wanted['PYTHONPATH'] == '/home/me/tools'
    assert wanted['LD_LIBRARY_PATH'].startswith(f'{prefix}/lib:')
    assert wanted['LD_LIBRARY_PATH'].endswith(':/usr/local/cuda/lib64')
    assert wanted['RMW_IMPLEMENTATION'] == 'rmw_fastrtps_cpp'
    assert wanted['ROS_DOMAIN_ID'] == '42'


def test_an_overlay_on_the_wheels_stays(prefix: Path) -> None:
    overlay = {
        'AMENT_PREFIX_PATH': f'/ws/install:{prefix}',
        'PYTHONPATH': '/ws/install/lib/python3.12/site-packages',
    }

    wanted = environment_for(prefix, overlay)

    assert wanted['AMENT_PREFIX_PATH'] == overlay['AMENT_PREFIX_PATH']
    assert wanted['PYTHONPATH'] == overlay['PYTHONPATH']


@pytest.mark.parametrize('base', [{}, SOURCED, {'PYTHONPATH': '', 'LD_LIBRARY_PATH': ':'}])
def test_once_is_enough(prefix: Path, base: dict[str, str]) -> None:
    once = environment_for(prefix, base)

    assert environment_for(prefix, once) == once


def test_changes_nothing_of_a_distribution(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, 'prefix', str(tmp_path))
    monkeypatch.delenv('OPENBLAS_NUM_THREADS', raising=False)
    for name, value in SOURCED.items():
        monkeypatch.setenv(name, value)

    assert environment.child_environment() == {**os.environ, 'OPENBLAS_NUM_THREADS': '1'}


def test_a_users_number_of_blas_threads_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('OPENBLAS_NUM_THREADS', '3')

    assert environment.child_environment()['OPENBLAS_NUM_THREADS'] == '3'


def test_prepare_starts_python_anew_only_where_it_must(
    monkeypatch: pytest.MonkeyPatch, prefix: Path
) -> None:
    started: list[dict[str, str]] = []
    monkeypatch.setattr(sys, 'prefix', str(prefix))
    monkeypatch.setattr(os, 'execve', lambda program, arguments, env: started.append(env))
    for name, value in SOURCED.items():
        monkeypatch.setenv(name, value)

    environment.prepare()
    assert [env['AMENT_PREFIX_PATH'] for env in started] == [str(prefix)]

    environment.prepare()
    assert len(started) == 1


def test_runs_a_command_in_the_environment() -> None:
    command = [
        sys.executable,
        '-m',
        'kosmos_ros.environment',
        'sh',
        '-c',
        'echo "$AMENT_PREFIX_PATH"',
    ]

    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)

    assert said.stdout.strip() == environment.child_environment().get('AMENT_PREFIX_PATH', '')


@pytest.mark.parametrize('command', [[], ['no-such-program']])
def test_says_what_it_cannot_run(command: list[str]) -> None:
    run = [sys.executable, '-m', 'kosmos_ros.environment', *command]

    said = subprocess.run(run, capture_output=True, text=True, timeout=60, check=False)

    assert said.returncode == 2
    assert len(said.stderr.splitlines()) == 1


@pytest.mark.parametrize('module', ['kosmos_ros.node.main', 'kosmos_ros.tabletop.demo.camera'])
def test_a_program_without_ros_says_so_in_one_line(module: str) -> None:
    code = (
        'import importlib.util\n'
        'importlib.util.find_spec = lambda name, find=importlib.util.find_spec: (\n'
        '    None if name == "rclpy" else find(name)\n'
        ')\n'
        f'import {module} as program\n'
        'raise SystemExit(program.main())\n'
    )

    said = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, timeout=60, check=False
    )

    assert said.returncode == 2
    assert 'there is no ROS 2 here' in said.stderr
    assert len(said.stderr.splitlines()) == 1
