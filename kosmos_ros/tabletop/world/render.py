"""From a scene to what an RGB-D camera would deliver, and the truth about it.

Rays are cast in NumPy; each thing only inside the rectangle of the image that can show it.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from kosmos_ros.tabletop.world.pinhole import Floats, Intrinsics, project, rays
from kosmos_ros.tabletop.world.shading import (
    Bytes,
    develop,
    light_on_table,
    light_on_thing,
    rectangle,
    table_top,
)
from kosmos_ros.tabletop.world.shapes import facing, meet, to_own_frame
from kosmos_ros.tabletop.world.things import Scene, Thing, outline

__all__ = ['Bytes', 'Seen', 'View', 'add_sensor_noise', 'render']

_NOBODY = -1


@dataclass(frozen=True, slots=True)
class Seen:
    """One thing in one picture."""

    thing: Thing
    box_px: tuple[float, float, float, float]  # of what is visible: x0, y0, x1, y1, pixel edges
    visible: float  # share of its pixels that nothing hides
    distance_m: float  # from the camera to the middle of the footprint


@dataclass(frozen=True, slots=True)
class View:
    """A picture and the truth about it."""

    rgb: Bytes  # [H,W,3]
    depth_mm: NDArray[np.uint16]  # [H,W], along the optical axis, 0 where there is none
    things: tuple[Seen, ...]
    camera: Intrinsics


@dataclass(frozen=True, slots=True)
class _Canvas:
    """What rays have met so far: depth [H,W] in metres, owner int8[H,W], linear RGB [H,W,3]."""

    directions: Floats
    depth_m: Floats
    owner: NDArray[np.int8]
    colours: Floats


def render(scene: Scene, camera: Intrinsics, supersampling: int = 1) -> View:
    """The picture of a scene, without noise.

    :param supersampling: n, every pixel is the mean of n*n rays.
    """
    n = supersampling
    fine = camera if n == 1 else camera.scaled(camera.width * n, camera.height * n)
    directions = rays(scene.pose, fine)
    eye = scene.pose.position_m.astype(np.float32)
    depth_m = -eye[2] / directions[..., 2]
    ground = eye[:2] + depth_m[..., None] * directions[..., :2]
    colours = table_top(scene.table, ground)
    colours *= light_on_table(scene, ground, fine)[..., None]
    owner = np.full(depth_m.shape, _NOBODY, np.int8)
    canvas = _Canvas(directions, depth_m, owner, colours)
    sizes_px = [_cast(scene, index, fine, canvas) for index in range(len(scene.things))]
    is_floor = (ground[..., 1] > scene.table.far_edge_m) & (owner == _NOBODY)
    depth_mm = (depth_m[n // 2 :: n, n // 2 :: n] * 1000 + 0.5).astype(np.uint16)
    depth_mm[is_floor[n // 2 :: n, n // 2 :: n]] = 0
    things = tuple(
        _seen(scene, thing, owner == index, size_px, n)
        for index, (thing, size_px) in enumerate(zip(scene.things, sizes_px, strict=True))
    )
    return View(develop(colours, n), depth_mm, things, camera)


def add_sensor_noise(rgb: Bytes, rng: np.random.Generator, sigma: float = 3.0) -> Bytes:
    """A fresh frame of a static scene: the picture and Gaussian noise of `sigma` grey levels.

    Noise is cut from a fixed block at a random place: 2 ms for a frame of 640x480.
    """
    block = _noise_block(rgb.size, sigma)
    start = int(rng.integers(len(block) // 2))
    noise = block[start : start + rgb.size].reshape(rgb.shape)
    return np.clip(rgb.astype(np.int16) + noise, 0, 255).astype(np.uint8)


@lru_cache(maxsize=8)
def _noise_block(size: int, sigma: float) -> NDArray[np.int16]:
    noise = np.random.default_rng(20).standard_normal(2 * size, np.float32)
    return np.rint(noise * sigma).astype(np.int16)


def _cast(scene: Scene, index: int, camera: Intrinsics, canvas: _Canvas) -> int:
    """Draw one thing; returns how many pixels it would have if nothing hid it."""
    thing = scene.things[index]
    at = rectangle(project(outline(thing), scene.pose, camera), camera, 0.04)
    eye = to_own_frame(thing, scene.pose.position_m.astype(np.float32), is_point=True)
    ways = to_own_frame(thing, canvas.directions[at].reshape(-1, 3), is_point=False)
    depth_m = meet(thing, eye, ways)
    nearer = depth_m < canvas.depth_m[at].ravel()
    hit_m, hit_ways = depth_m[nearer], ways[nearer]
    points = eye + hit_m[:, None] * hit_ways
    where = nearer.reshape(canvas.owner[at].shape)
    normals = facing(thing, points)
    canvas.depth_m[at][where] = hit_m
    canvas.owner[at][where] = index
    canvas.colours[at][where] = light_on_thing(scene, thing, points, normals, hit_ways)
    return int(np.isfinite(depth_m).sum())


def _seen(scene: Scene, thing: Thing, mask: NDArray[np.bool_], size_px: int, n: int) -> Seen:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    foot = np.array([thing.x_m, thing.y_m, 0.0])
    distance_m = float(np.linalg.norm(foot - scene.pose.position_m))
    if not len(rows):
        return Seen(thing, (0.0, 0.0, 0.0, 0.0), 0.0, distance_m)
    x0, y0 = float(columns[0]) / n, float(rows[0]) / n
    x1, y1 = float(columns[-1] + 1) / n, float(rows[-1] + 1) / n
    return Seen(thing, (x0, y0, x1, y1), int(mask.sum()) / size_px, distance_m)
