"""The managed node through the real lifecycle services, and its parameters while it runs."""

from builtin_interfaces.msg import Duration
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import DescribeParameters, SetParameters
from robot import LATCHED, image_of, picture, wait_until
from vision_msgs.msg import VisionInfo

from kosmos_ros.errors import Status

MOMENT = Duration(nanosec=50_000_000)


def change(robot, transition: int) -> bool:
    request = ChangeState.Request(transition=Transition(id=transition))
    return robot.ask(ChangeState, 'kosmos/change_state', request).success


def state(robot) -> int:
    return robot.ask(GetState, 'kosmos/get_state', GetState.Request()).current_state.id


def set_parameter(robot, name: str, **value: object):
    types = {
        'string_value': ParameterType.PARAMETER_STRING,
        'double_value': ParameterType.PARAMETER_DOUBLE,
        'integer_value': ParameterType.PARAMETER_INTEGER,
        'bool_value': ParameterType.PARAMETER_BOOL,
        'string_array_value': ParameterType.PARAMETER_STRING_ARRAY,
        'bool_array_value': ParameterType.PARAMETER_BOOL_ARRAY,
    }
    (field,) = value
    parameter = Parameter(name=name, value=ParameterValue(type=types[field], **value))
    answer = robot.ask(
        SetParameters, 'kosmos/set_parameters', SetParameters.Request(parameters=[parameter])
    )
    return answer.results[0]


def test_every_state_answers(start) -> None:
    process, robot = start('-p', 'autostart:=false')
    robot.wait_for_node()
    image = image_of(picture())
    assert state(robot) == State.PRIMARY_STATE_UNCONFIGURED
    wait_until(lambda: 'configure' in robot.call(image=image).message, 'advice')
    assert robot.call(image=image).status == Status.NOT_ACTIVE
    assert not change(robot, Transition.TRANSITION_ACTIVATE)

    assert change(robot, Transition.TRANSITION_CONFIGURE)
    assert state(robot) == State.PRIMARY_STATE_INACTIVE
    response = robot.call(image=image)
    assert response.status == Status.NOT_ACTIVE
    assert 'activate' in response.message

    assert change(robot, Transition.TRANSITION_ACTIVATE)
    assert state(robot) == State.PRIMARY_STATE_ACTIVE
    assert robot.call(image=image).status == Status.OK
    with robot.streaming(image):
        robot.wait_for_status(Status.OK)

    waiting = [robot.send(expression='the slow ball', image=image) for _ in range(2)]
    wait_until(lambda: robot.call(image=image, timeout=MOMENT).status == Status.TIMEOUT, 'work')
    assert change(robot, Transition.TRANSITION_DEACTIVATE)
    assert {call.result().status for call in waiting} == {Status.NOT_ACTIVE}
    wait_until(lambda: robot.image.get_subscription_count() == 0, 'the end of the subscription')

    # A frame from before the pause must not answer a question after it.
    assert change(robot, Transition.TRANSITION_ACTIVATE)
    assert robot.call().status == Status.NO_IMAGE
    assert change(robot, Transition.TRANSITION_DEACTIVATE)
    assert change(robot, Transition.TRANSITION_CLEANUP)
    assert state(robot) == State.PRIMARY_STATE_UNCONFIGURED
    assert robot.call(image=image).status == Status.NOT_ACTIVE

    assert change(robot, Transition.TRANSITION_CONFIGURE)
    assert change(robot, Transition.TRANSITION_ACTIVATE)
    assert robot.call(image=image).status == Status.OK
    assert change(robot, Transition.TRANSITION_ACTIVE_SHUTDOWN)
    assert robot.call(image=image).status == Status.NOT_ACTIVE
    assert process.stop() == 0
    assert 'Traceback' not in process.output()


