"""Which graph a TensorRT release reads."""

import subprocess
import sys

from packaging.version import Version
import pytest

from kosmos_ros.engine.tensorrt.installed import CLASSIC, RTX, Release
from kosmos_ros.engine.tensorrt.tiers import FUSED, MATMUL, TIERS, Tier, tier_for, version_of
from kosmos_ros.errors import EngineError


@pytest.mark.parametrize(
    ('version', 'tier'),
    [
        ('10.3.0', MATMUL),
        ('10.3.0.26', MATMUL),
        ('10.13.3.9', MATMUL),
        ('10.14.1.48.post1', MATMUL),
        ('10.15.1.29', FUSED),
        ('10.16.2.10', FUSED),
        ('11.0.0.114', FUSED),
        ('11.4.0.106', FUSED),
        ('100.0', FUSED),
    ],
)
def test_every_release_has_its_tier(version: str, tier: Tier) -> None:
    assert tier_for(Release(CLASSIC, version), 64) is tier


@pytest.mark.parametrize('version', ['10.2.0', '10.0.1', '8.6.1', '1.15', 'unknown', '', '10'])
def test_older_releases_are_refused(version: str) -> None:
    with pytest.raises(EngineError, match=r'supports TensorRT 10\.3 and'):
        tier_for(Release(CLASSIC, version), 64)


@pytest.mark.parametrize('version', ['1.7.1.116', '1.8.0', '2.0'])
def test_tensorrt_for_rtx_reads_the_fused_graph(version: str) -> None:
    assert tier_for(Release(RTX, version), 64) is FUSED


@pytest.mark.parametrize('version', ['1.6.1.120', '1.0', 'unknown', ''])
def test_older_releases_for_rtx_are_refused(version: str) -> None:
    with pytest.raises(EngineError, match=r'TensorRT for RTX 1\.7, and above'):
        tier_for(Release(RTX, version), 64)


@pytest.mark.parametrize('width', [4, 12, 20, 21])
def test_heads_of_an_odd_width_are_not_fused(width: int) -> None:
    for release in (Release(RTX, '1.7.1.116'), Release(CLASSIC, '11.4.0.106')):
        assert tier_for(release, width) is MATMUL
        assert tier_for(release, 2 * width) is (FUSED if width % 4 == 0 else MATMUL)


def test_a_tier_is_found_without_onnx() -> None:
    program = (
        'import sys; sys.modules["onnx"] = None\n'
        'from kosmos_ros.engine.tensorrt.installed import Release\n'
        'from kosmos_ros.engine.tensorrt.tiers import tier_for\n'
        'print(tier_for(Release("TensorRT", "10.3.0"), 64).name)'
    )
    done = subprocess.run(
        [sys.executable, '-c', program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == 'matmul'


def test_tiers_grow() -> None:
    for older, newer in zip(TIERS, TIERS[1:], strict=False):
        assert older.first_release < newer.first_release
        assert older.max_opset <= newer.max_opset


def test_versions_are_compared_as_numbers() -> None:
    def version(text: str) -> Version:
        return version_of(Release(CLASSIC, text))

    # Not as text, where 10.10 comes before 10.8.
    assert version('10.10') > version('10.8')
    assert version('10.13.3.9') > version('10.13')
    for text in ('', 'ten.three', '10.x'):
        with pytest.raises(EngineError, match='is not a version of TensorRT'):
            version(text)
