"""The node takes what any rclpy node takes."""

from collections.abc import Iterator

import pytest
import rclpy
from rclpy.context import Context
from rclpy.exceptions import ParameterException
from rclpy.parameter import Parameter

from kosmos_ros.node.kosmos_node import KosmosNode


@pytest.fixture
def context() -> Iterator[Context]:
    context = Context()
    rclpy.init(context=context)
    yield context
    context.try_shutdown()


def test_takes_the_options_of_a_node(context: Context) -> None:
    node = KosmosNode(
        'eyes',
        context=context,
        namespace='robot1',
        parameter_overrides=[
            Parameter('rate', value=2.5),
            Parameter('expressions', value=['a cup']),
            Parameter('max_waiting', value=1),
        ],
    )
    assert node.get_fully_qualified_name() == '/robot1/eyes'
    settings = node.read_settings()
    assert (settings.rate, settings.expressions) == (2.5, ('a cup',))
    assert node.limits.max_waiting == 1
    assert node.close(5)
    node.destroy_node()


def test_refuses_a_wrong_override(context: Context) -> None:
    with pytest.raises(ParameterException, match='rate'):
        KosmosNode(context=context, parameter_overrides=[Parameter('rate', value=-1.0)])


def test_two_nodes_in_one_process(context: Context) -> None:
    """A snapshot of one node's settings does not change with the parameters of either."""
    nodes = [KosmosNode(name, context=context) for name in ('one', 'two')]
    before = nodes[0].read_settings()
    for node, rate in zip(nodes, (1.0, 2.0), strict=True):
        assert node.set_parameters([Parameter('rate', value=rate)])[0].successful
    assert [node.read_settings().rate for node in nodes] == [1.0, 2.0]
    assert before.rate == 5.0
    for node in nodes:
        assert node.close(5)
        node.destroy_node()


def test_waiting_for_a_configuration_ends_with_the_node(context: Context) -> None:
    node = KosmosNode(context=context)
    assert node.close(5)
    assert node.wait_until_configured() is False
    node.destroy_node()
