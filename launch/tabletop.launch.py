"""Start the node with a simulated camera, and RViz if it is requested.

`ros2 launch kosmos_ros tabletop.launch.py rviz:=true`
"""

import importlib.util
from pathlib import Path
import sys

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchDescription

HERE = Path(__file__).resolve().parent
# Run by its path in a checkout, this file works without the package being installed.
if importlib.util.find_spec('kosmos_ros') is None:
    sys.path.append(str(HERE.parent))

from kosmos_ros.node.launch_arguments import program  # noqa: E402
from kosmos_ros.tabletop.demo.scenes import DEFAULT_SEED  # noqa: E402

ARGUMENTS = {
    'namespace': ('', 'Namespace of camera and node.'),
    'seed': (str(DEFAULT_SEED), 'Which scene is on the table.'),
    'rate': ('15.0', 'Frames per second.'),
    'params_file': (str(HERE / 'params.yaml'), 'YAML file with the parameters of the node.'),
    'engine': ('', 'Engine directory; empty: the embedded one, which knows this table.'),
    'image_transport': ('', 'raw or compressed; empty: what params_file says.'),
    'expressions': (
        "['the left-most object', 'the right-most object']",
        'Standing expressions: one, or a list.',
    ),
    'autostart': ('', 'Whether to configure and activate at once; empty: what params_file says.'),
    'log_level': ('info', 'debug, info, warn, error or fatal.'),
    'rviz': ('false', 'Whether to show camera and answers in RViz 2.'),
}
CAMERA_ARGUMENTS = ('seed', 'rate')


def generate_launch_description() -> LaunchDescription:
    """Return the description of the arguments and nodes for `ros2 launch`."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in ARGUMENTS.items()
    ]
    camera = Node(
        **program('tabletop_camera'),
        name='tabletop_camera',
        namespace=LaunchConfiguration('namespace'),
        parameters=[
            {
                'seed': ParameterValue(LaunchConfiguration('seed'), value_type=int),
                'rate': ParameterValue(LaunchConfiguration('rate'), value_type=float),
            }
        ],
        output='screen',
        emulate_tty=True,
    )
    kosmos = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(HERE / 'kosmos.launch.py')),
        launch_arguments=[
            (name, LaunchConfiguration(name)) for name in ARGUMENTS if name not in CAMERA_ARGUMENTS
        ],
    )
    return LaunchDescription([*declared, camera, kosmos])
