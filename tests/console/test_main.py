"""The command line: wrong input is one line and an exit code, never a traceback."""

import json
import os
from pathlib import Path
import subprocess
import sys

from PIL import Image
import pytest

from kosmos_ros.console.main import main
from kosmos_ros.model.boxes import Box
from kosmos_ros.tabletop.demo.scenes import refer_questions_for, view_for


@pytest.mark.parametrize(
    'arguments',
    [
        [],
        ['nonsense'],
        ['engine'],
        ['engine', 'info'],
        ['demo', '--seed', '-1'],
        ['demo', '--seed', 'x'],
        ['eval', 'tabletop', '--scenes', '0'],
        ['engine', 'build', '--checkpoint', 'x'],
        ['engine', 'build', '--out', 'x', '--precision', 'fp7'],
        ['engine', 'verify', 'x', '--runner', 'fake'],
        ['engine', 'prune'],
        ['refer'],
        ['ask'],
    ],
)
def test_wrong_use_shows_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert 'usage: kosmos_ros' in capsys.readouterr().err


@pytest.mark.parametrize(
    'arguments',
    [
        ['engine', 'info', '/nowhere'],
        ['engine', 'verify', '/nowhere'],
        ['engine', 'verify', 'x', '--golden', '/nowhere'],
        ['engine', 'prune', '/nowhere'],
        ['engine', 'build', '--out', '/nowhere'],
        [
            'engine',
            'build',
            '--checkpoint',
            '.',
            '--out',
            '/nowhere/x',
            '--recipe',
            '/nowhere.yaml',
        ],
        ['eval', 'tabletop', '--engine', '/nowhere'],
        ['refer', '/nowhere', 'the cup'],
        ['ask', '/nowhere', 'What is this?'],
        ['ask', '/nowhere.png'],
        ['engine', 'build', '--checkpoint', '/nowhere', '--out', '/nowhere/out'],
    ],
)
def test_missing_paths_are_one_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith('kosmos_ros: ')
    assert captured.err.count('\n') == 1
    assert '/nowhere' in captured.err
    assert captured.out == ''


def test_a_reader_that_goes_away_is_no_error() -> None:
    """As in `kosmos_ros ... | head -1`."""
    code = (
        'import os, sys; from kosmos_ros.console import main; '
        'main._options = lambda arguments: print("x" * 100_000, flush=True); '
        'sys.exit(main.main([]))'
    )
    with subprocess.Popen(
        [sys.executable, '-c', code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.wait(timeout=60) == 1
        assert process.stderr.read() == b''


def test_options_of_a_checkpoint_need_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['engine', 'build', '--out', 'x', '--precision', 'fp16']) == 1
    assert 'belong to --checkpoint' in capsys.readouterr().err


def test_the_embedded_engine_answers_without_ros_and_torch(tmp_path: Path) -> None:
    seed = 935
    (question,) = (one for one in refer_questions_for(seed, 6) if one.expression == 'the red ball')
    Image.fromarray(view_for(seed).rgb).save(tmp_path / 'table.png')
    home = tmp_path / 'home'
    home.mkdir()
    code = (
        'import sys; from kosmos_ros.console.main import main\n'
        "main(['refer', 'table.png', sys.argv[1]]); "
        "sys.exit(bool({'rclpy', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, '-c', code, question.expression],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, 'HOME': str(home)},
    )
    assert (done.returncode, done.stderr) == (0, f'picture: {tmp_path / "table.refer.png"}\n')
    # Nothing is written there, ONNX Runtime's telemetry included.
    assert list(home.iterdir()) == []
    (answer,) = json.loads(done.stdout.splitlines()[-1])['answers']
    found, truth = (
        Box.from_pixels(tuple(corners), 640, 480)
        for corners in (answer['boxes_px'][0], question.box_px)
    )
    assert found.iou(truth) > 0.5


def test_engine_commands_do_not_load_ros_or_torch(tmp_path: Path) -> None:
    code = (
        'import sys; from kosmos_ros.console.main import main\n'
        "main(['engine', 'info', sys.argv[1]]); "
        "sys.exit(bool({'rclpy', 'torch', 'onnxruntime'} & set(sys.modules)))"
    )
    assert (
        subprocess.run(
            [sys.executable, '-c', code, str(tmp_path)], stderr=subprocess.DEVNULL
        ).returncode
        == 0
    )
