"""Each callback is handed to the pool of threads once, however quiet the machine is."""

from concurrent.futures import ThreadPoolExecutor
import threading

import pytest
import rclpy
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.context import Context
from rclpy.node import Node

from kosmos_ros.node.middleware.executor import ThreadPoolCallbackExecutor

ENOUGH = 200


@pytest.fixture
def context():
    context = Context()
    rclpy.init(context=context)
    yield context
    context.try_shutdown()


@pytest.fixture
def node(context):
    node = Node('busy', context=context, enable_rosout=False, start_parameter_services=False)
    yield node
    node.destroy_node()


@pytest.fixture
def errors():
    return []


@pytest.fixture
def executor(context, node, errors):
    executor = ThreadPoolCallbackExecutor(4, errors.append, context=context)
    executor.add_node(node)
    spinning = threading.Thread(target=executor.spin)
    spinning.start()
    yield executor
    executor.stop()
    spinning.join(10)
    assert not spinning.is_alive()
    executor.shutdown()


def test_each_callback_is_submitted_once(node, executor, errors, monkeypatch):
    submits = 0
    submit = ThreadPoolExecutor.submit

    def count(*args, **kwargs):
        nonlocal submits
        submits += 1
        return submit(*args, **kwargs)

    monkeypatch.setattr(ThreadPoolExecutor, 'submit', count)
    calls, enough = 0, threading.Event()

    def callback():
        nonlocal calls
        calls += 1
        if calls == ENOUGH:
            enough.set()

    node.create_timer(0.005, callback, callback_group=MutuallyExclusiveCallbackGroup())
    assert enough.wait(60)
    # Nothing but this timer runs here; one more of its calls may be on its way.
    assert calls <= submits <= calls + 1
    assert errors == []


def test_callbacks_run_side_by_side(node, executor):
    both = threading.Barrier(2, timeout=30)
    met = threading.Semaphore(0)

    def callback():
        both.wait()
        met.release()

    timers = [
        node.create_timer(0.01, callback, callback_group=MutuallyExclusiveCallbackGroup())
        for _ in range(2)
    ]
    assert met.acquire(timeout=30)
    assert met.acquire(timeout=30)
    for timer in timers:
        timer.cancel()
    both.abort()


def test_what_a_callback_raises_is_told_and_others_go_on(node, executor, errors):
    calls = threading.Semaphore(0)

    def fail():
        calls.release()
        raise ValueError('odd')

    node.create_timer(0.01, fail, callback_group=MutuallyExclusiveCallbackGroup())
    for _ in range(3):
        assert calls.acquire(timeout=30)
    assert {str(error) for error in errors} == {'odd'}


def test_a_full_pool_ends_when_it_is_stopped(node, executor):
    begun, let = threading.Semaphore(0), threading.Event()

    def block():
        begun.release()
        assert let.wait(30)

    for _ in range(6):
        node.create_timer(0.01, block, callback_group=MutuallyExclusiveCallbackGroup())
    for _ in range(4):
        assert begun.acquire(timeout=30)
    assert not begun.acquire(timeout=0.1)
    executor.stop()
    let.set()


def test_stop_before_spin_and_a_closed_context(context, node):
    executor = ThreadPoolCallbackExecutor(1, print, context=context)
    executor.add_node(node)
    executor.stop()
    executor.spin()
    executor.shutdown()
    other = ThreadPoolCallbackExecutor(1, print, context=context)
    context.shutdown()
    other.spin()
    other.shutdown()
