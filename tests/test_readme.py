"""The README says what the code says."""

from pathlib import Path
import re

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


@pytest.mark.parametrize(
    'page', [ROOT / 'README.md', *sorted(ROOT.glob('docs/**/*.md'))], ids=lambda page: page.name
)
def test_files_that_a_page_links_to_are_there(page: Path) -> None:
    targets = re.findall(r'\]\(([^)#:]+)[^):]*\)', page.read_text(encoding='utf-8'))
    assert [one for one in targets if not (page.parent / one).exists()] == []


def test_it_links_to_all_pages() -> None:
    for page in (*ROOT.glob('docs/*.md'), *ROOT.glob('docs/*.png')):
        assert f'](docs/{page.name})' in README
