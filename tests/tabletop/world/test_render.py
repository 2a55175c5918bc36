"""Rendered images against geometry computed by hand."""

from dataclasses import replace
import math

import numpy as np
import pytest

from kosmos_ros.tabletop.world.pinhole import CAMERA, looking_at, project
from kosmos_ros.tabletop.world.render import add_sensor_noise, render
from kosmos_ros.tabletop.world.scenes import box_in_image, sample_scene
from kosmos_ros.tabletop.world.things import COLOURS, SHAPES, Light, Table, TabletopScene, Thing

STRAIGHT_DOWN = looking_at(np.array([0.0, -1e-6, 1.0]), np.zeros(3))
TILTED = looking_at(np.array([0.0, -0.6, 0.8]), np.zeros(3))
TABLE = Table((0.4, 0.3, 0.2), 0.1, 1.0, 0.0, 3, 2.0)
LIGHT = Light((0.0, 0.0, 1.0), 1.0, 0.4, (1.0, 1.0, 1.0))


def thing(shape: str, x_m: float = 0.0, y_m: float = 0.0, width_m: float = 0.2) -> Thing:
    return Thing(shape, 'red', 'large', width_m, x_m, y_m, 0.3, COLOURS['red'])


def scene(*things: Thing, pose=TILTED) -> TabletopScene:
    return TabletopScene(things, TABLE, LIGHT, pose)


def test_ball_from_above_has_the_box_and_depth_of_a_sphere() -> None:
    view = render(scene(thing('ball'), pose=STRAIGHT_DOWN), CAMERA)
    # A sphere of radius r at distance d fills a cone of half angle asin(r / d).
    radius_px = 615 * math.tan(math.asin(0.1 / 0.9))
    (ball,) = view.things
    expected = (320 - radius_px, 240 - radius_px, 320 + radius_px, 240 + radius_px)
    assert ball.box_px == pytest.approx(expected, abs=1)
    assert float(view.depth_mm[240, 320]) == pytest.approx(800, abs=2)
    assert float(view.depth_mm[5, 5]) == pytest.approx(1000, abs=2)
    assert ball.visible_fraction == 1
    assert ball.distance_m == pytest.approx(1)


def test_box_from_above_shows_its_top() -> None:
    view = render(scene(replace(thing('box'), yaw_rad=0.0), pose=STRAIGHT_DOWN), CAMERA)
    edge_m = 0.2 * 0.82
    half_px = 615 * edge_m / 2 / (1 - edge_m)
    expected = (320 - half_px, 240 - half_px, 320 + half_px, 240 + half_px)
    assert view.things[0].box_px == pytest.approx(expected, abs=1)
    assert float(view.depth_mm[240, 320]) == pytest.approx(1000 * (1 - edge_m), abs=2)


def test_ring_has_a_hole_and_a_cone_a_tip() -> None:
    ring = render(scene(thing('ring'), pose=STRAIGHT_DOWN), CAMERA)
    assert float(ring.depth_mm[240, 320]) == pytest.approx(1000, abs=2)
    tube_px = 615 * (0.1 - 0.026) / (1 - 0.026)
    assert float(ring.depth_mm[240, 320 + round(tube_px)]) == pytest.approx(1000 - 2 * 26, abs=3)
    cone = render(scene(thing('cone'), pose=STRAIGHT_DOWN), CAMERA)
    assert float(cone.depth_mm[240, 320]) == pytest.approx(1000 - 220, abs=8)
    assert cone.things[0].box_px == pytest.approx((258.5, 178.5, 381.5, 301.5), abs=1)


@pytest.mark.parametrize('shape', SHAPES)
def test_visible_box_is_the_projected_outline(shape: str) -> None:
    one = thing(shape, 0.1, 0.05)
    view = render(scene(one), CAMERA)
    box = box_in_image(one, TILTED, CAMERA)
    expected = (box.x0 * 640, box.y0 * 480, box.x1 * 640, box.y1 * 480)
    assert view.things[0].box_px == pytest.approx(expected, abs=5)


