"""Set up kosmos_ros on a machine without ROS: ``.venv`` in the repository's folder.

    python3 kosmos_ros/setup_venv.py [--with test] [--this-python]

``make`` runs this file by its path with the system's Python, before any package is installed.
Versions of Python that are too old can still parse this file, so that it can report this in one
line; the set-up itself is in :mod:`kosmos_ros.installation`.
"""

import os
import shutil
import sys

HERE = os.path.dirname(os.path.realpath(__file__))


def advice_on_python() -> str:
    """Return advice on which Python to use: one from the search path, if there is any."""
    for minor in (12, 13, 11, 10, 14):
        name = f'python3.{minor}'
        if shutil.which(name):
            return f'run the same make command with PYTHON={name}'
    return 'install Python 3.10 to 3.14 and run the same make command with PYTHON=python3.12, say'


def main() -> int:
    """Check this Python, then run the set-up."""
    if not (3, 10) <= sys.version_info[:2] <= (3, 14):
        sys.stderr.write(
            f'kosmos_ros: this is Python {sys.version_info[0]}.{sys.version_info[1]}, and ROS 2 '
            f'comes for Python 3.10 to 3.14: {advice_on_python()}\n'
        )
        return 2
    # Python puts this file's folder first, where its modules could shadow standard ones.
    sys.path[:] = [os.path.dirname(HERE)] + [p for p in sys.path if os.path.realpath(p) != HERE]
    from kosmos_ros.installation.command import main as install

    return install()


if __name__ == '__main__':
    sys.exit(main())
