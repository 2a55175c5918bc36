"""What the hub or this machine refuses: a sentence says what to do, and nothing wrong is kept."""

import errno
import json
import shutil

from huggingface_hub import constants
import pytest

from kosmos_ros.engine.building import hub_cache
from kosmos_ros.model.tokenizer import SENTENCEPIECE

from .hub_user import CHUNK, CLOSED, CONFIG, INDEX, WEIGHTS, User
from .stand_in_hub import FIRST, SECOND, Hub


def test_what_to_do_without_a_network(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    user.goes_to(CLOSED)
    assert 'give the directory of a checkpoint' in user.refused()
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    assert 'unset HF_HUB_OFFLINE' in user.refused()


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
