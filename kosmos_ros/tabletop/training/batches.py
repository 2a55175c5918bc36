"""Scenes without end, made into batches for training.

One row of a batch is one picture and as many questions as fit behind it: the image prefix once,
then segments that each see the prefix and themselves.  To the model this is the same as one row
per question, with about a fifth of the decoder's tokens.  About half of the questions are
referring expressions, whose answer is a box, the others are whatever `answers` knows to ask.
"""

from collections.abc import Sequence
from dataclasses import dataclass
import multiprocessing as mp
from pathlib import Path
from queue import Empty, Full

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kosmos_ros.model.boxes import GRID, Box, encode_box
from kosmos_ros.model.prompts import image_prefix, refer
from kosmos_ros.model.vocabulary import Vocabulary
from kosmos_ros.tabletop.language.expressions import KINDS, Meaning, choose, say
from kosmos_ros.tabletop.language.facts import Facts
from kosmos_ros.tabletop.language.questions import Talk, draw_talk
from kosmos_ros.tabletop.training.segments import Segment, Writer
from kosmos_ros.tabletop.world.pinhole import CAMERA
from kosmos_ros.tabletop.world.render import Bytes, View, add_sensor_noise, render
from kosmos_ros.tabletop.world.scenes import draw_scene
from kosmos_ros.tabletop.world.things import COLOURS, SHAPES, WIDTHS_M

Ints = NDArray[np.int64]
Reals = NDArray[np.float32]

# Pixels; rendered so, then squashed to the model's square as the engine does with 640x480.
PICTURE = (192, 144)
SHARES = {'attribute': 0.18, 'shape': 0.08, 'size': 0.20, 'extreme': 0.24, 'relation': 0.30}
ASK_SHARES = {
    'caption': 0.13,
    'detailed': 0.05,
    'count': 0.19,
    'colour': 0.09,
    'shape': 0.05,
    'size': 0.05,
    'existence': 0.10,
    'comparison': 0.08,
    'what': 0.09,
    'where': 0.06,
    'region': 0.06,
    'chat': 0.05,
}
# Of the segments, how many are referring expressions.
REFER = 0.5
# Of the expressions, how many go on to the end: ... </object> </s>.
CLOSED = 0.12
PADDING = -1


@dataclass(frozen=True, slots=True)
class Batch:
    """B pictures of side I with N patches, rows of L tokens, A expressions (whose answers are two
    locations each), and T other answers with W words and C corners in all.
    """

    images: Bytes  # [B, I, I, 3]
    ids: Ints  # [B, L]
    positions: Ints  # [B, L], from 0 in the prefix; every segment goes on from its end
    segments: Ints  # [B, L], 0 prefix, 1.. questions, -1 padding
    row: Ints  # [A]
    at: Ints  # [A], index of <object> in its row; the two locations come next
    corners: Reals  # [A, 2, 2], top-left and bottom-right of the box: x, y in cells
    closed: Ints  # [A], 1 where </object> and </s> follow
    words: Ints  # [W, 3], row, index, and what is to be said next to it: no location
    corner_at: Ints  # [C, 2], row and index; a location is to be said next
    ask_corners: Reals  # [C, 2], that corner: x, y in cells
    talks: int  # T
    looks: Ints  # [B, N, 3], shape, colour and size of the thing on a patch, -1 where is none
    boxes: Reals  # [B, N, 4], its box, x0 y0 x1 y1 in shares of the image
    middles: Reals  # [B, N], 1 where the middle of a thing's box is, so that things can be counted


@dataclass(frozen=True, slots=True)
class BatchSize:
    """B rows of L tokens, pictures of side I in patches; each scene is used about `uses` times."""

    rows: int
    tokens: int
    side: int
    patch: int
    latents: int
    uses: int
    stock: int = 6000


@dataclass(frozen=True, slots=True)
class _Example:
    image: Bytes
    facts: Facts
    looks: Ints
    patch_boxes: Reals
    middles: Reals


@dataclass(frozen=True, slots=True)
class _Refer:
    at: int
    corners: tuple[tuple[float, float], tuple[float, float]]
    closed: int


@dataclass(frozen=True, slots=True)
class _Placed:
    """Where in which row a segment begins."""

    row: int
    begin: int
    segment: Segment | _Refer


