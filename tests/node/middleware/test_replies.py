"""Answers that the middleware drops are sent again, with a stand-in that drops them as it does."""

from collections.abc import Iterator
import threading
import warnings

import pytest
from rclpy.impl.implementation_singleton import rclpy_implementation

from kosmos_ros.node.middleware import replies


class Dropping:
    """A service whose first answers are dropped: with a warning, or with an exception."""

    def __init__(self, drops: int, error: Exception | None = None) -> None:
        self.drops, self.error = drops, error
        self.tried: list[tuple[object, object]] = []

    def send_response(self, response: object, header: object) -> None:
        self.tried.append((response, header))
        if len(self.tried) <= self.drops:
            if self.error:
                raise self.error
            warnings.warn(
                'failed to send response (timeout): client will not receive response',
                RuntimeWarning,
                stacklevel=1,
            )


@pytest.fixture(autouse=True)
def noticing() -> Iterator[None]:
    with warnings.catch_warnings():
        replies.notice_dropped_replies()
        yield


def deliver(service: Dropping) -> list[str]:
    reports: list[str] = []
    replies.send_until_delivered(service, reports.append)
    service.send_response('answer', 'header')
    return reports


@pytest.mark.parametrize(
    'error', [None, rclpy_implementation.RCLError('client will not receive response')]
)
def test_a_dropped_answer_is_sent_again(error: Exception | None) -> None:
    service = Dropping(3, error)
    assert deliver(service) == []
    assert service.tried == [('answer', 'header')] * 4


def test_an_answer_that_arrives_is_sent_once() -> None:
    service = Dropping(0)
    assert deliver(service) == []
    assert len(service.tried) == 1


def test_a_caller_that_is_not_found_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replies, '_DISCOVERED_WITHIN_S', 0.05)
    (report,) = deliver(Dropping(10**9))
    assert 'could not be delivered' in report


def test_other_failures_pass() -> None:
    with pytest.raises(rclpy_implementation.RCLError, match='out of memory'):
        deliver(Dropping(1, rclpy_implementation.RCLError('out of memory')))


def test_threads_do_not_hear_each_other() -> None:
    dropped, sent = Dropping(200), Dropping(0)
    threads = [threading.Thread(target=deliver, args=(service,)) for service in (dropped, sent)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (len(dropped.tried), len(sent.tried)) == (201, 1)


def test_other_warnings_are_shown() -> None:
    warnings.simplefilter('always')
    shown: list[str] = []
    warnings.showwarning = lambda message, *_, **__: shown.append(str(message))
    replies.notice_dropped_replies()
    warnings.warn('something else', UserWarning, stacklevel=1)
    assert shown == ['something else']


def dropping_kind(drops: int, error: Exception | None = None) -> type:
    """An action server of rclpy, as far as it sends answers: the first ones are dropped."""
    dropping = Dropping(drops, error)

    class Kind:
        tried = dropping.tried

        def send_goal_response(self, header: object, response: object) -> None:
            dropping.send_response(response, header)

        send_cancel_response = send_result_response = send_goal_response

    return Kind


def wait_for_threads() -> None:
    for thread in threading.enumerate():
        if thread.name == 'replies':
            thread.join(30)


NAMES = ['send_goal_response', 'send_cancel_response', 'send_result_response']


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize(
    'error', [None, rclpy_implementation.RCLError('client will not receive response')]
)
def test_a_dropped_answer_of_an_action_is_sent_again(name: str, error: Exception | None) -> None:
    reports: list[str] = []
    kind = dropping_kind(3, error)
    replies.send_action_replies_until_delivered(reports.append, kind)
    getattr(kind(), name)('header', 'answer')
    wait_for_threads()
    assert kind.tried == [('answer', 'header')] * 4
    assert reports == []


def test_an_action_that_cannot_answer_does_not_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    """rclpy would forget the goal, and its result would never come."""
    monkeypatch.setattr(replies, '_DISCOVERED_WITHIN_S', 0.05)
    reports: list[str] = []
    lost = dropping_kind(10**9)
    broken = dropping_kind(1, rclpy_implementation.RCLError('out of memory'))
    for kind in (lost, broken):
        replies.send_action_replies_until_delivered(reports.append, kind)
        kind().send_goal_response('header', 'answer')
        wait_for_threads()
    assert ['could not be delivered' in reports[0], 'out of memory' in reports[1]] == [True, True]
