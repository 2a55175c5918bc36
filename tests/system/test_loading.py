"""What others see while an engine is being loaded, and what they should know of it afterwards."""

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
import pytest
from robot import image_of, picture, wait_until
from test_lifecycle import change, set_parameter

from kosmos_ros.errors import Status

REMARK = 'tensorrt was passed over: decoder.plan is missing'
# Longer than any test waits.
ENDLESS_S = 600.0


def engine_values(arrays) -> list[tuple[bytes, str, dict[str, str]]]:
    """Level, message and values of each status of an engine, of whichever node, so far."""
    return [
        (status.level, status.message, {pair.key: pair.value for pair in status.values})
        for array in list(arrays)
        for status in array.status
        if status.name == 'kosmos: engine'
    ]


def test_progress_is_told_to_everybody(start) -> None:
    script = {'progress': [['building it: 33 %', 0.0], ['building it: 34 %', ENDLESS_S]]}
    process, robot = start(script=script)
    robot.wait_for_node()
    message = 'it is loading its engine: building it: 34 %'
    wait_until(lambda: message in robot.call().message, 'progress in the answer')
    assert robot.call().status == Status.NOT_ACTIVE
    arrays = robot.listen(DiagnosticArray, '/diagnostics')
    expected = (b'\x01', f'not active: {message}', {'progress': 'building it: 34 %'})
    wait_until(lambda: expected in engine_values(arrays), 'progress on /diagnostics')
    # It would be used by the next configure only, and who sets it would not know.
    assert not set_parameter(robot, 'engine', string_value='/elsewhere').successful
    assert process.stop() == 0
    assert 'building it: 33 %' in process.output()
    assert 'building it: 34 %' not in process.output(), 'the same stage within five seconds'
    assert 'Traceback' not in process.output()


def test_then_it_serves_and_remarks_stay_visible(start) -> None:
    script = {
        'name': 'a slower fake',
        'progress': [['building it: 1 %', 0.5], ['self-check quick: prefill ok', 0.5]],
        'remarks': [REMARK, 'and another thing'],
    }
    process, robot = start(script=script)
    robot.wait_for_node()
    image = image_of(picture())
    response = robot.wait_for_status(Status.OK, image=image)
    assert response.engine == 'a slower fake'
    arrays = robot.listen(DiagnosticArray, '/diagnostics')

    def told() -> bool:
        return any(
            level == b'\x01'
            and message == f'active, but {REMARK}; and another thing'
            and values['engine'] == 'a slower fake'
            and (values['remark_1'], values['remark_2']) == (REMARK, 'and another thing')
            for level, message, values in engine_values(arrays)
        )

    wait_until(told, 'remarks on /diagnostics')
    assert process.stop() == 0
    lines = process.output().splitlines()
    for stage in ('building it: 1 %', 'self-check quick: prefill ok'):
        assert sum(stage in line and 'INFO' in line for line in lines) == 1
    for remark in (REMARK, 'and another thing'):
        assert sum(remark in line and 'WARN' in line for line in lines) == 1


def test_a_talkative_load_can_be_ended(start) -> None:
    # A new stage each time, so that each line is also logged.
    script = {'progress': [[f'step {number}: done', 0.002] for number in range(100_000)]}
    process, robot = start(script=script)
    robot.wait_for_node()
    wait_until(lambda: 'it is loading its engine: step' in robot.call().message, 'progress')
    assert process.stop() == 0
    assert 'Traceback' not in process.output()


def test_only_plans_are_built(start) -> None:
    process, _ = start('-p', 'build_plans:=only', script={'progress': [['building it: 1 %', 0.1]]})
    assert process.process.wait(30) == 0
    output = process.output()
    assert 'building it: 1 %' in output
    assert 'fake has all the plans that it needs' in output
    assert 'active; looking at' not in output
    assert 'Traceback' not in output


def test_only_plans_but_they_cannot_be_built(start) -> None:
    script = {'progress': [['building it: 1 %', 0.1]], 'acts': {'a cup': {'word': 1}}}
    process, _ = start('-p', 'build_plans:=only', script=script)
    assert process.process.wait(30) == 1
    errors = [line for line in process.output().splitlines() if 'ERROR' in line]
    assert len(errors) == 1
    assert 'is no script of a fake engine' in errors[0]
    assert 'are ready' not in process.output()
    assert 'Traceback' not in process.output()


def test_only_plans_but_somebody_ends_it(start) -> None:
    """Exit code 0 means that the plans are there."""
    process, robot = start(
        '-p', 'build_plans:=only', script={'progress': [['building it: 1 %', ENDLESS_S]]}
    )
    robot.wait_for_node()
    wait_until(lambda: 'building it' in robot.call().message, 'progress')
    assert process.stop() == 1
    assert 'Traceback' not in process.output()


@pytest.mark.parametrize(
    ('engine', 'code'), [('', 0), ('/no/such/engine', 1)], ids=['ready', 'no engine']
)
def test_only_plans_by_hand(start, engine: str, code: int) -> None:
    more = ('-p', f'engine:={engine}') if engine else ()
    process, robot = start('-p', 'autostart:=false', '-p', 'build_plans:=only', *more)
    robot.wait_for_node()
    # Who asked for it is told how it went before the process ends.
    assert change(robot, Transition.TRANSITION_CONFIGURE) == (code == 0)
    assert process.process.wait(10) == code
    assert 'Traceback' not in process.output()


def test_the_self_check_can_be_off(start) -> None:
    """ROS reads the word as a truth value when it has no quotes."""
    _, robot = start('-p', 'self_check:=off')
    robot.wait_for_node()
    robot.wait_for_status(Status.OK, image=image_of(picture()))
