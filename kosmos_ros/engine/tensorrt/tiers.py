"""Which of the decoder's two graphs a TensorRT release reads.

One graph writes attention as matrix products, which every supported release reads; the other has
one fused operator for it.
"""

from dataclasses import dataclass

from packaging.version import InvalidVersion, Version

from kosmos_ros.errors import RunnerUnavailable


@dataclass(frozen=True, slots=True)
class Tier:
    """What the TensorRT releases from `first_release` on have in common, up to the next tier.

    :param max_opset: the highest ONNX opset that its first release reads.
    """

    name: str
    first_release: Version
    max_opset: int


# The highest opset is 20 in 10.3 and 10.4, 22 from 10.6 on, 24 from 10.14 on.
MATMUL = Tier('matmul', Version('10.3'), 20)
FUSED = Tier('fused', Version('10.15'), 24)
# Oldest first.
TIERS = (MATMUL, FUSED)


def parse_version(text: str) -> Version:
    """Read ``tensorrt.__version__``.

    :raises RunnerUnavailable: when it is not a version.
    """
    try:
        return Version(text)
    except InvalidVersion:
        raise RunnerUnavailable(
            f'{text!r} is not a version of TensorRT; kosmos_ros supports 10.3 and above'
        ) from None


def tier_for(version: str) -> Tier:
    """Return the tier of a TensorRT release, given as ``tensorrt.__version__``.

    :raises RunnerUnavailable: when the release is older than all tiers, or not a version.
    """
    release = parse_version(version)
    for tier in reversed(TIERS):
        if release >= tier.first_release:
            return tier
    raise RunnerUnavailable(f'TensorRT {version} is too old: kosmos_ros supports 10.3 and above')
