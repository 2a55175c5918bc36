"""The program `tabletop_camera`: an RGB-D camera above the simulated table, like a driver's."""

import os
from pathlib import Path
import sys

from kosmos_ros.environment import prepare


def main() -> int:
    """Entry point; returns the exit code."""
    prepare()
    _make_room_for_images()
    # Only now: rclpy reads the environment when it is imported.
    from kosmos_ros.tabletop.demo.camera_node import run

    return run(sys.argv)


def _make_room_for_images() -> None:
    """Let Fast DDS send whole images, unless the user has told it something; see the file."""
    for folder in Path(__file__).resolve().parents:
        for place in ('launch/fastdds.xml', 'share/kosmos_ros/launch/fastdds.xml'):
            if (folder / place).is_file():
                os.environ.setdefault('FASTDDS_DEFAULT_PROFILES_FILE', str(folder / place))
                return


if __name__ == '__main__':
    sys.exit(main())
