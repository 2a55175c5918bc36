"""The program `kosmos_node`."""

import sys

from kosmos_ros.environment import prepare


def main() -> int:
    """Entry point; returns the exit code."""
    prepare()
    # Only now: rclpy reads the environment when it is imported.
    from kosmos_ros.node.process import run

    return run(sys.argv)


if __name__ == '__main__':
    sys.exit(main())
