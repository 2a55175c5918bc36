"""Batches of rendered scenes with questions, for training.

A row of a batch is one image and as many questions as fit: the image prefix once, then segments
that attend to the prefix and themselves only.  For the model this equals one row per question,
with about a fifth of the decoder's tokens.  About half of the questions are referring expressions,
whose answer is a box; the others are dialogues from `kosmos_ros.tabletop.language.questions`.
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
from kosmos_ros.model.prompts import image_prefix, refer_prompt
from kosmos_ros.model.vocabulary import Vocabulary
from kosmos_ros.tabletop.language.expressions import KINDS, Meaning, sample_meaning, sample_wording
from kosmos_ros.tabletop.language.facts import Facts
from kosmos_ros.tabletop.language.questions import Dialogue, sample_dialogue
from kosmos_ros.tabletop.training.segments import Segment, SegmentWriter
from kosmos_ros.tabletop.world.pinhole import CAMERA
from kosmos_ros.tabletop.world.render import Bytes, RenderedView, add_sensor_noise, render
from kosmos_ros.tabletop.world.scenes import sample_scene
from kosmos_ros.tabletop.world.things import COLOURS, SHAPES, WIDTHS_M

Ints = NDArray[np.int64]
Reals = NDArray[np.float32]

# Size of the rendered images in pixels; they are resized to the model's square, as the engine does
# with 640x480.
RENDER_SIZE = (192, 144)
EXPRESSION_PROBABILITIES = {
    'attribute': 0.18,
    'shape': 0.08,
    'size': 0.20,
    'extreme': 0.24,
    'relation': 0.30,
}
DIALOGUE_PROBABILITIES = {
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
# The fraction of segments that are referring expressions.
EXPRESSION_FRACTION = 0.5
# The fraction of expressions that continue to the end: ... </object> </s>.
CLOSED_FRACTION = 0.12
PADDING = -1


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch for one training step.

    It has B images of side I with N patches, rows of L tokens, A expressions, whose answers are
    two locations each, and T dialogues, whose answers have W other tokens and C corners in all.
    """

    images: Bytes  # [B, I, I, 3]
    ids: Ints  # [B, L]
    positions: Ints  # [B, L], from 0 in the prefix; every segment continues from its end
    segments: Ints  # [B, L], 0 prefix, 1.. questions, -1 padding
    row: Ints  # [A]
    at: Ints  # [A], index of <object> in its row; the two locations follow
    corners: Reals  # [A, 2, 2], top-left and bottom-right of the box: x, y in cells
    closed: Ints  # [A], 1 where </object> and </s> follow
    token_targets: Ints  # [W, 3], row, index and the id of the next token, which is no location
    corner_at: Ints  # [C, 2], row and index; the next token is a location
    dialogue_corners: Reals  # [C, 2], that corner: x, y in cells
    dialogues: int  # T
    attributes: Ints  # [B, N, 3], shape, colour and size of the thing on a patch, -1 for none
    boxes: Reals  # [B, N, 4], its box, x0 y0 x1 y1 in fractions of the image
    centres: Reals  # [B, N], 1 at the centre of a thing's box; trains counting


@dataclass(frozen=True, slots=True)
class BatchSize:
    """The size of a batch: rows, tokens per row, side of images and patches in pixels.

    :param latents: image tokens per image.
    :param uses: how often each scene is used, on average.
    :param pool_size: how many scenes are kept for later batches.
    """

    rows: int
    tokens: int
    side: int
    patch: int
    latents: int
    uses: int
    pool_size: int = 6000


@dataclass(frozen=True, slots=True)
class _TrainingScene:
    image: Bytes
    facts: Facts
    attributes: Ints
    patch_boxes: Reals
    centres: Reals


@dataclass(frozen=True, slots=True)
class _ExpressionSegment:
    at: int
    corners: tuple[tuple[float, float], tuple[float, float]]
    closed: int


@dataclass(frozen=True, slots=True)
class _SegmentInRow:
    """A segment with its row and the index where it begins."""

    row: int
    begin: int
    segment: Segment | _ExpressionSegment


