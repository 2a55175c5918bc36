"""The tabletop world: coloured things on a table under a lamp, drawn from a seeded generator."""
from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from kosmos_ros.tabletop.pinhole import CAMERA, Doubles, Intrinsics, Pose, looking_at, on_table, project

SHAPES = ('ball', 'box', 'cone', 'ring')
COLOURS: dict[str, tuple[float, float, float]] = {          # linear RGB reflectance
    'red': (.68, .03, .03), 'green': (.05, .38, .07), 'blue': (.03, .11, .60), 'yellow': (.88, .66, .03),
    'purple': (.27, .05, .42), 'orange': (.92, .27, .02), 'white': (.86, .86, .84), 'black': (.018, .018, .02)}
WIDTHS_M = {'small': (.105, .120), 'large': (.185, .210)}
TABLES = ((.42, .25, .13), (.30, .17, .09), (.50, .36, .22), (.26, .27, .29), (.42, .43, .44), (.19, .27, .26),
          (.30, .33, .40), (.47, .43, .36))
"""Linear RGB of table tops: three woods, two greys, slate, blue-grey, sand."""

MARGIN = .02                     # of the image side that stays free around every thing
MOST_OVERLAP = .10               # of the smaller box, between the boxes of two things
LEAST_SIDE = .095                # of the image side: smaller boxes drown in the 32x32 location grid


@dataclass(frozen=True, slots=True)
class Thing:
    """One thing standing on the table at (x_m, y_m), turned by yaw_rad about the vertical."""

    shape: str
    colour: str
    size: str
    width_m: float
    x_m: float
    y_m: float
    yaw_rad: float
    rgb: tuple[float, float, float]

    @property
    def height_m(self) -> float:
        """Height of the highest point above the table."""
        return self.width_m * {'ball': 1., 'box': BOX_EDGE, 'cone': CONE_HEIGHT, 'ring': 2 * RING_TUBE}[self.shape]

    @property
    def footprint_m(self) -> float:
        """Radius of the circle on the table that holds the whole thing."""
        return self.width_m * (BOX_EDGE / math.sqrt(2) if self.shape == 'box' else .5)


BOX_EDGE, CONE_HEIGHT, RING_TUBE = .82, 1.1, .13            # in widths; the tube is a radius


@dataclass(frozen=True, slots=True)
class Table:
    """The table top: linear RGB, how strong its grain is (0 plain), how stretched (1 cloth, 8 wood), seed of the grain."""

    rgb: tuple[float, float, float]
    grain: float
    stretch: float
    yaw_rad: float
    seed: int
    far_edge_m: float


@dataclass(frozen=True, slots=True)
class Light:
    """A distant lamp: unit vector towards it, its strength, and the strength of the light from everywhere."""

    towards: tuple[float, float, float]
    lamp: float
    ambient: float
    tint: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that decides the picture, apart from the camera's intrinsics and the sensor's noise."""

    things: tuple[Thing, ...]
    table: Table
    light: Light
    pose: Pose


def outline(thing: Thing) -> Doubles:
    """Surface points [N, 3] of a thing in the world, in metres; their hull holds all but about 3 % of its silhouette."""
    return UNIT_OUTLINES[thing.shape] @ _turn(thing.yaw_rad).T * thing.width_m + [thing.x_m, thing.y_m, 0.]


def box_in_image(thing: Thing, pose: Pose, camera: Intrinsics) -> tuple[float, float, float, float]:
    """About where the whole thing, hidden or not, lies in the image: x0, y0, x1, y1 in pixels."""
    points = project(outline(thing), pose, camera)
    (x0, y0, _), (x1, y1, _) = points.min(0), points.max(0)
    return float(x0), float(y0), float(x1), float(y1)


def draw_scene(rng: np.random.Generator, camera: Intrinsics = CAMERA) -> Scene:
    """A scene of two to six things, all in view of `camera` and hardly hiding each other.

    Things resemble each other often: the same shape in another colour, the same colour on another shape, the same
    shape and colour in another size.  So a name must be read to its end.
    """
    pose, things = _draw_pose(rng), list[Thing]()
    boxes = list[tuple[float, float, float, float]]()
    wanted = int(rng.choice([2, 3, 4, 5, 6], p=[.06, .16, .28, .28, .22]))
    looks = _draw_looks(rng, wanted)
    for shape, colour, size in looks:
        for _ in range(25):
            thing = _draw_thing(rng, shape, colour, size, pose, camera)
            box = box_in_image(thing, pose, camera)
            if _fits(thing, box, things, boxes, camera):
                things.append(thing)
                boxes.append(box)
                break
    if len(things) < 2:
        return draw_scene(rng, camera)
    back = max(thing.y_m + thing.footprint_m for thing in things)
    return Scene(tuple(things), _draw_table(rng, back), _draw_light(rng), pose)


def _draw_looks(rng: np.random.Generator, wanted: int) -> list[tuple[str, str, str]]:
    """Shape, colour and size of each thing, no two things the same in all three."""
    looks = list[tuple[str, str, str]]()
    while len(looks) < wanted:
        shape, colour = str(rng.choice(SHAPES)), str(rng.choice(list(COLOURS)))
        size = 'small' if rng.random() < .5 else 'large'
        if looks:
            other, like = looks[int(rng.integers(len(looks)))], rng.random()
            if like < .28:
                shape = other[0]
            elif like < .52:
                colour = other[1]
            elif like < .72:
                shape, colour, size = other[0], other[1], 'large' if other[2] == 'small' else 'small'
        if (shape, colour, size) not in looks:
            looks.append((shape, colour, size))
    return looks


def _draw_thing(rng: np.random.Generator, shape: str, colour: str, size: str, pose: Pose, camera: Intrinsics) -> Thing:
    x, y = on_table(rng.uniform(.04, .96) * camera.width, rng.uniform(.10, .99) * camera.height, pose, camera)
    shade, tone = rng.normal(1., .06), rng.normal(0., .012, 3)
    r, g, b = np.clip(np.array(COLOURS[colour]) * shade + tone * (.3 + np.array(COLOURS[colour])), .01, .95).tolist()
    return Thing(shape, colour, size, float(rng.uniform(*WIDTHS_M[size])), x, y, float(rng.uniform(0, math.tau)), (r, g, b))


def _fits(thing: Thing, box: tuple[float, float, float, float], things: list[Thing],
          boxes: list[tuple[float, float, float, float]], camera: Intrinsics) -> bool:
    """Whether a thing is wholly in view, large enough, clear of the others on the table and hardly over them in the image."""
    x0, y0, x1, y1 = box[0] / camera.width, box[1] / camera.height, box[2] / camera.width, box[3] / camera.height
    if min(x0, y0) < MARGIN or max(x1, y1) > 1 - MARGIN or min(x1 - x0, y1 - y0) < LEAST_SIDE:
        return False
    for other, (u0, v0, u1, v1) in zip(things, boxes, strict=True):
        if math.hypot(thing.x_m - other.x_m, thing.y_m - other.y_m) < thing.footprint_m + other.footprint_m + .012:
            return False
        shared = max(0., min(box[2], u1) - max(box[0], u0)) * max(0., min(box[3], v1) - max(box[1], v0))
        if shared > MOST_OVERLAP * min((u1 - u0) * (v1 - v0), (box[2] - box[0]) * (box[3] - box[1])):
            return False
    return True


def _draw_pose(rng: np.random.Generator) -> Pose:
    """Looking down at the table's middle from about 0.95 m, pitched 48 to 60 degrees."""
    pitch, distance, yaw = math.radians(rng.uniform(48, 60)), rng.uniform(.90, 1.02), math.radians(rng.uniform(-12, 12))
    target = np.array([rng.uniform(-.04, .04), rng.uniform(-.04, .04), 0.])
    back = distance * math.cos(pitch)
    position = target + [-back * math.sin(yaw), -back * math.cos(yaw), distance * math.sin(pitch)]
    return looking_at(position, target, math.radians(rng.normal(0, 1.)))


