"""Questions to answers in words: prompts read in pieces, then one token after another.

The loop that every runner executes.  Each step of `Answering.answer` is one run of the network, so
that whoever shares the runner waits for one step at most.
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from kosmos_ros.engine.answering.constraints import Grammar
from kosmos_ros.engine.answering.decoding import BeamSearch, Decoding, Greedy, Rules, Said
from kosmos_ros.engine.answering.text import read
from kosmos_ros.engine.base import Answer, Draft, Finish, PhraseGrounding, Transcript
from kosmos_ros.engine.runners.runner import KeyValues, Runner
from kosmos_ros.errors import BadExpression, EngineError
from kosmos_ros.limits import Limits
from kosmos_ros.model import prompts
from kosmos_ros.model.config import Kosmos2Config
from kosmos_ros.model.expressions import quoted
from kosmos_ros.model.tasks import Ask, Task, checked
from kosmos_ros.model.vocabulary import Vocabulary

USUAL_TOKENS = 128
# UL LR </object>
_BOX = 3


@dataclass(frozen=True, slots=True)
class Past:
    """What has been read of a sequence: its first `tokens` ids; `hidden` [B,D] of the last."""

    values: KeyValues
    tokens: int
    hidden: object


class Seen:
    """An image's embeddings, and what stands in front of every question about it, once read."""

    def __init__(self, embeds: object) -> None:
        self.embeds = embeds
        self.prefix: Past | None = None


class _Kept:
    """Keys and values of a conversation, for one use: going on with them may change them."""

    def __init__(self, past: Past) -> None:
        self._past: Past | None = past

    def take(self) -> Past | None:
        """None from the second time on, when a turn has failed and they must be read again."""
        past, self._past = self._past, None
        return past


@dataclass(frozen=True, slots=True)
class _Question:
    """Sequences to be continued, each with at most so many tokens."""

    ask: Ask
    sequences: tuple[tuple[int, ...], ...]
    most: int
    begin: int  # of this turn, in each sequence


