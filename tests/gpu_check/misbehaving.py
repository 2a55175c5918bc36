"""Parts that go wrong in every way."""

import os
import signal
import time

from gpu_check.task import Findings, Task


def finds_and_hangs(task: Task, findings: Findings) -> None:
    findings.figure('found', 1.0)
    findings.line('half: 50%')
    time.sleep(600)


def chatters(task: Task, findings: Findings) -> None:
    while True:
        findings.line('still here')


def crashes(task: Task, findings: Findings) -> None:
    findings.line('goes down')
    os.kill(os.getpid(), signal.SIGSEGV)


def is_killed(task: Task, findings: Findings) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def lacks_a_package(task: Task, findings: Findings) -> None:
    import no_such_package  # type: ignore[import-not-found]  # noqa: F401


def runs(task: Task, findings: Findings) -> None:
    findings.line('done')
