"""The parts, one after another, within the time for all of them."""

from collections.abc import Callable, Sequence
from pathlib import Path
import time

from gpu_check.goals import goals_of
from gpu_check.report import CheckReport, PartReport, State
from gpu_check.task import Ended, Found, Line, Message, Part, Task
from kosmos_ros.console.engine import Console

# The shares are seconds that are enough on a machine with some eight cores.
PARTS = (
    Part('gpu', 'gpu_check.gpu:describe', 15),
    Part('bandwidth', 'gpu_check.gpu:copy_bandwidth', 15, ('gpu',)),
    Part('model', 'gpu_check.model:make_engine', 170, ('gpu',)),
    Part('PyTorch captured', 'gpu_check.with_pytorch:captured', 55, ('gpu', 'model')),
    Part('PyTorch launched', 'gpu_check.with_pytorch:launched', 45, ('gpu', 'model')),
    Part('transformers', 'gpu_check.with_transformers:eager', 60, ('gpu', 'model')),
    # The last one, as it gets what the others leave: nobody knows how long a build takes.
    Part('TensorRT', 'gpu_check.with_tensorrt:built', 105, ('gpu', 'model')),
)
# Less than eight minutes.
SECONDS = 465.0
# Does a part's work within so many seconds.
RunPart = Callable[[Part, Task, float, Callable[[Message], None]], Ended]


def check(
    parts: Sequence[Part],
    task: Task,
    report: CheckReport,
    path: Path,
    seconds: float,
    run_part: RunPart,
) -> None:
    """Run all parts; the report is written after each.

    :param path: of the report.
    :param seconds: for all parts.
    """
    begin_s = time.monotonic()
    report.parts = [PartReport(part.name) for part in parts]
    report.write(path)
    for index, part in enumerate(parts):
        left_s = seconds - (time.monotonic() - begin_s)
        limit_s = left_s * part.share / sum(other.share for other in parts[index:])
        _run(part, task, report, limit_s, run_part)
        report.goals = list(goals_of(report))
        report.seconds = time.monotonic() - begin_s
        report.write(path)


def _run(part: Part, task: Task, report: CheckReport, limit_s: float, run_part: RunPart) -> None:
    found, console, begin_s = report.part(part.name), Console(), time.monotonic()

    def receive(message: Message) -> None:
        if isinstance(message, Found):
            found.figures[message.name] = message.figure
        elif isinstance(message, Line):
            console(f'{part.name}: {message.text}')
            # Percentages are for who waits.
            if not message.text.endswith('%'):
                found.lines.append(message.text)

    missing = [report.part(name) for name in part.needs]
    missing = [other for other in missing if other.state is not State.OK]
    if missing:
        words = '; '.join(f'{other.name} was {other.state.value}' for other in missing)
        ended = Ended(State.REFUSED, f'{words}: {missing[0].words}')
    else:
        ended = run_part(part, task, limit_s, receive)
    found.state, found.words = ended.state, ended.words
    found.seconds = time.monotonic() - begin_s
    console(f'{part.name}: {found.state.value} {found.words}')
