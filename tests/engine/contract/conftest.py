"""Every engine keeps the promises of `Engine`: each test runs with one of each kind."""

from collections.abc import Iterator

import pytest

from kosmos_ros import Engine, ImageContext

from .engines import KINDS, Make, picture


@pytest.fixture(scope='module', params=KINDS)
def make(request: pytest.FixtureRequest) -> Make:
    """Makes an engine of one kind."""
    return KINDS[request.param]


@pytest.fixture(scope='module')
def engine(make: Make) -> Iterator[Engine]:
    with make() as engine:
        yield engine


@pytest.fixture(scope='module')
def other(make: Make) -> Iterator[Engine]:
    """Another engine of the same kind."""
    with make() as engine:
        yield engine


@pytest.fixture
def context(engine: Engine) -> ImageContext:
    return engine.encode_image(picture())
