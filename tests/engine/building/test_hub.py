"""Checkpoints of the hub: only what is needed, all of one commit, and nothing is fetched twice."""

import errno
import fcntl
from pathlib import Path
import re

from huggingface_hub import constants, hf_hub_download, scan_cache_dir
import pytest
import torch

from kosmos_ros.engine.building.hub import find_checkpoint
from kosmos_ros.model.network.weights import load_model
from kosmos_ros.model.tokenizer import SENTENCEPIECE, write_tokenizer

from .hub_user import CHUNK, CLOSED, CONFIG, INDEX, NEEDED, WEIGHTS, User, shard
from .stand_in_hub import FIRST, REPOSITORY, SECOND, Hub


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


def test_a_token_goes_to_the_hub_only(
    hub: Hub, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('HF_TOKEN', 'hf_secret')
    user()
    stored = {one.token for one in hub.requests if '/store/' in one.path}
    others = {one.token for one in hub.requests if '/store/' not in one.path}
    assert (others, stored) == ({'Bearer hf_secret'}, {None})


def test_the_other_kind_of_tokenizer(hub: Hub, user: User) -> None:
    del hub.commits[FIRST][SENTENCEPIECE]
    user()
    assert hub.files == [CONFIG, 'tokenizer.json', WEIGHTS]


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


def test_file_systems_without_links(hub: Hub, user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    def symlink_to(*_: object) -> None:
        raise PermissionError(errno.EPERM, 'no links here')

    monkeypatch.setattr(Path, 'symlink_to', symlink_to)
    found = user()
    load_model(found.directory, torch.float32)
    hub.requests.clear()
    assert user(revision=FIRST) == found
    assert hub.requests == []
