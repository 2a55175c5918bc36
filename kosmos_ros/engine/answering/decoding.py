"""Which token comes next: greedy and beam search, as ``transformers`` does them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from kosmos_ros.engine.answering.constraints import Grammar
from kosmos_ros.engine.base import Finish, Floats, Tokens
from kosmos_ros.model.boxes import CELLS

# A finished beam's score is divided by its length to the power of this: the default of fairseq,
# by which the paper's captions were decoded, and of transformers.
LENGTH_PENALTY = 1.0


@dataclass(frozen=True, slots=True)
class Said:
    """Tokens of an answer, and for each that is a location its probability among the locations."""

    ids: tuple[int, ...] = ()
    places: tuple[float, ...] = ()

    def plus(self, token: int, place: float) -> 'Said':
        """One token more."""
        return Said((*self.ids, token), (*self.places, place))


@dataclass(frozen=True, slots=True)
class Rules:
    """What bounds an answer.

    :param prompt: what stands in front and counts as repeated when it comes again.
    :param stops: tokens that end it.
    :param most: tokens at most.
    :param first_location: the id of the first location token.
    """

    grammar: Grammar
    prompt: tuple[int, ...]
    stops: frozenset[int]
    most: int
    first_location: int

    def scores(self, logits: Floats, said: Sequence[Said]) -> Floats:
        """Logarithms of probabilities [B,V], -inf where a token may not come."""
        shifted = logits - logits.max(axis=1, keepdims=True)
        logs: Floats = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        scores: Floats = np.full_like(logs, -np.inf)
        for row, one in enumerate(said):
            left = self.most - len(one.ids)
            allowed = self.grammar.allowed((*self.prompt, *one.ids), left)
            scores[row, allowed] = logs[row, allowed]
        return scores

    def place(self, logits: Floats, token: int) -> float:
        """P(token) among the location tokens, logits [V]; 1 for any other token."""
        cell = token - self.first_location
        if not 0 <= cell < CELLS:
            return 1.0
        among = logits[self.first_location : self.first_location + CELLS].astype(np.float64)
        weights = np.exp(among - among.max())
        return float(weights[cell] / weights.sum())


class Decoding(Protocol):
    """A way to choose tokens; one or several answers grow at once."""

    @property
    def best(self) -> Said:
        """The answer, or the best one so far."""

    @property
    def finish(self) -> Finish:
        """Why it has ended; NONE when it goes on."""

    @property
    def tokens(self) -> Tokens:
        """The newest token of each answer that grows, [B]."""

    def advance(self, logits: Floats) -> Tokens:
        """Choose one token more.

        :param logits: [B,V] behind the newest tokens, or [1,V] behind the prompt.
        :return: which of these rows each growing answer goes on from.
        """


class Greedy:
    """The most probable token, again and again."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self.best = Said()
        self.finish = Finish.NONE

    @property
    def tokens(self) -> Tokens:
        """See `Decoding.tokens`."""
        return np.array(self.best.ids[-1:])

    def advance(self, logits: Floats) -> Tokens:
        """See `Decoding.advance`."""
        token = int(self._rules.scores(logits, [self.best])[0].argmax())
        self.best = self.best.plus(token, self._rules.place(logits[0], token))
        self.finish = _finish(self.best, self._rules)
        return np.zeros(1, np.int64)


class BeamSearch:
    """The most probable answers of every length, several at once.

    Finished ones are compared by probability over length; it ends when no growing one is better
    than the worst of the finished, as ``transformers`` does by default.
    """

    def __init__(self, rules: Rules, beams: int) -> None:
        self._rules = rules
        self._beams = beams
        self._growing = [Said()]
        self._scores = np.zeros(1, np.float32)
        self._finished: list[tuple[float, Said]] = []
        self.finish = Finish.NONE

    @property
    def best(self) -> Said:
        """See `Decoding.best`."""
        return self._finished[0][1] if self.finish is not Finish.NONE else self._growing[0]

    @property
    def tokens(self) -> Tokens:
        """See `Decoding.tokens`."""
        return np.array([said.ids[-1] for said in self._growing])

    def advance(self, logits: Floats) -> Tokens:
        """See `Decoding.advance`."""
        rules, beams = self._rules, self._beams
        totals = rules.scores(logits, self._growing) + self._scores[:, None]
        # Enough that as many as wanted go on, even if all best ones end.
        flat = totals.ravel()
        keep = min((1 + len(rules.stops)) * beams, int(np.isfinite(flat).sum()))
        candidates = np.argpartition(-flat, keep - 1)[:keep]
        candidates = candidates[np.argsort(-flat[candidates], kind='stable')]
        rows, tokens = np.divmod(candidates, totals.shape[1])
        growing: list[tuple[int, float, Said]] = []
        for rank, (row, token, score) in enumerate(
            zip(rows.tolist(), tokens.tolist(), flat[candidates].tolist(), strict=True)
        ):
            said = self._growing[row].plus(token, rules.place(logits[row], token))
            if _finish(said, rules) is Finish.NONE:
                growing.append((row, score, said))
            elif rank < beams:
                self._finished.append((_score(score, said), said))
        self._finished = sorted(self._finished, key=lambda one: -one[0])[:beams]
        growing = growing[:beams]
        if self._is_over(growing):
            self.finish = _finish(self._finished[0][1], rules)
            return np.empty(0, np.int64)
        self._growing = [said for _, _, said in growing]
        self._scores = np.array([score for _, score, _ in growing], np.float32)
        return np.array([row for row, _, _ in growing])

    def _is_over(self, growing: list[tuple[int, float, Said]]) -> bool:
        if not growing:
            return True
        if len(self._finished) < self._beams:
            return False
        _, score, said = growing[0]
        worst, _ = self._finished[-1]
        return _score(score, said) <= worst


def _score(log_probability: float, said: Said) -> float:
    return float(log_probability / len(said.ids) ** LENGTH_PENALTY)


def _finish(said: Said, rules: Rules) -> Finish:
    if said.ids[-1] in rules.stops:
        return Finish.END
    return Finish.LENGTH if len(said.ids) == rules.most else Finish.NONE
