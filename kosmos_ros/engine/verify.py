"""Verify an engine: its files are whole, it runs here, and it answers as its reference does."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
import json
from pathlib import Path
import platform
import time

import numpy as np

from kosmos_ros import __version__
from kosmos_ros.engine.base import Image
from kosmos_ros.engine.directory.directory import REFERENCE_FILE, EngineDirectory
from kosmos_ros.engine.directory.reference import ReferenceAnswers, self_check
from kosmos_ros.engine.kosmos2 import Kosmos2Engine
from kosmos_ros.engine.load import open_runner
from kosmos_ros.engine.machine import this_machine
from kosmos_ros.engine.runners.runner import Runner
from kosmos_ros.engine.tensorrt.plans import check_plans
from kosmos_ros.engine.timing import see, timed
from kosmos_ros.errors import EngineError, RunnerUnavailable

_TIMED = 20


@dataclass(slots=True)
class VerificationReport:
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
        """Write the report as JSON."""
        path.write_text(json.dumps(asdict(self), indent=2) + '\n', encoding='utf-8')


def verify_engine(
    directory: Path, runner: str, report: VerificationReport, image: Image | None = None
) -> Iterator[str]:
    """Check hashes, load, compare with the reference, ask; one line of report per step.

    :param image: the picture of the golden answers, if the engine must give those; RGB
        uint8[height, width, 3].
    :raises EngineFileError: when the directory is not whole.
    :raises RunnerUnavailable: when this machine cannot run it.
    :raises SelfCheckFailed: when it gives other answers than the reference.
    :raises EngineError: when an answer is not a probability and a box inside the image, or not the
        golden one.
    """
    try:
        yield from _verify(directory, runner, report, image)
    except EngineError as error:
        report.failure = str(error)
        raise


def _verify(
    directory: Path, runner: str, report: VerificationReport, image: Image | None
) -> Iterator[str]:
    engine = EngineDirectory.verified(directory)
    report.device = _device()
    report.model, report.precision = engine.manifest.model, engine.manifest.precision
    size = sum(entry.bytes for entry in engine.manifest.files.values())
    yield f'files    ok: {len(engine.manifest.files)} files, {size:,} bytes, all hashes match'
    for plans in check_plans(directory):
        yield f'plans    ok: {plans.target}, {plans.bytes:,} bytes, all hashes match'
    begin = time.monotonic()
    loaded, remarks = open_runner(engine, runner, level='off')
    report.engine, report.remarks = loaded.name, remarks
    for remark in remarks:
        yield f'load       : {remark}'
    yield f'load     ok: {loaded.name}, {time.monotonic() - begin:.2f} s'
    try:
        reference = ReferenceAnswers.read(directory / REFERENCE_FILE)
        for line in self_check(loaded, reference, 'full', engine.recipe.precision):
            report.checks.append(line)
            yield f'check    ok: {line}'
        yield _answer(engine, loaded, report)
        if image is not None:
            yield from _golden(engine, loaded, report, image)
    finally:
        loaded.close()


def _device() -> str:
    """Return GPU, driver and TensorRT, or why there are none."""
    try:
        return this_machine().describe()
    except RunnerUnavailable as error:
        return str(error)


def _answer(directory: EngineDirectory, loaded: Runner, report: VerificationReport) -> str:
    manifest = directory.manifest
    engine = Kosmos2Engine(manifest.name, loaded, directory.vocabulary, directory.config)
    # A grey image with a red square: every Kosmos-2 knows the words, whatever it answers.
    image = np.full((240, 320, 3), 128, np.uint8)
    image[80:160, 120:200] = (200, 30, 30)
    context = engine.encode_image(image)
    ((located,),) = engine.locate(context, ['the red box'])
    box = located.box_in_image
    if not (0 <= box.x0 < box.x1 <= 1 and 0 <= box.y0 < box.y1 <= 1 and 0 <= located.score <= 1):
        raise EngineError(f'{directory.path} answers {located}, which is no box inside the image')
    times = {
        'encode_image': timed(lambda: see(engine, loaded, image), _TIMED).p50_ms,
        'locate': timed(lambda: engine.locate(context, ['the red box']), _TIMED).p50_ms,
    }
    report.milliseconds = times
    return (
        f'answer   ok: ({box.x0:.3f}, {box.y0:.3f}, {box.x1:.3f}, {box.y1:.3f}), '
        f'score {located.score:.3f}; image {times["encode_image"]:.1f} ms, '
        f'expression {times["locate"]:.1f} ms'
    )


def _golden(
    directory: EngineDirectory, loaded: Runner, report: VerificationReport, image: Image
) -> Iterator[str]:
    from kosmos_ros.engine.golden import golden_results

    failed = []
    for result in golden_results(loaded, directory.vocabulary, directory.config, image):
        word = 'ok' if result.passed else 'FAILED'
        line = f'{result.name}: {result.found}'
        if not result.passed:
            failed.append(result.name)
            line += f' instead of {result.expected}'
        report.checks.append(f'golden {word}: {line}')
        yield f'golden {word}: {line}'
    if failed:
        raise EngineError(f'{directory.path} does not give {len(failed)} golden answers')
