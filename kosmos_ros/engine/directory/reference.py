"""Stored answers of the PyTorch reference, and the self-check that holds an engine to them.

The reference runs the engine's own weights in float32, so what is compared is the engine, not the
rounding of its weights.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from kosmos_ros.engine.base import Floats, Tokens
from kosmos_ros.engine.runners.runner import KeyValues, Runner
from kosmos_ros.errors import EngineFileError, SelfCheckFailed
from kosmos_ros.model import prompts
from kosmos_ros.model.boxes import CELLS
from kosmos_ros.model.config import Kosmos2Config
from kosmos_ros.model.vocabulary import Vocabulary

LEVELS = ('off', 'quick', 'full')
# Words of the prompts, and tokens after each; of `_DRAWN` random prompts the one is kept whose
# answers depend least on rounding.
_WORDS = (3, 11, 5)
_STEPS = 3
# Tokens of a text that needs longer caches than boxes do.
_TEXT = 90
_DRAWN = 8
_SEED = 20


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a tensor may be from its reference: the smallest cosine of all rows, and the largest
    relative difference of their norms.  Cosine alone would miss a lost factor.
    """

    cosine: float
    norm: float


# In 16 bits: what NVIDIA's TensorRT-Edge-LLM asks of single tensors.  In float32 only the order of
# summation may differ.
TOLERANCES = {
    'fp32': Tolerance(0.9999, 0.01),
    'fp16': Tolerance(0.99, 0.25),
    'bf16': Tolerance(0.99, 0.25),
    'int8': Tolerance(0.99, 0.25),
}


@dataclass(frozen=True, slots=True)
class ReferenceAnswers:
    """One image and some prompts, with what the reference computes for them.

    B prompts, Q tokens, N steps, T tokens of a text, K image tokens, D width, I image side.
    """

    pixels: Floats  # [1,3,I,I]
    embeds: Floats  # [1,K,D]
    image_ids: Tokens  # [1,K+3]
    image_hidden: Floats  # [1,D]
    ids: Tokens  # [B,Q]
    lengths: Tokens  # [B]
    hidden: Floats  # [B,D]
    logits: Floats  # [B,1024]
    step_ids: Tokens  # [N,B]
    step_hidden: Floats  # [N,B,D]
    step_logits: Floats  # [N,B,1024]
    first_location: Tokens  # [], the id of the first location token
    text_ids: Tokens  # [1,T]
    text_hidden: Floats  # [1,D]

    def write(self, path: Path) -> None:
        """Write the answers to a file."""
        save_file(asdict(self), path)
        # safetensors gives it to its owner only; an installed engine is for all users.
        path.chmod(0o644)

    @classmethod
    def read(cls, path: Path) -> 'ReferenceAnswers':
        """Read answers.

        :raises EngineFileError: when the file is not what `write` wrote.
        """
        try:
            with safe_open(path, framework='numpy') as file:
                return cls(**{field.name: file.get_tensor(field.name) for field in fields(cls)})
        except (OSError, SafetensorError) as error:
            reason = ' '.join(str(error).split())
            raise EngineFileError(f'{path} holds no reference answers: {reason}') from None


def compute_reference(
    reference: Runner, vocabulary: Vocabulary, config: Kosmos2Config
) -> ReferenceAnswers:
    """Make an image and prompts, always the same ones, and compute the reference's answers."""
    rng = np.random.default_rng(_SEED)
    side = config.vision.image_size
    # Waves and noise: an image of nothing, but neither flat nor only noise.
    wave = np.sin(np.linspace(0, 9, side))
    noise = rng.normal(0, 0.5, (1, 3, side, side))
    pixels = (wave[:, None] * wave + noise).astype(np.float32)
    embeds = reference.vision(pixels)
    image_ids = np.array([prompts.image_prefix(vocabulary, config.latent_query_num)])
    image_hidden, prefix = reference.prefill(image_ids, _lengths(image_ids), images=[embeds])
    first = vocabulary.first_location
    kept = []
    for words in _WORDS:
        rows = [_prompt(rng, vocabulary, words) for _ in range(_DRAWN)]
        ids = np.array(rows)
        steps = first + rng.integers(0, CELLS, (_STEPS, _DRAWN))
        answers = _ask(reference, prefix, ids, _lengths(ids), steps, first)
        margins = np.sort(answers.all_logits, axis=-1)
        clear = int((margins[..., -1] - margins[..., -2]).min(axis=0).argmax())
        kept.append((rows[clear], steps[:, clear]))
    longest = max(len(row) for row, _ in kept)
    ids = np.array([[*row, *[vocabulary.pad] * (longest - len(row))] for row, _ in kept])
    lengths = np.array([len(row) for row, _ in kept])
    step_ids = np.stack([steps for _, steps in kept], axis=1)
    answers = _ask(reference, prefix, ids, lengths, step_ids, first)
    longest = min(_TEXT, config.text.max_position_embeddings - image_ids.shape[1])
    text = rng.integers(vocabulary.first_piece, vocabulary.mask, (1, longest))
    text_hidden, _ = reference.prefill(text, _lengths(text), prefix=prefix)
    return ReferenceAnswers(
        pixels=pixels,
        embeds=reference.fetch(embeds),
        image_ids=image_ids,
        image_hidden=reference.fetch(image_hidden),
        ids=ids,
        lengths=lengths,
        hidden=answers.hidden[0],
        logits=answers.logits[0],
        step_ids=step_ids,
        step_hidden=np.stack(answers.hidden[1:]),
        step_logits=np.stack(answers.logits[1:]),
        first_location=np.array(first),
        text_ids=text,
        text_hidden=reference.fetch(text_hidden),
    )


