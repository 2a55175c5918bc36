"""Questions with their answers as token ids, as they follow the image in a row of a batch."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from kosmos_ros.model.boxes import GRID, Box, encode_box
from kosmos_ros.model.prompts import image_prefix, prompts_for
from kosmos_ros.model.vocabulary import Vocabulary
from kosmos_ros.tabletop.language.questions import AnswerParts, Dialogue, DialogueTurn, Mention

Corner = tuple[float, float]


@dataclass(slots=True)
class Segment:
    """Ids after the image, with training targets.

    :param token_targets: pairs of an index and the id of the next token, which is no location.
    :param corner_targets: indices whose next token is a location, with x and y of the exact corner
        in cells.
    """

    ids: list[int] = field(default_factory=list)
    token_targets: list[tuple[int, int]] = field(default_factory=list)
    corner_targets: list[tuple[int, Corner]] = field(default_factory=list)

    def append_token(self, token: int) -> None:
        """Append a token that is also a target."""
        self.token_targets.append((len(self.ids) - 1, token))
        self.ids.append(token)

    def append_corner(self, location: int, corner: Corner) -> None:
        """Append a location token that is also a target."""
        self.corner_targets.append((len(self.ids) - 1, corner))
        self.ids.append(location)

    def add_final_target(self, token: int) -> None:
        """Add a target for the last id without appending it."""
        self.token_targets.append((len(self.ids) - 1, token))


class SegmentWriter:
    """An encoder of dialogues about images of `latents` tokens as ids."""

    def __init__(self, vocabulary: Vocabulary, latents: int) -> None:
        self._vocabulary, self._latents = vocabulary, latents
        self._prefix = len(image_prefix(vocabulary, latents))
        self._encodings: dict[str, list[int]] = {}

    def segment(self, dialogue: Dialogue, boxes: Sequence[Box]) -> Segment:
        """Encode all turns with their answers, without the image prefix."""
        segment = Segment()
        for number, turn in enumerate(dialogue.turns):
            segment.ids += self._question(turn, number)
            self._answer(segment, turn, boxes)
        return segment

    def question(self, dialogue: Dialogue, boxes: Sequence[Box]) -> list[int]:
        """Encode the image prefix, all turns but the last, and the last question."""
        before = self.segment(Dialogue(dialogue.kind, dialogue.turns[:-1]), boxes).ids
        vocabulary = self._vocabulary
        last = self._question(dialogue.turns[-1], len(dialogue.turns) - 1)
        return [*image_prefix(vocabulary, self._latents), *before, *last]

    def _question(self, turn: DialogueTurn, number: int) -> list[int]:
        """Encode a turn's question; the first question without the image prefix."""
        (ids,) = prompts_for(self._vocabulary, turn.ask, self._latents, begin=number == 0)
        return ids[self._prefix :] if number == 0 else ids

    def _answer(self, segment: Segment, turn: DialogueTurn, boxes: Sequence[Box]) -> None:
        for part in turn.answer:
            words = self._encode(part.phrase if isinstance(part, Mention) else part)
            if isinstance(part, Mention) and turn.grounded:
                vocabulary = self._vocabulary
                for token in (vocabulary.phrase_open, *words, vocabulary.phrase_close):
                    segment.append_token(token)
                self._object(segment, [boxes[index] for index in part.things])
                continue
            for token in words:
                segment.append_token(token)
        segment.add_final_target(self._vocabulary.eos)

    def _object(self, segment: Segment, boxes: Sequence[Box]) -> None:
        vocabulary = self._vocabulary
        for number, box in enumerate(boxes):
            segment.append_token(vocabulary.delimiter if number else vocabulary.object_open)
            first, second = (vocabulary.location(cell) for cell in encode_box(box))
            segment.append_corner(first, (box.x0 * GRID, box.y0 * GRID))
            segment.append_corner(second, (box.x1 * GRID, box.y1 * GRID))
        segment.append_token(vocabulary.object_close)

    def _encode(self, text: str) -> list[int]:
        if text not in self._encodings:
            self._encodings[text] = self._vocabulary.encode(text)
        return self._encodings[text]


def plain_text(answer: AnswerParts) -> str:
    """Return the text of an answer without boxes."""
    return ' '.join(part.phrase if isinstance(part, Mention) else part for part in answer)
