"""Which of the decoder's two graphs a TensorRT release reads.

One graph writes attention as matrix products, which every supported release reads; the other has
one fused operator for it.
"""

from dataclasses import dataclass

from packaging.version import InvalidVersion, Version

from kosmos_ros.engine.tensorrt.installed import Release
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
# Of TensorRT for RTX, which reads what TensorRT 11.0 reads.
_FIRST_RTX = Version('1.7')
# The builder for RTX fails inside itself (tactics_tiled_layout.cpp) when the width of the fused
# operator's heads is no multiple of this; found by trying 8 to 24 in 1.7.1.
_HEAD_WIDTH = 8


def version_of(release: Release) -> Version:
    """Return the version of a release, to be compared.

    :raises RunnerUnavailable: when what it states is not a version.
    """
    try:
        return Version(release.version)
    except InvalidVersion:
        raise RunnerUnavailable(
            f'{release.version!r} is not a version of {release.flavour}; {_SUPPORTED}'
        ) from None


def tier_for(release: Release, head_width: int) -> Tier:
    """Return the tier of a release, for a decoder whose heads have this width.

    :raises RunnerUnavailable: when the release is older than all tiers, or not a version.
    """
    version = version_of(release)
    if version < (_FIRST_RTX if release.is_rtx else MATMUL.first_release):
        raise RunnerUnavailable(f'{release} is too old: {_SUPPORTED}')
    is_read = release.is_rtx or version >= FUSED.first_release
    return FUSED if is_read and head_width % _HEAD_WIDTH == 0 else MATMUL


_SUPPORTED = (
    f'kosmos_ros supports TensorRT {MATMUL.first_release} and TensorRT for RTX {_FIRST_RTX}, and '
    'above'
)
