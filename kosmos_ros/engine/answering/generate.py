"""Questions to answers in words: prompts read in pieces, then one token after another.

The loop that every runner executes.  Each step of `AnswerGenerator.answer` is one run of the
network, so that other work on the same runner waits for one step at most.
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from kosmos_ros.engine.answering.constraints import OutputConstraints
from kosmos_ros.engine.answering.decoding import (
    BeamSearch,
    Decoding,
    DecodingRules,
    GeneratedTokens,
    Greedy,
)
from kosmos_ros.engine.answering.locate import check_logits
from kosmos_ros.engine.answering.prefill import EncodedImage, ImagePrefix, SequenceState
from kosmos_ros.engine.answering.request import GenerationRequest, RequestBuilder
from kosmos_ros.engine.answering.text import answer_from_ids
from kosmos_ros.engine.base import Answer, Draft, Finish, PhraseGrounding, Transcript
from kosmos_ros.engine.runners.runner import Runner
from kosmos_ros.limits import Limits
from kosmos_ros.model import prompts
from kosmos_ros.model.config import Kosmos2Config
from kosmos_ros.model.tasks import Ask, Task
from kosmos_ros.model.vocabulary import Vocabulary


class _SingleUse:
    """Keys and values of a conversation, for one use: going on with them may change them."""

    def __init__(self, state: SequenceState) -> None:
        self._state: SequenceState | None = state

    def take(self) -> SequenceState | None:
        """Return None from the second time on: a turn has failed, and they must be read again."""
        state, self._state = self._state, None
        return state


@dataclass(frozen=True, slots=True)
class _Prompt:
    """One sequence with its images, and what of it was read in earlier turns."""

    ids: tuple[int, ...]
    images: tuple[EncodedImage, ...]
    read_before: SequenceState | None


class AnswerGenerator:
    """Answers questions with one runner.

    :param engine: with which all conversations are.
    """

    def __init__(
        self,
        runner: Runner,
        vocabulary: Vocabulary,
        config: Kosmos2Config,
        prefix: ImagePrefix,
        limits: Limits,
        engine: object = None,
    ) -> None:
        self._engine = engine
        self._runner = runner
        self._vocabulary = vocabulary
        self._image_tokens = config.latent_query_num + 2
        self._prefix = prefix
        self._requests = RequestBuilder(vocabulary, config, limits, runner.capacity, prefix.ids)
        self._constraints = OutputConstraints(vocabulary, config.text.no_repeat_ngram_size)
        # The model came to an end, or begins another document or image.
        self._stop_ids = frozenset(
            (vocabulary.eos, vocabulary.document_close, vocabulary.image_open)
        )

    def request(self, ask: Ask, history: Transcript | None) -> GenerationRequest:
        """Check a question and write it as token ids, without computing anything.

        :raises BadExpression: when it cannot be answered.
        """
        return self._requests.build(ask, history)

    def answer(
        self,
        request: GenerationRequest,
        images: Sequence[EncodedImage],
        history: Transcript | None,
    ) -> Iterator[Draft]:
        """Answer in steps; see `Engine.ask`.

        :param request: from `request`, with the same history.
        :raises EngineError: when the network gives something that is not a number.
        """
        if request.ask.task is Task.GROUND_CAPTION:
            return self._ground(request, images)
        return self._continue(request, images, history)

    def _continue(
        self,
        request: GenerationRequest,
        images: Sequence[EncodedImage],
        history: Transcript | None,
    ) -> Iterator[Draft]:
        (sequence,) = request.sequences
        before, kept = ((), None) if history is None else (history.images, history.kv_cache)
        state = kept.take() if isinstance(kept, _SingleUse) else None
        prompt = _Prompt(sequence, (*map(EncodedImage, before), *images), state)
        empty = self._draft(prompt, GeneratedTokens(), None)
        state = yield from self._read(prompt, request.max_new_tokens, empty)
        rules = DecodingRules(
            self._constraints,
            sequence[request.turn_begin :],
            self._stop_ids,
            request.max_new_tokens,
            self._vocabulary.first_location,
        )
        beams = request.ask.beams
        decoding = BeamSearch(rules, beams) if beams > 1 else Greedy(rules)
        for now in generate_tokens(self._runner, self._vocabulary, state, decoding):
            # Nobody knows which of several beams' keys and values are those of the best one.
            kept_state = now if beams < 2 else None
            yield self._draft(prompt, decoding.best, kept_state, decoding.finish)

    def _ground(
        self, request: GenerationRequest, images: Sequence[EncodedImage]
    ) -> Iterator[Draft]:
        """Generate each phrase's boxes, up to ``</object>``."""
        ask, tokens = request.ask, 0
        spans = prompts.phrase_spans(ask.text, ask.phrases)
        found: tuple[PhraseGrounding, ...] = ()
        stop_ids = frozenset((self._vocabulary.object_close,))
        for sequence, phrase, span in zip(request.sequences, ask.phrases, spans, strict=True):
            draft = _draft_of(tokens, Answer(ask.text, found))
            prompt = _Prompt(sequence, tuple(images), None)
            state = yield from self._read(prompt, request.max_new_tokens, draft)
            rules = DecodingRules(
                self._constraints,
                sequence,
                stop_ids,
                request.max_new_tokens,
                self._vocabulary.first_location,
            )
            decoding = Greedy(rules)
            for _ in generate_tokens(self._runner, self._vocabulary, state, decoding):
                yield _draft_of(tokens + len(decoding.best.ids), Answer(ask.text, found))
            generated = decoding.best
            tokens += len(generated.ids)
            ids = (self._vocabulary.object_open, *generated.ids)
            probabilities = (1.0, *generated.location_probabilities)
            (grounded,) = answer_from_ids(ids, probabilities, self._vocabulary).groundings
            found = (*found, PhraseGrounding(phrase, span, grounded.boxes))
        yield _draft_of(tokens, Answer(ask.text, found), Finish.END)

    def _read(
        self, prompt: _Prompt, max_new_tokens: int, draft: Draft
    ) -> Generator[Draft, None, SequenceState]:
        """Read what has not been read yet, piece by piece.

        :param draft: yielded after each piece.
        """
        sequence, state = prompt.ids, prompt.read_before
        prefix = None
        if state is None and self._prefix.length_in(sequence):
            state = prefix = self._prefix.read(prompt.images[0])
            yield draft
        position = state.tokens if state is not None else 0
        image_index = sequence[:position].count(self._vocabulary.image_open)
        for piece in self._pieces(sequence[position:]):
            count = piece.count(self._vocabulary.image_open)
            images = prompt.images[image_index : image_index + count]
            kv_cache = None if state is None else state.kv_cache
            hidden, kv_cache = self._runner.prefill(
                np.array([piece]),
                np.array([len(piece)]),
                prefix=kv_cache if state is prefix else None,
                past=None if state is prefix else kv_cache,
                images=[image.embeddings for image in images],
                reserve=len(sequence) - position - len(piece) + max_new_tokens,
            )
            position, image_index = position + len(piece), image_index + count
            state = SequenceState(kv_cache, position, hidden)
            yield draft
        if state is None:
            raise ValueError('an empty sequence cannot be continued')
        return state

    def _pieces(self, ids: Sequence[int]) -> list[list[int]]:
        """Split ids into parts that the runner can read at once; an image is never cut."""
        parts: list[list[int]] = []
        index = 0
        while index < len(ids):
            size = self._image_tokens if ids[index] == self._vocabulary.image_open else 1
            if not parts or len(parts[-1]) + size > self._runner.chunk:
                parts.append([])
            parts[-1] += ids[index : index + size]
            index += size
        return parts

    def _draft(
        self,
        prompt: _Prompt,
        generated: GeneratedTokens,
        state: SequenceState | None,
        finish: Finish = Finish.NONE,
    ) -> Draft:
        ids, probabilities = generated.ids, generated.location_probabilities
        return Draft(
            len(ids),
            finish,
            lambda: answer_from_ids(ids, probabilities, self._vocabulary),
            lambda: self._transcript(prompt, ids, state),
        )

    def _transcript(
        self, prompt: _Prompt, generated: tuple[int, ...], state: SequenceState | None
    ) -> Transcript:
        ids = generated
        if ids and ids[-1] in self._stop_ids:
            ids = ids[:-1]
        full = (*prompt.ids, *ids[: self._constraints.open_object(ids)])
        embeddings = tuple(image.embeddings for image in prompt.images)
        # What was cut off may have been read already.
        if state is None or state.tokens > len(full):
            return Transcript(full, embeddings, made_by=self._engine)
        prefixes = [image.prefix.kv_cache.nbytes for image in prompt.images[:1] if image.prefix]
        nbytes = state.kv_cache.nbytes + sum(prefixes)
        return Transcript(full, embeddings, _SingleUse(state), nbytes, self._engine)


def generate_tokens(
    runner: Runner, vocabulary: Vocabulary, state: SequenceState, decoding: Decoding
) -> Iterator[SequenceState]:
    """Generate token after token behind a prompt, one in each step, until `decoding` ends.

    :return: the state when the newest tokens were chosen: all but these are read.
    :raises EngineError: when the network gives something that is not a number.
    """
    kv_cache, hidden, tokens, rows = state.kv_cache, state.hidden, state.tokens, 1
    while True:
        logits = runner.logits(hidden, 0, vocabulary.size)
        check_logits(logits, runner.name)
        order = decoding.advance(logits)
        yield SequenceState(kv_cache, tokens, hidden)
        if decoding.finish is not Finish.NONE:
            return
        if order.tolist() != list(range(rows)):
            kv_cache, rows = kv_cache.select(order), len(order)
        hidden, kv_cache = runner.decode(decoding.tokens, kv_cache)
        tokens += 1


def _draft_of(tokens: int, answer: Answer, finish: Finish = Finish.NONE) -> Draft:
    return Draft(tokens, finish, lambda: answer, _no_transcript)


def _no_transcript() -> Transcript:
    raise ValueError('this task is no part of a conversation')
