"""For the launch files: where our programs are, and what their arguments mean."""

from collections.abc import Mapping
import importlib.util
import os
from pathlib import Path
import sys
from typing import Any

import yaml

_MODULES = {
    'kosmos_node': 'kosmos_ros.node.main',
    'tabletop_camera': 'kosmos_ros.tabletop.demo.camera',
}
_TEXTS = ('engine', 'runner', 'build_plans', 'self_check', 'image_transport')


def program(name: str) -> dict[str, Any]:
    """Return how to start a program of this package: arguments of `launch_ros.actions.Node`.

    An installed package is found by its name, as usual.  In a checkout without one, the Python
    that runs `launch` runs the program, too.
    """
    if _is_installed(name):
        return {'package': 'kosmos_ros', 'executable': name}
    root = str(Path(__file__).parents[2])
    searched = [root, *os.environ.get('PYTHONPATH', '').split(os.pathsep)]
    return {
        'executable': sys.executable,
        # Instead of 'python' in front of each line of its output.
        'exec_name': name,
        'arguments': ['-m', _MODULES[name]],
        'additional_env': {'PYTHONPATH': os.pathsep.join(filter(None, searched))},
    }


def parameters_from(given: Mapping[str, str]) -> dict[str, bool | str | list[str]]:
    """Return the launch arguments that are parameters of the node and not empty, as values.

    :raises ValueError: when one that must be true or false is neither.
    """
    parameters: dict[str, bool | str | list[str]] = {'use_sim_time': flag(given['use_sim_time'])}
    for name in _TEXTS:
        if given[name]:
            parameters[name] = given[name]
    if given['expressions']:
        parameters['expressions'] = expressions_from(given['expressions'])
    if given['autostart']:
        parameters['autostart'] = flag(given['autostart'])
    return parameters


def expressions_from(argument: str) -> list[str]:
    """Read a launch argument, a YAML list or one expression, as the parameter's value.

    ROS has no empty list of texts; a list with one empty text stands for it.
    """
    value = yaml.safe_load(argument) if argument.lstrip().startswith('[') else argument
    return [str(one) for one in value] or [''] if isinstance(value, list) else [argument]


def flag(argument: str) -> bool:
    """Read a launch argument as a truth value.

    :raises ValueError: when it is neither true nor false.
    """
    if argument.lower() in ('true', '1', 'yes', 'on'):
        return True
    if argument.lower() in ('false', '0', 'no', 'off'):
        return False
    raise ValueError(f'{argument!r} is neither true nor false')


def _is_installed(name: str) -> bool:
    searchable = os.environ.get('AMENT_PREFIX_PATH')
    if not searchable or importlib.util.find_spec('ament_index_python') is None:
        return False
    from ament_index_python.packages import PackageNotFoundError, get_package_prefix

    try:
        prefix = get_package_prefix('kosmos_ros')
    except PackageNotFoundError:
        return False
    return (Path(prefix) / 'lib' / 'kosmos_ros' / name).is_file()
