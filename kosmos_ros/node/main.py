"""The program `kosmos_node`."""

import sys

from kosmos_ros.environment import has_ros, prepare


def main() -> int:
    """Run the node; return the exit code."""
    prepare()
    if not has_ros('kosmos_node'):
        return 2
    # Only now: rclpy reads the environment when it is imported.
    from kosmos_ros.node.process import run

    return run(sys.argv)


if __name__ == '__main__':
    sys.exit(main())
