"""Intersections of rays with balls, boxes, cones and rings, and their surface normals.

Everything is in the thing's own frame, in metres: the thing stands on z = 0 at the origin.
Origins are [3] or [N,3], directions [3] or [N,3] of any length.  Results are ray parameters [N],
infinite where a ray misses.
"""

import math

import numpy as np

from kosmos_ros.tabletop.world.pinhole import Floats
from kosmos_ros.tabletop.world.things import BOX_EDGE, CONE_HEIGHT, RING_TUBE, Thing

_RING_STEPS = 22
_MISS = np.float32(np.inf)
_TINY = np.float32(1e-12)


def intersect(thing: Thing, origins: Floats, directions: Floats) -> Floats:
    """Return the ray parameters [N] of the first intersections; inf where there is none."""
    if thing.shape == 'ball':
        return _intersect_ball(thing.width_m / 2, origins, directions)
    if thing.shape == 'box':
        return _intersect_box(thing.width_m * BOX_EDGE, origins, directions)
    if thing.shape == 'cone':
        return _intersect_cone(thing.width_m / 2, thing.width_m * CONE_HEIGHT, origins, directions)
    return _intersect_ring(thing.width_m, origins, directions)


def surface_normals(thing: Thing, points: Floats) -> Floats:
    """Return outward unit normals [N,3] at surface points [N,3]."""
    if thing.shape == 'ball':
        return _unit(points - _up(thing.width_m / 2))
    if thing.shape == 'box':
        from_centre = points - _up(thing.width_m * BOX_EDGE / 2)
        rows, axis = np.arange(len(points)), np.abs(from_centre).argmax(1)
        normals = np.zeros_like(points)
        normals[rows, axis] = np.sign(from_centre[rows, axis])
        return normals
    x, y, z = points.T
    around = np.maximum(np.hypot(x, y), _TINY)
    if thing.shape == 'cone':
        return _unit(np.stack([x, y, around * np.float32(0.5 / CONE_HEIGHT)], 1))
    outward = 1 - np.float32(thing.width_m * (0.5 - RING_TUBE)) / around
    above = z - np.float32(thing.width_m * RING_TUBE)
    return _unit(np.stack([x * outward, y * outward, above], 1))


def to_thing_frame(thing: Thing, vectors: Floats, *, is_point: bool) -> Floats:
    """Convert world points or directions [...,3] to the thing's frame."""
    if is_point:
        vectors = vectors - np.array([thing.x_m, thing.y_m, 0.0], np.float32)
    if thing.shape != 'box':
        # The other shapes are symmetric about the vertical.
        return vectors
    c, s = math.cos(thing.yaw_rad), math.sin(thing.yaw_rad)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]], np.float32)
    turned: Floats = vectors @ turn
    return turned


def dot(a: Floats, b: Floats) -> Floats:
    """Return dot products over the last axis, of length 3; NumPy's sums are slow on short axes."""
    product: Floats = a[..., 0] * b[..., 0] + a[..., 1] * b[..., 1] + a[..., 2] * b[..., 2]
    return product


def _unit(vectors: Floats) -> Floats:
    lengths: Floats = np.sqrt(np.maximum(dot(vectors, vectors), _TINY))
    unit: Floats = vectors / lengths[:, None]
    return unit


def _up(z: float) -> Floats:
    return np.array([0, 0, z], np.float32)


def _intersect_ball(radius: float, origins: Floats, directions: Floats) -> Floats:
    from_centre = origins - _up(radius)
    a, b = dot(directions, directions), dot(from_centre, directions)
    c = dot(from_centre, from_centre) - np.float32(radius**2)
    inside = b * b - a * c
    t = (-b - np.sqrt(np.maximum(inside, 0))) / a
    return np.where((inside > 0) & (t > 0), t, _MISS)


def _intersect_box(edge: float, origins: Floats, directions: Floats) -> Floats:
    """Intersect a box by the slab method."""
    safe = np.where(np.abs(directions) < _TINY, _TINY, directions)
    low = (np.array([-edge / 2, -edge / 2, 0], np.float32) - origins) / safe
    high = (np.array([edge / 2, edge / 2, edge], np.float32) - origins) / safe
    into, out = np.minimum(low, high), np.maximum(low, high)
    enter = np.maximum(np.maximum(into[..., 0], into[..., 1]), into[..., 2])
    leave = np.minimum(np.minimum(out[..., 0], out[..., 1]), out[..., 2])
    return np.where((leave > enter) & (leave > 0), np.maximum(enter, 0), _MISS)


def _intersect_cone(radius: float, height: float, origins: Floats, directions: Floats) -> Floats:
    """Intersect a cone without its base, which neither camera nor lamp can see."""
    # The cone is x^2 + y^2 = slope^2 z^2, measured from the tip.
    weights = np.array([1, 1, -((radius / height) ** 2)], np.float32)
    from_tip = origins - _up(height)
    a, b = dot(directions * weights, directions), dot(from_tip * weights, directions)
    c = dot(from_tip * weights, from_tip)
    inside = b * b - a * c
    root = np.sqrt(np.maximum(inside, 0))
    a = np.where(np.abs(a) < _TINY, _TINY, a)
    best = np.full(inside.shape, _MISS)
    for t in ((-b - root) / a, (-b + root) / a):
        z = from_tip[..., 2] + t * directions[..., 2]
        is_there = (inside > 0) & (t > 0) & (z <= 0) & (z >= -height)
        best = np.where(is_there, np.minimum(best, t), best)
    return best


def _intersect_ring(width: float, origins: Floats, directions: Floats) -> Floats:
    """Intersect a torus on the table by sphere tracing, from where a ray enters its slab."""
    tube = np.float32(width * RING_TUBE)
    middle = np.float32(width / 2) - tube
    speed = np.sqrt(dot(directions, directions))
    into_slab = (2 * tube - origins[..., 2]) / directions[..., 2]
    begin = np.where(directions[..., 2] < 0, into_slab, np.float32(0)) + 0 * speed
    start = origins + begin[:, None] * directions
    x, y, z = start[:, 0], start[:, 1], start[:, 2] - tube
    unit = directions / speed[..., None]
    dx, dy, dz = unit[..., 0], unit[..., 1], unit[..., 2]
    travelled, gap = np.zeros_like(x), np.zeros_like(x)
    for _ in range(_RING_STEPS):
        px, py, pz = x + travelled * dx, y + travelled * dy, z + travelled * dz
        across = np.sqrt(px * px + py * py) - middle
        gap = np.sqrt(across * across + pz * pz) - tube
        travelled += gap
    near = (np.abs(gap) < 0.01 * tube) & (travelled > -0.01 * tube)
    return np.where(near, begin + travelled / speed, _MISS)