def _draw_table(rng: np.random.Generator, back_m: float) -> Table:
    """A table whose far edge, often out of view, is behind y = `back_m`."""
    rgb = np.clip(np.array(TABLES[int(rng.integers(len(TABLES)))]) * rng.uniform(.65, 1.25) + rng.normal(0, .015, 3), .05, .7)
    r, g, b = rgb.tolist()
    wood = rng.random() < .6
    return Table((r, g, b), float(rng.uniform(.06, .20) if wood else rng.uniform(0, .12)), 7. if wood else 1.,
                 float(rng.choice([0., math.pi / 2]) + rng.normal(0, .1)), int(rng.integers(2 ** 31)),
                 float(max(rng.uniform(.45, 1.2), back_m + .03)))


def _draw_light(rng: np.random.Generator) -> Light:
    around, height = rng.uniform(0, math.tau), math.radians(rng.uniform(42, 70))
    towards = (math.cos(around) * math.cos(height), math.sin(around) * math.cos(height), math.sin(height))
    r, g, b = (1 + rng.normal(0, .035, 3)).tolist()
    return Light(towards, float(rng.uniform(.75, 1.15)), float(rng.uniform(.32, .50)), (r, g, b))


def _turn(yaw_rad: float) -> Doubles:
    c, s = math.cos(yaw_rad), math.sin(yaw_rad)
    return np.array([[c, -s, 0.], [s, c, 0.], [0., 0., 1.]])


def _circle(radius: float, z: float, n: int = 28) -> Doubles:
    a = np.arange(n) * math.tau / n
    return np.stack([radius * np.cos(a), radius * np.sin(a), np.full(n, z)], 1)


def _sphere(n: int = 80) -> Doubles:
    """Evenly spread points on a sphere of radius .5 that stands on z = 0 (a Fibonacci lattice)."""
    i = np.arange(n)
    z, a = 1 - (2 * i + 1) / n, i * math.pi * (3 - math.sqrt(5))
    r = np.sqrt(1 - z * z)
    return .5 * np.stack([r * np.cos(a), r * np.sin(a), z + 1], 1)


UNIT_OUTLINES: dict[str, Doubles] = {
    'ball': _sphere(),
    'box': np.array([[x, y, z] for x in (-.5, .5) for y in (-.5, .5) for z in (0., 1.)]) * BOX_EDGE,
    'cone': np.concatenate([_circle(.5, 0.), [[0., 0., CONE_HEIGHT]]]),
    'ring': np.concatenate([_circle(.5, RING_TUBE), _circle(.5 - RING_TUBE, 2 * RING_TUBE), _circle(.5 - RING_TUBE, 0.)])}
"""Outline points of each shape, of width 1, standing on z = 0 at the origin."""
