"""The program `tabletop_camera`: an RGB-D camera above the simulated table, like a driver's."""

import sys

from kosmos_ros.environment import prepare


def main() -> int:
    """Entry point; returns the exit code."""
    prepare()
    # Only now: rclpy reads the environment when it is imported.
    from kosmos_ros.node.simulated import run

    return run(sys.argv)


if __name__ == '__main__':
    sys.exit(main())
