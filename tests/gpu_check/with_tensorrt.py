"""The part `TensorRT`, of whichever flavour is installed."""

import time

from gpu_check.attempt import refusals
from gpu_check.questions import examine
from gpu_check.task import Findings, Task
from kosmos_ros.engine.building.plans import build_plans
from kosmos_ros.engine.directory.directory import EngineDirectory
from kosmos_ros.engine.load import open_runner


def built(task: Task, findings: Findings) -> None:
    """Build plans, load them, and run them."""
    accelerator = task.open_accelerator()
    files = EngineDirectory.verified(task.engine)
    begin = time.monotonic()
    with refusals():
        build_plans(files, findings.line)
    findings.figure('build_s', time.monotonic() - begin)
    used = accelerator.used_bytes()
    begin = time.monotonic()
    with refusals():
        # It compares with the reference, too, so the next comparison sees what was captured.
        runner, _ = open_runner(files, 'tensorrt', level='full', report=findings.line)
    findings.figure('load_s', time.monotonic() - begin)
    examine(runner, files, accelerator, task, findings)
    findings.figure('grown_bytes', accelerator.used_bytes() - used)
    runner.close()
