"""The environment that ROS 2 processes need where ROS 2 comes from wheels.

kosmos_ros lives in one of two homes.
In a ROS distribution somebody has sourced its set-up file: there this module changes nothing.
In the virtual environment that :mod:`kosmos_ros.setup_venv` makes, ROS 2's shared libraries lie
inside the environment, and a distribution that happens to be sourced as well must not get in the
way.

Start a child process with ``env=child_environment()``; call :func:`prepare` first thing in a
program; run any other command as ``python -m kosmos_ros.environment COMMAND ...``.
"""

from collections.abc import Mapping
import importlib.util
import os
from pathlib import Path
import shutil
import sys

# The wheels' own start-up hook sets LD_LIBRARY_PATH and starts Python again, unless this is set.
_BOOTSTRAPPED = '_ROS_WHEELS_BOOTSTRAP_COMPLETE'
# NumPy's matrix products are small here.  OpenBLAS's threads would spin after each of them: most
# of a core for an answer five times a second.  It is read when NumPy is imported; a user's own
# setting counts.
_ONE_BLAS_THREAD = {'OPENBLAS_NUM_THREADS': '1'}


def is_wheel_home(prefix: Path) -> bool:
    """Return whether ROS 2 in the Python environment at ``prefix`` comes from wheels."""
    return any(prefix.glob('lib/python3.*/site-packages/ros_wheels_bootstrapper'))


def environment_for(prefix: Path, base: Mapping[str, str]) -> dict[str, str]:
    """``base``, changed so that a process works with the wheels at ``prefix``.

    :param prefix: a virtual environment with the ROS 2 wheels.
    :param base: the environment to start from; what it says about another ROS is left out.
    """
    wanted = dict(base)
    foreign = _paths(base.get('AMENT_PREFIX_PATH', ''))
    if str(prefix) not in foreign:
        # Only here: an overlay built on top of these wheels names them, and is welcome.
        wanted['AMENT_PREFIX_PATH'] = str(prefix)
        _keep_paths_outside(wanted, 'PYTHONPATH', foreign)
        _keep_paths_outside(wanted, 'CMAKE_PREFIX_PATH', foreign)
    ours = _library_folders(prefix)
    libraries = _paths(base.get('LD_LIBRARY_PATH', ''))
    if set(libraries[: len(ours)]) != set(ours):
        others = [path for path in libraries if path not in ours]
        wanted['LD_LIBRARY_PATH'] = os.pathsep.join([*ours, *others])
    # The only middleware that the wheels bring; another one's name would stop every process.
    wanted['RMW_IMPLEMENTATION'] = 'rmw_fastrtps_cpp'
    wanted[_BOOTSTRAPPED] = '1'
    programs = str(prefix / 'bin')
    searched = [path for path in _paths(base.get('PATH', os.defpath)) if path != programs]
    wanted['PATH'] = os.pathsep.join([programs, *searched])
    return wanted


def child_environment() -> dict[str, str]:
    """Return the environment for a process of kosmos_ros that this one starts."""
    prefix, base = Path(sys.prefix), {**_ONE_BLAS_THREAD, **os.environ}
    return environment_for(prefix, base) if is_wheel_home(prefix) else base


def prepare() -> None:
    """Give this process the environment it needs, before anything imports rclpy or NumPy.

    What Python and the dynamic linker read only once, at their start, takes a restart of the
    same command; that happens where a ROS distribution is sourced, and at most once.
    """
    wanted = child_environment()
    must_restart = any(
        wanted.get(name) != os.environ.get(name) for name in ('LD_LIBRARY_PATH', 'PYTHONPATH')
    )
    if must_restart:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], wanted)
    os.environ.update(wanted)


def has_ros(program: str) -> bool:
    """Return whether ROS 2 is here; if not, say on standard error how to get it.

    :param program: its name, for the message.
    """
    if importlib.util.find_spec('rclpy') is not None:
        return True
    print(
        f'{program}: there is no ROS 2 here (no module rclpy); source the set-up file of a '
        f'distribution, or run `make setup` in a checkout and use .venv/bin/{program}',
        file=sys.stderr,
    )
    return False


def main() -> int:
    """Run the command line's command in :func:`child_environment`; it takes this one's place."""
    environment = child_environment()
    command = sys.argv[1:]
    program = shutil.which(command[0], path=environment.get('PATH')) if command else None
    if program is None:
        wrong = f'no program {command[0]!r} here' if command else 'no command given'
        print(f'kosmos_ros.environment: {wrong}', file=sys.stderr)
        return 2
    os.execve(program, command, environment)


def _paths(joined: str) -> list[str]:
    return [path for path in joined.split(os.pathsep) if path]


def _library_folders(prefix: Path) -> list[str]:
    bundled = sorted(prefix.glob('lib/python3.*/site-packages/ros_*.libs'))
    return [str(folder) for folder in (prefix / 'lib', *bundled)]


def _keep_paths_outside(environment: dict[str, str], name: str, prefixes: list[str]) -> None:
    """Take from a search path what lies inside one of the prefixes."""
    inside = tuple(os.path.join(prefix, '') for prefix in prefixes)
    kept = [
        path
        for path in _paths(environment.pop(name, ''))
        if not os.path.join(path, '').startswith(inside)
    ]
    if kept:
        environment[name] = os.pathsep.join(kept)


if __name__ == '__main__':
    sys.exit(main())
