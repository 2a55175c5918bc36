"""The command line: wrong input is one line and an exit code, never a traceback."""

from pathlib import Path
import subprocess
import sys

import pytest

from kosmos_ros.cli import main


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


def test_options_of_a_checkpoint_need_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['engine', 'build', '--out', 'x', '--precision', 'fp16']) == 1
    assert 'belong to --checkpoint' in capsys.readouterr().err


def test_engine_commands_do_not_load_ros_or_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from kosmos_ros.cli import main; main(['engine', 'info', sys.argv[1]]); "
        "sys.exit(bool({'rclpy', 'torch', 'onnxruntime'} & set(sys.modules)))"
    )
    assert (
        subprocess.run(
            [sys.executable, '-c', code, str(tmp_path)], stderr=subprocess.DEVNULL
        ).returncode
        == 0
    )
