"""Questions with their answers as token ids: what a row of a batch holds behind the image."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from kosmos_ros.model.boxes import GRID, Box, encode_box
from kosmos_ros.model.prompts import image_prefix, questions
from kosmos_ros.model.vocabulary import Vocabulary
from kosmos_ros.tabletop.language.questions import Answer, Mention, Talk, Turn

Corner = tuple[float, float]


@dataclass(slots=True)
class Segment:
    """Ids behind the image, and what the model is to say at which of them.

    `words` are pairs of a place and the id to be said there, no location; `corners` are places
    where a location is to be said, with x and y of the exact corner in cells.
    """

    ids: list[int] = field(default_factory=list)
    words: list[tuple[int, int]] = field(default_factory=list)
    corners: list[tuple[int, Corner]] = field(default_factory=list)

    def say(self, token: int) -> None:
        """Go on with a token that is to be learnt."""
        self.words.append((len(self.ids) - 1, token))
        self.ids.append(token)

    def say_corner(self, location: int, corner: Corner) -> None:
        """Go on with a location token that is to be learnt."""
        self.corners.append((len(self.ids) - 1, corner))
        self.ids.append(location)

    def end(self, token: int) -> None:
        """The token that is to be said next, without going on with it."""
        self.words.append((len(self.ids) - 1, token))


class Writer:
    """Turns talks about images of `latents` tokens into ids."""

    def __init__(self, vocabulary: Vocabulary, latents: int) -> None:
        self._vocabulary, self._latents = vocabulary, latents
        self._prefix = len(image_prefix(vocabulary, latents))
        self._known: dict[str, list[int]] = {}

    def segment(self, talk: Talk, boxes: Sequence[Box]) -> Segment:
        """All turns with their answers; the image's prefix is left out."""
        segment = Segment()
        for number, turn in enumerate(talk.turns):
            segment.ids += self._question(turn, number)
            self._answer(segment, turn, boxes)
        return segment

    def question(self, talk: Talk, boxes: Sequence[Box]) -> list[int]:
        """The image's prefix, all turns but the last, and the last question."""
        before = self.segment(Talk(talk.kind, talk.turns[:-1]), boxes).ids
        vocabulary = self._vocabulary
        last = self._question(talk.turns[-1], len(talk.turns) - 1)
        return [*image_prefix(vocabulary, self._latents), *before, *last]

    def _question(self, turn: Turn, number: int) -> list[int]:
        """A turn's question without the image in front of the first."""
        (ids,) = questions(self._vocabulary, turn.ask, self._latents, begin=number == 0)
        return ids[self._prefix :] if number == 0 else ids

    def _answer(self, segment: Segment, turn: Turn, boxes: Sequence[Box]) -> None:
        for part in turn.answer:
            words = self._encode(part.phrase if isinstance(part, Mention) else part)
            if isinstance(part, Mention) and turn.grounded:
                vocabulary = self._vocabulary
                for token in (vocabulary.phrase_open, *words, vocabulary.phrase_close):
                    segment.say(token)
                self._object(segment, [boxes[index] for index in part.things])
                continue
            for token in words:
                segment.say(token)
        segment.end(self._vocabulary.eos)

    def _object(self, segment: Segment, boxes: Sequence[Box]) -> None:
        vocabulary = self._vocabulary
        for number, box in enumerate(boxes):
            segment.say(vocabulary.delimiter if number else vocabulary.object_open)
            first, second = (vocabulary.location(cell) for cell in encode_box(box))
            segment.say_corner(first, (box.x0 * GRID, box.y0 * GRID))
            segment.say_corner(second, (box.x1 * GRID, box.y1 * GRID))
        segment.say(vocabulary.object_close)

    def _encode(self, text: str) -> list[int]:
        if text not in self._known:
            self._known[text] = self._vocabulary.encode(text)
        return self._known[text]


def plain_text(answer: Answer) -> str:
    """An answer without boxes."""
    return ' '.join(part.phrase if isinstance(part, Mention) else part for part in answer)
