"""The actions of the stages of the set-up."""

from collections.abc import Callable
import os
from pathlib import Path
import re
import shutil

from kosmos_ros.installation.exports import rewrite_exports
from kosmos_ros.installation.failure import SetupError
from kosmos_ros.installation.layout import (
    Installation,
    Interpreter,
    interpreter_at,
    running_interpreter,
)
from kosmos_ros.installation.links import link_project
from kosmos_ros.installation.processes import (
    CommandFailed,
    first_error,
    is_disk_full,
    pip_install,
    run,
    see_log,
)

ReportProgress = Callable[[str], None]

_LOAD = 'import rclpy; from kosmos_ros_msgs.srv import Refer; Refer.Request()'


class StageActions:
    """The actions on one environment, for one Python; each reports its progress."""

    def __init__(self, installation: Installation, interpreter: Interpreter) -> None:
        self._installation = installation
        self._interpreter = interpreter
        self._site_packages = installation.site_packages(interpreter)

    def make_venv(self, report: ReportProgress) -> None:
        """Create the environment unless a complete one exists."""
        installation = self._installation
        if self._interpreter.program == installation.python:
            return
        if installation.venv.exists():
            if not installation.log.exists():
                raise SetupError(
                    f'{installation.shown(installation.venv)} exists, was not made by this set-up '
                    'and cannot be used by it: move it away and run the same command again'
                )
            shutil.rmtree(installation.venv)
        installation.venv.mkdir()
        command = [str(running_interpreter().program), '-m', 'venv', str(installation.venv)]
        try:
            run(installation, command, lambda line: None)
        except CommandFailed as failed:
            raise self._failure('making a virtual environment', failed) from failed
        if interpreter_at(installation.python) is None:
            raise SetupError(f'the new virtual environment does not work {see_log(installation)}')

    def install(self, requirements: Path, report: ReportProgress) -> None:
        """Install a file of pinned requirements."""
        lines = requirements.read_text(encoding='utf-8').splitlines()
        total = sum(bool(re.match(r'\w', line)) for line in lines)
        started = 0

        def follow(line: str) -> None:
            nonlocal started
            started += line.startswith(('Collecting ', 'Requirement already satisfied'))
            download = re.match(r'\s*Downloading (\w+).*(\(.*\))', line)
            if download:
                report(f'{min(started, total)} of {total}: {download[1]} {download[2]}')
            elif line.startswith('Installing'):
                report('unpacking')

        # A source package is built with the installed tools: an isolated build environment would
        # download the newest versions.
        tools = [line for line in lines if line.startswith('setuptools==')]
        if tools:
            pip_install(self._installation, tools, follow)
        arguments = ['--only-binary', ':all:', '--no-binary', 'empy', '--no-build-isolation']
        pip_install(
            self._installation, [*arguments, '--use-pep517', '-r', str(requirements)], follow
        )

    def rewrite(self, report: ReportProgress) -> None:
        """Write this machine's folders into the wheels' CMake files."""
        share = self._installation.venv / 'share'
        rewrite_exports(share, self._interpreter.include, self._site_packages)

    def build(self, package: str, source: Path, report: ReportProgress) -> None:
        """Compile an interface package and install it into the environment."""
        installation = self._installation
        tree = installation.venv / 'build' / package
        programs = installation.venv / 'bin'
        cores = len(os.sched_getaffinity(0))
        configure = [
            *(str(programs / 'cmake'), '-G', 'Ninja', '-S', str(source), '-B', str(tree)),
            f'-DCMAKE_INSTALL_PREFIX={installation.venv}',
            f'-DCMAKE_PREFIX_PATH={installation.venv}',
            f'-DCMAKE_MAKE_PROGRAM={programs / "ninja"}',
            f'-DPython3_EXECUTABLE={installation.python}',
            f'-DPYTHON_INSTALL_DIR={self._site_packages.relative_to(installation.venv)}',
            '-DBUILD_TESTING=OFF',
        ]
        install = [str(programs / 'cmake'), '--build', str(tree), '--target', 'install']

        def follow(line: str) -> None:
            step = re.match(r'\[(\d+)/(\d+)\]', line)
            if step:
                report(f'{step[1]} of {step[2]}')

        try:
            run(installation, configure, follow)
            run(installation, [*install, '--parallel', str(cores)], follow)
        except CommandFailed as failed:
            # Files from another compiler or an interrupted build could make the next attempt fail.
            shutil.rmtree(tree, ignore_errors=True)
            raise self._failure(f'building {package}', failed) from failed

    def link(self, report: ReportProgress) -> None:
        """Link the project into the environment, and test the compiled messages."""
        installation = self._installation
        link_project(installation.root, installation.venv, self._site_packages)
        try:
            run(installation, [str(installation.python), '-c', _LOAD], lambda line: None)
        except CommandFailed as failed:
            raise self._failure('loading ROS 2 and the new messages', failed) from failed

    def _failure(self, doing: str, failed: CommandFailed) -> SetupError:
        if is_disk_full(failed.output):
            return SetupError(
                f'{doing}: the disk is full: free some space and run the same command again'
            )
        error = first_error(failed.output)
        return SetupError(f'{doing} failed with "{error}" {see_log(self._installation)}')
