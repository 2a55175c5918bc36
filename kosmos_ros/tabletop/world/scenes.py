"""Sampling of random scenes: things on a table, the light and the camera's pose."""

import math

import numpy as np

from kosmos_ros.model.boxes import Box
from kosmos_ros.tabletop.world.pinhole import (
    CAMERA,
    Intrinsics,
    Pose,
    looking_at,
    project,
    table_point,
)
from kosmos_ros.tabletop.world.things import (
    COLOURS,
    SHAPES,
    WIDTHS_M,
    Colour,
    Light,
    Table,
    TabletopScene,
    Thing,
    outline,
)

# Linear RGB of table tops: three woods, two greys, slate, blue-grey, sand.
_TABLES = (
    (0.42, 0.25, 0.13),
    (0.30, 0.17, 0.09),
    (0.50, 0.36, 0.22),
    (0.26, 0.27, 0.29),
    (0.42, 0.43, 0.44),
    (0.19, 0.27, 0.26),
    (0.30, 0.33, 0.40),
    (0.47, 0.43, 0.36),
)
_COUNT_PROBABILITIES = {2: 0.06, 3: 0.16, 4: 0.28, 5: 0.28, 6: 0.22}
_ATTEMPTS = 25
# In fractions of the image's sides: the margin around every thing, and the minimum side of its box
# (smaller boxes are too coarse in the grid of location tokens).
_MARGIN, _MIN_SIDE = 0.02, 0.095
# The maximum overlap of two boxes, as a fraction of the smaller one's area.
_MAX_OVERLAP = 0.10
_GAP_M = 0.012


def sample_scene(rng: np.random.Generator, camera: Intrinsics = CAMERA) -> TabletopScene:
    """Sample a scene of two to six things, all in view of `camera` and hardly hiding each other.

    Things often share shape or colour, or both in different sizes, so that a model must use every
    word of an expression.
    """
    pose = _sample_pose(rng)
    things: list[Thing] = []
    boxes: list[Box] = []
    for shape, colour, size in _sample_attributes(rng):
        for _ in range(_ATTEMPTS):
            thing = _sample_thing(rng, shape, colour, size, pose, camera)
            box = box_in_image(thing, pose, camera)
            if _in_view(box) and not _collides(thing, box, things, boxes):
                things.append(thing)
                boxes.append(box)
                break
    if len(things) < 2:
        return sample_scene(rng, camera)
    back_m = max(thing.y_m + thing.footprint_m for thing in things)
    return TabletopScene(tuple(things), _sample_table(rng, back_m), _sample_light(rng), pose)


def box_in_image(thing: Thing, pose: Pose, camera: Intrinsics) -> Box:
    """Return the approximate box of a thing, hidden or not, in fractions of the image."""
    points = project(outline(thing), pose, camera)[:, :2] / [camera.width, camera.height]
    (x0, y0), (x1, y1) = points.min(0).tolist(), points.max(0).tolist()
    return Box(x0, y0, x1, y1)


def _sample_attributes(rng: np.random.Generator) -> list[tuple[str, str, str]]:
    """Sample shape, colour and size of each thing; no two things agree in all three."""
    count = int(rng.choice(list(_COUNT_PROBABILITIES), p=list(_COUNT_PROBABILITIES.values())))
    sampled: list[tuple[str, str, str]] = []
    while len(sampled) < count:
        shape, colour = str(rng.choice(SHAPES)), str(rng.choice(list(COLOURS)))
        size = 'small' if rng.random() < 0.5 else 'large'
        if sampled:
            other, similarity = sampled[int(rng.integers(len(sampled)))], rng.random()
            if similarity < 0.28:
                shape = other[0]
            elif similarity < 0.52:
                colour = other[1]
            elif similarity < 0.72:
                shape, colour = other[:2]
                size = 'large' if other[2] == 'small' else 'small'
        if (shape, colour, size) not in sampled:
            sampled.append((shape, colour, size))
    return sampled


