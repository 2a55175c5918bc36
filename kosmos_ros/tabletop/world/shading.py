"""Shading of the table and the things, and conversion to sRGB.  Colours are linear RGB."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from kosmos_ros.tabletop.world.pinhole import Floats, Intrinsics, project
from kosmos_ros.tabletop.world.shapes import dot, intersect, to_thing_frame
from kosmos_ros.tabletop.world.things import Table, TabletopScene, Thing, outline

Bytes = NDArray[np.uint8]
ImageSlices = tuple[slice, slice]

_FLOOR = (0.045, 0.043, 0.042)
# A flat face reflects the highlight as a whole, so its gloss is low.
_GLOSS = {'ball': 0.22, 'box': 0.03, 'cone': 0.10, 'ring': 0.22}
_GRAIN_CELLS = 64
_LEVELS = 4096
_GAMMA: Bytes = np.rint(255 * (np.arange(_LEVELS) / (_LEVELS - 1)) ** (1 / 2.2)).astype(np.uint8)


def bounding_slices(
    points_px: NDArray[np.float64], camera: Intrinsics, spare: float
) -> ImageSlices:
    """Return rows and columns around points [N,2 or 3], with a margin `spare` plus two pixels."""
    (x0, y0), (x1, y1) = points_px[:, :2].min(0), points_px[:, :2].max(0)
    dx, dy = spare * (x1 - x0) + 2, spare * (y1 - y0) + 2
    rows = slice(max(0, int(y0 - dy)), min(camera.height, int(y1 + dy) + 1))
    return rows, slice(max(0, int(x0 - dx)), min(camera.width, int(x1 + dx) + 1))


def shaded_colours(
    scene: TabletopScene, thing: Thing, points: Floats, normals: Floats, directions: Floats
) -> Floats:
    """Return colours [N,3] of surface points, all in the thing's own frame.

    The model is Lambert's law, ambient light from above, light from the table, a soft highlight
    and a darker foot.
    """
    light = scene.light
    towards = to_thing_frame(thing, _floats(light.towards), is_point=False)
    lambert = np.maximum(normals @ towards, 0)
    sky = 0.62 + 0.38 * normals[:, 2]
    foot = 0.60 + 0.40 * np.minimum(points[:, 2] / (0.35 * thing.width_m), 1)
    direct = light.ambient * sky * foot + light.lamp * lambert
    up = 0.16 * light.lamp * np.maximum(0.3 - normals[:, 2], 0)
    bounced = _floats(scene.table.rgb) * up[:, None]
    distances: Floats = np.sqrt(dot(directions, directions))
    half = towards - directions / distances[:, None]
    mirror = np.maximum(dot(normals, half) / np.sqrt(dot(half, half)), 0)
    shine = mirror**40 * np.float32(_GLOSS[thing.shape] * light.lamp)
    paint = _floats(thing.rgb) * _floats(light.tint)
    lit: Floats = paint * (direct[:, None] + bounced) + shine[:, None]
    return lit


def table_colours(table: Table, ground: Floats) -> Floats:
    """Return colours [H,W,3] of the unlit table, or of the floor, at world points [H,W,2]."""
    c, s = np.float32(np.cos(table.yaw_rad)), np.float32(np.sin(table.yaw_rad))
    along = (c * ground[..., 0] + s * ground[..., 1]) * np.float32(1 / table.stretch)
    across = c * ground[..., 1] - s * ground[..., 0]
    rng = np.random.default_rng(table.seed)
    coarse, fine = _soft_noise(rng), _soft_noise(rng)
    grain = _sample_tile(coarse, 30 * along, 30 * across)
    grain += np.float32(0.7) * _sample_tile(fine, 110 * along, 110 * across)
    colours: Floats = _floats(table.rgb) * np.maximum(1 + table.grain * grain, 0.2)[..., None]
    colours[ground[..., 1] > table.far_edge_m] = _FLOOR
    return colours


def table_light(scene: TabletopScene, ground: Floats, camera: Intrinsics) -> Floats:
    """Return the light [H,W] at world points [H,W,2]; less in shadows and around things."""
    towards = _floats(scene.light.towards)
    shadow, dim = np.zeros(ground.shape[:2], np.uint8), np.ones(ground.shape[:2], np.float32)
    for thing in scene.things:
        points = outline(thing)
        foot = np.array([thing.x_m, thing.y_m, 0.0])
        fallen = points - points[:, 2:] * (towards / towards[2])
        around = foot + (points - foot) * [1.55, 1.55, 0.0]
        reach = project(np.concatenate([fallen, around]), scene.pose, camera)
        at = bounding_slices(reach, camera, 0.03)
        spots = ground[at].reshape(-1, 2)
        raised = np.concatenate([spots, np.full((len(spots), 1), 1e-4, np.float32)], 1)
        start = to_thing_frame(thing, raised, is_point=True)
        hit = np.isfinite(intersect(thing, start, to_thing_frame(thing, towards, is_point=False)))
        shadow[at] |= (hit * np.uint8(255)).reshape(shadow[at].shape)
        away = (spots[:, 0] - thing.x_m) ** 2 + (spots[:, 1] - thing.y_m) ** 2
        away /= np.float32(0.42 * thing.width_m) ** 2
        dim[at] *= (1 - 0.55 * np.exp(-0.5 * away * away)).reshape(dim[at].shape)
    blurred = Image.fromarray(shadow).filter(ImageFilter.BoxBlur(0.005 * camera.width))
    lamp = 1 - np.asarray(blurred, np.float32) * np.float32(1 / 255)
    lamp *= scene.light.lamp * towards[2]
    total: Floats = scene.light.ambient * dim + lamp * np.sqrt(dim)
    return total


def to_srgb(colours: Floats, n: int) -> Bytes:
    """Convert linear RGB [n*H,n*W,3] to sRGB [H,W,3]; n*n rays are averaged in linear light."""
    if n > 1:
        height, width, _ = colours.shape
        colours = colours.reshape(height // n, n, width // n, n, 3).mean((1, 3))
    levels = np.clip(colours * np.float32(_LEVELS - 1), 0, _LEVELS - 1).astype(np.int32)
    return _GAMMA.take(levels)


def _soft_noise(rng: np.random.Generator) -> Floats:
    """Return a square tile of smooth noise of variance 1 that repeats seamlessly."""
    noise = rng.standard_normal((_GRAIN_CELLS, _GRAIN_CELLS), np.float32)
    beside = np.roll(noise, 1, 0) + np.roll(noise, -1, 0)
    beside += np.roll(noise, 1, 1) + np.roll(noise, -1, 1)
    soft = noise + np.float32(0.5) * beside
    unit: Floats = soft / soft.std()
    return unit


def _sample_tile(tile: Floats, x: Floats, y: Floats) -> Floats:
    """Return bilinear samples of a repeating tile at coordinates in its cells."""
    left, top = np.floor(x), np.floor(y)
    right_fraction, lower_fraction = x - left, y - top
    n = len(tile)
    at = (top.astype(np.int32) % n) * n + left.astype(np.int32) % n
    next_column = np.roll(tile, -1, 1)
    upper = tile.take(at)
    upper += (next_column.take(at) - upper) * right_fraction
    lower = np.roll(tile, -1, 0).take(at)
    lower += (np.roll(next_column, -1, 0).take(at) - lower) * right_fraction
    upper += (lower - upper) * lower_fraction
    return upper


def _floats(values: tuple[float, float, float]) -> Floats:
    return np.array(values, np.float32)
