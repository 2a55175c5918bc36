"""A pinhole camera: conversion between metres in the world and pixels in the image.

World frame: x to the right, y away from the camera, z up; the table top is z = 0; metres.
Camera frame (ROS optical): x right, y down, z along the optical axis.
Intrinsics follow ``sensor_msgs/CameraInfo``: integer coordinates are pixel centres.  Boxes and
projected points use pixel edges instead, so that pixel i covers [i, i + 1).
"""

from dataclasses import dataclass
import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Intrinsics:
    """Focal lengths and principal point in pixels, image size in pixels; no distortion."""

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int

    def scaled(self, width: int, height: int) -> 'Intrinsics':
        """Return the same camera at another resolution; the aspect ratio may change too."""
        x, y = width / self.width, height / self.height
        cx, cy = (self.cx + 0.5) * x - 0.5, (self.cy + 0.5) * y - 0.5
        return Intrinsics(self.fx * x, self.fy * y, cx, cy, width, height)


@dataclass(frozen=True, slots=True)
class Pose:
    """The camera's position, and its right, down and forward axes as rows of a matrix."""

    position_m: Doubles
    world_to_camera: Doubles


CAMERA = Intrinsics(615.0, 615.0, 319.5, 239.5, 640, 480)
"""The demo's camera: 640x480, 55 degrees wide."""


def looking_at(position_m: Doubles, target_m: Doubles, roll_rad: float = 0.0) -> Pose:
    """Return a camera at `position_m` [3] that looks at `target_m` [3], rolled about its axis."""
    forward = (target_m - position_m) / np.linalg.norm(target_m - position_m)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    c, s = math.cos(roll_rad), math.sin(roll_rad)
    return Pose(position_m, np.stack([c * right + s * down, c * down - s * right, forward]))


def project(points_m: Doubles, pose: Pose, camera: Intrinsics) -> Doubles:
    """Project world points [N,3] to x and y in pixels and depth along the axis in metres."""
    points = (points_m - pose.position_m) @ pose.world_to_camera.T
    depth = points[:, 2]
    x = points[:, 0] / depth * camera.fx + camera.cx + 0.5
    y = points[:, 1] / depth * camera.fy + camera.cy + 0.5
    return np.stack([x, y, depth], 1)


def rays(pose: Pose, camera: Intrinsics) -> Floats:
    """Return world directions [H,W,3] of all pixels, scaled so that ray parameters are depths."""
    x = (np.arange(camera.width) - camera.cx) / camera.fx
    y = (np.arange(camera.height) - camera.cy) / camera.fy
    right, down, forward = pose.world_to_camera
    directions = y[:, None, None] * down + forward + x[None, :, None] * right
    return directions.astype(np.float32)


def table_point(x_px: float, y_px: float, pose: Pose, camera: Intrinsics) -> tuple[float, float]:
    """Return world x and y in metres of the table point at a position in the image."""
    x = (x_px - 0.5 - camera.cx) / camera.fx
    y = (y_px - 0.5 - camera.cy) / camera.fy
    direction = np.array([x, y, 1.0]) @ pose.world_to_camera
    point = pose.position_m - direction * (pose.position_m[2] / direction[2])
    return float(point[0]), float(point[1])
