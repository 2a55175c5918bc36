"""How light falls on table and things, and how the sensor sees it.  Colours are linear RGB."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from kosmos_ros.tabletop.world.pinhole import Floats, Intrinsics, project
from kosmos_ros.tabletop.world.shapes import dot, meet, to_own_frame
from kosmos_ros.tabletop.world.things import Scene, Table, Thing, outline

Bytes = NDArray[np.uint8]
Rectangle = tuple[slice, slice]

_FLOOR = (0.045, 0.043, 0.042)
# A flat face shines as a whole, so little.
_GLOSS = {'ball': 0.22, 'box': 0.03, 'cone': 0.10, 'ring': 0.22}
_GRAIN_CELLS = 64
_LEVELS = 4096
_GAMMA: Bytes = np.rint(255 * (np.arange(_LEVELS) / (_LEVELS - 1)) ** (1 / 2.2)).astype(np.uint8)


def rectangle(points_px: NDArray[np.float64], camera: Intrinsics, spare: float) -> Rectangle:
    """Rows and columns around points [N,2 or 3], with a share and two pixels to spare."""
    (x0, y0), (x1, y1) = points_px[:, :2].min(0), points_px[:, :2].max(0)
    dx, dy = spare * (x1 - x0) + 2, spare * (y1 - y0) + 2
    rows = slice(max(0, int(y0 - dy)), min(camera.height, int(y1 + dy) + 1))
    return rows, slice(max(0, int(x0 - dx)), min(camera.width, int(x1 + dx) + 1))


def light_on_thing(
    scene: Scene, thing: Thing, points: Floats, normals: Floats, ways: Floats
) -> Floats:
    """Colours [N,3] of surface points, all in the thing's own frame.

    Lambert's law, light from above and some from the table, a soft highlight, dark at the foot.
    """
    light = scene.light
    towards = to_own_frame(thing, _floats(light.towards), is_point=False)
    lambert = np.maximum(normals @ towards, 0)
    sky = 0.62 + 0.38 * normals[:, 2]
    foot = 0.60 + 0.40 * np.minimum(points[:, 2] / (0.35 * thing.width_m), 1)
    direct = light.ambient * sky * foot + light.lamp * lambert
    up = 0.16 * light.lamp * np.maximum(0.3 - normals[:, 2], 0)
    bounced = _floats(scene.table.rgb) * up[:, None]
    distances: Floats = np.sqrt(dot(ways, ways))
    half = towards - ways / distances[:, None]
    mirror = np.maximum(dot(normals, half) / np.sqrt(dot(half, half)), 0)
    shine = mirror**40 * np.float32(_GLOSS[thing.shape] * light.lamp)
    paint = _floats(thing.rgb) * _floats(light.tint)
    lit: Floats = paint * (direct[:, None] + bounced) + shine[:, None]
    return lit


def table_top(table: Table, ground: Floats) -> Floats:
    """Colours [H,W,3] of the unlit table at world points [H,W,2], and of the floor behind it."""
    c, s = np.float32(np.cos(table.yaw_rad)), np.float32(np.sin(table.yaw_rad))
    along = (c * ground[..., 0] + s * ground[..., 1]) * np.float32(1 / table.stretch)
    across = c * ground[..., 1] - s * ground[..., 0]
    rng = np.random.default_rng(table.seed)
    coarse, fine = _soft_noise(rng), _soft_noise(rng)
    grain = _look_up(coarse, 30 * along, 30 * across)
    grain += np.float32(0.7) * _look_up(fine, 110 * along, 110 * across)
    colours: Floats = _floats(table.rgb) * np.maximum(1 + table.grain * grain, 0.2)[..., None]
    colours[ground[..., 1] > table.far_edge_m] = _FLOOR
    return colours


def light_on_table(scene: Scene, ground: Floats, camera: Intrinsics) -> Floats:
    """How much light [H,W] reaches world points [H,W,2]: less in shadows and at things' feet."""
    towards = _floats(scene.light.towards)
    shadow, dim = np.zeros(ground.shape[:2], np.uint8), np.ones(ground.shape[:2], np.float32)
    for thing in scene.things:
        points = outline(thing)
        foot = np.array([thing.x_m, thing.y_m, 0.0])
        fallen = points - points[:, 2:] * (towards / towards[2])
        around = foot + (points - foot) * [1.55, 1.55, 0.0]
        reach = project(np.concatenate([fallen, around]), scene.pose, camera)
        at = rectangle(reach, camera, 0.03)
        spots = ground[at].reshape(-1, 2)
        raised = np.concatenate([spots, np.full((len(spots), 1), 1e-4, np.float32)], 1)
        start = to_own_frame(thing, raised, is_point=True)
        hit = np.isfinite(meet(thing, start, to_own_frame(thing, towards, is_point=False)))
        shadow[at] |= (hit * np.uint8(255)).reshape(shadow[at].shape)
        away = (spots[:, 0] - thing.x_m) ** 2 + (spots[:, 1] - thing.y_m) ** 2
        away /= np.float32(0.42 * thing.width_m) ** 2
        dim[at] *= (1 - 0.55 * np.exp(-0.5 * away * away)).reshape(dim[at].shape)
    blurred = Image.fromarray(shadow).filter(ImageFilter.BoxBlur(0.005 * camera.width))
    lamp = 1 - np.asarray(blurred, np.float32) * np.float32(1 / 255)
    lamp *= scene.light.lamp * towards[2]
    total: Floats = scene.light.ambient * dim + lamp * np.sqrt(dim)
    return total


def develop(colours: Floats, n: int) -> Bytes:
    """Linear RGB [n*H,n*W,3] to sRGB bytes [H,W,3]; n*n rays are averaged in linear light."""
    if n > 1:
        height, width, _ = colours.shape
        colours = colours.reshape(height // n, n, width // n, n, 3).mean((1, 3))
    levels = np.clip(colours * np.float32(_LEVELS - 1), 0, _LEVELS - 1).astype(np.int32)
    return _GAMMA.take(levels)


def _soft_noise(rng: np.random.Generator) -> Floats:
    """A square tile of smooth noise that repeats seamlessly, of variance 1."""
    noise = rng.standard_normal((_GRAIN_CELLS, _GRAIN_CELLS), np.float32)
    beside = np.roll(noise, 1, 0) + np.roll(noise, -1, 0)
    beside += np.roll(noise, 1, 1) + np.roll(noise, -1, 1)
    soft = noise + np.float32(0.5) * beside
    unit: Floats = soft / soft.std()
    return unit


def _look_up(tile: Floats, x: Floats, y: Floats) -> Floats:
    """Bilinear samples of a tile that repeats, at coordinates in its cells."""
    left, top = np.floor(x), np.floor(y)
    right_share, bottom_share = x - left, y - top
    n = len(tile)
    at = (top.astype(np.int32) % n) * n + left.astype(np.int32) % n
    next_column = np.roll(tile, -1, 1)
    upper = tile.take(at)
    upper += (next_column.take(at) - upper) * right_share
    lower = np.roll(tile, -1, 0).take(at)
    lower += (np.roll(next_column, -1, 0).take(at) - lower) * right_share
    upper += (lower - upper) * bottom_share
    return upper


def _floats(values: tuple[float, float, float]) -> Floats:
    return np.array(values, np.float32)
