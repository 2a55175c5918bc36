"""`make demo`: it runs the simulated camera and the node, and sends questions to the node."""

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
from kosmos_ros.tabletop.demo.client import DemoClient, DemoError
from kosmos_ros.tabletop.demo.report import draw_answers, print_ask_answers, print_refer_answers
from kosmos_ros.tabletop.demo.scenes import ask_questions_for, refer_questions_for

_QUESTIONS = 6
_MIN_HITS = 5
# The index of the expression whose box the demo asks the node to describe.
_DESCRIBED_INDEX = 3
# DDS adds 250 ports per domain to this one (DDSI-RTPS 2.5, 9.6.2.3); up to 101 they stay below
# Linux's ephemeral ports.
_DISCOVERY_PORT, _PORTS_PER_DOMAIN, _LAST_DOMAIN = 7400, 250, 101


def run_demo(seed: int, picture: Path) -> int:
    """Run the demo, print tables and one JSON line, write `picture`; return the exit code.

    :raises DemoError: when a process dies or does not answer in time.
    """
    if not picture.parent.is_dir():
        raise DemoError(
            f'{picture.parent} is not a directory; choose another path for the picture'
        )
    domain = _domain()
    os.environ.update(ROS_DOMAIN_ID=str(domain), ROS_AUTOMATIC_DISCOVERY_RANGE='LOCALHOST')
    refer_questions = refer_questions_for(seed, _QUESTIONS)
    ask_questions = ask_questions_for(seed, refer_questions[_DESCRIBED_INDEX])
    print(f'starting camera and node (ROS_DOMAIN_ID={domain}, scene {seed})', file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix='kosmos_ros_') as logs:
        seed_argument = ['-p', f'seed:={seed}']
        camera = _DemoProcess('kosmos_ros.tabletop.demo.camera', seed_argument, Path(logs))
        node = _DemoProcess('kosmos_ros.node.main', [], Path(logs))
        with camera, node, _client() as client:
            demo_client = DemoClient(client, [camera, node])
            demo_client.wait_until_ready(refer_questions[0].expression)
            refer_answers = [demo_client.refer(question) for question in refer_questions]
            ask_answers = [demo_client.ask(question) for question in ask_questions]
            image = demo_client.image()
    print_refer_answers(refer_answers)
    print_ask_answers(ask_answers)
    draw_answers(image, refer_answers, ask_answers, picture)
    print(f'\npicture: {picture.resolve()}', file=sys.stderr)
    hits = sum(one.is_hit for one in refer_answers)
    known = [correct for one in ask_answers if (correct := one.is_correct) is not None]
    summary = {
        'calls': len(refer_answers),
        'ok': sum(one.response.status == Status.OK for one in refer_answers),
        'iou50': hits,
        'asks': len(ask_answers),
        'asks_ok': sum(one.result.status == Status.OK for one in ask_answers),
        'asks_known': len(known),
        'asks_right': sum(known),
        'inference_ms_p50': _median([one.response.timing.inference_ms for one in refer_answers]),
        'total_ms_p50': _median([one.response.timing.total_ms for one in refer_answers]),
        'engine': refer_answers[0].response.engine,
        'image': str(picture.resolve()),
    }
    print(json.dumps(summary), flush=True)
    answered = (summary['ok'], summary['asks_ok']) == (len(refer_answers), len(ask_answers))
    return 0 if answered and hits >= _MIN_HITS else 1


def _median(values_ms: Sequence[float]) -> float:
    return round(median(values_ms), 2)


class _DemoProcess:
    """A module that runs as a process, with its output in a log file."""

    def __init__(self, module: str, arguments: list[str], logs: Path) -> None:
        self._module, self._log = module, logs / f'{module}.log'
        self._command = [sys.executable, '-m', module, '--ros-args', *arguments]

    def __enter__(self) -> '_DemoProcess':
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
        """Check that the process runs.

        :raises DemoError: when it has ended; the message has the last line of its output.
        """
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
    """Return the user's ROS_DOMAIN_ID, or one whose discovery port is free on this machine."""
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
