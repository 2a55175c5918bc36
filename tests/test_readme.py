"""The README says what the code says."""

from pathlib import Path

import pytest

from kosmos_ros.errors import Status
from kosmos_ros.model.tasks import Task

ROOT = Path(__file__).parents[1]
README = (ROOT / 'README.md').read_text(encoding='utf-8')


def test_parameters_are_those_of_the_node() -> None:
    from kosmos_ros.node.parameters import markdown_table

    assert markdown_table() in README


@pytest.mark.parametrize('status', list(Status)[1:], ids=lambda status: status.name)
def test_every_status_is_explained(status: Status) -> None:
    assert f'| `{status.name}` |' in README


@pytest.mark.parametrize('task', Task, ids=lambda task: task.name)
def test_every_task_is_explained(task: Task) -> None:
    assert f'| `{task.name}` {task.value} |' in README


def test_files_it_shows_are_there() -> None:
    for name in (
        'docs/ask.png',
        'docs/demo.png',
        'docs/rviz.png',
        'docs/architecture.md',
        'docs/log.md',
    ):
        assert f']({name})' in README
        assert (ROOT / name).is_file()
