"""The program `tabletop_camera`: a simulated RGB-D camera above the table."""

import os
from pathlib import Path
import sys

from kosmos_ros.environment import has_ros, prepare


def main() -> int:
    """Run the program; return the exit code."""
    prepare()
    if not has_ros('tabletop_camera'):
        return 2
    _allow_large_messages()
    # Imported only now, because rclpy reads the environment when it is imported.
    from kosmos_ros.tabletop.demo.camera_node import run

    return run(sys.argv)


def _allow_large_messages() -> None:
    """Let Fast DDS send large images, unless the user has set a profile; see the file."""
    for folder in Path(__file__).resolve().parents:
        for path in ('launch/fastdds.xml', 'share/kosmos_ros/launch/fastdds.xml'):
            if (folder / path).is_file():
                os.environ.setdefault('FASTDDS_DEFAULT_PROFILES_FILE', str(folder / path))
                return


if __name__ == '__main__':
    sys.exit(main())
