"""Checkpoints of the hub: only what is needed, all of one commit, and nothing is fetched twice."""

from collections.abc import Iterator
import errno
import fcntl
import json
from pathlib import Path
import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

from huggingface_hub import constants, file_download, hf_hub_download, scan_cache_dir
from huggingface_hub.utils import close_session
import pytest
from safetensors.torch import load_file, save
import torch

from kosmos_ros.console.main import main
from kosmos_ros.engine.building import hub_cache
from kosmos_ros.engine.building.hub import _PINNED, Checkpoint, find_checkpoint
from kosmos_ros.engine.directory.manifest import Manifest
from kosmos_ros.engine.directory.recipe import Recipe
from kosmos_ros.errors import EngineFileError
from kosmos_ros.model.network.weights import load_model
from kosmos_ros.model.tokenizer import SENTENCEPIECE, write_tokenizer

from .stand_in_hub import FIRST, REPOSITORY, SECOND, Hub, served

CONFIG, WEIGHTS = 'config.json', 'model.safetensors'
INDEX = 'model.safetensors.index.json'
NEEDED = [CONFIG, SENTENCEPIECE, WEIGHTS]
CHUNK = 1000
CLOSED = 'http://127.0.0.1:9'


class User:
    """Calls as a user does, on a machine whose cache is empty at first."""

    def __init__(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cache, self._monkeypatch = cache, monkeypatch
        self.lines: list[str] = []

    def __call__(self, checkpoint: str = REPOSITORY, revision: str | None = None) -> Checkpoint:
        self.lines.clear()
        return find_checkpoint(checkpoint, revision, self.lines.append)

    def refused(self, checkpoint: str = REPOSITORY, revision: str | None = None) -> str:
        """What the user is told, in one line."""
        with pytest.raises(EngineFileError) as caught:
            self(checkpoint, revision)
        assert '\n' not in str(caught.value)
        return str(caught.value)

    def goes_to(self, endpoint: str) -> None:
        template = endpoint + '/{repo_id}/resolve/{revision}/{filename}'
        self._monkeypatch.setattr(constants, 'ENDPOINT', endpoint)
        self._monkeypatch.setattr(constants, 'HUGGINGFACE_CO_URL_TEMPLATE', template)

    def incomplete(self) -> list[int]:
        """Sizes of what was left for another time."""
        return [path.stat().st_size for path in self.cache.rglob('*.incomplete')]


@pytest.fixture
def hub(checkpoint: Path) -> Hub:
    """Holds the tiny checkpoint, and beside it what repositories have."""
    files = {path.name: path.read_bytes() for path in checkpoint.iterdir()}
    beside = ('README.md', 'generation_config.json', 'tokenizer.json', 'modeling.py')
    pickles = ('pytorch_model.bin', 'optimizer.bin', 'original/model.safetensors')
    return Hub({FIRST: files | dict.fromkeys(beside + pickles, b'not for us')})


@pytest.fixture
def user(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[User]:
    cache = tmp_path / 'cache'
    for name in ('HF_TOKEN', 'HUGGING_FACE_HUB_TOKEN', 'HTTP_PROXY', 'http_proxy'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('NO_PROXY', '*')
    for name, value in {
        'HF_HUB_CACHE': str(cache),
        'HF_TOKEN_PATH': str(tmp_path / 'token'),
        'HF_HUB_OFFLINE': False,
        'HF_HUB_DISABLE_TELEMETRY': True,
        'DOWNLOAD_CHUNK_SIZE': CHUNK,
    }.items():
        monkeypatch.setattr(constants, name, value)
    # Between its attempts.
    monkeypatch.setattr(file_download, 'time', SimpleNamespace(sleep=lambda seconds: None))
    # The next one must know these settings.
    close_session()
    with served(hub) as endpoint:
        user = User(cache, monkeypatch)
        user.goes_to(endpoint)
        yield user
        close_session()


def test_a_fetched_checkpoint_is_one_that_loads(
    hub: Hub, user: User, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found = user()
    assert found.source == f'{REPOSITORY} at commit {FIRST}'
    assert sorted(path.name for path in found.directory.iterdir()) == sorted(NEEDED)
    load_model(found.directory, torch.float32)
    write_tokenizer(found.directory, tmp_path / 'tokenizer')
    # The library shows no bars.
    assert capfd.readouterr() == ('', '')
    assert user.incomplete() == []
    assert hub.files == NEEDED


def test_the_cache_is_one_that_huggingface_hub_reads(hub: Hub, user: User) -> None:
    hub.cut[WEIGHTS] = CHUNK
    user.refused()
    assert len(scan_cache_dir(user.cache).incomplete_files) == 1
    hub.cut.clear()
    found = user()
    scan = scan_cache_dir(user.cache)
    (repository,) = scan.repos
    (revision,) = repository.revisions
    assert (repository.repo_id, revision.commit_hash) == (REPOSITORY, FIRST)
    assert revision.refs == {'main'}
    assert (scan.warnings, scan.incomplete_files) == ([], frozenset())
    hub.requests.clear()
    path = hf_hub_download(REPOSITORY, WEIGHTS, revision=FIRST, cache_dir=user.cache)
    assert Path(path) == found.directory / WEIGHTS
    assert hub.requests == []


def test_all_files_come_from_the_commit_that_the_branch_was(hub: Hub, user: User) -> None:
    hub.commits[SECOND] = {**hub.commits[FIRST], WEIGHTS: b'other weights'}
    hub.before_file = lambda name: hub.branches.update(main=SECOND)
    first = user()
    assert (first.directory / WEIGHTS).read_bytes() == hub.commits[FIRST][WEIGHTS]
    assert not any('main' in one.path for one in hub.requests if '/resolve/' in one.path)
    hub.requests.clear()
    second = user()
    assert second.source.endswith(SECOND)
    assert (second.directory / WEIGHTS).read_bytes() == b'other weights'
    # The others are the same.
    assert hub.files == [WEIGHTS]
    assert user(revision=FIRST).directory == first.directory


def test_progress_is_lines(hub: Hub, user: User) -> None:
    user()
    told, plan, *steps = user.lines
    assert told.startswith(f'main of {REPOSITORY} is now commit {FIRST}')
    assert plan.startswith(f'{REPOSITORY} at commit {FIRST}: 3 files to fetch, ')
    shown = [re.fullmatch(r'fetching (\S+): \d+\.\d MB of \d+\.\d MB, (\d+) %', x) for x in steps]
    assert all(shown)
    percentages = [int(one[2]) for one in shown if one and one[1] == WEIGHTS]
    assert len(percentages) > 3
    assert percentages == sorted(percentages)
    assert percentages[-1] == 100


@pytest.mark.parametrize('ignores_ranges', [False, True])
def test_a_fetch_that_was_cut_off_goes_on(hub: Hub, user: User, ignores_ranges: bool) -> None:
    hub.cut[WEIGHTS] = 5 * CHUNK + 7
    assert 'goes on where this one stopped' in user.refused()
    assert user.incomplete() == [5 * CHUNK]
    hub.requests.clear()
    hub.cut.clear()
    hub.ignores_ranges = ignores_ranges
    found = user()
    assert (found.directory / WEIGHTS).read_bytes() == hub.commits[FIRST][WEIGHTS]
    assert hub.files == [WEIGHTS]
    assert set(hub.ranges) == {f'bytes={5 * CHUNK}-'}
    assert user.incomplete() == []


def test_a_fetch_that_the_user_stops_goes_on(hub: Hub, user: User) -> None:
    def stop(line: str) -> None:
        if line.startswith(f'fetching {WEIGHTS}') and ' 0 %' not in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        find_checkpoint(REPOSITORY, None, stop)
    (size,) = user.incomplete()
    assert size > 0
    found = user()
    assert set(hub.ranges) == {f'bytes={size}-'}
    assert (found.directory / WEIGHTS).read_bytes() == hub.commits[FIRST][WEIGHTS]


def test_too_many_bytes_of_an_earlier_attempt_are_dropped(hub: Hub, user: User) -> None:
    hub.cut[WEIGHTS] = CHUNK
    user.refused()
    (path,) = user.cache.rglob('*.incomplete')
    path.write_bytes(bytes(len(hub.commits[FIRST][WEIGHTS]) + 1))
    hub.cut.clear()
    assert (user().directory / WEIGHTS).read_bytes() == hub.commits[FIRST][WEIGHTS]


def test_two_do_not_write_the_same_file(hub: Hub, user: User) -> None:
    hub.cut[WEIGHTS] = CHUNK
    user.refused()
    (path,) = user.cache.rglob('*.incomplete')
    with path.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert 'another process is fetching model.safetensors' in user.refused()


@pytest.mark.parametrize('nothing', ['no network', 'forbidden'])
def test_a_commit_in_the_cache_needs_no_request(
    nothing: str, hub: Hub, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = user(revision=FIRST)
    hub.requests.clear()
    assert user(revision=FIRST) == found
    assert user.lines == [f'{REPOSITORY} at commit {FIRST} is in the cache']
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', nothing == 'forbidden')
    user.goes_to(CLOSED)
    assert user(revision=FIRST) == found
    # Of others, nothing is known here.
    assert SECOND in user.refused(revision=SECOND)
    assert f'{REPOSITORY} at main' in user.refused()
    assert hub.requests == []


def test_without_a_network_a_branch_is_what_it_was(hub: Hub, user: User) -> None:
    found = user()
    user.goes_to(CLOSED)
    assert user() == found
    assert 'check the network' in user.lines[0]
    assert FIRST in user.lines[0]
    (found.directory / WEIGHTS).unlink()
    assert 'check the network' in user.refused()


def test_what_to_do_without_a_network(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    user.goes_to(CLOSED)
    assert 'give the directory of a checkpoint' in user.refused()
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    assert 'unset HF_HUB_OFFLINE' in user.refused()


def test_the_released_model_has_a_commit_of_its_own(user: User) -> None:
    ((name, commit),) = _PINNED.items()
    user.goes_to(CLOSED)
    assert 'microsoft' in user.refused(name)
    snapshot = user.cache / f'models--{name.replace("/", "--")}' / 'snapshots' / commit
    snapshot.mkdir(parents=True)
    for needed in NEEDED:
        (snapshot / needed).touch()
    assert user(name) == Checkpoint(snapshot, f'{name} at commit {commit}')


@pytest.mark.parametrize(
    ('status', 'code', 'words'),
    [
        (404, 'RepoNotFound', 'does not exist or is private'),
        (404, '', 'does not exist or is private'),
        (401, '', 'set HF_TOKEN'),
        (403, 'GatedRepo', 'accept its terms'),
        (403, '', 'set HF_TOKEN'),
        (404, 'RevisionNotFound', 'has no revision main'),
        (429, '', 'too many requests'),
        (418, '', 'HTTP 418'),
        (500, '', 'HTTP 500'),
        (503, '', 'try again later'),
    ],
)
def test_what_the_hub_refuses(status: int, code: str, words: str, hub: Hub, user: User) -> None:
    hub.refusals['/api/models'] = (status, {'X-Error-Code': code})
    assert words in user.refused()
    assert hub.files == []


def test_a_token_that_the_hub_does_not_know(hub: Hub, user: User) -> None:
    message = 'Invalid credentials in Authorization header'
    hub.refusals['/api/models'] = (401, {'X-Error-Message': message})
    assert 'set HF_TOKEN to a token that may read it' in user.refused()


@pytest.mark.parametrize(
    ('status', 'code', 'words'),
    [(503, '', 'goes on where this one stopped'), (404, 'EntryNotFound', 'does not have')],
)
def test_a_file_that_the_hub_refuses(
    status: int, code: str, words: str, hub: Hub, user: User
) -> None:
    hub.refusals[f'/resolve/{FIRST}/{WEIGHTS}'] = (status, {'X-Error-Code': code})
    assert words in user.refused()
    hub.refusals.clear()
    hub.requests.clear()
    user()
    assert hub.files == [WEIGHTS]


def test_a_token_goes_to_the_hub_only(
    hub: Hub, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('HF_TOKEN', 'hf_secret')
    user()
    stored = {one.token for one in hub.requests if '/store/' in one.path}
    others = {one.token for one in hub.requests if '/store/' not in one.path}
    assert (others, stored) == ({'Bearer hf_secret'}, {None})


def test_a_disk_that_is_too_small(hub: Hub, user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(user.cache.parent)._replace(free=CHUNK)
    monkeypatch.setattr(hub_cache.shutil, 'disk_usage', lambda path: usage)
    assert 'set HF_HOME to a directory on another disk' in user.refused()
    assert hub.files == []


@pytest.mark.parametrize(
    ('number', 'words'), [(errno.ENOSPC, 'is full; make room'), (errno.EROFS, 'can be written')]
)
def test_a_disk_that_takes_no_more(
    number: int, words: str, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def http_get(*_: object, **__: object) -> None:
        raise OSError(number, 'no')

    monkeypatch.setattr(hub_cache, 'http_get', http_get)
    assert words in user.refused()


@pytest.mark.parametrize('name', [CONFIG, WEIGHTS])
def test_wrong_bytes_are_not_kept(name: str, hub: Hub, user: User) -> None:
    hub.wrong[name] = bytes(len(hub.commits[FIRST][name]))
    assert f'what came of {name} is not what' in user.refused()
    assert user.incomplete() == []
    hub.wrong.clear()
    assert (user().directory / name).read_bytes() == hub.commits[FIRST][name]


def test_too_few_bytes(hub: Hub, user: User) -> None:
    hub.wrong[WEIGHTS] = hub.commits[FIRST][WEIGHTS][:-1]
    assert 'not as long as' in user.refused()
    hub.wrong.clear()
    assert (user().directory / WEIGHTS).read_bytes() == hub.commits[FIRST][WEIGHTS]


def test_a_pickle_is_not_fetched(hub: Hub, user: User) -> None:
    del hub.commits[FIRST][WEIGHTS]
    assert 'pickle' in user.refused()
    assert hub.files == []


@pytest.mark.parametrize(
    ('names', 'words'),
    [
        ([CONFIG], 'no config.json'),
        ([SENTENCEPIECE, 'tokenizer.json'], 'no sentencepiece.bpe.model and no tokenizer.json'),
        ([WEIGHTS, 'pytorch_model.bin'], f'no {WEIGHTS} and no {INDEX}'),
    ],
)
def test_a_repository_of_something_else(
    names: list[str], words: str, hub: Hub, user: User
) -> None:
    for name in names:
        del hub.commits[FIRST][name]
    assert words in user.refused()
    assert hub.files == []


def test_the_other_kind_of_tokenizer(hub: Hub, user: User) -> None:
    del hub.commits[FIRST][SENTENCEPIECE]
    user()
    assert hub.files == [CONFIG, 'tokenizer.json', WEIGHTS]


def shard(hub: Hub, checkpoint: Path) -> None:
    """Spread the weights over two files."""
    weights = load_file(checkpoint / WEIGHTS)
    names = sorted(weights)
    held = {'a-1.safetensors': names[::2], 'a-2.safetensors': names[1::2]}
    files = hub.commits[FIRST]
    del files[WEIGHTS]
    for file, tensors in held.items():
        files[file] = save({name: weights[name] for name in tensors})
    weight_map = {name: file for file, tensors in held.items() for name in tensors}
    files[INDEX] = json.dumps({'weight_map': weight_map}).encode()


def test_shards(hub: Hub, user: User, checkpoint: Path) -> None:
    shard(hub, checkpoint)
    found = user()
    load_model(found.directory, torch.float32)
    assert sorted(hub.files) == sorted(
        [CONFIG, SENTENCEPIECE, INDEX, 'a-1.safetensors', 'a-2.safetensors']
    )
    hub.requests.clear()
    assert user(revision=FIRST) == found
    assert hub.requests == []
    (found.directory / 'a-2.safetensors').unlink()
    assert user(revision=FIRST) == found


@pytest.mark.parametrize(
    ('index', 'words'),
    [
        ({'weight_map': {'x': '../evil.safetensors'}}, "names '../evil.safetensors'"),
        ({'weight_map': {'x': 'evil.bin'}}, "names 'evil.bin'"),
        ({'weight_map': {'x': 7}}, 'names 7'),
        ({'weight_map': {'x': ['a.safetensors']}}, 'is no index'),
        ({'weight_map': {'x': 'gone.safetensors'}}, 'no gone.safetensors'),
        ({'weight_map': None}, 'is no index'),
        ([], 'is no index'),
    ],
)
def test_an_index_names_files_beside_it_only(
    index: object, words: str, hub: Hub, user: User
) -> None:
    files = hub.commits[FIRST]
    del files[WEIGHTS]
    files[INDEX] = json.dumps(index).encode()
    files['evil.bin'] = files['../evil.safetensors'] = b'evil'
    assert words in user.refused()
    assert hub.files == [INDEX]


@pytest.mark.parametrize(
    'change',
    [
        {'sha': '../..'},
        {'sha': None},
        {'siblings': [{'rfilename': CONFIG, 'size': 1, 'blobId': '../../x'}]},
        {'siblings': [{'rfilename': CONFIG}]},
        {'siblings': [7]},
    ],
)
def test_an_answer_that_is_none_of_a_hub(change: dict[str, object], hub: Hub, user: User) -> None:
    hub.change_answer = lambda answer: {**answer, **change}
    assert 'does not answer as a hub does' in user.refused()
    hub.change_answer = lambda answer: [answer]
    assert 'does not answer as a hub does' in user.refused()


def test_an_answer_for_another_commit(hub: Hub, user: User) -> None:
    hub.change_answer = lambda answer: {**answer, 'sha': SECOND}
    assert f'the hub answers with {SECOND}' in user.refused(revision=FIRST)


def test_file_systems_without_links(hub: Hub, user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    def symlink_to(*_: object) -> None:
        raise PermissionError(errno.EPERM, 'no links here')

    monkeypatch.setattr(Path, 'symlink_to', symlink_to)
    found = user()
    load_model(found.directory, torch.float32)
    hub.requests.clear()
    assert user(revision=FIRST) == found
    assert hub.requests == []


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
