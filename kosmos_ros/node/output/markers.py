"""Boxes as RViz markers: outlines at a distance of one metre in front of the camera."""

from collections.abc import Sequence
import math

from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point
from sensor_msgs.msg import CameraInfo
from visualization_msgs.msg import Marker, MarkerArray

from kosmos_ros.drawing.annotate import colours_for
from kosmos_ros.node.conversion.detections import Detection
from kosmos_ros.node.conversion.stamped_image import DecodedImage

# Without camera_info: the field of view of a usual camera, 60 degrees across.
_NOMINAL_FIELD = math.radians(60)
_LINE_M, _TEXT_M, _DEPTH_M = 0.006, 0.035, 1.0


def markers_message(
    detections: Sequence[Detection], image: DecodedImage, info: CameraInfo | None
) -> MarkerArray:
    """Return a marker that deletes the earlier ones, then an outline and a label for each box.

    They lie in the image plane one metre away, in the frame of the image's header, which by
    convention is optical (REP 103: x right, y down, z forward); that distance says nothing about
    the object itself.

    :param info: the camera's calibration; None or one of another size: 60 degrees are assumed.
    """
    clear = Marker(header=image.header, action=Marker.DELETEALL)
    array = MarkerArray(markers=[clear])
    fx, fy, cx, cy = _intrinsics(image, info)
    colours = colours_for([detection.phrase for detection in detections])
    for number, detection in enumerate(detections):
        box = detection.scored_box.box_in_image
        x0, x1 = ((x * image.width - 0.5 - cx) / fx * _DEPTH_M for x in (box.x0, box.x1))
        y0, y1 = ((y * image.height - 0.5 - cy) / fy * _DEPTH_M for y in (box.y0, box.y1))
        outline = _marker(image, 'boxes', number, Marker.LINE_STRIP, colours[detection.phrase])
        outline.scale.x = _LINE_M
        corners = ((x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0))
        outline.points = [Point(x=x, y=y, z=_DEPTH_M) for x, y in corners]
        label = _marker(
            image, 'labels', number, Marker.TEXT_VIEW_FACING, colours[detection.phrase]
        )
        label.scale.z = _TEXT_M
        label.pose.position = Point(x=(x0 + x1) / 2, y=y0 - _TEXT_M, z=_DEPTH_M)
        label.text = f'{detection.phrase}  {detection.scored_box.score:.2f}'
        array.markers += [outline, label]
    return array


def _marker(
    image: DecodedImage, namespace: str, number: int, kind: int, colour: tuple[int, int, int]
) -> Marker:
    marker = Marker(header=image.header, ns=namespace, id=number, type=kind, action=Marker.ADD)
    marker.pose.orientation.w = 1.0
    red, green, blue = (value / 255 for value in colour)
    marker.color.r, marker.color.g, marker.color.b, marker.color.a = red, green, blue, 1.0
    # A node that dies must not leave boxes in the air.
    marker.lifetime = Duration(sec=10)
    return marker


def _intrinsics(image: DecodedImage, info: CameraInfo | None) -> tuple[float, float, float, float]:
    """Focal lengths and principal point in pixels; the latter in coordinates of pixel centres."""
    if info is not None and (info.width, info.height) == (image.width, image.height):
        fx, fy, cx, cy = (float(info.k[index]) for index in (0, 4, 2, 5))
        if fx > 0 and fy > 0 and all(map(math.isfinite, (fx, fy, cx, cy))):
            return fx, fy, cx, cy
    focal = image.width / 2 / math.tan(_NOMINAL_FIELD / 2)
    return focal, focal, (image.width - 1) / 2, (image.height - 1) / 2
