"""The camera against cases computed by hand and against its own inverse."""

import numpy as np
import pytest

from kosmos_ros.tabletop.world.pinhole import CAMERA, looking_at, project, rays, table_point

POSE = looking_at(np.array([0.1, -0.6, 0.8]), np.array([0.0, 0.05, 0.0]), roll_rad=0.03)


def test_optical_axis_meets_the_target() -> None:
    ((x, y, depth_m),) = project(np.array([[0.0, 0.05, 0.0]]), POSE, CAMERA)
    assert (x, y) == pytest.approx((320, 240))
    assert depth_m == pytest.approx(np.linalg.norm([0.1, -0.65, 0.8]))


def test_axes_are_those_of_an_optical_frame() -> None:
    right, down, forward = POSE.world_to_camera
    assert np.cross(right, down) == pytest.approx(forward)
    assert POSE.world_to_camera @ POSE.world_to_camera.T == pytest.approx(np.eye(3))
    assert right[0] > 0.9
    assert down[2] < 0


def test_rays_go_through_the_pixels_centres() -> None:
    camera = CAMERA.scaled(40, 30)
    directions = rays(POSE, camera).reshape(-1, 3).astype(np.float64)
    projected = project(POSE.position_m + 0.7 * directions, POSE, camera).reshape(30, 40, 3)
    x, y = np.meshgrid(np.arange(40) + 0.5, np.arange(30) + 0.5)
    assert projected[..., 0] == pytest.approx(x, abs=1e-3)
    assert projected[..., 1] == pytest.approx(y, abs=1e-3)
    assert projected[..., 2] == pytest.approx(0.7, abs=1e-5)


def test_table_point_inverts_projection() -> None:
    x_m, y_m = table_point(100, 400, POSE, CAMERA)
    ((x, y, _),) = project(np.array([[x_m, y_m, 0.0]]), POSE, CAMERA)
    assert (x, y) == pytest.approx((100, 400))


def test_another_resolution_projects_to_the_same_fractions() -> None:
    points = np.random.default_rng(0).uniform(-0.2, 0.2, (20, 3))
    full = project(points, POSE, CAMERA) / [640, 480, 1]
    resized = project(points, POSE, CAMERA.scaled(112, 112)) / [112, 112, 1]
    assert resized == pytest.approx(full)
