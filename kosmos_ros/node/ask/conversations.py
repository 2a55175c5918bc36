"""Conversations, kept within bounds of number, age and memory.

Knows nothing of ROS.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
import secrets
import threading
import time
from typing import Generic, TypeVar

from kosmos_ros.engine.base import Transcript
from kosmos_ros.errors import Busy, NoConversation
from kosmos_ros.model.expressions import quoted

P = TypeVar('P')
# Names of dropped conversations, kept to tell 'not any more' from 'never'.
_DROPPED_KEPT = 1000


@dataclass(slots=True)
class _Conversation(Generic[P]):
    transcript: Transcript
    image: P | None
    used_s: float
    busy: bool = False


class ConversationTurn(Generic[P]):
    """One question and its answer; a turn must be ended, by `commit` or `roll_back`."""

    def __init__(
        self,
        conversations: 'Conversations[P]',
        name: str,
        history: Transcript | None,
        image: P | None,
    ) -> None:
        self._conversations = conversations
        self._name = name
        self._exists = history is not None
        self.history = history
        self.image = image

    @property
    def conversation_id(self) -> str:
        """The name by which to go on; empty while there is nothing to go on with."""
        return self._name if self._exists else ''

    def commit(self, transcript: Transcript, image: P | None) -> None:
        """Store the conversation with this turn.

        :param image: the last image of the conversation.
        """
        self._conversations.store(self._name, transcript, image)
        self._exists = True

    def roll_back(self, begun: bool) -> None:
        """Leave the conversation as it was.

        :param begun: whether the engine was given its history, whose keys and values it may have
            changed.
        """
        if self.history is not None:
            history = self.history.without_kv_cache() if begun else self.history
            self._conversations.store(self._name, history, self.image)


class Conversations(Generic[P]):
    """Every thread may use it.  `P` is what is kept of a conversation's last image.

    :param most: how many are kept; the least recently used go first.
    :param age_s: after so long without a turn they go.
    :param most_bytes: of keys and values that are kept between turns; beyond it those of the
        least recently used are dropped, to be computed again.
    :param clock: seconds, monotonic.
    """

    def __init__(
        self,
        most: int,
        age_s: float,
        most_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = most
        self._age_s = age_s
        self._most_bytes = most_bytes
        self._clock = clock
        self._lock = threading.Lock()
        # Least recently used first.
        self._kept: OrderedDict[str, _Conversation[P]] = OrderedDict()
        self._dropped: OrderedDict[str, str] = OrderedDict()

    def turn(self, conversation_id: str) -> ConversationTurn[P]:
        """Take a turn.

        :param conversation_id: empty: begin a conversation.
        :raises NoConversation: when there is none of this name, or not any more.
        :raises Busy: when another turn of it is under way.
        """
        if not conversation_id:
            return ConversationTurn(self, secrets.token_hex(8), None, None)
        with self._lock:
            self._drop_old()
            kept = self._kept.get(conversation_id)
            if kept is None:
                raise NoConversation(self._why_none(conversation_id))
            if kept.busy:
                raise Busy(
                    f'A question is being answered in the conversation {quoted(conversation_id)}; '
                    'wait for its answer.'
                )
            kept.busy = True
            return ConversationTurn(self, conversation_id, kept.transcript, kept.image)

    def store(self, name: str, transcript: Transcript, image: P | None) -> None:
        """Store what a turn has ended with."""
        with self._lock:
            self._kept[name] = _Conversation(transcript, image, self._clock())
            self._kept.move_to_end(name)
            self._drop_old()

    @property
    def count(self) -> int:
        """How many conversations there are."""
        with self._lock:
            self._drop_old()
            return len(self._kept)

    @property
    def nbytes(self) -> int:
        """Memory of their keys and values."""
        with self._lock:
            return sum(kept.transcript.nbytes for kept in self._kept.values())

    def _drop_old(self) -> None:
        now_s = self._clock()
        idle = [name for name, kept in self._kept.items() if not kept.busy]
        for name in idle:
            if now_s - self._kept[name].used_s > self._age_s:
                self._drop(name, f'it was not used for {self._age_s:g} s (conversation_age)')
            # The newest one stays: a client has just been given its name.
            elif len(self._kept) > self._most and name != idle[-1]:
                self._drop(name, f'only {self._most} are kept (max_conversations)')
        nbytes = sum(kept.transcript.nbytes for kept in self._kept.values())
        for kept in self._kept.values():
            if nbytes > self._most_bytes and not kept.busy:
                nbytes -= kept.transcript.nbytes
                kept.transcript = kept.transcript.without_kv_cache()

    def _drop(self, name: str, why: str) -> None:
        del self._kept[name]
        self._dropped[name] = why
        if len(self._dropped) > _DROPPED_KEPT:
            self._dropped.popitem(last=False)

    def _why_none(self, name: str) -> str:
        why = self._dropped.get(name)
        if why is None:
            return (
                f'There is no conversation {quoted(name)}; leave conversation_id empty to begin '
                'one.'
            )
        return f'The conversation {quoted(name)} has ended, as {why}; begin another one.'
