"""From a scene to what an RGB-D camera would deliver, and the truth about it.

Analytic ray casting in numpy; every thing is cast only inside the rectangle of the image that can show it.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from kosmos_ros.tabletop.pinhole import Doubles, Floats, Intrinsics, project, rays
from kosmos_ros.tabletop.shapes import dot, facing, meet, to_own_frame
from kosmos_ros.tabletop.world import Scene, Thing, outline

Bytes = NDArray[np.uint8]
Rectangle = tuple[slice, slice]

FLOOR = (.045, .043, .042)       # linear RGB of what is beyond the table
GLOSS = {'ball': .22, 'box': .03, 'cone': .10, 'ring': .22}          # a flat face would shine as a whole
GRAIN_CELLS = 64


@dataclass(frozen=True, slots=True)
class Seen:
    """One thing in one picture: its visible box (x0, y0, x1, y1; pixel edges) and the share of it that is not hidden."""

    thing: Thing
    box_px: tuple[float, float, float, float]
    visible: float
    distance_m: float            # from the camera to the middle of the footprint


@dataclass(frozen=True, slots=True)
class View:
    """A picture: RGB uint8[H, W, 3], depth uint16[H, W] in millimetres along the optical axis (0 = none), things."""

    rgb: Bytes
    depth_mm: NDArray[np.uint16]
    things: tuple[Seen, ...]
    camera: Intrinsics


def render(scene: Scene, camera: Intrinsics, supersampling: int = 1) -> View:
    """The noiseless picture of a scene; with `supersampling` n every pixel is the mean of n*n rays."""
    n = supersampling
    fine = camera if n == 1 else camera.scaled(camera.width * n, camera.height * n)
    directions = rays(scene.pose, fine)
    eye = scene.pose.position_m.astype(np.float32)
    depth = -eye[2] / directions[..., 2]
    ground: Floats = eye[:2] + depth[..., None] * directions[..., :2]
    colour = _table_top(scene, ground)
    colour *= _shade_on_table(scene, ground, fine)[..., None]
    owner = np.full(depth.shape, -1, np.int8)
    whole = [_cast(scene, i, fine, directions, depth, owner, colour) for i in range(len(scene.things))]
    rgb = _develop(colour, n)
    depth_mm = (depth[n // 2::n, n // 2::n] * 1000 + .5).astype(np.uint16)
    depth_mm[_beyond(scene, ground, owner)[n // 2::n, n // 2::n]] = 0
    things = tuple(_seen(scene, thing, owner == i, whole[i], n) for i, thing in enumerate(scene.things))
    return View(rgb, depth_mm, things, camera)


def add_sensor_noise(rgb: Bytes, rng: np.random.Generator, sigma: float = 3.) -> Bytes:
    """A fresh frame of a static scene: the picture plus Gaussian noise of `sigma` grey levels.

    The noise is one block that is rolled at random, so that a 640x480 frame costs about a millisecond.
    """
    block = _noise_block(rgb.shape[0] * rgb.shape[1] * rgb.shape[2], float(sigma))
    start = int(rng.integers(len(block) // 2))
    noise = block[start:start + rgb.size].reshape(rgb.shape)
    return np.clip(rgb.astype(np.int16) + noise, 0, 255).astype(np.uint8)


_BLOCKS: dict[tuple[int, float], NDArray[np.int16]] = {}


def _noise_block(size: int, sigma: float) -> NDArray[np.int16]:
    if (size, sigma) not in _BLOCKS:
        _BLOCKS.clear()
        draw = np.random.default_rng(20).standard_normal(2 * size, np.float32)
        _BLOCKS[size, sigma] = np.rint(draw * sigma).astype(np.int16)
    return _BLOCKS[size, sigma]


def _rectangle(points_px: Doubles, camera: Intrinsics, spare: float) -> Rectangle:
    """Rows and columns of the pixels around projected points [N, 3], enlarged by the share `spare` and two pixels."""
    (x0, y0), (x1, y1) = points_px[:, :2].min(0), points_px[:, :2].max(0)
    dx, dy = spare * (x1 - x0) + 2, spare * (y1 - y0) + 2
    return (slice(max(0, int(y0 - dy)), min(camera.height, int(y1 + dy) + 1)),
            slice(max(0, int(x0 - dx)), min(camera.width, int(x1 + dx) + 1)))


def _beyond(scene: Scene, ground: Floats, owner: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Pixels behind the far edge of the table, where the depth camera sees nothing."""
    return (ground[..., 1] > scene.table.far_edge_m) & (owner < 0)


