"""Running the programs that do the work: everything they say goes to the log."""

from collections.abc import Callable, Mapping
import os
from pathlib import Path
import re
import subprocess

from kosmos_ros.environment import environment_for
from kosmos_ros.installation.failure import SetupError
from kosmos_ros.installation.place import Place

Progress = Callable[[str], None]

# What pip takes from the environment and must not here: the environment is where things go.
_NOT_FOR_PIP = ('PIP_USER', 'PIP_TARGET', 'PIP_PREFIX', 'PIP_ROOT', 'PYTHONHOME')
_NO_NETWORK = re.compile(
    r'NewConnectionError|NameResolutionError|ConnectTimeout|ReadTimeout|ProxyError|SSLError'
    r'|Connection (refused|reset|aborted)|Network is unreachable|Temporary failure in name'
    r'|Could not fetch URL|Read timed out'
)


class CommandFailed(Exception):
    """A program said no; ``output`` is what it printed."""

    def __init__(self, output: str) -> None:
        super().__init__(output)
        self.output = output


def run(place: Place, command: list[str], progress: Progress) -> None:
    """Run a program to its end, its output in the log.

    :param progress: told each line that the program prints.
    :raises CommandFailed: if the program fails.
    """
    lines: list[str] = []
    with place.log.open('a', encoding='utf-8') as log:
        log.write(f'\n$ {" ".join(command)}\n')
        log.flush()
        with subprocess.Popen(
            command,
            cwd=place.venv,
            env=_environment(place.venv, os.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding='utf-8',
            errors='replace',
        ) as process:
            try:
                for line in process.stdout or ():
                    log.write(line)
                    lines.append(line)
                    progress(line)
            except BaseException:
                process.terminate()
                raise
    if process.returncode:
        raise CommandFailed(''.join(lines))


def pip_install(place: Place, arguments: list[str], progress: Progress) -> None:
    """Install into the environment with its own pip.

    :raises SetupError: with what stood in the way.
    """
    # -I: no module from the current folder or PYTHONPATH takes the place of one of pip's.
    command = [str(place.python), '-I', '-m', 'pip', 'install', '--no-input']
    command += ['--disable-pip-version-check', '--progress-bar', 'off', '--retries', '2']
    try:
        run(place, [*command, *arguments], progress)
    except CommandFailed as failed:
        raise SetupError(f'{_why_pip_failed(failed.output)} {see_log(place)}') from failed


def see_log(place: Place) -> str:
    """Where the whole story stands."""
    return f'(details in {place.shown(place.log)})'


def first_error(output: str) -> str:
    """The first line of a build's output that speaks of an error, at most 100 characters."""
    lines = (line.strip() for line in output.splitlines())
    return next((line for line in lines if re.search(r'\berror\b', line, re.I)), '')[:100]


def is_disk_full(output: str) -> bool:
    """Whether a program stopped because there was no room left."""
    return 'No space left on device' in output or 'Disk quota exceeded' in output


def _environment(venv: Path, base: Mapping[str, str]) -> dict[str, str]:
    environment = environment_for(venv, base)
    for name in _NOT_FOR_PIP:
        environment.pop(name, None)
    # The log is searched for known failures, and those are known in English.
    environment['LC_ALL'] = 'C.UTF-8'
    return environment


def _why_pip_failed(output: str) -> str:
    if is_disk_full(output):
        return 'the disk is full: make room and run the same command again'
    if _NO_NETWORK.search(output):
        return (
            'the package index cannot be reached: check the network (behind a proxy, set '
            'https_proxy) and run the same command again'
        )
    missing = re.search(r'No matching distribution found for (\S+)', output)
    if missing:
        return (
            f'the package index offers no {missing[1]} for this Python: check how pip is '
            'configured here, or run the same command with PYTHON=python3.12, say'
        )
    return f'pip failed with "{first_error(output)}": run the same command again'
