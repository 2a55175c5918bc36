"""Running of programs, with all their output in the log."""

from collections.abc import Callable, Mapping
import os
from pathlib import Path
import re
import subprocess

from kosmos_ros.environment import environment_for
from kosmos_ros.installation.failure import SetupError
from kosmos_ros.installation.layout import Installation

Progress = Callable[[str], None]

# Variables that would make pip install somewhere else than into the environment.
_REMOVED_FOR_PIP = ('PIP_USER', 'PIP_TARGET', 'PIP_PREFIX', 'PIP_ROOT', 'PYTHONHOME')
_NO_NETWORK = re.compile(
    r'NewConnectionError|NameResolutionError|ConnectTimeout|ReadTimeout|ProxyError|SSLError'
    r'|Connection (refused|reset|aborted)|Network is unreachable|Temporary failure in name'
    r'|Could not fetch URL|Read timed out'
)


class CommandFailed(Exception):
    """A program failed; ``output`` is its output."""

    def __init__(self, output: str) -> None:
        super().__init__(output)
        self.output = output


def run(installation: Installation, command: list[str], progress: Progress) -> None:
    """Run a program to its end, with its output in the log.

    :param progress: called with each line that the program prints.
    :raises CommandFailed: if the program fails.
    """
    lines: list[str] = []
    with installation.log.open('a', encoding='utf-8') as log:
        log.write(f'\n$ {" ".join(command)}\n')
        log.flush()
        with subprocess.Popen(
            command,
            cwd=installation.venv,
            env=_environment(installation.venv, os.environ),
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


def pip_install(installation: Installation, arguments: list[str], progress: Progress) -> None:
    """Install into the environment with its own pip.

    :raises SetupError: when pip fails; the message has a remedy.
    """
    # -I: modules in the current folder or PYTHONPATH must not replace those of pip.
    command = [str(installation.python), '-I', '-m', 'pip', 'install', '--no-input']
    command += ['--disable-pip-version-check', '--progress-bar', 'off', '--retries', '2']
    try:
        run(installation, [*command, *arguments], progress)
    except CommandFailed as failed:
        raise SetupError(f'{_why_pip_failed(failed.output)} {see_log(installation)}') from failed


def see_log(installation: Installation) -> str:
    """Return a reference to the log for messages."""
    return f'(details in {installation.shown(installation.log)})'


def first_error(output: str) -> str:
    """Return the first line of a build's output that mentions an error, cut to 100 characters."""
    lines = (line.strip() for line in output.splitlines())
    return next((line for line in lines if re.search(r'\berror\b', line, re.I)), '')[:100]


def is_disk_full(output: str) -> bool:
    """Return whether a program failed because the disk was full."""
    return 'No space left on device' in output or 'Disk quota exceeded' in output


def _environment(venv: Path, base: Mapping[str, str]) -> dict[str, str]:
    environment = environment_for(venv, base)
    for name in _REMOVED_FOR_PIP:
        environment.pop(name, None)
    # The log is searched for known failures, whose messages are in English.
    environment['LC_ALL'] = 'C.UTF-8'
    return environment


def _why_pip_failed(output: str) -> str:
    if is_disk_full(output):
        return 'the disk is full: free some space and run the same command again'
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