def _sample_thing(
    rng: np.random.Generator, shape: str, colour: str, size: str, pose: Pose, camera: Intrinsics
) -> Thing:
    """Sample a thing anywhere in the image; it may collide with others."""
    x_px, y_px = rng.uniform(0.04, 0.96) * camera.width, rng.uniform(0.10, 0.99) * camera.height
    x_m, y_m = table_point(x_px, y_px, pose, camera)
    shade, tone = rng.normal(1.0, 0.06), rng.normal(0.0, 0.012, 3)
    paint = np.array(COLOURS[colour])
    rgb = _colour(np.clip(paint * shade + tone * (0.3 + paint), 0.01, 0.95))
    width_m, yaw_rad = rng.uniform(*WIDTHS_M[size]), rng.uniform(0, math.tau)
    return Thing(shape, colour, size, float(width_m), x_m, y_m, float(yaw_rad), rgb)


def _in_view(box: Box) -> bool:
    """Return whether a box is large enough and in the image with a margin."""
    inside = min(box.x0, box.y0) >= _MARGIN and max(box.x1, box.y1) <= 1 - _MARGIN
    return inside and min(box.width, box.height) >= _MIN_SIDE


def _collides(thing: Thing, box: Box, things: list[Thing], boxes: list[Box]) -> bool:
    """Return whether a thing touches another, or covers too much of another in the image."""
    for other, other_box in zip(things, boxes, strict=True):
        apart_m = math.hypot(thing.x_m - other.x_m, thing.y_m - other.y_m)
        if apart_m < thing.footprint_m + other.footprint_m + _GAP_M:
            return True
        width = max(0.0, min(box.x1, other_box.x1) - max(box.x0, other_box.x0))
        height = max(0.0, min(box.y1, other_box.y1) - max(box.y0, other_box.y0))
        if width * height > _MAX_OVERLAP * min(box.area, other_box.area):
            return True
    return False


def _sample_pose(rng: np.random.Generator) -> Pose:
    """Sample a pose about 0.95 m from the table's centre, pitched down 48 to 60 degrees."""
    pitch, distance_m = math.radians(rng.uniform(48, 60)), rng.uniform(0.90, 1.02)
    yaw = math.radians(rng.uniform(-12, 12))
    target = np.array([rng.uniform(-0.04, 0.04), rng.uniform(-0.04, 0.04), 0.0])
    back, up = distance_m * math.cos(pitch), distance_m * math.sin(pitch)
    position = target + [-back * math.sin(yaw), -back * math.cos(yaw), up]
    return looking_at(position, target, math.radians(rng.normal(0, 1.0)))


def _sample_table(rng: np.random.Generator, back_m: float) -> Table:
    """Sample a table whose far edge, often out of view, is beyond y = `back_m`."""
    plain = np.array(_TABLES[int(rng.integers(len(_TABLES)))])
    rgb = np.clip(plain * rng.uniform(0.65, 1.25) + rng.normal(0, 0.015, 3), 0.05, 0.7)
    is_wood = rng.random() < 0.6
    grain = rng.uniform(0.06, 0.20) if is_wood else rng.uniform(0, 0.12)
    yaw_rad = rng.choice([0.0, math.pi / 2]) + rng.normal(0, 0.1)
    seed, far_edge_m = int(rng.integers(2**31)), max(rng.uniform(0.45, 1.2), back_m + 0.03)
    stretch = 7.0 if is_wood else 1.0
    return Table(_colour(rgb), float(grain), stretch, float(yaw_rad), seed, float(far_edge_m))


def _sample_light(rng: np.random.Generator) -> Light:
    around, height = rng.uniform(0, math.tau), math.radians(rng.uniform(42, 70))
    flat = math.cos(height)
    towards = (math.cos(around) * flat, math.sin(around) * flat, math.sin(height))
    tint = _colour(1 + rng.normal(0, 0.035, 3))
    return Light(towards, float(rng.uniform(0.75, 1.15)), float(rng.uniform(0.32, 0.50)), tint)


def _colour(rgb: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Colour:
    red, green, blue = rgb.tolist()
    return red, green, blue
