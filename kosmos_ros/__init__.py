"""Language-grounded perception for robots: Kosmos-2 behind a ROS 2 node."""

__version__ = '0.1.0'
