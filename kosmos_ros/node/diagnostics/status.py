"""/diagnostics: what an operator should know, once a second.

Without diagnostic_updater, for which there is no wheel.
"""

from collections.abc import Iterable

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from kosmos_ros.errors import Status
from kosmos_ros.node.camera import Camera
from kosmos_ros.node.conversion.text import one_line
from kosmos_ros.node.diagnostics.counters import Counters
from kosmos_ros.node.engine.engine_worker import EngineWorker

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
# A camera that is silent for this many times the allowed age is lost, not late.
_LOST = 5.0
_FAILURES_THAT_MATTER = 3
_STUCK_S = 30.0


def diagnostics_from(
    *,
    node: str,
    why_not_active: str,
    progress: str,
    engine_worker: EngineWorker | None,
    cameras: Iterable[Camera],
    max_image_age_s: float,
    counters: Counters,
) -> DiagnosticArray:
    """Return one status each for the engine, the calls, the goals, and every camera; the caller
    sets the stamp.

    :param progress: the latest line of an engine that is being loaded; empty at other times.
    """
    name = engine_worker.engine.name if engine_worker is not None and not why_not_active else ''
    statuses = [
        _engine(why_not_active, progress, engine_worker, counters),
        _calls(engine_worker, counters),
        _asks(engine_worker, counters),
    ]
    if not why_not_active:
        statuses += [_camera(camera, max_image_age_s) for camera in cameras]
    for status in statuses:
        status.name = f'{node}: {status.name}'
        status.hardware_id = name
    return DiagnosticArray(status=statuses)


def _engine(
    why_not_active: str, progress: str, engine_worker: EngineWorker | None, counters: Counters
) -> DiagnosticStatus:
    if engine_worker is None:
        values: dict[str, object] = {'progress': progress} if progress else {}
        return _status('engine', WARN, f'not active: {why_not_active}', values)
    remarks = [one_line(remark) for remark in engine_worker.remarks]
    values = {'engine': engine_worker.engine.name}
    values |= {f'remark_{number}': remark for number, remark in enumerate(remarks, 1)}
    if why_not_active:
        return _status('engine', WARN, f'not active: {why_not_active}', values)
    busy_s, failures = engine_worker.worker.running_s, counters.failures_in_a_row
    values |= {
        'busy_s': f'{busy_s:.1f}',
        'failures_in_a_row': failures,
        'last_failure': counters.last_failure,
    }
    if busy_s > _STUCK_S:
        return _status('engine', ERROR, f'no answer for {busy_s:.0f} s; restart the node', values)
    if failures >= _FAILURES_THAT_MATTER:
        return _status('engine', ERROR, f'{failures} failures in a row', values)
    if failures:
        return _status('engine', WARN, 'the last answer failed', values)
    # It answers, but slower than this machine could, as a rule.
    if remarks:
        return _status('engine', WARN, f'active, but {"; ".join(remarks)}', values)
    return _status('engine', OK, 'active', values)


def _camera(camera: Camera, max_image_age_s: float) -> DiagnosticStatus:
    age_s, rate_hz, publishers = camera.newest_age_s, camera.rate_hz, camera.publishers
    values = {
        'topic': camera.topic,
        'publishers': publishers,
        'frames': camera.frames,
        'rate_hz': f'{rate_hz:.1f}',
        'age_ms': '' if age_s is None else f'{1e3 * age_s:.0f}',
        'incompatible_qos': camera.incompatible,
    }
    name = f'camera {camera.name}'
    if age_s is None:
        what = 'no image yet' if publishers else f'nobody publishes on {camera.topic}'
        return _status(name, ERROR, what, values)
    if age_s > max_image_age_s:
        level = ERROR if age_s > _LOST * max_image_age_s else WARN
        return _status(name, level, f'newest image is {age_s:.1f} s old', values)
    return _status(name, OK, f'{rate_hz:.1f} Hz', values)


def _calls(engine_worker: EngineWorker | None, counters: Counters) -> DiagnosticStatus:
    answers = counters.answers
    values: dict[str, object] = {status.name: answers.get(status, 0) for status in Status}
    values['waiting'] = engine_worker.worker.waiting_calls if engine_worker else 0
    for percent in (50, 95, 99):
        values[f'total_ms_p{percent}'] = f'{counters.total_ms(percent / 100):.1f}'
    return _status('calls', OK, f'{sum(answers.values())} answered', values)


def _asks(engine_worker: EngineWorker | None, counters: Counters) -> DiagnosticStatus:
    asks = counters.asks
    values: dict[str, object] = {status.name: asks.get(status, 0) for status in Status}
    values['under_way'] = engine_worker.worker.unfinished_jobs if engine_worker else 0
    values['conversations'] = engine_worker.conversations.count if engine_worker else 0
    kept_bytes = engine_worker.conversations.nbytes if engine_worker else 0
    values['conversations_mib'] = f'{kept_bytes / 2**20:.1f}'
    return _status('asks', OK, f'{sum(asks.values())} answered', values)


def _status(
    name: str, level: bytes, message: str, values: dict[str, object] | None = None
) -> DiagnosticStatus:
    pairs = [KeyValue(key=key, value=str(value)) for key, value in (values or {}).items()]
    return DiagnosticStatus(name=name, level=level, message=message, values=pairs)
