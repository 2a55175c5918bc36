"""A worker, and people who call it."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from kosmos_ros.errors import ShuttingDown
from kosmos_ros.node.engine.worker import Worker


@pytest.fixture
def failures():
    return []


@pytest.fixture
def worker(failures):
    worker = Worker(2, 2, failures.append)
    yield worker
    worker.stop(ShuttingDown(), 5)


@pytest.fixture
def people():
    with ThreadPoolExecutor(16) as threads:
        yield threads
