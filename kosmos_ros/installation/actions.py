"""What the stages of the set-up do."""

from collections.abc import Callable
import os
from pathlib import Path
import re
import shutil

from kosmos_ros.installation.exports import rewrite_exports
from kosmos_ros.installation.failure import SetupError
from kosmos_ros.installation.links import link_project
from kosmos_ros.installation.place import Interpreter, Place, interpreter_at, running_interpreter
from kosmos_ros.installation.processes import (
    CommandFailed,
    first_error,
    is_disk_full,
    pip_install,
    run,
    see_log,
)

Tell = Callable[[str], None]

_LOAD = 'import rclpy; from kosmos_ros_msgs.srv import Refer; Refer.Request()'


class Actions:
    """Everything done to one environment, for one Python."""

    def __init__(self, place: Place, interpreter: Interpreter) -> None:
        self._place = place
        self._interpreter = interpreter
        self._site_packages = place.site_packages(interpreter)

    def make_venv(self, tell: Tell) -> None:
        """Take the environment that is there, if it is whole; else make one."""
        place = self._place
        if self._interpreter.program == place.python:
            return
        if place.venv.exists():
            if not place.log.exists():
                raise SetupError(
                    f'{place.shown(place.venv)} is there, was not made by this set-up and cannot '
                    'be used by it: move it away and run the same command again'
                )
            shutil.rmtree(place.venv)
        place.venv.mkdir()
        command = [str(running_interpreter().program), '-m', 'venv', str(place.venv)]
        try:
            run(place, command, lambda line: None)
        except CommandFailed as failed:
            raise self._failure('making a virtual environment', failed) from failed
        if interpreter_at(place.python) is None:
            raise SetupError(f'the new virtual environment does not work {see_log(place)}')

    def install(self, requirements: Path, tell: Tell) -> None:
        """Install what a file of pinned requirements lists."""
        lines = requirements.read_text(encoding='utf-8').splitlines()
        total = sum(bool(re.match(r'\w', line)) for line in lines)
        seen = 0

        def follow(line: str) -> None:
            nonlocal seen
            seen += line.startswith(('Collecting ', 'Requirement already satisfied'))
            download = re.match(r'\s*Downloading (\w+).*(\(.*\))', line)
            if download:
                tell(f'{min(seen, total)} of {total}: {download[1]} {download[2]}')
            elif line.startswith('Installing'):
                tell('unpacking')

        # A source package is built with what is here already: a build environment of its own
        # would fetch the newest of everything.
        tools = [line for line in lines if line.startswith('setuptools==')]
        if tools:
            pip_install(self._place, tools, follow)
        arguments = ['--only-binary', ':all:', '--no-binary', 'empy', '--no-build-isolation']
        pip_install(self._place, [*arguments, '--use-pep517', '-r', str(requirements)], follow)

    def rewrite(self, tell: Tell) -> None:
        """Make the wheels' CMake files name this machine's folders."""
        share = self._place.venv / 'share'
        rewrite_exports(share, self._interpreter.include, self._site_packages)

    def build(self, package: str, source: Path, tell: Tell) -> None:
        """Compile an interface package and install it into the environment."""
        place = self._place
        tree = place.venv / 'build' / package
        programs = place.venv / 'bin'
        cores = len(os.sched_getaffinity(0))
        configure = [
            *(str(programs / 'cmake'), '-G', 'Ninja', '-S', str(source), '-B', str(tree)),
            f'-DCMAKE_INSTALL_PREFIX={place.venv}',
            f'-DCMAKE_PREFIX_PATH={place.venv}',
            f'-DCMAKE_MAKE_PROGRAM={programs / "ninja"}',
            f'-DPython3_EXECUTABLE={place.python}',
            f'-DPYTHON_INSTALL_DIR={self._site_packages.relative_to(place.venv)}',
            '-DBUILD_TESTING=OFF',
        ]
        install = [str(programs / 'cmake'), '--build', str(tree), '--target', 'install']

        def follow(line: str) -> None:
            step = re.match(r'\[(\d+)/(\d+)\]', line)
            if step:
                tell(f'{step[1]} of {step[2]}')

        try:
            run(place, configure, follow)
            run(place, [*install, '--parallel', str(cores)], follow)
        except CommandFailed as failed:
            # What another compiler or an earlier interruption left must not fail the next try.
            shutil.rmtree(tree, ignore_errors=True)
            raise self._failure(f'building {package}', failed) from failed

    def link(self, tell: Tell) -> None:
        """Make the project itself usable from the environment, and try what was built."""
        place = self._place
        link_project(place.root, place.venv, self._site_packages)
        try:
            run(place, [str(place.python), '-c', _LOAD], lambda line: None)
        except CommandFailed as failed:
            raise self._failure('loading ROS 2 and the new messages', failed) from failed

    def _failure(self, doing: str, failed: CommandFailed) -> SetupError:
        if is_disk_full(failed.output):
            return SetupError(f'{doing}: the disk is full: make room, run the same command again')
        said = first_error(failed.output)
        return SetupError(f'{doing} failed with "{said}" {see_log(self._place)}')
