"""Start the node: `ros2 launch kosmos_ros kosmos.launch.py image:=/camera/color/image_raw`."""

import importlib.util
from pathlib import Path
import sys

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchContext, LaunchDescription

HERE = Path(__file__).resolve().parent
# Run by its path in a checkout, this file works without the package being installed.
if importlib.util.find_spec('kosmos_ros') is None:
    sys.path.append(str(HERE.parent))

from kosmos_ros.node.launch_arguments import flag, parameters_from, program  # noqa: E402

ARGUMENTS = {
    'namespace': (
        '',
        'Namespace of the node and of all its names; the service is NAMESPACE/refer.',
    ),
    'params_file': (str(HERE / 'params.yaml'), 'YAML file with the parameters of the node.'),
    'engine': ('', 'Engine directory; empty: what params_file says.'),
    'runner': ('', 'auto, tensorrt, torch or onnxruntime; empty: what params_file says.'),
    'build_plans': (
        '',
        'never, missing, or only (then the node ends); empty: what params_file says.',
    ),
    'self_check': ('', 'off, quick or full; empty: what params_file says.'),
    'image': ('image', "Topic of the camera's image."),
    'camera_info': ('camera_info', "Topic of the camera's calibration."),
    'depth': (
        'depth/image',
        'Topic of the registered depth image; not used yet.',
    ),
    'image_transport': ('', 'raw or compressed; empty: what params_file says.'),
    'expressions': (
        '',
        "Standing expressions: one, or a list as in \"['a red ball', 'a cup']\"; "
        'empty: what params_file says.',
    ),
    'autostart': ('', 'Whether to configure and activate at once; empty: what params_file says.'),
    'log_level': ('info', 'debug, info, warn, error or fatal.'),
    'use_sim_time': ('false', 'Whether to use the time on /clock.'),
    'rviz': ('false', 'Whether to show the answers in RViz 2.'),
}


def generate_launch_description() -> LaunchDescription:
    """Return the description of the arguments and nodes for `ros2 launch`."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=nodes)])


def nodes(context: LaunchContext) -> list[Node]:
    """Return the node, and RViz if it is requested."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    command = program('kosmos_node')
    kosmos = Node(
        **command | {'arguments': [*command.get('arguments', []), *log_level(given['log_level'])]},
        name='kosmos',
        namespace=given['namespace'],
        parameters=[given['params_file'], parameters_from(given)],
        remappings=[
            ('image', given['image']),
            ('camera_info', given['camera_info']),
            ('depth/image', given['depth']),
        ],
        output='screen',
        emulate_tty=True,
    )
    return [kosmos, rviz(given)] if flag(given['rviz']) else [kosmos]


def rviz(given: dict[str, str]) -> Node:
    """Return RViz with the configuration of this package, for the topics of this node."""
    prefix = f'/{given["namespace"].strip("/")}'.rstrip('/')
    image = given['image'] if given['image'].startswith('/') else f'{prefix}/{given["image"]}'
    outputs = ('annotated_image', 'markers')
    return Node(
        package='rviz2',
        executable='rviz2',
        name='rviz_kosmos',
        arguments=['-d', str(HERE / 'kosmos.rviz')],
        parameters=[{'use_sim_time': flag(given['use_sim_time'])}],
        remappings=[
            ('/image', image),
            *((f'/kosmos/{topic}', f'{prefix}/kosmos/{topic}') for topic in outputs),
        ],
        output='log',
    )


def log_level(level: str) -> list[str]:
    """Set the log level of this node only: at debug, the middleware writes too much."""
    return ['--ros-args', '--log-level', f'kosmos:={level}']
