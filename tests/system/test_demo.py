"""`make demo` as a user runs it: three processes, real DDS, the embedded engine."""

import json
import os
from pathlib import Path
import subprocess
import sys

from PIL import Image
import pytest


def demo(*arguments: str, **environment: str) -> 'subprocess.CompletedProcess[str]':
    # Without a domain of the test session: the demo finds a free one itself.
    clean = {name: value for name, value in os.environ.items() if name != 'ROS_DOMAIN_ID'}
    return subprocess.run(
        [sys.executable, '-m', 'kosmos_ros', 'demo', *arguments],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=110,
    )


@pytest.mark.parametrize('seed', [1, 7])
def test_answers_and_draws(seed: int, tmp_path: Path) -> None:
    picture, home = tmp_path / 'demo.png', tmp_path / 'home'
    home.mkdir()
    done = demo('--seed', str(seed), '--image', str(picture), HOME=str(home))
    assert done.returncode == 0, done.stderr + done.stdout
    *table, last = done.stdout.splitlines()
    summary = json.loads(last)
    assert summary['calls'] == summary['ok'] == 6
    assert summary['iou50'] >= 5
    assert summary['asks'] == summary['asks_ok'] == 3
    assert 0 <= summary['asks_right'] <= summary['asks_known'] == 2
    assert 0 < summary['inference_ms_p50'] <= summary['total_ms_p50']
    assert summary['image'] == str(picture)
    rows = [line.split()[0] for line in table if line]
    assert len(rows) == 1 + 6 + 1 + 3
    assert rows[-4:] == ['task', 'caption', 'question', 'describe_region']
    with Image.open(picture) as image:
        assert image.width >= 640
        assert image.height >= 480
    # ROS 2 writes its logs there; nothing else does, ONNX Runtime's telemetry included.
    assert {path.name for path in home.iterdir()} <= {'.ros'}


@pytest.mark.parametrize('domain', ['abc', '-1', '4000'])
def test_a_wrong_domain_is_one_line(domain: str) -> None:
    done = demo(ROS_DOMAIN_ID=domain)
    assert done.returncode == 1
    assert done.stderr.count('\n') == 1
    assert 'ROS_DOMAIN_ID' in done.stderr


def test_a_picture_without_a_place_is_refused_first(tmp_path: Path) -> None:
    done = demo('--image', str(tmp_path / 'no' / 'demo.png'))
    assert done.returncode == 1
    assert done.stderr.count('\n') == 1
    assert 'not a directory' in done.stderr