class Maker:
    """Makes batches from a stock of scenes that is renewed all the time."""

    def __init__(self, seed: int, vocabulary: Vocabulary, size: BatchSize) -> None:
        self._rng = np.random.default_rng(seed)
        self._vocabulary, self._size = vocabulary, size
        self._prefix = image_prefix(vocabulary, size.latents)
        self._writer = Writer(vocabulary, size.latents)
        self._stock: list[_Example] = []
        self._known: dict[str, list[int]] = {}

    def batch(self) -> Batch:
        """The next batch; its fresh scenes push the oldest out of the stock."""
        rows, uses = self._size.rows, self._size.uses
        fresh = [self._new() for _ in range(max(1, rows // uses) if self._stock else rows)]
        chosen = fresh + self._used(rows - len(fresh))
        self._stock = (self._stock + fresh)[-self._size.stock :]
        ids = np.full((rows, self._size.tokens), self._vocabulary.pad, np.int64)
        positions, segments = np.zeros_like(ids), np.full_like(ids, PADDING)
        placed = [
            one
            for row, example in enumerate(chosen)
            for one in self._fill(row, example, ids[row], positions[row], segments[row])
        ]
        refers = [(one, one.segment) for one in placed if isinstance(one.segment, _Refer)]
        talks = [(one, one.segment) for one in placed if isinstance(one.segment, Segment)]
        words = [(p.row, p.begin + at, token) for p, talk in talks for at, token in talk.words]
        corner_at = [(p.row, p.begin + at) for p, talk in talks for at, _ in talk.corners]
        ask_corners = [corner for _, talk in talks for _, corner in talk.corners]
        return Batch(
            images=np.stack([example.image for example in chosen]),
            ids=ids,
            positions=positions,
            segments=segments,
            row=np.array([one.row for one, _ in refers], np.int64),
            at=np.array([one.begin + refer.at for one, refer in refers], np.int64),
            corners=np.array([refer.corners for _, refer in refers], np.float32),
            closed=np.array([refer.closed for _, refer in refers], np.int64),
            words=np.array(words, np.int64).reshape(-1, 3),
            corner_at=np.array(corner_at, np.int64).reshape(-1, 2),
            ask_corners=np.array(ask_corners, np.float32).reshape(-1, 2),
            talks=len(talks),
            looks=np.stack([example.looks for example in chosen]),
            boxes=np.stack([example.patch_boxes for example in chosen]),
            middles=np.stack([example.middles for example in chosen]),
        )

    def _used(self, count: int) -> list[_Example]:
        if not count:
            return []
        places = self._rng.choice(len(self._stock), count, replace=len(self._stock) < count)
        return [self._stock[int(place)] for place in places]

    def _fill(
        self, row: int, example: _Example, ids: Ints, positions: Ints, segments: Ints
    ) -> list[_Placed]:
        """Write the prefix and as many questions as fit into one row; the first is a referring
        expression.
        """
        begin = here = len(self._prefix)
        ids[:here], positions[:here], segments[:here] = self._prefix, range(here), 0
        placed: list[_Placed] = []
        misses = 0
        while misses < 3:
            if not placed or self._rng.random() < REFER:
                tokens, segment = self._refer(example)
            else:
                talk = self._writer.segment(self._talk(example), example.facts.boxes)
                tokens, segment = talk.ids, talk
            end = here + len(tokens)
            if end > len(ids):
                misses += 1
                continue
            ids[here:end], segments[here:end] = tokens, len(placed) + 1
            positions[here:end] = np.arange(begin, begin + end - here)
            placed.append(_Placed(row, here, segment))
            here = end
        return placed

    def _refer(self, example: _Example) -> tuple[list[int], _Refer | Segment]:
        meaning = self._choose(example)
        box, closed = example.facts.boxes[meaning.target], int(self._rng.random() < CLOSED)
        first, second = (self._vocabulary.location(cell) for cell in encode_box(box))
        question = self._ask(say(meaning, self._rng))
        tail = [first, second, self._vocabulary.object_close] if closed else [first]
        corners = ((box.x0 * GRID, box.y0 * GRID), (box.x1 * GRID, box.y1 * GRID))
        return question + tail, _Refer(len(question) - 1, corners, closed)

    def _talk(self, example: _Example) -> Talk:
        while True:
            kind = str(self._rng.choice(list(ASK_SHARES), p=list(ASK_SHARES.values())))
            if (talk := draw_talk(example.facts, self._rng, kind)) is not None:
                return talk

    def _choose(self, example: _Example) -> Meaning:
        while True:
            kind = str(self._rng.choice(KINDS, p=[SHARES[kind] for kind in KINDS]))
            if (meaning := choose(example.facts.meanings, self._rng, kind)) is not None:
                return meaning

    def _ask(self, text: str) -> list[int]:
        if text not in self._known:
            self._known[text] = refer(self._vocabulary, text)
        return self._known[text]

    def _new(self) -> _Example:
        rng, side = self._rng, self._size.side
        view = render(draw_scene(rng), CAMERA.scaled(*PICTURE))
        noisy = Image.fromarray(add_sensor_noise(view.rgb, rng, float(rng.integers(0, 4))))
        facts, patches = Facts.of(view), side // self._size.patch
        looks, patch_boxes = patch_targets(view, patches)
        image = np.asarray(noisy.resize((side, side), Image.Resampling.BICUBIC))
        return _Example(image, facts, looks, patch_boxes, middles(facts.boxes, patches))


def box_in_shares(view: View, index: int) -> Box:
    """A thing's visible box in shares of the image's sides."""
    return Box.from_pixels(view.things[index].box_px, view.camera.width, view.camera.height)


def patch_targets(view: View, n: int) -> tuple[Ints, Reals]:
    """What is on each of n*n patches: looks int64[n*n,3] and boxes float32[n*n,4] as in Batch."""
    middle = (np.arange(n) + 0.5) / n
    looks, boxes = np.full((n, n, 3), -1, np.int64), np.zeros((n, n, 4), np.float32)
    far_first = sorted(range(len(view.things)), key=lambda index: -view.things[index].distance_m)
    for index in far_first:
        box, thing = box_in_shares(view, index), view.things[index].thing
        rows, columns = (
            (middle >= box.y0) & (middle <= box.y1),
            (middle >= box.x0) & (middle <= box.x1),
        )
        inside = rows[:, None] & columns
        looks[inside] = (
            SHAPES.index(thing.shape),
            list(COLOURS).index(thing.colour),
            list(WIDTHS_M).index(thing.size),
        )
        boxes[inside] = (box.x0, box.y0, box.x1, box.y1)
    return looks.reshape(-1, 3), boxes.reshape(-1, 4)


def middles(boxes: Sequence[Box], n: int) -> Reals:
    """On which of n*n patches the middle of a box is: float32[n*n]."""
    found = np.zeros((n, n), np.float32)
    for box in boxes:
        found[int((box.y0 + box.y1) / 2 * n), int((box.x0 + box.x1) / 2 * n)] = 1
    return found.ravel()


class Feed:
    """A process of its own that makes batches ahead of time; use it in a ``with``."""

    def __init__(self, seed: int, word_model: Path, size: BatchSize) -> None:
        context = mp.get_context('spawn')
        self._queue: mp.Queue[Batch] = context.Queue(6)
        self._process = context.Process(
            target=_make, args=(self._queue, seed, word_model, size), daemon=True
        )

    def __enter__(self) -> 'Feed':
        self._process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.join()

    def get(self) -> Batch:
        """The next batch.

        :raises RuntimeError: when the process has ended.
        """
        while True:
            try:
                return self._queue.get(timeout=20)
            except Empty:
                if not self._process.is_alive():
                    raise RuntimeError('the process that makes the scenes has ended') from None


def _make(queue: 'mp.Queue[Batch]', seed: int, word_model: Path, size: BatchSize) -> None:
    maker = Maker(seed, Vocabulary.from_file(word_model), size)
    parent = mp.parent_process()
    batch = maker.batch()
    while True:
        try:
            queue.put(batch, timeout=5)
            batch = maker.batch()
        except Full:
            if parent is None or not parent.is_alive():
                # The parent was killed: nobody will end this process, or read what it made.
                queue.cancel_join_thread()
                return
