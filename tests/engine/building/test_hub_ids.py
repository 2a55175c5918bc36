"""What is given as a checkpoint: a directory, or an id of the hub and a revision."""

from pathlib import Path
import subprocess
import sys

import pytest

from kosmos_ros.console.main import main
from kosmos_ros.engine.building.hub import _PINNED, Checkpoint
from kosmos_ros.engine.directory.manifest import Manifest
from kosmos_ros.engine.directory.recipe import Recipe

from .hub_user import CLOSED, NEEDED, User
from .stand_in_hub import FIRST, REPOSITORY, Hub


def test_the_released_model_has_a_commit_of_its_own(user: User) -> None:
    ((name, commit),) = _PINNED.items()
    user.goes_to(CLOSED)
    assert 'microsoft' in user.refused(name)
    snapshot = user.cache / f'models--{name.replace("/", "--")}' / 'snapshots' / commit
    snapshot.mkdir(parents=True)
    for needed in NEEDED:
        (snapshot / needed).touch()
    assert user(name) == Checkpoint(snapshot, f'{name} at commit {commit}')


def test_a_directory_is_taken_as_it_is(
    user: User, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert user(str(checkpoint)) == Checkpoint(checkpoint)
    assert '--revision is for hub ids' in user.refused(str(checkpoint), 'main')
    # Also where it could be an id.
    monkeypatch.chdir(checkpoint.parent)
    (checkpoint.parent / REPOSITORY).mkdir(parents=True, exist_ok=True)
    assert user(REPOSITORY) == Checkpoint(Path(REPOSITORY))
    assert user.lines == []


@pytest.mark.parametrize(
    'name',
    [
        './tiny/kosmos',
        '../kosmos',
        '/tiny/kosmos',
        '~/kosmos',
        'kosmos',
        'tiny/',
        'tiny/kosmos/',
        'tiny/kosmos/main',
        'tiny/-kosmos',
        'tiny/kos--mos',
        'tiny/kos..mos',
        'tiny/kosmos.git',
        'tiny/kösmos',
        'tiny/kosmos\n',
        'tiny/kos mos',
        'tiny/kosmos?x',
        'tiny\\kosmos',
        'tiny/kosmos@main',
        'tiny/' + 'k' * 97,
        'k' * 5000,
        '\0',
        'https://huggingface.co/tiny/kosmos',
        'hf://tiny/kosmos',
    ],
)
def test_neither_a_directory_nor_an_id(name: str, hub: Hub, user: User) -> None:
    assert 'give a directory, or OWNER/NAME' in user.refused(name)
    assert hub.requests == []


def test_a_file_is_no_directory(
    hub: Hub, user: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path('tiny').mkdir()
    Path(REPOSITORY).touch()
    assert 'neither a directory' in user.refused()
    assert hub.requests == []


@pytest.mark.parametrize('revision', ['', '..', '../x', 'a/../b', '/x', 'x/', 'a b', 'x\n', '-x'])
def test_no_revision(revision: str, hub: Hub, user: User) -> None:
    assert 'cannot be a revision' in user.refused(revision=revision)
    assert hub.requests == []


def test_other_revisions(hub: Hub, user: User) -> None:
    hub.branches['refs/pr/4'] = hub.branches['v1.0'] = FIRST
    assert user(revision='refs/pr/4') == user(revision='v1.0')
    assert 'has no revision gone' in user.refused(revision='gone')


def test_the_library_may_be_missing(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if '.building.hub_' in name]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
    assert 'pip install --upgrade huggingface_hub' in user.refused()


def test_only_who_fetches_loads_the_library() -> None:
    code = (
        'import sys, kosmos_ros.console.main, kosmos_ros.engine.building.hub as hub\n'
        "hub.find_checkpoint('/', None, print); sys.exit('huggingface_hub' in sys.modules)"
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, timeout=60)
    assert (done.stderr, done.returncode) == (b'', 0)


@pytest.mark.engines
def test_the_command(
    user: User, recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe.write(tmp_path / 'small.yaml')
    out = tmp_path / 'engine'
    arguments = ['engine', 'build', '--checkpoint', REPOSITORY, '--out', str(out)]
    arguments += ['--recipe', str(tmp_path / 'small.yaml')]
    assert main([*arguments, '--revision', 'gone']) == 1
    assert 'has no revision gone' in capsys.readouterr().err
    assert main(arguments) == 0
    assert f'{REPOSITORY} at commit {FIRST}: 3 files to fetch' in capsys.readouterr().out
    assert Manifest.read(out).made_by.endswith(f', from {REPOSITORY} at commit {FIRST}')
    # Before anything is fetched.
    user.goes_to(CLOSED)
    assert main(arguments) == 1
    assert 'exists already' in capsys.readouterr().err
    assert main(['engine', 'build', '--out', str(out), '--revision', 'main']) == 1
    assert 'belong to --checkpoint' in capsys.readouterr().err
