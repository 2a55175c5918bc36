"""QoS profiles of the node and of its clients."""

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

# Depth 1: of frames that pile up while nobody looks, only the newest is of use.  Best effort
# matches drivers of both kinds.
BEST_EFFORT_IMAGES = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
RELIABLE_IMAGES = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
# Of services and actions, at both ends.  The usual depth of ten lets requests overwrite each other
# in a storm of them; and every client receives the replies to all clients, so that those to others
# overwrite its own before it has read it.
CALLS = QoSProfile(depth=200)
DEFAULT_CALL_DEPTH = 10
