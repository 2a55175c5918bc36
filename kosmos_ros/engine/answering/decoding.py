"""Which token comes next: greedy and beam search, as ``transformers`` does them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from kosmos_ros.engine.answering.constraints import OutputConstraints
from kosmos_ros.engine.base import Finish, Floats, Tokens
from kosmos_ros.model.boxes import CELLS

# A finished beam's score is divided by its length to the power of this: the default of fairseq,
# by which the paper's captions were decoded, and of transformers.
LENGTH_PENALTY = 1.0


@dataclass(frozen=True, slots=True)
class GeneratedTokens:
    """Tokens of an answer, and for each that is a location its probability among the locations."""

    ids: tuple[int, ...] = ()
    location_probabilities: tuple[float, ...] = ()

    def append(self, token: int, probability: float) -> 'GeneratedTokens':
        """Return these tokens and one more."""
        return GeneratedTokens((*self.ids, token), (*self.location_probabilities, probability))


@dataclass(frozen=True, slots=True)
class DecodingRules:
    """What limits an answer.

    :param prompt: tokens in front of the answer; n-grams of it count as repeated, too.
    :param stop_ids: tokens that end the answer.
    :param first_location: the id of the first location token.
    """

    constraints: OutputConstraints
    prompt: tuple[int, ...]
    stop_ids: frozenset[int]
    max_new_tokens: int
    first_location: int

    def masked(self, scores: Floats, generated: Sequence[GeneratedTokens]) -> Floats:
        """Return scores [B,V], -inf for tokens that are not allowed after `generated` [B]."""
        allowed = [
            self.constraints.allowed((*self.prompt, *one.ids), self.max_new_tokens - len(one.ids))
            for one in generated
        ]
        result: Floats = np.where(allowed, scores, np.float32(-np.inf))
        return result

    def location_probability(self, logits: Floats, token: int) -> float:
        """Return P(token) among the location tokens, logits [V]; 1 for any other token."""
        cell = token - self.first_location
        if not 0 <= cell < CELLS:
            return 1.0
        among = logits[self.first_location : self.first_location + CELLS].astype(np.float64)
        weights = np.exp(among - among.max())
        return float(weights[cell] / weights.sum())


class Decoding(Protocol):
    """A way to choose tokens; one or several hypotheses grow at once."""

    @property
    def best(self) -> GeneratedTokens:
        """The answer, or the best one so far."""

    @property
    def finish(self) -> Finish:
        """Why it has ended; NONE when it goes on."""

    @property
    def tokens(self) -> Tokens:
        """The newest token of each growing hypothesis, [B]."""

    def advance(self, logits: Floats) -> Tokens:
        """Choose the next token of each hypothesis.

        :param logits: [B,V] after the newest tokens, or [1,V] after the prompt.
        :return: the row that each growing hypothesis continues, [B].
        """


class Greedy:
    """Takes the most probable token in each step."""

    def __init__(self, rules: DecodingRules) -> None:
        self._rules = rules
        self.best = GeneratedTokens()
        self.finish = Finish.NONE

    @property
    def tokens(self) -> Tokens:
        """See `Decoding.tokens`."""
        return np.array(self.best.ids[-1:])

    def advance(self, logits: Floats) -> Tokens:
        """See `Decoding.advance`."""
        token = int(self._rules.masked(logits, [self.best]).argmax())
        self.best = self.best.append(token, self._rules.location_probability(logits[0], token))
        self.finish = _finish(self.best, self._rules)
        return np.zeros(1, np.int64)


class BeamSearch:
    """Beam search over several hypotheses.

    Finished ones are compared by log probability over length.  It ends when no growing one is
    better than the worst of the finished, as ``transformers`` does by default.
    """

    def __init__(self, rules: DecodingRules, beams: int) -> None:
        self._rules = rules
        self._beams = beams
        self._growing = [GeneratedTokens()]
        self._scores = np.zeros(1, np.float32)
        self._finished: list[tuple[float, GeneratedTokens]] = []
        self.finish = Finish.NONE

    @property
    def best(self) -> GeneratedTokens:
        """See `Decoding.best`."""
        return self._finished[0][1] if self.finish is not Finish.NONE else self._growing[0]

    @property
    def tokens(self) -> Tokens:
        """See `Decoding.tokens`."""
        return np.array([generated.ids[-1] for generated in self._growing])

    def advance(self, logits: Floats) -> Tokens:
        """See `Decoding.advance`."""
        rules, beams = self._rules, self._beams
        totals = rules.masked(_log_probabilities(logits), self._growing) + self._scores[:, None]
        # Enough that `beams` hypotheses go on, even if all best ones end.
        flat = totals.ravel()
        keep = min((1 + len(rules.stop_ids)) * beams, int(np.count_nonzero(np.isfinite(flat))))
        candidates = np.argpartition(-flat, keep - 1)[:keep]
        candidates = candidates[np.argsort(-flat[candidates], kind='stable')]
        rows, tokens = np.divmod(candidates, totals.shape[1])
        growing: list[tuple[int, float, GeneratedTokens]] = []
        for rank, (row, token, score) in enumerate(
            zip(rows.tolist(), tokens.tolist(), flat[candidates].tolist(), strict=True)
        ):
            generated = self._growing[row].append(
                token, rules.location_probability(logits[row], token)
            )
            if _finish(generated, rules) is Finish.NONE:
                growing.append((row, score, generated))
            elif rank < beams:
                self._finished.append((_score(score, generated), generated))
        self._finished = sorted(self._finished, key=lambda one: -one[0])[:beams]
        growing = growing[:beams]
        if self._is_over(growing):
            self.finish = _finish(self._finished[0][1], rules)
            return np.empty(0, np.int64)
        self._growing = [generated for _, _, generated in growing]
        self._scores = np.array([score for _, score, _ in growing], np.float32)
        return np.array([row for row, _, _ in growing])

    def _is_over(self, growing: list[tuple[int, float, GeneratedTokens]]) -> bool:
        if not growing:
            return True
        if len(self._finished) < self._beams:
            return False
        _, score, generated = growing[0]
        worst, _ = self._finished[-1]
        return _score(score, generated) <= worst


def _log_probabilities(logits: Floats) -> Floats:
    shifted = logits - logits.max(axis=1, keepdims=True)
    logs: Floats = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return logs


def _score(log_probability: float, generated: GeneratedTokens) -> float:
    return float(log_probability / len(generated.ids) ** LENGTH_PENALTY)


def _finish(generated: GeneratedTokens, rules: DecodingRules) -> Finish:
    if generated.ids[-1] in rules.stop_ids:
        return Finish.END
    return Finish.LENGTH if len(generated.ids) == rules.max_new_tokens else Finish.NONE