def test_a_wrong_engine_is_one_line_and_can_be_corrected(start, tmp_path) -> None:
    process, robot = start('-p', 'engine:=/no/such/engine')
    robot.wait_for_node()
    image = image_of(picture())
    wait_until(lambda: '/no/such/engine' in robot.call(image=image).message, 'the reason')
    assert robot.call(image=image).status == Status.NOT_ACTIVE
    assert not change(robot, Transition.TRANSITION_CONFIGURE)
    assert state(robot) == State.PRIMARY_STATE_UNCONFIGURED
    assert set_parameter(
        robot, 'engine', string_value=f'fake:{tmp_path / "script.json"}'
    ).successful
    assert change(robot, Transition.TRANSITION_CONFIGURE)
    assert change(robot, Transition.TRANSITION_ACTIVATE)
    assert robot.call(image=image).status == Status.OK
    assert 'Traceback' not in process.output()
    assert '/no/such/engine' in process.output()


def test_calls_are_answered_while_the_engine_loads(start) -> None:
    process, robot = start(script={'load_s': 60.0})
    robot.wait_for_node()
    wait_until(lambda: 'loading' in robot.call().message, 'the reason')
    assert robot.call().status == Status.NOT_ACTIVE
    # ... and the process ends, although its engine does not.
    assert process.stop() == 0
    assert 'Traceback' not in process.output()


def test_what_was_set_is_used_by_the_next_call(robot) -> None:
    image = image_of(picture())
    assert set_parameter(robot, 'timeout', double_value=0.1).successful
    assert robot.call('the slow ball', image=image).status == Status.TIMEOUT
    assert set_parameter(robot, 'timeout', double_value=10.0).successful
    assert robot.call('the slow ball', image=image).status == Status.OK


def test_refused_values_leave_the_old_ones(robot) -> None:
    refused = (
        ('rate', {'double_value': float('nan')}),
        ('rate', {'double_value': -1.0}),
        ('rate', {'string_value': 'fast'}),
        ('score_threshold', {'double_value': 1.5}),
        ('timeout', {'double_value': float('inf')}),
        ('max_image_age', {'double_value': 0.0}),
        ('max_waiting', {'integer_value': 2}),
        ('max_asks', {'integer_value': 2}),
        ('ask_timeout', {'double_value': 601.0}),
        ('max_conversations', {'integer_value': 2}),
        ('autostart', {'bool_value': False}),
        ('engine', {'string_value': '/elsewhere'}),
        ('self_check', {'string_value': 'full'}),
        ('build_plans', {'string_value': 'only'}),
        ('image_transport', {'string_value': 'theora'}),
        ('expressions', {'string_array_value': ['the red ball', '<image>']}),
        ('expressions', {'bool_array_value': [True]}),
        ('cameras', {'string_array_value': ['a/b']}),
    )
    for name, value in refused:
        result = set_parameter(robot, name, **value)
        assert not result.successful, name
        assert result.reason, name
    assert robot.call(image=image_of(picture())).status == Status.OK


def test_descriptors(robot) -> None:
    answer = robot.ask(
        DescribeParameters,
        'kosmos/describe_parameters',
        DescribeParameters.Request(names=['rate', 'max_waiting', 'runner']),
    )
    rate, max_waiting, runner = answer.descriptors
    assert rate.description
    assert rate.floating_point_range[0].to_value == 1000.0
    assert max_waiting.read_only
    assert 'onnxruntime' in runner.additional_constraints


def test_vision_info_counts_what_is_looked_for(robot) -> None:
    infos = robot.listen(VisionInfo, 'kosmos/vision_info', LATCHED)
    wait_until(lambda: infos, 'the latched message')
    before = infos[-1].database_version
    assert infos[-1].method == 'a fake'
    assert set_parameter(robot, 'expressions', string_array_value=['a cup']).successful
    wait_until(lambda: infos[-1].database_version == before + 1, 'the next version')
    assert 'a cup' in infos[-1].database_location
    # An empty list on the command line comes as one of truth values.
    assert set_parameter(robot, 'expressions', bool_array_value=[]).successful
    wait_until(lambda: infos[-1].database_version == before + 2, 'the next version')
    assert infos[-1].database_location == ''
