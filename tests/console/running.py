"""Commands run in this process, and what they print."""

import json

import pytest

from kosmos_ros.console.main import main

# Of the pictures that tests ask about.
WIDTH, HEIGHT = 80, 60


class Command:
    """Runs a command; its outputs as lines, and its last line as JSON."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str, code: int = 0) -> dict[str, object]:
        assert main(arguments) == code
        captured = self._capsys.readouterr()
        self.err = captured.err
        *self.lines, last = captured.out.splitlines()
        summary: dict[str, object] = json.loads(last)
        return summary

    def refused(self, *arguments: str) -> str:
        """Runs a command that must refuse something; its one line, without the program's name."""
        assert main(arguments) == 1
        captured = self._capsys.readouterr()
        assert captured.out == ''
        assert captured.err.startswith('kosmos_ros: ')
        assert captured.err.count('\n') == 1
        return captured.err.removeprefix('kosmos_ros: ').rstrip()

    def misused(self, *arguments: str) -> str:
        """Runs a command that must show its usage; what it says is wrong."""
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2
        err = self._capsys.readouterr().err
        assert 'usage: kosmos_ros' in err
        return err.splitlines()[-1]
