"""The node with the engine of another package, chosen by its name."""

from collections.abc import Iterator
import os
from pathlib import Path
import subprocess
import sys

from other_engines import install_colour_engine
import pytest
from robot import ROOT, NodeProcess, Robot, image_of, picture

from kosmos_ros.environment import child_environment
from kosmos_ros.errors import Status


class OtherNode(NodeProcess):
    """`kosmos_node` with packages that bring engines on its search path."""

    def __init__(self, folder: Path, domain: int, engine: str, packages: list[Path]) -> None:
        self.namespace = '/other'
        self.log = folder / 'log.txt'
        command = [sys.executable, '-m', 'kosmos_ros.node.main', '--ros-args']
        command += ['-r', f'__ns:={self.namespace}', '-p', f'engine:={engine}']
        environment = child_environment() | {
            'ROS_DOMAIN_ID': str(domain),
            'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
            'ROS_LOG_DIR': str(folder),
            'PYTHONPATH': os.pathsep.join(map(str, [ROOT, *packages])),
        }
        with self.log.open('wb') as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )


@pytest.fixture(params=['colour', 'colour:0.1'])
def node(request: pytest.FixtureRequest, domain: int, tmp_path: Path) -> Iterator[OtherNode]:
    packages = install_colour_engine(tmp_path / 'packages')
    node = OtherNode(tmp_path, domain, request.param, packages)
    yield node
    node.end()


@pytest.fixture
def caller(node: OtherNode, domain: int) -> Iterator[Robot]:
    robot = Robot(domain, node.namespace)
    yield robot
    robot.close()


def test_it_answers_in_the_pixels_of_the_picture(node: OtherNode, caller: Robot) -> None:
    caller.wait_for_node()
    # The red rectangle has an eighth of the picture.
    image = image_of(picture(64, 48, (16, 12, 40, 28)))
    response = caller.wait_for_status(Status.OK, expression='the red thing', image=image)
    assert response.engine == 'colours'
    (found,) = response.detections.detections
    centre, box = found.bbox.center.position, found.bbox
    assert (centre.x, centre.y, box.size_x, box.size_y) == pytest.approx((28, 20, 24, 16))
    assert found.results[0].hypothesis.score == pytest.approx(1 / 8)
    refused = caller.call('the mug', image=image)
    assert refused.status == Status.BAD_EXPRESSION
    assert 'names no colour' in refused.message
    assert node.stop() == 0, node.output()
