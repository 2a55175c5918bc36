"""The contents of a scene: shapes, colours and sizes of things, the table and the light."""

from dataclasses import dataclass
import math

import numpy as np

from kosmos_ros.tabletop.world.pinhole import Doubles, Pose

Colour = tuple[float, float, float]

SHAPES = ('ball', 'box', 'cone', 'ring')
# Linear RGB reflectance.
COLOURS: dict[str, Colour] = {
    'red': (0.68, 0.03, 0.03),
    'green': (0.05, 0.38, 0.07),
    'blue': (0.03, 0.11, 0.60),
    'yellow': (0.88, 0.66, 0.03),
    'purple': (0.27, 0.05, 0.42),
    'orange': (0.92, 0.27, 0.02),
    'white': (0.86, 0.86, 0.84),
    'black': (0.018, 0.018, 0.02),
}
WIDTHS_M = {'small': (0.105, 0.120), 'large': (0.185, 0.210)}
# In widths of a thing: the edge of a box, the height of a cone, the radius of a ring's tube.
BOX_EDGE, CONE_HEIGHT, RING_TUBE = 0.82, 1.1, 0.13


@dataclass(frozen=True, slots=True)
class Thing:
    """One thing at (x_m, y_m), rotated by yaw_rad about the vertical; linear RGB."""

    shape: str
    colour: str
    size: str
    width_m: float
    x_m: float
    y_m: float
    yaw_rad: float
    rgb: Colour

    @property
    def footprint_m(self) -> float:
        """Return the radius of the circle on the table that contains the whole thing."""
        return self.width_m * (BOX_EDGE / math.sqrt(2) if self.shape == 'box' else 0.5)


@dataclass(frozen=True, slots=True)
class Table:
    """The table top, in linear RGB; the floor begins at y = far_edge_m."""

    rgb: Colour
    grain: float  # strength of the pattern, 0 for none
    stretch: float  # of the pattern, 1 for cloth, more for wood
    yaw_rad: float
    seed: int
    far_edge_m: float


@dataclass(frozen=True, slots=True)
class Light:
    """A distant lamp in the direction of a unit vector, and ambient light."""

    towards: Colour
    lamp: float
    ambient: float
    tint: Colour


@dataclass(frozen=True, slots=True)
class TabletopScene:
    """Everything that determines an image except the intrinsics and the sensor noise."""

    things: tuple[Thing, ...]
    table: Table
    light: Light
    pose: Pose


def outline(thing: Thing) -> Doubles:
    """Return points [N,3] of a thing's surface in the world, in metres.

    Their convex hull contains its silhouette except a rim of at most 4 % of its width.
    """
    c, s = math.cos(thing.yaw_rad), math.sin(thing.yaw_rad)
    turn = np.array([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]])
    return _OUTLINES[thing.shape] @ turn * thing.width_m + [thing.x_m, thing.y_m, 0.0]


def _circle(radius: float, z: float, n: int = 28) -> Doubles:
    a = np.arange(n) * math.tau / n
    return np.stack([radius * np.cos(a), radius * np.sin(a), np.full(n, z)], 1)


def _sphere(n: int = 80) -> Doubles:
    """Return evenly distributed points on a sphere (a Fibonacci lattice)."""
    i = np.arange(n)
    z, a = 1 - (2 * i + 1) / n, i * math.pi * (3 - math.sqrt(5))
    r = np.sqrt(1 - z * z)
    return 0.5 * np.stack([r * np.cos(a), r * np.sin(a), z + 1], 1)


def _cube() -> Doubles:
    corners = [(x, y, z) for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (0.0, 1.0)]
    return np.array(corners) * BOX_EDGE


def _torus() -> Doubles:
    middle = 0.5 - RING_TUBE
    circles = [(0.5, RING_TUBE), (middle, 2 * RING_TUBE), (middle, 0.0)]
    return np.concatenate([_circle(radius, z) for radius, z in circles])


# Outlines of things of width 1 that stand on z = 0 at the origin.
_OUTLINES: dict[str, Doubles] = {
    'ball': _sphere(),
    'box': _cube(),
    'cone': np.concatenate([_circle(0.5, 0.0), np.array([[0.0, 0.0, CONE_HEIGHT]])]),
    'ring': _torus(),
}