class BatchMaker:
    """A maker of batches from a pool of scenes that is continuously renewed."""

    def __init__(self, seed: int, vocabulary: Vocabulary, size: BatchSize) -> None:
        self._rng = np.random.default_rng(seed)
        self._vocabulary, self._size = vocabulary, size
        self._prefix = image_prefix(vocabulary, size.latents)
        self._writer = SegmentWriter(vocabulary, size.latents)
        self._pool: list[_TrainingScene] = []
        self._prompts: dict[str, list[int]] = {}

    def batch(self) -> Batch:
        """Return the next batch; its new scenes replace the oldest ones of the pool."""
        rows, uses = self._size.rows, self._size.uses
        new = [self._sample_scene() for _ in range(max(1, rows // uses) if self._pool else rows)]
        chosen = new + self._sample_from_pool(rows - len(new))
        self._pool = (self._pool + new)[-self._size.pool_size :]
        ids = np.full((rows, self._size.tokens), self._vocabulary.pad, np.int64)
        positions, segments = np.zeros_like(ids), np.full_like(ids, PADDING)
        written = [
            one
            for row, scene in enumerate(chosen)
            for one in self._fill(row, scene, ids[row], positions[row], segments[row])
        ]
        expressions = [
            (one, one.segment) for one in written if isinstance(one.segment, _ExpressionSegment)
        ]
        dialogues = [(one, one.segment) for one in written if isinstance(one.segment, Segment)]
        token_targets = [
            (one.row, one.begin + at, token)
            for one, segment in dialogues
            for at, token in segment.token_targets
        ]
        corner_at = [
            (one.row, one.begin + at)
            for one, segment in dialogues
            for at, _ in segment.corner_targets
        ]
        dialogue_corners = [
            corner for _, segment in dialogues for _, corner in segment.corner_targets
        ]
        return Batch(
            images=np.stack([scene.image for scene in chosen]),
            ids=ids,
            positions=positions,
            segments=segments,
            row=np.array([one.row for one, _ in expressions], np.int64),
            at=np.array([one.begin + expression.at for one, expression in expressions], np.int64),
            corners=np.array([expression.corners for _, expression in expressions], np.float32),
            closed=np.array([expression.closed for _, expression in expressions], np.int64),
            token_targets=np.array(token_targets, np.int64).reshape(-1, 3),
            corner_at=np.array(corner_at, np.int64).reshape(-1, 2),
            dialogue_corners=np.array(dialogue_corners, np.float32).reshape(-1, 2),
            dialogues=len(dialogues),
            attributes=np.stack([scene.attributes for scene in chosen]),
            boxes=np.stack([scene.patch_boxes for scene in chosen]),
            centres=np.stack([scene.centres for scene in chosen]),
        )

    def _sample_from_pool(self, count: int) -> list[_TrainingScene]:
        if not count:
            return []
        indices = self._rng.choice(len(self._pool), count, replace=len(self._pool) < count)
        return [self._pool[int(index)] for index in indices]

    def _fill(
        self, row: int, scene: _TrainingScene, ids: Ints, positions: Ints, segments: Ints
    ) -> list[_SegmentInRow]:
        """Write the prefix and as many questions as fit into one row.

        The first question is a referring expression.
        """
        begin = here = len(self._prefix)
        ids[:here], positions[:here], segments[:here] = self._prefix, range(here), 0
        written: list[_SegmentInRow] = []
        misses = 0
        while misses < 3:
            if not written or self._rng.random() < EXPRESSION_FRACTION:
                tokens, segment = self._expression_segment(scene)
            else:
                dialogue = self._sample_dialogue(scene)
                segment = self._writer.segment(dialogue, scene.facts.boxes)
                tokens = segment.ids
            end = here + len(tokens)
            if end > len(ids):
                misses += 1
                continue
            ids[here:end], segments[here:end] = tokens, len(written) + 1
            positions[here:end] = np.arange(begin, begin + end - here)
            written.append(_SegmentInRow(row, here, segment))
            here = end
        return written

    def _expression_segment(
        self, scene: _TrainingScene
    ) -> tuple[list[int], _ExpressionSegment | Segment]:
        meaning = self._sample_meaning(scene)
        box = scene.facts.boxes[meaning.target]
        closed = int(self._rng.random() < CLOSED_FRACTION)
        first, second = (self._vocabulary.location(cell) for cell in encode_box(box))
        question = self._prompt(sample_wording(meaning, self._rng))
        tail = [first, second, self._vocabulary.object_close] if closed else [first]
        corners = ((box.x0 * GRID, box.y0 * GRID), (box.x1 * GRID, box.y1 * GRID))
        return question + tail, _ExpressionSegment(len(question) - 1, corners, closed)

    def _sample_dialogue(self, scene: _TrainingScene) -> Dialogue:
        while True:
            kinds, probabilities = zip(*DIALOGUE_PROBABILITIES.items(), strict=True)
            kind = str(self._rng.choice(kinds, p=probabilities))
            if (dialogue := sample_dialogue(scene.facts, self._rng, kind)) is not None:
                return dialogue

    def _sample_meaning(self, scene: _TrainingScene) -> Meaning:
        while True:
            probabilities = [EXPRESSION_PROBABILITIES[kind] for kind in KINDS]
            kind = str(self._rng.choice(KINDS, p=probabilities))
            if (meaning := sample_meaning(scene.facts.meanings, self._rng, kind)) is not None:
                return meaning

    def _prompt(self, text: str) -> list[int]:
        if text not in self._prompts:
            self._prompts[text] = refer_prompt(self._vocabulary, text)
        return self._prompts[text]

    def _sample_scene(self) -> _TrainingScene:
        rng, side = self._rng, self._size.side
        view = render(sample_scene(rng), CAMERA.scaled(*RENDER_SIZE))
        noisy = Image.fromarray(add_sensor_noise(view.rgb, rng, float(rng.integers(0, 4))))
        facts, patches = Facts.of(view), side // self._size.patch
        attributes, patch_boxes = patch_targets(view, patches)
        image = np.asarray(noisy.resize((side, side), Image.Resampling.BICUBIC))
        return _TrainingScene(image, facts, attributes, patch_boxes, centres(facts.boxes, patches))


def visible_box(view: RenderedView, index: int) -> Box:
    """Return a thing's visible box in fractions of the image."""
    return Box.from_pixels(view.things[index].box_px, view.camera.width, view.camera.height)


def patch_targets(view: RenderedView, n: int) -> tuple[Ints, Reals]:
    """Return the thing on each of n*n patches, as in Batch.

    :return: attributes int64[n*n,3] and boxes float32[n*n,4].
    """
    middle = (np.arange(n) + 0.5) / n
    attributes, boxes = np.full((n, n, 3), -1, np.int64), np.zeros((n, n, 4), np.float32)
    far_first = sorted(range(len(view.things)), key=lambda index: -view.things[index].distance_m)
    for index in far_first:
        box, thing = visible_box(view, index), view.things[index].thing
        rows, columns = (
            (middle >= box.y0) & (middle <= box.y1),
            (middle >= box.x0) & (middle <= box.x1),
        )
        inside = rows[:, None] & columns
        attributes[inside] = (
            SHAPES.index(thing.shape),
            list(COLOURS).index(thing.colour),
            list(WIDTHS_M).index(thing.size),
        )
        boxes[inside] = (box.x0, box.y0, box.x1, box.y1)
    return attributes.reshape(-1, 3), boxes.reshape(-1, 4)


def centres(boxes: Sequence[Box], n: int) -> Reals:
    """Return float32[n*n]: 1 for those of n*n patches that contain the centre of a box."""
    found = np.zeros((n, n), np.float32)
    for box in boxes:
        found[int((box.y0 + box.y1) / 2 * n), int((box.x0 + box.x1) / 2 * n)] = 1
    return found.ravel()


class PrefetchQueue:
    """A queue of batches that a separate process fills; use it in a ``with`` statement."""

    def __init__(self, seed: int, word_model: Path, size: BatchSize) -> None:
        context = mp.get_context('spawn')
        self._queue: mp.Queue[Batch] = context.Queue(6)
        self._process = context.Process(
            target=_fill_queue, args=(self._queue, seed, word_model, size), daemon=True
        )

    def __enter__(self) -> 'PrefetchQueue':
        self._process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.join()

    def get(self) -> Batch:
        """Return the next batch.

        :raises RuntimeError: when the process has ended.
        """
        while True:
            try:
                return self._queue.get(timeout=20)
            except Empty:
                if not self._process.is_alive():
                    raise RuntimeError('the process that makes the scenes has ended') from None


def _fill_queue(queue: 'mp.Queue[Batch]', seed: int, word_model: Path, size: BatchSize) -> None:
    maker = BatchMaker(seed, Vocabulary.from_file(word_model), size)
    parent = mp.parent_process()
    batch = maker.batch()
    while True:
        try:
            queue.put(batch, timeout=5)
            batch = maker.batch()
        except Full:
            if parent is None or not parent.is_alive():
                # The parent was killed, so nothing will end this process or read the queue.
                queue.cancel_join_thread()
                return
