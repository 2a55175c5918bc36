"""The launch files: read as Python everywhere, carried out where `launch` can be imported."""

import ast
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from kosmos_ros.node.launch_arguments import expressions_from, flag, parameters_from, program
from kosmos_ros.node.parameters import TABLE
from kosmos_ros.tabletop.demo.scenes import DEFAULT_SEED

LAUNCH = Path(__file__).parents[1] / 'launch'
KOSMOS, TABLETOP = LAUNCH / 'kosmos.launch.py', LAUNCH / 'tabletop.launch.py'
PROMISED = (
    'namespace', 'params_file', 'engine', 'runner', 'build_plans', 'self_check', 'image',
    'camera_info', 'depth', 'image_transport', 'expressions', 'autostart', 'log_level',
    'use_sim_time', 'rviz',
)  # fmt: skip
needs_launch = pytest.mark.skipif(
    find_spec('launch_ros') is None, reason='launch and launch_ros are not installed'
)


def arguments(path: Path) -> dict[str, tuple[str, str]]:
    """Name to default and description, by reading alone."""
    for statement in ast.parse(path.read_text()).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == 'ARGUMENTS':
            source = ast.unparse(statement.value)
            return eval(source, {'str': str, 'HERE': LAUNCH, 'DEFAULT_SEED': DEFAULT_SEED})
    raise AssertionError(f'{path} has no ARGUMENTS')


@pytest.mark.parametrize('path', [KOSMOS, TABLETOP], ids=lambda path: path.name)
def test_arguments_have_descriptions(path: Path) -> None:
    for name, (default, description) in arguments(path).items():
        assert name.isidentifier()
        assert isinstance(default, str)
        assert description.endswith('.')
    assert Path(arguments(path)['params_file'][0]).is_file()


def test_the_promised_arguments() -> None:
    assert tuple(arguments(KOSMOS)) == PROMISED


def test_rviz_shows_what_is_published_and_how() -> None:
    config = yaml.safe_load((LAUNCH / 'kosmos.rviz').read_text())['Visualization Manager']
    topics = {
        display['Topic']['Value']: display['Topic']['Reliability Policy']
        for display in config['Displays']
        if 'Topic' in display
    }
    # A display that asks a best-effort camera for reliability shows nothing, and says so nowhere.
    assert topics == {
        '/kosmos/markers': 'Reliable',
        '/kosmos/annotated_image': 'Reliable',
        '/image': 'Best Effort',
    }
    from kosmos_ros.tabletop.demo.camera_node import FRAME_ID

    assert config['Global Options']['Fixed Frame'] == FRAME_ID


@pytest.mark.parametrize(
    ('argument', 'expressions'),
    [
        ("['the red ball', 'a cup']", ['the red ball', 'a cup']),
        ('the red ball', ['the red ball']),
        ('a cup, not a mug', ['a cup, not a mug']),
        ('[]', ['']),
    ],
)
def test_expressions(argument: str, expressions: list[str]) -> None:
    assert expressions_from(argument) == expressions


def test_flags() -> None:
    assert [flag(word) for word in ('true', 'True', '1', 'false', 'False', '0')] == [
        *[True] * 3,
        *[False] * 3,
    ]
    with pytest.raises(ValueError, match='maybe'):
        flag('maybe')


def defaults() -> dict[str, str]:
    return {name: default for name, (default, _) in arguments(KOSMOS).items()}


def test_what_is_not_given_is_left_to_the_file() -> None:
    assert parameters_from(defaults()) == {'use_sim_time': False}


def test_what_is_given_becomes_a_parameter() -> None:
    given = {
        'engine': '/an/engine',
        'runner': 'tensorrt',
        'build_plans': 'only',
        'self_check': 'full',
        'image_transport': 'compressed',
        'expressions': 'a cup',
        'autostart': 'false',
        'use_sim_time': 'true',
    }
    values = {'expressions': ['a cup'], 'autostart': False, 'use_sim_time': True}
    assert parameters_from(defaults() | given) == given | values
    assert set(given) - {row.name for row in TABLE} == {'use_sim_time'}


@pytest.mark.parametrize('name', ['runner', 'build_plans', 'self_check', 'image_transport'])
def test_all_choices_are_described(name: str) -> None:
    (row,) = (row for row in TABLE if row.name == name)
    _, description = arguments(KOSMOS)[name]
    for choice in row.choices:
        assert choice in description or choice == 'fake'


@pytest.mark.parametrize('name', ['kosmos_node', 'tabletop_camera'])
def test_programs_can_be_found(name: str) -> None:
    how = program(name)
    if 'package' not in how:
        option, module = how['arguments']
        assert option == '-m'
        assert find_spec(module) is not None
        assert Path(how['executable']).is_file()


def loaded(path: Path) -> ModuleType:
    spec = spec_from_file_location(path.name.replace('.', '_'), path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@needs_launch
@pytest.mark.parametrize('path', [KOSMOS, TABLETOP], ids=lambda path: path.name)
def test_descriptions(path: Path) -> None:
    from launch.actions import DeclareLaunchArgument

    description = loaded(path).generate_launch_description()
    declared = [
        entity for entity in description.entities if isinstance(entity, DeclareLaunchArgument)
    ]
    assert {entity.name for entity in declared} == set(arguments(path))


@needs_launch
def test_nodes_of_the_description() -> None:
    from launch import LaunchContext

    module = loaded(KOSMOS)
    context = LaunchContext()
    given = {name: default for name, (default, _) in module.ARGUMENTS.items()}
    context.launch_configurations.update(given | {'rviz': 'true', 'namespace': 'head'})
    kosmos, rviz = module.nodes(context)
    assert kosmos is not rviz
