"""Conversations alone: which go, when, and what a turn leaves."""

import pytest

from kosmos_ros.engine.base import Transcript
from kosmos_ros.errors import Busy, NoConversation
from kosmos_ros.node.ask.conversations import Conversations


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def kept(clock: Clock) -> Conversations[str]:
    return Conversations(3, 60.0, 1000, clock)


def transcript(*ids: int, nbytes: int = 0) -> Transcript:
    return Transcript(ids, (), object() if nbytes else None, nbytes)


def begin(kept: Conversations[str], *ids: int, nbytes: int = 0) -> str:
    turn = kept.turn('')
    turn.commit(transcript(*ids, nbytes=nbytes), 'a picture')
    return turn.conversation_id


def ids_of(kept: Conversations[str], name: str) -> tuple[int, ...]:
    turn = kept.turn(name)
    assert turn.history is not None
    turn.roll_back(begun=False)
    return turn.history.ids


def test_goes_on_where_it_was(kept) -> None:
    name = begin(kept, 1)
    assert len(name) == 16
    turn = kept.turn(name)
    assert (turn.history.ids, turn.image, turn.conversation_id) == ((1,), 'a picture', name)
    turn.commit(transcript(1, 2), 'another')
    turn = kept.turn(name)
    assert (turn.history.ids, turn.image) == ((1, 2), 'another')


def test_names_cannot_be_guessed(kept) -> None:
    assert len({begin(kept) for _ in range(100)}) == 100


def test_one_turn_at_a_time(kept) -> None:
    name = begin(kept, 1)
    turn = kept.turn(name)
    for _ in range(2):
        with pytest.raises(Busy, match='wait'):
            kept.turn(name)
    turn.roll_back(begun=False)
    assert ids_of(kept, name) == (1,)


def test_a_turn_that_came_to_nothing_leaves_it_as_it_was(kept) -> None:
    turn = kept.turn('')
    assert turn.conversation_id == ''
    turn.roll_back(begun=True)
    assert (turn.conversation_id, kept.count) == ('', 0)
    name = begin(kept, 1, nbytes=10)
    kept.turn(name).roll_back(begun=False)
    turn = kept.turn(name)
    assert turn.history.nbytes == 10
    # The engine may have changed what it was given.
    turn.roll_back(begun=True)
    turn = kept.turn(name)
    assert (turn.history.ids, turn.history.kv_cache, turn.history.nbytes) == ((1,), None, 0)


def test_the_least_recently_used_go_first(kept) -> None:
    first, second, third = (begin(kept, number) for number in range(3))
    assert ids_of(kept, first) == (0,)
    fourth = begin(kept, 3)
    with pytest.raises(NoConversation, match='max_conversations'):
        kept.turn(second)
    assert [ids_of(kept, name) for name in (first, third, fourth)] == [(0,), (2,), (3,)]
    assert kept.count == 3


def test_a_conversation_in_its_turn_does_not_go(kept, clock) -> None:
    names = [begin(kept, number) for number in range(3)]
    turns = [kept.turn(name) for name in names]
    clock.now_s += 1000
    newest = begin(kept, 9)
    assert kept.count == 4
    assert ids_of(kept, newest) == (9,)
    for turn in turns:
        turn.roll_back(begun=False)
    assert kept.count == 3
    assert ids_of(kept, names[2]) == (2,)


def test_age(kept, clock) -> None:
    name = begin(kept, 1)
    clock.now_s += 60
    assert ids_of(kept, name) == (1,)
    clock.now_s += 60.1
    with pytest.raises(NoConversation, match='conversation_age'):
        kept.turn(name)
    assert kept.count == 0


@pytest.mark.parametrize('name', ['0123456789abcdef', '\x1b[2J', 'x' * 10**6])
def test_unknown(kept, name: str) -> None:
    with pytest.raises(NoConversation, match='There is no conversation') as told:
        kept.turn(name)
    assert str(told.value).isprintable()
    assert len(str(told.value)) < 250


def test_memory_goes_from_the_oldest(kept) -> None:
    names = [begin(kept, number, nbytes=400) for number in range(3)]
    assert (kept.count, kept.nbytes) == (3, 800)
    turns = [kept.turn(name) for name in names]
    assert [turn.history.kv_cache is None for turn in turns] == [True, False, False]
    assert [turn.history.ids for turn in turns] == [(0,), (1,), (2,)]
    # What is in use cannot be given back.
    turns[0].commit(transcript(0, 1, nbytes=900), None)
    assert kept.nbytes == 800
    turns[1].commit(transcript(1, 1, nbytes=400), None)
    assert kept.nbytes == 800


def test_no_memory_at_all(clock) -> None:
    kept: Conversations[str] = Conversations(3, 60.0, 0, clock)
    name = begin(kept, 1, nbytes=1)
    assert kept.nbytes == 0
    assert ids_of(kept, name) == (1,)


def test_forgotten_names_are_bounded(clock) -> None:
    kept: Conversations[str] = Conversations(1, 60.0, 0, clock)
    first = begin(kept)
    for _ in range(1500):
        begin(kept)
    with pytest.raises(NoConversation, match='There is no conversation'):
        kept.turn(first)
