"""Versions of TensorRT."""

import re

from kosmos_ros.errors import RunnerUnavailable


def version_of(text: str) -> tuple[int, int]:
    """Major and minor number of ``tensorrt.__version__``.

    :raises RunnerUnavailable: when it is not a version.
    """
    match = re.match(r'(\d+)\.(\d+)', text)
    if match is None:
        raise RunnerUnavailable(
            f'{text!r} is not a version of TensorRT; kosmos_ros supports 10.3 and above'
        )
    return int(match[1]), int(match[2])
