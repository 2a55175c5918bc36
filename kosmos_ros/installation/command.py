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
from kosmos_ros.installation.place import Interpreter, Place, running_interpreter
from kosmos_ros.installation.report import Report
from kosmos_ros.installation.stages import Stage, Stamps, plan

_BUILT = {'vision_msgs', 'kosmos_ros_msgs'}
_SUPPORTED = ((3, 10), (3, 14))
_GIGABYTES = {'wheels': 1.0, 'test': 2.5}  # what a stage takes on the disk, with room to unpack


def main() -> int:
    """Make the environment whole and up to date.

    :returns: 0; 2 after one line on standard error that says what is wrong and what to do.
    """
    parser = argparse.ArgumentParser(
        prog='kosmos_ros/setup_venv.py',
        description='Make .venv, with ROS 2 and this project in it; do only what is still to do.',
    )
    parser.add_argument('--with', choices=['test'], help='install what the tests need, too')
    parser.add_argument(
        '--this-python',
        action='store_true',
        help='make .venv anew if it has another version of Python than the one that runs this',
    )
    arguments = parser.parse_args()
    place = Place(Path(__file__).resolve().parents[2])
    signal.signal(signal.SIGTERM, _stop)
    try:
        with _alone(place.root):
            _set_up(place, getattr(arguments, 'with') == 'test', arguments.this_python)
    except SetupError as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(_advice(error))
    except KeyboardInterrupt:
        return _fail('stopped; the same command goes on from here', code=130)
    return 0


def _set_up(place: Place, with_test: bool, this_python: bool) -> None:
    start = time.monotonic()
    interpreter = _choose(place, this_python)
    stages = plan(place, interpreter, with_test)
    stamps = Stamps(place.stamps)
    remake = interpreter.program != place.python
    stale = [stage for stage in stages if remake or not stamps.is_fresh(stage)]
    if not stale:
        return
    _check(place, interpreter, stale)
    if place.log.exists():
        place.log.write_text('', encoding='utf-8')
    report = Report(sys.stdout, len(stale))
    for stage in stale:
        with report.stage(stage.title) as tell:
            stage.action(tell)
        stamps.record(stage)
    print(f'{place.shown(place.venv)} is ready after {time.monotonic() - start:.0f} s')


def _choose(place: Place, this_python: bool) -> Interpreter:
    """The environment's Python where it can stay; else the running one, for a new environment."""
    running = running_interpreter()
    present = place.interpreter()
    if present is None or not _SUPPORTED[0] <= present.version <= _SUPPORTED[1]:
        return running
    return running if this_python and present.version != running.version else present


def _check(place: Place, interpreter: Interpreter, stale: list[Stage]) -> None:
    """Everything that can be known to be missing, before the first download."""
    names = {stage.name for stage in stale}
    checks.check_machine()
    if interpreter.program != place.python:
        checks.check_python()
    if names & _BUILT:
        checks.check_compilers(interpreter)
    checks.check_room(place.root, sum(_GIGABYTES.get(name, 0.0) for name in names))


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Two set-ups at once would spoil each other's work, so the second one waits."""
    folder = os.open(root, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print('another set-up is at work in this folder; waiting for it', flush=True)
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _stop(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _advice(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return 'the disk is full: make room and run the same command again'
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f'{error.filename} cannot be written: check who owns it and how it is mounted'
    return f'{error}: mend this and run the same command again'


def _fail(message: str, code: int = 2) -> int:
    print(f'kosmos_ros: {message}', file=sys.stderr)
    return code