def _cast(scene: Scene, index: int, camera: Intrinsics, directions: Floats, depth: Floats, owner: NDArray[np.int8],
          colour: Floats) -> int:
    """Draw one thing into depth, owner and colour; answers how many pixels it would cover if nothing hid it."""
    thing = scene.things[index]
    at = _rectangle(project(outline(thing), scene.pose, camera), camera, .04)
    eye = scene.pose.position_m.astype(np.float32)
    ways = directions[at].reshape(-1, 3)
    own_eye, own_ways = to_own_frame(thing, eye, True), to_own_frame(thing, ways, False)
    t = meet(thing, own_eye, own_ways)
    hit = np.isfinite(t)
    shape = depth[at].shape
    nearer = hit & (t < depth[at].ravel())
    where = nearer.reshape(shape)
    t, ways = t[nearer], own_ways[nearer]
    points: Floats = own_eye + t[:, None] * ways
    normals = facing(thing, points)
    depth[at][where] = t
    owner[at][where] = index
    colour[at][where] = _light_up(scene, thing, points, normals, ways)
    return int(hit.sum())


def _light_up(scene: Scene, thing: Thing, points: Floats, normals: Floats, ways: Floats) -> Floats:
    """Linear RGB [N, 3]: Lambert, light from above and a little from the table, a soft highlight, dark at the foot."""
    light = scene.light
    towards = to_own_frame(thing, np.array(light.towards, np.float32), False)
    lambert = np.maximum(normals @ towards, 0)
    sky = .62 + .38 * normals[:, 2]
    foot = .60 + .40 * np.minimum(points[:, 2] / (.35 * thing.width_m), 1)
    rgb = np.array(thing.rgb, np.float32) * np.array(light.tint, np.float32)
    bounce = np.array(scene.table.rgb, np.float32) * (.16 * light.lamp * np.maximum(.3 - normals[:, 2], 0))[:, None]
    lit = rgb * ((light.ambient * sky * foot + light.lamp * lambert)[:, None] + bounce)
    half = towards - ways / np.sqrt(dot(ways, ways))[:, None]
    shine = np.maximum(dot(normals, half) / np.sqrt(dot(half, half)), 0) ** 40 * (GLOSS[thing.shape] * light.lamp)
    return (lit + shine[:, None]).astype(np.float32)


def _table_top(scene: Scene, ground: Floats) -> Floats:
    """Linear RGB [H, W, 3] of the bare table, unlit, and of the floor behind its far edge."""
    table = scene.table
    c, s = np.float32(np.cos(table.yaw_rad)), np.float32(np.sin(table.yaw_rad))
    along, across = c * ground[..., 0] + s * ground[..., 1], c * ground[..., 1] - s * ground[..., 0]
    rng = np.random.default_rng(table.seed)
    coarse, fine = (_blurred(rng.standard_normal((GRAIN_CELLS, GRAIN_CELLS), np.float32)) for _ in range(2))
    grain = _look_up(coarse, along * (30 / table.stretch), across * 30) \
        + .7 * _look_up(fine, along * (110 / table.stretch), across * 110)
    colour: Floats = np.array(table.rgb, np.float32) * np.maximum(1 + table.grain * grain, .2)[..., None]
    colour[ground[..., 1] > table.far_edge_m] = FLOOR
    return colour


