"""The engine for one command."""

from collections.abc import Iterator
from contextlib import contextmanager
import sys

from kosmos_ros.engine.base import Engine
from kosmos_ros.engine.load import load_engine
from kosmos_ros.limits import Limits


@contextmanager
def opened_engine(name: str | None, runner: str, limits: Limits) -> Iterator[Engine]:
    """Load an engine, print remarks about its loading to standard error, close it at the end.

    :param name: as in `load_engine`.
    """
    with load_engine(name, runner, limits) as engine:
        for remark in engine.remarks:
            print(f'kosmos_ros: {remark}', file=sys.stderr)
        yield engine
