"""Where rays meet balls, boxes, cones and rings, and which way the surface looks there.

Every thing is described in its own frame: it stands on z = 0 at the origin, metres.  `origins` is [3] or [N, 3],
`directions` is [N, 3] or [3], of any length; answers are ray parameters [N], infinite where a ray misses.
"""
from __future__ import annotations

import math

import numpy as np

from kosmos_ros.tabletop.pinhole import Floats
from kosmos_ros.tabletop.world import BOX_EDGE, CONE_HEIGHT, RING_TUBE, Thing

RING_STEPS = 22
MISS = np.float32(np.inf)


def meet(thing: Thing, origins: Floats, directions: Floats) -> Floats:
    """Ray parameter [N] of the first point in front of each origin; inf where there is none."""
    if thing.shape == 'ball':
        return _meet_ball(thing.width_m / 2, origins, directions)
    if thing.shape == 'box':
        return _meet_box(thing.width_m * BOX_EDGE, origins, directions)
    if thing.shape == 'cone':
        return _meet_cone(thing.width_m / 2, thing.width_m * CONE_HEIGHT, origins, directions)
    return _meet_ring(thing.width_m, origins, directions)


def facing(thing: Thing, points: Floats) -> Floats:
    """Outward unit normals [N, 3] at surface points [N, 3]."""
    if thing.shape == 'ball':
        normals = points - np.array([0, 0, thing.width_m / 2], np.float32)
    elif thing.shape == 'box':
        half = thing.width_m * BOX_EDGE / 2
        centred = points - np.array([0, 0, half], np.float32)
        axis = np.abs(centred).argmax(1)
        normals = np.zeros_like(points)
        rows = np.arange(len(points))
        normals[rows, axis] = np.sign(centred[rows, axis])
        return normals
    elif thing.shape == 'cone':
        around = np.hypot(points[:, 0], points[:, 1])
        normals = np.stack([points[:, 0], points[:, 1], around * (.5 / CONE_HEIGHT)], 1)
    else:
        around = np.maximum(np.hypot(points[:, 0], points[:, 1]), 1e-6)
        inward = 1 - thing.width_m * (.5 - RING_TUBE) / around
        normals = np.stack([points[:, 0] * inward, points[:, 1] * inward, points[:, 2] - thing.width_m * RING_TUBE], 1)
    unit: Floats = normals / np.maximum(np.sqrt(dot(normals, normals)), 1e-9)[:, None]
    return unit


def to_own_frame(thing: Thing, vectors: Floats, moved: bool) -> Floats:
    """World vectors [..., 3] in the thing's frame; points when `moved`, directions otherwise."""
    if moved:
        vectors = vectors - np.array([thing.x_m, thing.y_m, 0.], np.float32)
    if thing.shape != 'box':
        return vectors                                     # round about the vertical
    c, s = math.cos(thing.yaw_rad), math.sin(thing.yaw_rad)
    return vectors @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]], np.float32)


def dot(a: Floats, b: Floats) -> Floats:
    """Scalar products over the last axis, of length 3; faster than a sum over so short an axis."""
    product: Floats = a[..., 0] * b[..., 0] + a[..., 1] * b[..., 1] + a[..., 2] * b[..., 2]
    return product


def _meet_ball(radius: float, origins: Floats, directions: Floats) -> Floats:
    from_centre = origins - np.array([0, 0, radius], np.float32)
    a, b, c = dot(directions, directions), dot(from_centre, directions), dot(from_centre, from_centre) - radius ** 2
    inside = b * b - a * c
    t = (-b - np.sqrt(np.maximum(inside, 0))) / a
    return np.where((inside > 0) & (t > 0), t, MISS).astype(np.float32)


def _meet_box(edge: float, origins: Floats, directions: Floats) -> Floats:
    safe = np.where(np.abs(directions) < 1e-9, np.float32(1e-9), directions)
    low = (np.array([-edge / 2, -edge / 2, 0], np.float32) - origins) / safe
    high = (np.array([edge / 2, edge / 2, edge], np.float32) - origins) / safe
    enter, leave = np.minimum(low, high), np.maximum(low, high)
    enter = np.maximum(np.maximum(enter[..., 0], enter[..., 1]), enter[..., 2])
    leave = np.minimum(np.minimum(leave[..., 0], leave[..., 1]), leave[..., 2])
    return np.where((leave > enter) & (leave > 0), np.maximum(enter, 0), MISS).astype(np.float32)


def _meet_cone(radius: float, height: float, origins: Floats, directions: Floats) -> Floats:
    """x^2 + y^2 = k^2 (height - z)^2; the base is never seen, neither from above nor by the lamp."""
    weights = np.array([1, 1, -(radius / height) ** 2], np.float32)
    from_apex = origins - np.array([0, 0, height], np.float32)
    a, b, c = dot(directions * weights, directions), dot(from_apex * weights, directions), \
        dot(from_apex * weights, from_apex)
    inside = b * b - a * c
    root = np.sqrt(np.maximum(inside, 0))
    a = np.where(np.abs(a) < 1e-9, np.float32(1e-9), a)
    best = np.full(np.broadcast_shapes(a.shape, b.shape), MISS)
    for t in ((-b - root) / a, (-b + root) / a):
        z = from_apex[..., 2] + t * directions[..., 2]
        best = np.where((inside > 0) & (t > 0) & (z <= 0) & (z >= -height), np.minimum(best, t), best)
    return best.astype(np.float32)


def _meet_ring(width: float, origins: Floats, directions: Floats) -> Floats:
    """Sphere tracing of a torus lying on the table, from where a ray enters the slab that holds it."""
    tube = width * RING_TUBE
    middle = width / 2 - tube
    speed = np.sqrt(dot(directions, directions))
    slab = (2 * tube - origins[..., 2]) / directions[..., 2]
    t = np.broadcast_to(np.where(directions[..., 2] < 0, slab, 0), np.broadcast_shapes(slab.shape, speed.shape))
    start = origins + t[:, None] * directions
    unit = directions / speed[..., None]
    x, y, z = start[:, 0], start[:, 1], start[:, 2] - tube
    dx, dy, dz = (np.broadcast_to(unit[..., i], x.shape) for i in range(3))
    gone = np.zeros_like(x)
    for _ in range(RING_STEPS):
        px, py, pz = x + gone * dx, y + gone * dy, z + gone * dz
        across = np.sqrt(px * px + py * py) - middle
        gap = np.sqrt(across * across + pz * pz) - tube
        gone = gone + gap
    near = (np.abs(gap) < .01 * tube) & (gone > -.01 * tube)
    return np.where(near, t + gone / speed, MISS).astype(np.float32)
