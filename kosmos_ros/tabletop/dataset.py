"""Scenes without end for training, and the held-out ones.

One row of a batch is one picture and as many expressions as fit behind it: the image prefix once, then segments that
each see the prefix and themselves.  To the model this is the same as one row per expression, at a third of the price.
"""
from __future__ import annotations

import multiprocessing as mp
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kosmos_ros.tabletop.language import KINDS, Meaning, choose, meanings, plainly, say
from kosmos_ros.tabletop.pinhole import CAMERA
from kosmos_ros.tabletop.render import Bytes, View, add_sensor_noise, render
from kosmos_ros.tabletop.wording import GRID, Wording, cells
from kosmos_ros.tabletop.world import COLOURS, SHAPES, WIDTHS_M, draw_scene

Ints = NDArray[np.int64]
Reals = NDArray[np.float32]

TRAINING_SIZE = (192, 144)          # pixels; rendered so, then squashed to the model's square as the engine does
SHARES = {'attribute': .18, 'shape': .08, 'size': .20, 'extreme': .24, 'relation': .30}
HELD_OUT = 1_000_003                # added to held-out seeds, far from those of training


@dataclass(frozen=True, slots=True)
class Question:
    """A held-out question: a full-size frame, an expression, its kind, and the true box in pixels of the frame."""

    rgb: Bytes
    expression: str
    kind: str
    box_px: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Batch:
    """B pictures of side I, rows of L tokens, A answers (two locations each), N patches.

    `looks` is shape, colour and size of the thing on each patch, -1 where there is none.
    """

    images: Bytes               # [B, I, I, 3]
    ids: Ints                   # [B, L]
    positions: Ints             # [B, L], from 0 in the prefix, going on from its end in every segment
    segments: Ints              # [B, L], 0 prefix, 1.. segments, -1 padding
    row: Ints                   # [A]
    at: Ints                    # [A], index of <object> in its row; the top-left location comes next
    corners: Reals              # [A, 2, 2], of the box's top-left and bottom-right: x, y in cells
    closed: Ints                # [A], 1 where </object> </s> follow in the row
    looks: Ints                 # [B, N, 3]
    boxes: Reals                # [B, N, 4], x0 y0 x1 y1 in shares of the image, 0 where there is no thing


def squashed(rgb: Bytes, side: int) -> Bytes:
    """Any picture as uint8[side, side, 3] by antialiased bicubic, as the model's preprocessing does."""
    return np.asarray(Image.fromarray(rgb).resize((side, side), Image.Resampling.BICUBIC))


def box_in_shares(view: View, index: int) -> tuple[float, float, float, float]:
    """A thing's visible box in shares of the image's sides."""
    x0, y0, x1, y1 = view.things[index].box_px
    return x0 / view.camera.width, y0 / view.camera.height, x1 / view.camera.width, y1 / view.camera.height


