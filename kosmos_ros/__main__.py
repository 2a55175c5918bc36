"""``python -m kosmos_ros``: the command ``kosmos_ros``."""

import sys

from kosmos_ros.environment import prepare

if __name__ == '__main__':
    # Before the import, which may reach rclpy: preparing may restart this program.
    prepare()
    from kosmos_ros.console.main import main

    sys.exit(main())
