"""The parts `PyTorch captured` and `PyTorch launched`: the network itself on the GPU, with CUDA
graphs and without.
"""

import time

from gpu_check.questions import examine
from gpu_check.task import Findings, Task
from kosmos_ros.engine.directory.directory import EngineDirectory
from kosmos_ros.engine.runners.torch_program import open_static_runner


def captured(task: Task, findings: Findings) -> None:
    """Run with CUDA graphs."""
    _run(task, findings, graphs=True)


def launched(task: Task, findings: Findings) -> None:
    """Run without them."""
    _run(task, findings, graphs=False)


def _run(task: Task, findings: Findings, *, graphs: bool) -> None:
    accelerator = task.open_accelerator()
    used = accelerator.used_bytes()
    begin = time.monotonic()
    files = EngineDirectory.verified(task.engine)
    runner = open_static_runner(files, accelerator.device(graphs))
    accelerator.synchronize()
    findings.figure('load_s', time.monotonic() - begin)
    findings.line(f'{runner.name} is loaded')
    examine(runner, files, accelerator, task, findings)
    findings.figure('grown_bytes', accelerator.used_bytes() - used)
    runner.close()
