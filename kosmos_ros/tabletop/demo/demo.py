"""`make demo`: simulated camera and node as processes of their own, and questions to them over DDS
from this one.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
import json
import os
from pathlib import Path
import signal
import socket
from statistics import median
import subprocess
import sys
import tempfile

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node

from kosmos_ros.environment import child_environment
from kosmos_ros.errors import Status
from kosmos_ros.tabletop.demo.client import Asker, DemoError
from kosmos_ros.tabletop.demo.report import draw, print_found, print_told
from kosmos_ros.tabletop.demo.scenes import questions_for, spoken_for

_QUESTIONS = 6
_HITS_WANTED = 5
# Of them: what is to be described is asked for by where it is, so the answer is news.
_DESCRIBED = 3
# DDS adds 250 ports per domain to this one (DDSI-RTPS 2.5, 9.6.2.3); up to 101 they stay below
# Linux's ephemeral ports.
_DISCOVERY_PORT, _PORTS_PER_DOMAIN, _LAST_DOMAIN = 7400, 250, 101


def run_demo(seed: int, picture: Path) -> int:
    """Run everything, print the table and one JSON line, draw `picture`; returns the exit code.

    :raises DemoError: when a process dies or does not answer in time.
    """
    if not picture.parent.is_dir():
        raise DemoError(
            f'{picture.parent} is not a directory; choose another place for the picture'
        )
    domain = _domain()
    os.environ.update(ROS_DOMAIN_ID=str(domain), ROS_AUTOMATIC_DISCOVERY_RANGE='LOCALHOST')
    questions = questions_for(seed, _QUESTIONS)
    in_words = spoken_for(seed, questions[_DESCRIBED])
    print(f'starting camera and node (ROS_DOMAIN_ID={domain}, scene {seed})', file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix='kosmos_ros_') as logs:
        camera = _Process('kosmos_ros.tabletop.demo.camera', ['-p', f'seed:={seed}'], Path(logs))
        node = _Process('kosmos_ros.node.main', [], Path(logs))
        with camera, node, _client() as client:
            asker = Asker(client, [camera, node])
            asker.wait_until_ready(questions[0].expression)
            found = [asker.refer(question) for question in questions]
            told = [asker.ask(spoken) for spoken in in_words]
            image = asker.image()
    print_found(found)
    print_told(told)
    draw(image, found, told, picture)
    print(f'\npicture: {picture.resolve()}', file=sys.stderr)
    hits = sum(one.is_hit for one in found)
    known = [right for one in told if (right := one.is_right) is not None]
    summary = {
        'calls': len(found),
        'ok': sum(one.response.status == Status.OK for one in found),
        'iou50': hits,
        'asks': len(told),
        'asks_ok': sum(one.result.status == Status.OK for one in told),
        'asks_known': len(known),
        'asks_right': sum(known),
        'inference_ms_p50': _median([one.response.timing.inference_ms for one in found]),
        'total_ms_p50': _median([one.response.timing.total_ms for one in found]),
        'engine': found[0].response.engine,
        'image': str(picture.resolve()),
    }
    print(json.dumps(summary), flush=True)
    answered = (summary['ok'], summary['asks_ok']) == (len(found), len(told))
    return 0 if answered and hits >= _HITS_WANTED else 1


def _median(values_ms: Sequence[float]) -> float:
    return round(median(values_ms), 2)


class _Process:
    """A module as a process; its output goes to a file that is shown when it
    fails.
    """

    def __init__(self, module: str, arguments: list[str], logs: Path) -> None:
        self._module, self._log = module, logs / f'{module}.log'
        self._command = [sys.executable, '-m', module, '--ros-args', *arguments]

    def __enter__(self) -> '_Process':
        with self._log.open('wb') as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=child_environment(),
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def check(self) -> None:
        """:raises DemoError: with the last line that the process wrote, when it has ended."""
        if (code := self._process.poll()) is not None:
            lines = self._log.read_text(errors='replace').strip().splitlines() or ['(no output)']
            raise DemoError(f'{self._module} ended with exit code {code}: {lines[-1]}')


@contextmanager
def _client() -> Iterator[Node]:
    rclpy.init()
    try:
        node = rclpy.create_node('kosmos_demo')
        yield node
        node.destroy_node()
    except ExternalShutdownException:
        raise KeyboardInterrupt from None
    finally:
        rclpy.try_shutdown()


def _domain() -> int:
    """The user's ROS_DOMAIN_ID, else one whose discovery port nobody on this machine has
    opened.
    """
    chosen = os.environ.get('ROS_DOMAIN_ID', '')
    if chosen:
        if not chosen.isdecimal() or int(chosen) > _LAST_DOMAIN:
            raise DemoError(f'ROS_DOMAIN_ID is {chosen!r}; unset it or choose 0 to {_LAST_DOMAIN}')
        return int(chosen)
    first = os.getpid() % _LAST_DOMAIN
    for offset in range(_LAST_DOMAIN):
        domain = 1 + (first + offset) % _LAST_DOMAIN
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(('', _DISCOVERY_PORT + _PORTS_PER_DOMAIN * domain))
            except OSError:
                continue
        return domain
    raise DemoError(
        'all ROS domains are in use on this machine; stop some ROS processes or set ROS_DOMAIN_ID'
    )
