"""One domain for the whole session, one node process for all tests that leave it as it was."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
import os
from pathlib import Path

import pytest
from robot import NodeProcess, Robot, free_domain, image_of, picture

from kosmos_ros.errors import Status

NAN = float('nan')
MIDDLE = [0.25, 0.25, 0.75, 0.75, 0.9]
SCRIPT = {
    'name': 'a fake',
    'acts': {
        'the red ball': {'colour': [255, 0, 0]},
        'the white ball': {'colour': [255, 255, 255]},
        'the slow ball': {'latency_s': 1.0},
        'the failing ball': {'failure': 'RuntimeError: the fan is stuck'},
        'the leaving ball': {'failure': 'SystemExit: 3'},
        'the huge ball': {'failure': 'MemoryError: 12 GB'},
        'the senseless ball': {'boxes': [[NAN, 0.0, 1.0, 1.0, 0.5]]},
        'the boastful ball': {'boxes': [[0.0, 0.0, 1.0, 1.0, 7.0]]},
        'the reversed ball': {'boxes': [[0.9, 0.9, 0.1, 0.1, 0.5]]},
        'the absent ball': {'boxes': []},
        'the two balls': {
            'boxes': [
                [0.0, 0.0, 0.5, 0.5, 0.5],
                [0.0, 0.0, 0.5, 0.53, 0.3],
                [0.5, 0.5, 1.0, 1.0, 0.15],
                [0.47, 0.5, 1.0, 1.0, 0.05],
            ]
        },
    },
    'otherwise': {'boxes': [MIDDLE]},
    'speeches': {
        'CAPTION': {
            'words': 'a dog beside two cats',
            'boxes': {
                'dog': [[0.0, 0.0, 0.5, 0.5, 0.9]],
                'cats': [[0.5, 0.0, 1.0, 0.5, 0.8], [0.5, 0.5, 1.0, 1.0, 0.7]],
            },
        },
        'how long?': {'words': 'on and', 'endless': True, 'act': {'latency_s': 0.01}},
        'how slowly?': {'words': 'one step', 'endless': True, 'act': {'latency_s': 0.3}},
        'how far?': {'words': '{steps}'},
        'what before?': {'words': '{before}', 'nbytes': 1048576},
        'what fails?': {
            'words': 'one two three four',
            'act': {'failure': 'RuntimeError: the fan is stuck'},
            'after': 3,
        },
        'what is senseless?': {
            'words': 'nothing',
            'boxes': {'nothing': [[NAN, 0.0, 1.0, 1.0, 0.5]]},
        },
    },
}
Start = Callable[..., tuple[NodeProcess, Robot]]


@pytest.fixture(scope='session')
def domain() -> int:
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    return free_domain()


@pytest.fixture(scope='session')
def start_for_session(domain: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    with ExitStack() as ends:
        yield lambda *arguments, **more: _start(
            ends, domain, tmp_path_factory.mktemp('node'), arguments, **more
        )


@pytest.fixture
def start(domain: int, tmp_path: Path) -> Iterator[Start]:
    """Start a node with more arguments, in a namespace of its own."""
    with ExitStack() as ends:
        yield lambda *arguments, **more: _start(ends, domain, tmp_path, arguments, **more)


@pytest.fixture(scope='session')
def shared(start_for_session: Start) -> tuple[NodeProcess, Robot]:
    """An active node in the root namespace and a robot beside it, for all tests."""
    process, robot = start_for_session(namespace='')
    robot.wait_for_node()
    robot.wait_for_status(Status.OK, image=image_of(picture()))
    return process, robot


@pytest.fixture
def robot(shared: tuple[NodeProcess, Robot]) -> Iterator[Robot]:
    process, robot = shared
    yield robot
    assert process.process.poll() is None, process.output()


def _start(
    ends: ExitStack,
    domain: int,
    folder: Path,
    arguments: tuple[str, ...],
    script: dict[str, object] = SCRIPT,
    namespace: str | None = None,
) -> tuple[NodeProcess, Robot]:
    if namespace is None:
        namespace = '/' + ''.join(c if c.isalnum() else '_' for c in folder.name).lstrip('_')
    process = NodeProcess(folder, domain, namespace, script, arguments)
    ends.callback(process.end)
    robot = Robot(domain, namespace)
    ends.callback(robot.close)
    return process, robot