def self_check(
    runner: Runner, reference: ReferenceAnswers, level: str, precision: str
) -> Iterator[str]:
    """Give a runner the prompts of the reference and compare; yield a line for each stage.

    :param level: 'quick' asks one prompt for one box; 'full' all of them at once, for more
        tokens, and reads a text in pieces.
    :raises SelfCheckFailed: naming the first stage that is off, and by how much.
    """
    tolerance = TOLERANCES[precision]
    rows, steps = (
        (1, 1) if level == 'quick' else reference.ids.shape[:1] + reference.step_ids.shape[:1]
    )
    embeds = runner.vision(reference.pixels)
    yield _compare('vision', runner.fetch(embeds)[0], reference.embeds[0], tolerance)
    ids = reference.image_ids
    hidden, prefix = runner.prefill(ids, _lengths(ids), images=[embeds])
    yield _compare('prefill of the image', runner.fetch(hidden), reference.image_hidden, tolerance)
    lengths = reference.lengths[:rows]
    found = _ask(
        runner,
        prefix,
        reference.ids[:rows, : lengths.max()],
        lengths,
        reference.step_ids[:steps, :rows],
        int(reference.first_location),
    )
    wanted_hidden = [reference.hidden, *reference.step_hidden]
    wanted_logits = [reference.logits, *reference.step_logits]
    for index in range(steps + 1):
        stage = f'decode {index}' if index else 'prefill of prompts'
        report = _compare(stage, found.hidden[index], wanted_hidden[index][:rows], tolerance)
        wanted = wanted_logits[index][:rows]
        _compare(f'{stage}, location scores', found.logits[index], wanted, tolerance)
        if (found.logits[index].argmax(1) != wanted.argmax(1)).any():
            raise SelfCheckFailed(
                f'self-check: {stage} prefers other location tokens than the reference'
            )
        yield report
    if level == 'full':
        found_hidden = _read_in_pieces(runner, prefix, reference.text_ids)
        yield _compare('text in pieces', found_hidden, reference.text_hidden, tolerance)


def _read_in_pieces(runner: Runner, prefix: KeyValues, ids: Tokens) -> Floats:
    """Return the hidden state [1,D] of the last token of a text [1,T]."""
    piece = min(runner.chunk, ids.shape[1] // 2)
    hidden, past = runner.prefill(ids[:, :piece], np.array([piece]), prefix=prefix)
    for begin in range(piece, ids.shape[1], piece):
        part = ids[:, begin : begin + piece]
        hidden, past = runner.prefill(part, _lengths(part), past=past)
    return runner.fetch(hidden)


@dataclass(frozen=True, slots=True)
class _Answers:
    hidden: list[Floats]  # of the prompts, then of each step: [B,D]
    logits: list[Floats]  # [B,1024]

    @property
    def all_logits(self) -> Floats:  # [N+1,B,1024]
        return np.stack(self.logits)


def _ask(
    runner: Runner,
    prefix: KeyValues,
    ids: Tokens,
    lengths: Tokens,
    step_ids: Tokens,
    first: int,
) -> _Answers:
    """Read prompts [B,Q] in one prefill, then the tokens [N,B] step by step."""
    hidden, past = runner.prefill(ids, lengths, prefix=prefix, reserve=len(step_ids))
    answers = _Answers([], [])
    for step in (None, *step_ids):
        if step is not None:
            hidden, past = runner.decode(step, past)
        answers.hidden.append(runner.fetch(hidden))
        answers.logits.append(runner.logits(hidden, first, first + CELLS))
    return answers


def _compare(stage: str, found: Floats, wanted: Floats, tolerance: Tolerance) -> str:
    """Compare rows [n,d].

    :return: a line for people.
    :raises SelfCheckFailed: when they differ by more than the tolerance.
    """
    if not np.isfinite(found).all():
        raise SelfCheckFailed(f'self-check: {stage} gave values that are not numbers')
    found, wanted = found.astype(np.float64), wanted.astype(np.float64)
    lengths = np.linalg.norm(found, axis=-1), np.linalg.norm(wanted, axis=-1)
    cosine = float(((found * wanted).sum(-1) / np.maximum(lengths[0] * lengths[1], 1e-30)).min())
    norm = float(np.abs(lengths[0] / np.maximum(lengths[1], 1e-30) - 1).max())
    if cosine < tolerance.cosine or norm > tolerance.norm:
        raise SelfCheckFailed(
            f'self-check: {stage} differs from the reference: cosine {cosine:.5f} (at least '
            f'{tolerance.cosine}), norm off by {norm:.4f} (at most {tolerance.norm})'
        )
    return f'{stage}: cosine {cosine:.6f}, norm off by {norm:.5f}'


def _prompt(rng: np.random.Generator, vocabulary: Vocabulary, words: int) -> list[int]:
    pieces = rng.integers(vocabulary.first_piece, vocabulary.mask, words).tolist()
    phrase = [vocabulary.phrase_open, *pieces, vocabulary.phrase_close]
    return [vocabulary.grounding, *phrase, vocabulary.object_open]


def _lengths(ids: Tokens) -> Tokens:
    return np.full(ids.shape[0], ids.shape[1], np.int64)
