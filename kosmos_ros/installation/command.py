"""The command line of the set-up."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
import errno
import fcntl
import os
from pathlib import Path
import signal
import sys
import time
from types import FrameType

from kosmos_ros.installation import checks
from kosmos_ros.installation.failure import SetupError
from kosmos_ros.installation.layout import Installation, Interpreter, running_interpreter
from kosmos_ros.installation.report import StageReport
from kosmos_ros.installation.stages import Stage, Stamps, plan

_BUILT = {'vision_msgs', 'kosmos_ros_msgs'}
_SUPPORTED = ((3, 10), (3, 14))
_GIGABYTES = {'wheels': 1.0, 'test': 2.5}  # disk space that a stage needs, with unpacking


def main() -> int:
    """Complete and update the environment.

    :returns: 0; 2 after one line on standard error that names the problem and a remedy.
    """
    parser = argparse.ArgumentParser(
        prog='kosmos_ros/setup_venv.py',
        description='Make .venv, with ROS 2 and this project in it; repeat only changed stages.',
    )
    parser.add_argument('--with', choices=['test'], help='also install the packages of the tests')
    parser.add_argument(
        '--this-python',
        action='store_true',
        help='recreate .venv if its version of Python differs from the one that runs this',
    )
    arguments = parser.parse_args()
    installation = Installation(Path(__file__).resolve().parents[2])
    signal.signal(signal.SIGTERM, _stop)
    try:
        with _locked(installation.root):
            _set_up(installation, getattr(arguments, 'with') == 'test', arguments.this_python)
    except SetupError as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(_remedy(error))
    except KeyboardInterrupt:
        return _fail('stopped; the same command continues from here', code=130)
    return 0


def _set_up(installation: Installation, with_test: bool, this_python: bool) -> None:
    start = time.monotonic()
    interpreter = _choose_interpreter(installation, this_python)
    stages = plan(installation, interpreter, with_test)
    stamps = Stamps(installation.stamps)
    recreate = interpreter.program != installation.python
    stale = [stage for stage in stages if recreate or not stamps.is_fresh(stage)]
    if not stale:
        return
    _check(installation, interpreter, stale)
    if installation.log.exists():
        installation.log.write_text('', encoding='utf-8')
    report = StageReport(sys.stdout, len(stale))
    for stage in stale:
        with report.stage(stage.title) as report_progress:
            stage.action(report_progress)
        stamps.record(stage)
    print(
        f'{installation.shown(installation.venv)} is ready after {time.monotonic() - start:.0f} s'
    )


def _choose_interpreter(installation: Installation, this_python: bool) -> Interpreter:
    """Return the environment's Python if it is usable, else the running one."""
    running = running_interpreter()
    present = installation.interpreter()
    if present is None or not _SUPPORTED[0] <= present.version <= _SUPPORTED[1]:
        return running
    return running if this_python and present.version != running.version else present


def _check(installation: Installation, interpreter: Interpreter, stale: list[Stage]) -> None:
    """Run the checks that the stale stages need, before the first download."""
    names = {stage.name for stage in stale}
    checks.check_machine()
    if interpreter.program != installation.python:
        checks.check_python()
    if names & _BUILT:
        checks.check_compilers(interpreter)
    checks.check_disk_space(installation.root, sum(_GIGABYTES.get(name, 0.0) for name in names))


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Lock the folder; a second set-up waits, because two at once would conflict."""
    folder = os.open(root, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print('another set-up is running in this folder; waiting for it', flush=True)
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _stop(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _remedy(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return 'the disk is full: free some space and run the same command again'
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f'{error.filename} cannot be written: check who owns it and how it is mounted'
    return f'{error}: solve this problem and run the same command again'


def _fail(message: str, code: int = 2) -> int:
    print(f'kosmos_ros: {message}', file=sys.stderr)
    return code