def held_out(seed: int, count: int) -> Iterator[Question]:
    """`count` questions about as many new scenes at the camera's full size, all kinds equally often.

    Every second one is in plain words, the others in any words of the language.
    """
    rng = np.random.default_rng([HELD_OUT, seed])
    for i in range(count):
        kind, meaning = KINDS[i % len(KINDS)], None
        while meaning is None:
            view = render(draw_scene(rng), CAMERA)
            meaning = choose(meanings(view), rng, kind)
        text = plainly(meaning) if (i // len(KINDS)) % 2 == 0 else say(meaning, rng)
        yield Question(add_sensor_noise(view.rgb, rng), text, kind, view.things[meaning.target].box_px)


@dataclass(frozen=True, slots=True)
class _Example:
    image: Bytes
    meanings: list[Meaning]
    boxes: tuple[tuple[float, float, float, float], ...]
    looks: Ints
    patch_boxes: Reals


class Maker:
    """Makes batches from a stock of scenes that is renewed all the time; each scene is used about `uses` times."""

    def __init__(self, seed: int, wording: Wording, *, side: int, patch: int, rows: int, tokens: int, uses: int,
                 stock: int = 6000) -> None:
        self._rng = np.random.default_rng(seed)
        self._wording, self._side, self._patch = wording, side, patch
        self._rows, self._tokens, self._uses, self._most = rows, tokens, uses, stock
        self._stock = list[_Example]()
        self._prefix = wording.image_prefix()
        self._known = dict[str, list[int]]()

    def batch(self) -> Batch:
        """The next batch; its fresh scenes replace the oldest of the stock."""
        rng, rows = self._rng, self._rows
        fresh = [self._new() for _ in range(max(1, rows // self._uses) if self._stock else rows)]
        old = rng.choice(len(self._stock), rows - len(fresh), replace=len(self._stock) < rows) if self._stock else []
        chosen = fresh + [self._stock[int(i)] for i in old]
        self._stock = (self._stock + fresh)[-self._most:]
        ids = np.full((rows, self._tokens), 1, np.int64)
        positions, segments = np.zeros_like(ids), np.full_like(ids, -1)
        answers = [self._fill(b, e, ids[b], positions[b], segments[b]) for b, e in enumerate(chosen)]
        row, at, corners, closed = (list(column) for column in zip(*sum(answers, []), strict=True))
        return Batch(np.stack([e.image for e in chosen]), ids, positions, segments, np.array(row), np.array(at),
                     np.array(corners, np.float32), np.array(closed), np.stack([e.looks for e in chosen]),
                     np.stack([e.patch_boxes for e in chosen]))

    def _fill(self, row: int, example: _Example, ids: Ints, positions: Ints, segments: Ints
              ) -> list[tuple[int, int, Any, int]]:
        """Write the prefix and as many segments as fit; answers (row, index of <object>, corners, closed) of each."""
        here = len(self._prefix)
        ids[:here], positions[:here], segments[:here] = self._prefix, range(here), 0
        answers, misses = [], 0
        while misses < 3:
            meaning = None
            while meaning is None:
                kind = str(self._rng.choice(KINDS, p=[SHARES[k] for k in KINDS]))
                meaning = choose(example.meanings, self._rng, kind)
            question = self._ask(say(meaning, self._rng))
            box, closed = example.boxes[meaning.target], int(self._rng.random() < .12)
            top_left, bottom_right = (c + self._wording.ids.first_location for c in cells(box))
            tail = [top_left, bottom_right, self._wording.ids.tag('</object>')] if closed else [top_left]
            end = here + len(question) + len(tail)
            if end > len(ids):
                misses += 1
                continue
            ids[here:end], segments[here:end] = question + tail, len(answers) + 1
            positions[here:end] = np.arange(len(self._prefix), len(self._prefix) + end - here)
            x0, y0, x1, y1 = np.clip(np.array(box) * GRID, 0, GRID - 1e-3)
            answers.append((row, here + len(question) - 1, ((x0, y0), (x1, y1)), closed))
            here = end
        return answers

    def _ask(self, text: str) -> list[int]:
        if text not in self._known:
            self._known[text] = self._wording.question(text)
        return self._known[text]

    def _new(self) -> _Example:
        rng = self._rng
        view = render(draw_scene(rng), CAMERA.scaled(*TRAINING_SIZE))
        noisy = add_sensor_noise(view.rgb, rng, float(rng.integers(0, 4)))
        boxes = tuple(box_in_shares(view, i) for i in range(len(view.things)))
        looks, patch_boxes = patch_targets(view, self._side // self._patch)
        return _Example(squashed(noisy, self._side), meanings(view), boxes, looks, patch_boxes)


def patch_targets(view: View, n: int) -> tuple[Ints, Reals]:
    """What is on each of n*n patches: shape, colour, size [n*n, 3] (-1: nothing) and box in shares [n*n, 4]."""
    middle = (np.arange(n) + .5) / n
    looks, boxes = np.full((n, n, 3), -1, np.int64), np.zeros((n, n, 4), np.float32)
    for i in sorted(range(len(view.things)), key=lambda i: -view.things[i].distance_m):
        x0, y0, x1, y1 = box_in_shares(view, i)
        inside = ((middle >= y0) & (middle <= y1))[:, None] & ((middle >= x0) & (middle <= x1))
        thing = view.things[i].thing
        looks[inside] = (SHAPES.index(thing.shape), list(COLOURS).index(thing.colour), list(WIDTHS_M).index(thing.size))
        boxes[inside] = (x0, y0, x1, y1)
    return looks.reshape(-1, 3), boxes.reshape(-1, 4)


class Feed:
    """A process of its own that makes batches ahead of time; used in a `with`."""

    def __init__(self, seed: int, word_model: Path, **sizes: int) -> None:
        context = mp.get_context('spawn')
        self._queue: mp.Queue[Batch] = context.Queue(6)
        self._process = context.Process(target=_make, args=(self._queue, seed, word_model, sizes), daemon=True)

    def __enter__(self) -> Feed:
        self._process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.join()

    def get(self) -> Batch:
        """The next batch; RuntimeError when the process has ended."""
        while True:
            try:
                return self._queue.get(timeout=20)
            except Exception as error:      # queue.Empty
                if not self._process.is_alive():
                    raise RuntimeError('the process that makes training scenes has ended') from error


def _make(queue: mp.Queue[Batch], seed: int, word_model: Path, sizes: dict[str, int]) -> None:
    os.environ['OMP_NUM_THREADS'] = '1'
    maker = Maker(seed, Wording(word_model), **sizes)
    while True:
        queue.put(maker.batch())
