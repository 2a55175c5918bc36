"""The engine for one command."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
import sys

from kosmos_ros.engine.base import Engine
from kosmos_ros.engine.load import load_engine
from kosmos_ros.limits import Limits


@contextmanager
def opened(path: Path | None, runner: str, limits: Limits) -> Iterator[Engine]:
    """An engine that is closed in the end; what there is to say about its loading goes to
    standard error.
    """
    engine = load_engine(path, runner, limits)
    try:
        for remark in engine.remarks:
            print(f'kosmos_ros: {remark}', file=sys.stderr)
        yield engine
    finally:
        engine.close()
