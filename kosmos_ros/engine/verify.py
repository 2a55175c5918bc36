"""Is this engine whole, does it answer here, and does it answer what its reference does?"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
import json
from pathlib import Path
import platform
import time
from typing import Any

import numpy as np

from kosmos_ros import __version__
from kosmos_ros.engine.base import Image
from kosmos_ros.engine.directory.file_names import GOLDEN_FILE
from kosmos_ros.engine.directory.reference import Golden, self_check
from kosmos_ros.engine.kosmos2 import GroundingEngine
from kosmos_ros.engine.load import EngineFiles, open_runner
from kosmos_ros.engine.machine import this_machine
from kosmos_ros.engine.runners.runner import Runner
from kosmos_ros.errors import EngineError, RunnerUnavailable

_TIMED = 20


@dataclass(slots=True)
class Findings:
    """What a verification found, for a report of this device.

    :param milliseconds: medians: looking at an image, and one expression about it.
    """

    kosmos_ros: str = __version__
    python: str = platform.python_version()
    machine: str = f'{platform.system()} {platform.machine()}'
    device: str = ''
    engine: str = ''
    model: str = ''
    precision: str = ''
    remarks: tuple[str, ...] = ()
    checks: list[str] = field(default_factory=list)
    milliseconds: dict[str, float] = field(default_factory=dict)
    failure: str = ''

    def write(self, path: Path) -> None:
        """Write them as JSON."""
        path.write_text(json.dumps(asdict(self), indent=2) + '\n', encoding='utf-8')


def verify_engine(
    directory: Path, runner: str, findings: Findings, image: Image | None = None
) -> Iterator[str]:
    """Check hashes, load, compare with the reference, ask; one line of report per step.

    :param image: the picture of the published answers, if the engine is to give those; RGB
        uint8[height, width, 3].
    :raises EngineFileError: when the directory is not whole.
    :raises RunnerUnavailable: when this machine cannot run it.
    :raises SelfCheckFailed: when it gives other answers than the reference.
    :raises EngineError: when an answer is not a probability and a box inside the image, or not the
        published one.
    """
    try:
        yield from _verify(directory, runner, findings, image)
    except EngineError as error:
        findings.failure = str(error)
        raise


def _verify(
    directory: Path, runner: str, findings: Findings, image: Image | None
) -> Iterator[str]:
    files = EngineFiles.verified(directory)
    findings.device = _device()
    findings.model, findings.precision = files.manifest.model, files.manifest.precision
    size = sum(entry.bytes for entry in files.manifest.files.values())
    yield f'files    ok: {len(files.manifest.files)} files, {size:,} bytes, all hashes match'
    begin = time.monotonic()
    loaded, remarks = open_runner(
        files, runner, level='off', build_plans='never', report=lambda line: None
    )
    findings.engine, findings.remarks = loaded.name, remarks
    for remark in remarks:
        yield f'load       : {remark}'
    yield f'load     ok: {loaded.name}, {time.monotonic() - begin:.2f} s'
    try:
        golden = Golden.read(directory / GOLDEN_FILE)
        for line in self_check(loaded, golden, 'full', files.recipe.precision):
            findings.checks.append(line)
            yield f'check    ok: {line}'
        yield _answer(files, loaded, findings)
        if image is not None:
            yield from _published(files, loaded, findings, image)
    finally:
        loaded.close()


def _device() -> str:
    """GPU, driver and TensorRT, or why there are none."""
    try:
        return this_machine().describe()
    except RunnerUnavailable as error:
        return str(error)


def _answer(files: EngineFiles, loaded: Runner, findings: Findings) -> str:
    engine = GroundingEngine(files.manifest.name, loaded, files.vocabulary, files.config)
    # A grey image with a red square: any Kosmos-2 has words for it, whatever it answers.
    image = np.full((240, 320, 3), 128, np.uint8)
    image[80:160, 120:200] = (200, 30, 30)
    context = engine.encode_image(image)
    ((located,),) = engine.locate(context, ['the red box'])
    box = located.box_in_image
    if not (0 <= box.x0 < box.x1 <= 1 and 0 <= box.y0 < box.y1 <= 1 and 0 <= located.score <= 1):
        raise EngineError(f'{files.directory} answers {located}, which is no box inside the image')
    times = {
        'encode_image': _median_ms(lambda: engine.encode_image(image)),
        'locate': _median_ms(lambda: engine.locate(context, ['the red box'])),
    }
    findings.milliseconds = times
    return (
        f'answer   ok: ({box.x0:.3f}, {box.y0:.3f}, {box.x1:.3f}, {box.y1:.3f}), '
        f'score {located.score:.3f}; image {times["encode_image"]:.1f} ms, '
        f'expression {times["locate"]:.1f} ms'
    )


def _published(
    files: EngineFiles, loaded: Runner, findings: Findings, image: Image
) -> Iterator[str]:
    from kosmos_ros.engine.golden import accept

    failed = []
    for verdict in accept(loaded, files.vocabulary, files.config, image):
        word = 'ok' if verdict.passed else 'FAILED'
        line = f'{verdict.name}: {verdict.found}'
        if not verdict.passed:
            failed.append(verdict.name)
            line += f' instead of {verdict.expected}'
        findings.checks.append(f'published {word}: {line}')
        yield f'published {word}: {line}'
    if failed:
        raise EngineError(f'{files.directory} does not give {len(failed)} published answers')


def _median_ms(work: Callable[[], Any]) -> float:
    times = []
    for _ in range(_TIMED):
        begin = time.perf_counter()
        work()
        times.append(1e3 * (time.perf_counter() - begin))
    return float(np.median(times))
