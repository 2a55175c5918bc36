"""A part in a process of its own: it may hang, crash, or leave a GPU that answers no more, and the
next part still begins with a fresh one.
"""

from collections.abc import Callable
import multiprocessing
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
import signal
import time

from gpu_check.attempt import attempt
from gpu_check.report import State
from gpu_check.task import Ended, Findings, Message, Part, Task

# For the driver to give everything back.
_LEAVES_S = 15.0


def in_own_process(
    part: Part, task: Task, limit_s: float, receive: Callable[[Message], None]
) -> Ended:
    """Do a part's work, and end it when it takes too long.

    :param limit_s: seconds that it may take.
    :param receive: is given what it finds, as it comes.
    """
    # A fork would inherit what this process has of CUDA and of threads.
    context = multiprocessing.get_context('spawn')
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(part, task, sender))
    end_s = time.monotonic() + limit_s
    process.start()
    # Else the pipe would not end with the process.
    sender.close()
    try:
        while (left_s := end_s - time.monotonic()) > 0 and receiver.poll(left_s):
            message = receiver.recv()
            if isinstance(message, Ended):
                process.join(_LEAVES_S)
                return message
            receive(message)
        return Ended(State.REFUSED, f'stopped after {limit_s:.0f} s, its share of the time')
    except EOFError:
        process.join(_LEAVES_S)
        return _without_a_word(process)
    finally:
        receiver.close()
        process.kill()
        process.join()


def _work(part: Part, task: Task, sender: Connection) -> None:
    sender.send(attempt(part, task, Findings(sender.send)))


def _without_a_word(process: BaseProcess) -> Ended:
    code = process.exitcode
    if code == -signal.SIGKILL:
        # So the kernel ends what takes the last memory of a machine.
        return Ended(State.REFUSED, 'killed, as when the memory of the machine is too small')
    name = signal.Signals(-code).name if code is not None and code < 0 else f'exit code {code}'
    return Ended(State.FAILED, f'its process ended without a word: {name}')