def test_depth_is_along_the_optical_axis() -> None:
    view = render(scene(thing('ball', 0.3, 0.2)), CAMERA)
    ((x, y, depth_m),) = project(np.array([[-0.25, 0.1, 0.0]]), TILTED, CAMERA)
    assert float(view.depth_mm[int(y), int(x)]) == pytest.approx(1000 * depth_m, abs=2)


def test_near_things_hide_far_ones() -> None:
    pose = looking_at(np.array([0.0, -0.8, 0.35]), np.array([0.0, 0.0, 0.05]))
    near, far = thing('ball', 0.0, -0.15), thing('ball', 0.03, 0.1)
    view = render(scene(near, far, pose=pose), CAMERA)
    alone = render(scene(far, pose=pose), CAMERA)
    assert view.things[0].visible_fraction == 1
    assert 0.05 < view.things[1].visible_fraction < 0.9
    assert alone.things[0].visible_fraction == 1


def test_floor_behind_the_table_has_no_depth() -> None:
    short = replace(scene(thing('ball')), table=replace(TABLE, far_edge_m=0.3))
    view = render(short, CAMERA)
    assert view.depth_mm[0, 320] == 0
    assert view.depth_mm[479, 320] > 0


def test_equal_seeds_give_equal_images() -> None:
    first, again, other = (
        render(sample_scene(np.random.default_rng(seed)), CAMERA.scaled(160, 120))
        for seed in (4, 4, 5)
    )
    assert np.array_equal(first.rgb, again.rgb)
    assert np.array_equal(first.depth_mm, again.depth_mm)
    assert first.things == again.things
    assert not np.array_equal(first.rgb, other.rgb)


def test_shapes_types_and_boxes_agree_at_any_resolution() -> None:
    one = sample_scene(np.random.default_rng(8))
    full = render(one, CAMERA)
    for width, height, n in ((160, 120, 1), (112, 112, 1), (320, 240, 2)):
        view = render(one, CAMERA.scaled(width, height), n)
        assert view.rgb.shape == (height, width, 3)
        assert view.rgb.dtype == np.uint8
        assert view.depth_mm.shape == (height, width)
        assert view.depth_mm.dtype == np.uint16
        for small, large in zip(view.things, full.things, strict=True):
            scale = [width / 640, height / 480] * 2
            assert small.box_px == pytest.approx(np.array(large.box_px) * scale, abs=1.1)


def test_sampled_things_are_apart_visible_and_large_enough() -> None:
    rng = np.random.default_rng(1)
    counts = set()
    for _ in range(40):
        sampled = sample_scene(rng)
        view = render(sampled, CAMERA.scaled(160, 120))
        counts.add(len(sampled.things))
        attributes = [(one.shape, one.colour, one.size) for one in sampled.things]
        assert len(set(attributes)) == len(attributes)
        for index, one in enumerate(sampled.things):
            for other in sampled.things[:index]:
                apart_m = math.hypot(one.x_m - other.x_m, one.y_m - other.y_m)
                assert apart_m > one.footprint_m + other.footprint_m
        for visible in view.things:
            x0, y0, x1, y1 = visible.box_px
            assert visible.visible_fraction >= 0.7
            assert 0 < x0 < x1 < 160
            assert 0 < y0 < y1 < 120
            assert min((x1 - x0) / 160, (y1 - y0) / 120) >= 0.085
    assert counts == {2, 3, 4, 5, 6}


def test_noise_is_small_and_different_in_every_frame() -> None:
    rgb = render(scene(thing('ball')), CAMERA.scaled(160, 120)).rgb
    rng = np.random.default_rng(0)
    frames = np.stack([add_sensor_noise(rgb, rng, 3.0) for _ in range(20)]).astype(float)
    assert not np.array_equal(frames[0], frames[1])
    assert frames.std(0).mean() == pytest.approx(3, abs=0.3)
    assert np.abs(frames.mean(0) - rgb).mean() < 1
    assert np.array_equal(add_sensor_noise(rgb, rng, 0.0), rgb)
