"""A request of the service, read and checked: its numbers need not be checked again."""

from dataclasses import dataclass
import math

from builtin_interfaces.msg import Duration
from kosmos_ros_msgs.srv import Refer
from sensor_msgs.msg import Image

from kosmos_ros.errors import BadExpression
from kosmos_ros.limits import Limits
from kosmos_ros.model.expressions import check_expression
from kosmos_ros.node.parameters import Settings


@dataclass(frozen=True, slots=True)
class ReferQuery:
    """What is asked for; `image` is None when a camera's image is meant ('' is the first one)."""

    expression: str
    camera: str
    image: Image | None
    score_threshold: float
    max_results: int
    max_image_age_s: float
    timeout_s: float


def refer_query_from(request: Refer.Request, settings: Settings, limits: Limits) -> ReferQuery:
    """Check a request; zeros become the node's defaults.

    :raises BadExpression: when a field cannot be used.
    """
    expression = check_expression(request.expression, limits)
    threshold = request.score_threshold
    # `not ... <=` also holds for NaN.
    if not 0 <= threshold <= 1:
        raise BadExpression(f'score_threshold is {threshold}; it must be from 0 (keep all) to 1.')
    if request.max_results > limits.max_results:
        raise BadExpression(
            f'max_results is {request.max_results}; at most {limits.max_results} are given.'
        )
    timeout_s = seconds_from(request.timeout, 'timeout', settings.timeout)
    if timeout_s > limits.max_timeout_s:
        raise BadExpression(
            f'timeout is {timeout_s:g} s; at most {limits.max_timeout_s:g} s are allowed.'
        )
    image = request.image
    return ReferQuery(
        expression=expression,
        camera=request.camera,
        image=image if image.data or image.width or image.height else None,
        score_threshold=threshold,
        max_results=request.max_results or 1,
        max_image_age_s=seconds_from(
            request.max_image_age, 'max_image_age', settings.max_image_age
        ),
        timeout_s=timeout_s,
    )


def seconds_from(duration: Duration, name: str, default: float) -> float:
    """Return a duration of a request in seconds; zero becomes the default.

    :raises BadExpression: when it is negative.
    """
    seconds = duration.sec + duration.nanosec * 1e-9
    if not math.isfinite(seconds) or duration.sec < 0:
        raise BadExpression(f'{name} is {seconds:g} s; it must not be negative (0: the default).')
    return seconds or default