class Answering:
    """Answers questions with one runner."""

    def __init__(
        self,
        runner: Runner,
        vocabulary: Vocabulary,
        config: Kosmos2Config,
        limits: Limits,
    ) -> None:
        self._runner = runner
        self._vocabulary = vocabulary
        self._latents = config.latent_query_num
        self._limits = limits
        self._image_prefix = tuple(prompts.image_prefix(vocabulary, self._latents))
        self._positions = config.text.max_position_embeddings
        self._grammar = Grammar(vocabulary, config.text.no_repeat_ngram_size)
        # The model came to an end, or begins another document or image.
        self._stops = frozenset((vocabulary.eos, vocabulary.document_close, vocabulary.image_open))

    def prefix(self, seen: Seen) -> KeyValues:
        """``<s>`` and an image, read once."""
        return self._prefix(seen).values

    def check(self, ask: Ask, past: Transcript | None) -> None:
        """
        :raises BadExpression: when the question cannot be answered.
        """
        self._question(ask, past)

    def answer(self, ask: Ask, images: Sequence[Seen], past: Transcript | None) -> Iterator[Draft]:
        """See `Engine.ask`.

        :raises BadExpression: before anything is computed.
        :raises EngineError: when the network gives something that is not a number.
        """
        question = self._question(ask, past)
        if len(images) != ask.images + len(ask.examples):
            raise ValueError(f'{len(images)} images were given for {ask}')
        if ask.task is Task.GROUND_CAPTION:
            yield from self._ground(question, images)
            return
        (sequence,) = question.sequences
        before, kept = ((), None) if past is None else (past.images, past.past)
        everything = (*map(Seen, before), *images)
        known = kept.take() if isinstance(kept, _Kept) else None
        silent = self._draft(sequence, everything, Said(), None)
        past_prompt = yield from self._read(sequence, everything, known, question.most, silent)
        rules = Rules(
            self._grammar,
            sequence[question.begin :],
            self._stops,
            question.most,
            self._vocabulary.first_location,
        )
        decoding = BeamSearch(rules, ask.beams) if ask.beams > 1 else Greedy(rules)
        for now in grow(self._runner, self._vocabulary, past_prompt, decoding):
            # Of several beams nobody knows which keys and values are whose.
            alone = now if ask.beams < 2 else None
            yield self._draft(sequence, everything, decoding.best, alone, decoding.finish)

    def _ground(self, question: _Question, images: Sequence[Seen]) -> Iterator[Draft]:
        """Each phrase's boxes, up to ``</object>``."""
        ask, tokens = question.ask, 0
        spans = prompts.phrase_spans(ask.text, ask.phrases)
        found: tuple[PhraseGrounding, ...] = ()
        stops = frozenset((self._vocabulary.object_close,))
        for sequence, phrase, span in zip(question.sequences, ask.phrases, spans, strict=True):
            silent = _plain_draft(tokens, Answer(ask.text, found))
            past = yield from self._read(sequence, images, None, question.most, silent)
            rules = Rules(
                self._grammar, sequence, stops, question.most, self._vocabulary.first_location
            )
            decoding = Greedy(rules)
            for _ in grow(self._runner, self._vocabulary, past, decoding):
                yield _plain_draft(tokens + len(decoding.best.ids), Answer(ask.text, found))
            said, tokens = decoding.best, tokens + len(decoding.best.ids)
            opened = ((self._vocabulary.object_open, *said.ids), (1.0, *said.places))
            (grounded,) = read(*opened, self._vocabulary).groundings
            found = (*found, PhraseGrounding(phrase, span, grounded.boxes))
        yield _plain_draft(tokens, Answer(ask.text, found), Finish.END)

    def _question(self, ask: Ask, past: Transcript | None) -> _Question:
        """
        :raises BadExpression: when a text cannot be used, or it is all too long.
        """
        ask = checked(ask, self._limits)
        self._check_words(ask)
        before: tuple[int, ...] = ()
        if past is not None:
            before = (*past.ids, *self._end_of_sentence(past.ids[-1]))
        asked = prompts.prompts_for(self._vocabulary, ask, self._latents, begin=past is None)
        sequences = tuple((*before, *ids) for ids in asked)
        least = _BOX if ask.task is Task.GROUND_CAPTION else 1
        if 0 < ask.max_tokens < least:
            raise BadExpression(f'A box has {_BOX} tokens; max_tokens must not be less.')
        longest = max(map(len, sequences))
        limit = min(self._positions, self._runner.room + self._prefix_length(sequences[0]))
        wanted = ask.max_tokens or min(USUAL_TOKENS, max(limit - longest, least))
        if longest + wanted > limit:
            raise BadExpression(
                f'The question has {longest} tokens, images and conversation counted, and the '
                f'answer may have {wanted}; together at most {limit} are possible.'
            )
        return _Question(ask, sequences, wanted, len(before))

    def _end_of_sentence(self, last: int) -> tuple[int, ...]:
        """A full stop behind an answer that was left without one, where the vocabulary has it."""
        stop = self._vocabulary.full_stop
        is_word = self._vocabulary.is_text(last) and self._vocabulary.words(last)[-1:].isalnum()
        return (stop,) if stop is not None and is_word else ()

    def _check_words(self, ask: Ask) -> None:
        template = prompts.PROMPT_TEMPLATES[ask.task]
        texts = [ask.text or template.default_text or '', template.template.replace('{text}', '')]
        texts += [region.phrase for region in ask.regions]
        texts += [example.text for example in ask.examples]
        unknown = dict.fromkeys(
            word for text in texts for word in self._vocabulary.unknown_words(text)
        )
        if unknown:
            words = ', '.join(map(quoted, unknown))
            raise BadExpression(f'The model does not know {words}; use other words.')

    def _prefix_length(self, sequence: Sequence[int]) -> int:
        length = len(self._image_prefix)
        return length if tuple(sequence[:length]) == self._image_prefix else 0

    def _prefix(self, seen: Seen) -> Past:
        if seen.prefix is None:
            ids = np.array([self._image_prefix])
            hidden, values = self._runner.prefill(
                ids, np.array([ids.shape[1]]), images=[seen.embeds]
            )
            seen.prefix = Past(values, ids.shape[1], hidden)
        return seen.prefix

    def _read(
        self,
        sequence: tuple[int, ...],
        images: Sequence[Seen],
        past: Past | None,
        most: int,
        silent: Draft,
    ) -> Generator[Draft, None, Past]:
        """Read what has not been read yet, piece by piece.

        :param silent: what there is to show after each piece.
        """
        prefix = None
        if past is None and self._prefix_length(sequence):
            past = prefix = self._prefix(images[0])
            yield silent
        here = past.tokens if past is not None else 0
        shown = sequence[:here].count(self._vocabulary.image_open)
        for piece in self._pieces(sequence[here:]):
            count = piece.count(self._vocabulary.image_open)
            values = None if past is None else past.values
            hidden, values = self._runner.prefill(
                np.array([piece]),
                np.array([len(piece)]),
                prefix=values if past is prefix else None,
                past=None if past is prefix else values,
                images=[seen.embeds for seen in images[shown : shown + count]],
                room=len(sequence) - here - len(piece) + most,
            )
            here, shown = here + len(piece), shown + count
            past = Past(values, here, hidden)
            yield silent
        if past is None:
            raise ValueError('an empty sequence cannot be continued')
        return past

    def _pieces(self, ids: Sequence[int]) -> list[list[int]]:
        """Parts that the runner can read at once, and none of which cuts an image."""
        whole = self._latents + 2
        parts: list[list[int]] = []
        place = 0
        while place < len(ids):
            size = whole if ids[place] == self._vocabulary.image_open else 1
            if not parts or len(parts[-1]) + size > self._runner.chunk:
                parts.append([])
            parts[-1] += ids[place : place + size]
            place += size
        return parts

    def _draft(
        self,
        sequence: tuple[int, ...],
        images: Sequence[Seen],
        said: Said,
        past: Past | None,
        finish: Finish = Finish.NONE,
    ) -> Draft:
        return Draft(
            len(said.ids),
            finish,
            lambda: read(said.ids, said.places, self._vocabulary),
            lambda: self._transcript(sequence, images, said, past),
        )

    def _transcript(
        self, sequence: tuple[int, ...], images: Sequence[Seen], said: Said, past: Past | None
    ) -> Transcript:
        ids = said.ids
        if ids and ids[-1] in self._stops:
            ids = ids[:-1]
        full = (*sequence, *ids[: self._grammar.open_object(ids)])
        embeds = tuple(seen.embeds for seen in images)
        # What was cut off may have been read already.
        if past is None or past.tokens > len(full):
            return Transcript(full, embeds)
        prefixes = [seen.prefix.values.nbytes for seen in images[:1] if seen.prefix]
        return Transcript(full, embeds, _Kept(past), past.values.nbytes + sum(prefixes))


def grow(runner: Runner, vocabulary: Vocabulary, past: Past, decoding: Decoding) -> Iterator[Past]:
    """Token after token behind a prompt, one for each step, until `decoding` has an answer.

    :return: what was read when the newest tokens were chosen: all but these.
    :raises EngineError: when the network gives something that is not a number.
    """
    values, hidden, tokens, rows = past.values, past.hidden, past.tokens, 1
    while True:
        logits = runner.logits(hidden, 0, vocabulary.size)
        if not np.isfinite(logits).all():
            raise EngineError(
                f'{runner.name} gave scores that are not numbers; check it with '
                '`kosmos_ros engine verify`'
            )
        order = decoding.advance(logits)
        yield Past(values, tokens, hidden)
        if decoding.finish is not Finish.NONE:
            return
        if order.tolist() != list(range(rows)):
            values, rows = values.select(order), len(order)
        hidden, values = runner.decode(decoding.tokens, values)
        tokens += 1


def _plain_draft(tokens: int, answer: Answer, finish: Finish = Finish.NONE) -> Draft:
    return Draft(tokens, finish, lambda: answer, _no_transcript)


def _no_transcript() -> Transcript:
    raise ValueError('this task is no part of a conversation')