def _blurred(noise: Floats) -> Floats:
    """Noise on a torus with its hard edges taken off, of unit variance."""
    soft = noise + .5 * (np.roll(noise, 1, 0) + np.roll(noise, -1, 0) + np.roll(noise, 1, 1) + np.roll(noise, -1, 1))
    unit: Floats = soft / soft.std()
    return unit


def _look_up(tile: Floats, x: Floats, y: Floats) -> Floats:
    """Bilinear samples of a square tile that repeats, at coordinates in tile cells."""
    fx, fy = np.floor(x), np.floor(y)
    ax, ay = x - fx, y - fy
    n = len(tile)
    at = (fy.astype(np.int32) % n) * n + fx.astype(np.int32) % n
    wide = np.pad(tile, ((0, 1), (0, 1)), mode='wrap')
    corners = [np.ascontiguousarray(wide[i:n + i, j:n + j]).ravel() for i in (0, 1) for j in (0, 1)]
    a, b, c, d = (corner.take(at) for corner in corners)
    top, bottom = a + (b - a) * ax, c + (d - c) * ax
    mixed: Floats = top + (bottom - top) * ay
    return mixed


def _shade_on_table(scene: Scene, ground: Floats, camera: Intrinsics) -> Floats:
    """How much light [H, W] reaches the table: lamp and sky, less the things' shadows and the dark at their feet."""
    towards = np.array(scene.light.towards, np.float32)
    shadow, dim = np.zeros(ground.shape[:2], np.uint8), np.ones(ground.shape[:2], np.float32)
    for thing in scene.things:
        points = outline(thing)
        fallen = points - points[:, 2:] * (towards / towards[2])
        reach = points * [1., 1., 0.] + (points - [thing.x_m, thing.y_m, 0.]) * [.55, .55, 0.]
        at = _rectangle(project(np.concatenate([fallen, reach]), scene.pose, camera), camera, .03)
        flat = ground[at].reshape(-1, 2)
        spot = np.concatenate([flat, np.full((len(flat), 1), 1e-4, np.float32)], 1)
        t = meet(thing, to_own_frame(thing, spot, True), to_own_frame(thing, towards, False))
        shadow[at] |= np.where(np.isfinite(t), 255, 0).astype(np.uint8).reshape(shadow[at].shape)
        away = ((flat[:, 0] - thing.x_m) ** 2 + (flat[:, 1] - thing.y_m) ** 2) / (.42 * thing.width_m) ** 2
        dim[at] *= (1 - .55 * np.exp(-away * away * .5)).reshape(dim[at].shape)
    soft = Image.fromarray(shadow).filter(ImageFilter.BoxBlur(.005 * camera.width))
    lit = 1 - np.asarray(soft, np.float32) * (1 / 255)
    total: Floats = scene.light.ambient * dim + scene.light.lamp * towards[2] * lit * np.sqrt(dim)
    return total


def _develop(colour: Floats, n: int) -> Bytes:
    """Linear RGB to sRGB bytes, averaging n*n rays per pixel in linear light."""
    if n > 1:
        h, w, _ = colour.shape
        colour = colour.reshape(h // n, n, w // n, n, 3).mean((1, 3))
    index = np.minimum(colour * 4095, 4095).astype(np.int32)
    return GAMMA.take(np.maximum(index, 0))


GAMMA: Bytes = np.rint(255 * (np.arange(4096) / 4095) ** (1 / 2.2)).astype(np.uint8)


def _seen(scene: Scene, thing: Thing, mask: NDArray[np.bool_], whole: int, n: int) -> Seen:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    foot = np.array([thing.x_m, thing.y_m, 0.]) - scene.pose.position_m
    distance = float(np.linalg.norm(foot))
    if not len(rows):
        return Seen(thing, (0., 0., 0., 0.), 0., distance)
    box = (columns[0] / n, rows[0] / n, (columns[-1] + 1) / n, (rows[-1] + 1) / n)
    return Seen(thing, (float(box[0]), float(box[1]), float(box[2]), float(box[3])), int(mask.sum()) / max(whole, 1),
                distance)
