"""The tabletop benchmark reports correct and wrong answers."""

from collections.abc import Iterator, Sequence
import json

import pytest

from kosmos_ros.engine.base import (
    Answer,
    Draft,
    Finish,
    Image,
    ImageContext,
    PhraseGrounding,
    ScoredBox,
    Transcript,
)
from kosmos_ros.errors import EngineError
from kosmos_ros.evaluation.tabletop import evaluate
from kosmos_ros.model.boxes import Box
from kosmos_ros.model.tasks import Ask
from kosmos_ros.tabletop.language import questions
from kosmos_ros.tabletop.language.dataset import (
    HeldOutDialogue,
    held_out_dialogues,
    held_out_expressions,
)
from kosmos_ros.tabletop.language.questions import DialogueTurn, Mention
from kosmos_ros.tabletop.training.segments import plain_text

SEED = 4
SCENES = len(questions.KINDS)


class Oracle:
    """An engine that answers the held-out questions correctly except those of some kinds."""

    name = 'oracle'
    remarks = ()

    def __init__(self, wrong_kinds: Sequence[str]) -> None:
        self._expressions = iter(held_out_expressions(SEED, SCENES))
        self._turns = (
            (held, turn)
            for held in held_out_dialogues(SEED, SCENES)
            for turn in held.dialogue.turns
        )
        self._wrong_kinds = wrong_kinds

    def check_expression(self, expression: str) -> None:
        """Accept everything."""

    def check_ask(self, ask: Ask, past: Transcript | None = None) -> None:
        """Accept everything."""

    def encode_image(self, image: Image) -> ImageContext:
        """Ignore the image: the order of the questions is known."""
        return ImageContext(image)

    def locate(
        self, context: ImageContext, expressions: Sequence[str], top_k: int = 1
    ) -> list[tuple[ScoredBox, ...]]:
        question = next(self._expressions)
        assert list(expressions) == [question.expression]
        correct = Box.from_pixels(question.box_px, 640, 480)
        wrong = Box(0.0, 0.0, 0.01, 0.01)
        return [(ScoredBox(wrong if question.kind in self._wrong_kinds else correct, 0.5),)]

    def ask(
        self, ask: Ask, contexts: Sequence[ImageContext], past: Transcript | None = None
    ) -> Iterator[Draft]:
        held, turn = next(self._turns)
        assert ask == turn.ask
        assert len(contexts) == ask.images
        assert (past is None) == (turn == held.dialogue.turns[0])
        answer = truth(held, turn)
        if held.dialogue.kind in self._wrong_kinds:
            answer = Answer('seven')
        for finish in (Finish.NONE, Finish.END):
            yield Draft(1, finish, lambda: answer, lambda: Transcript((1,)))

    def close(self) -> None:
        """Do nothing."""


class Silent(Oracle):
    """An engine that does not answer questions."""

    def __init__(self) -> None:
        super().__init__(())

    def ask(
        self, ask: Ask, contexts: Sequence[ImageContext], past: Transcript | None = None
    ) -> Iterator[Draft]:
        return iter(())


def truth(held: HeldOutDialogue, turn: DialogueTurn) -> Answer:
    mentions = [part for part in turn.answer if isinstance(part, Mention) and turn.grounded]
    groundings = tuple(
        PhraseGrounding(
            mention.phrase,
            (0, 0),
            tuple(ScoredBox(held.facts.boxes[index], 0.5) for index in mention.things),
        )
        for mention in mentions
    )
    return Answer(plain_text(turn.answer), groundings)


def test_counts_correct_answers_by_kind(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = ('relation', 'caption', 'count')
    assert evaluate(Oracle(wrong), seed=SEED, scenes=SCENES) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary == {
        'n': SCENES,
        'iou50': 0.8333,
        'by_kind': {'attribute': 1.0, 'shape': 1.0, 'size': 1.0, 'extreme': 1.0, 'relation': 0.0},
        'asks': SCENES,
        'ask_accuracy': 0.8333,
        'ask_by_kind': dict.fromkeys(questions.KINDS, 1.0) | {'caption': 0.0, 'count': 0.0},
    }


def test_an_engine_without_answers_is_an_error() -> None:
    with pytest.raises(EngineError, match='oracle gives no answers'):
        evaluate(Silent(), seed=SEED, scenes=1)


def test_seeds_determine_the_scenes() -> None:
    first, again, other = (
        [question.expression for question in held_out_expressions(seed, 5)] for seed in (1, 1, 2)
    )
    assert first == again != other
