"""Token sequences that put a question to the model.

A sequence is ``<s>``, images (``<image>``, slots for the image's embeddings, ``</image>``) and
text.  What stands in front of every question about one image is the same (``image_prefix``), so it
is read once a frame.

One table, `LAYOUTS`, has the words of every task.  Sources: [demo] is microsoft/unilm,
kosmos-2/demo/gradio_app.py; [card] the model card of microsoft/kosmos-2-patch14-224; [paper] arXiv
2306.14824.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
import re

from kosmos_ros.errors import BadExpression
from kosmos_ros.model.boxes import encode_box
from kosmos_ros.model.expressions import quoted
from kosmos_ros.model.tasks import TEXT_TASKS, Ask, Region, Task
from kosmos_ros.model.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class Layout:
    """The words of a task.

    :param words: behind the image; ``{text}`` is the caller's, or else `usual`.
    :param grounding: whether ``<grounding>`` stands first: answer with boxes.
    :param usual: what stands for a text that was not given; None: it must be given.
    :param source: where these words are from.
    """

    words: str
    grounding: bool
    usual: str | None
    source: str


_QUESTION = 'Question: {text} Answer:'
LAYOUTS = {
    Task.CAPTION: Layout('An image of', True, '', '[demo]: brief'),
    Task.DETAILED_CAPTION: Layout(
        'Describe {text} in detail:', True, 'this image', '[demo]: detailed; [paper] figure 13'
    ),
    # Only the words before the phrase are its context: microsoft/unilm,
    # kosmos-2/evaluation/flickr/cook_data.py; [paper] 4.1.1.
    Task.GROUND_CAPTION: Layout('{text}', True, None, '[paper] 4.1.1'),
    Task.QUESTION: Layout(_QUESTION, False, None, '[paper] 4.3.1'),
    Task.GROUNDED_QUESTION: Layout(_QUESTION, True, None, '[card]'),
    Task.READ_TEXT: Layout(_QUESTION, False, 'What does it say?', '[paper] 4.3.1'),
    # The paper's figure has no <grounding> here, the card has it.
    Task.DESCRIBE_REGION: Layout('{text} is', True, 'It', '[card]; [paper] 4.2.1 and table 9'),
    Task.COMPLETE: Layout('{text}', False, None, '[paper] figure 12'),
    # Nothing is published on how turns are joined: questions and answers stand one after another,
    # and <grounding> in the turns that bring an image.
    Task.CHAT: Layout(_QUESTION, False, None, '[paper] figure 10'),
}
_WITHOUT_TEXT = (Task.CAPTION, Task.DESCRIBE_REGION)
_WITHOUT_REGIONS = (Task.CAPTION, Task.DETAILED_CAPTION, Task.GROUND_CAPTION)
_LABELS = re.compile(r'^question\s*:\s*|\s*\banswer\s*:$', re.IGNORECASE)


def image_prefix(vocabulary: Vocabulary, latents: int) -> list[int]:
    """``<s> <image> [slots] </image>``.

    :param latents: image tokens per image, 64 in the released model; their embeddings replace
        those of the slots.
    :return: `latents` + 3 ids; the slots are 4, 5, ... as the Hugging Face processor writes them.
    """
    return [vocabulary.bos, *_image(vocabulary, latents)]


def refer(vocabulary: Vocabulary, expression: str) -> list[int]:
    """``<grounding><phrase>EXPRESSION</phrase><object>``: the next two tokens are the box.

    The released prompt ends with ``</phrase>`` (microsoft/unilm,
    kosmos-2/evaluation/refcoco/cook_data.py); ``<object>`` is the only continuation that leads to
    a box, so it is given instead of generated.

    :param expression: plain text, from ``check_expression``.
    :raises BadExpression: when nothing of the text is left for the model to read.
    """
    return [vocabulary.grounding, *_phrase(vocabulary, expression), vocabulary.object_open]


def questions(vocabulary: Vocabulary, ask: Ask, latents: int, *, begin: bool) -> list[list[int]]:
    """What a question is as token ids; the answer is what follows.

    Several images stand one after another with nothing between, those of examples first, each
    followed by its text: the layout of microsoft/unilm, kosmos-2/unilm/data/vl/
    caption_obj_few_shot.py.  ``<grounding>`` stands once, in the question itself.

    :param ask: from ``cleaned``.
    :param begin: whether this begins a sequence; else it goes on behind the answer before it.
    :return: one sequence; for GROUND_CAPTION one for each phrase, each up to ``<object>``.
    :raises BadExpression: when the task needs something that is not there, or cannot use what is.
    """
    check_task(ask)
    front = [vocabulary.bos] if begin else []
    image = _image(vocabulary, latents)
    for example in ask.examples:
        front += image + _text(vocabulary, example.text, example.regions)
    front += image * ask.images
    if ask.task is Task.GROUND_CAPTION:
        return [
            [*front, vocabulary.grounding, *vocabulary.encode(before)]
            + [*_phrase(vocabulary, phrase), vocabulary.object_open]
            for before, phrase in _contexts(ask.text, ask.phrases)
        ]
    layout, regions = LAYOUTS[ask.task], ask.regions
    text = ask.text or layout.usual or ''
    if ask.task is Task.DESCRIBE_REGION:
        text = next((region.phrase for region in regions if region.phrase), text)
        regions = tuple(Region(region.box_in_image, text) for region in regions)
    elif layout.words == _QUESTION:
        text = _LABELS.sub('', text)
    shown = bool(regions) or (ask.task is Task.CHAT and ask.images > 0)
    if layout.grounding or (ask.task in TEXT_TASKS and shown):
        front.append(vocabulary.grounding)
    words = _text(vocabulary, layout.words.format(text=text), regions)
    return [front + words]


def mentions(text: str, phrases: Iterable[str]) -> list[tuple[int, int]]:
    """Where phrases stand in a text as whole words, each behind the one before it: [first, last).

    :raises BadExpression: naming a phrase that is not there.
    """
    found, begin = [], 0
    for phrase in phrases:
        match = re.compile(rf'(?<!\w){re.escape(phrase)}(?!\w)').search(text, begin)
        if not phrase or match is None:
            raise BadExpression(
                f'The phrase {quoted(phrase)} is not in the text {quoted(text)}; phrases must '
                'stand in it word for word, in this order.'
            )
        found.append(match.span())
        begin = match.end()
    return found


def check_task(ask: Ask) -> None:
    """
    :raises BadExpression: when the task needs something that is not there, or cannot use what is.
    """
    name, layout = ask.task.name, LAYOUTS[ask.task]
    if layout.usual is None and not ask.text:
        raise BadExpression(f'{name} needs a text.')
    if ask.task in _WITHOUT_TEXT and ask.text:
        raise BadExpression(f'{name} takes no text; ask {quoted(ask.text)} as a QUESTION.')
    if ask.task is Task.GROUND_CAPTION and not ask.phrases:
        raise BadExpression(f'{name} needs phrases: the parts of the text to be found.')
    if ask.task is not Task.GROUND_CAPTION and ask.phrases:
        raise BadExpression(f'{name} takes no phrases; only GROUND_CAPTION does.')
    if ask.task is Task.DESCRIBE_REGION and not ask.regions:
        raise BadExpression(f'{name} needs a region.')
    if len({region.phrase for region in ask.regions}) > 1 and ask.task is Task.DESCRIBE_REGION:
        raise BadExpression(f'{name} describes one thing: all its regions need the same phrase.')
    if ask.task in _WITHOUT_REGIONS and ask.regions:
        raise BadExpression(f'{name} takes no regions.')
    if ask.task not in TEXT_TASKS and not ask.images:
        raise BadExpression(f'{name} needs an image.')


def _contexts(text: str, phrases: Sequence[str]) -> list[tuple[str, str]]:
    """What stands before each phrase, and the phrase."""
    return [(text[:first], text[first:last]) for first, last in mentions(text, phrases)]


def _image(vocabulary: Vocabulary, latents: int) -> list[int]:
    slots = list(range(vocabulary.first_piece, vocabulary.first_piece + latents))
    if slots and slots[-1] >= vocabulary.mask:
        # A small vocabulary has fewer pieces than there are slots, and a tag in a slot would
        # confuse whoever parses the sequence.  Not <pad>: implementations that count positions by
        # it would skip the slot.
        slots = [vocabulary.unk] * latents
    return [vocabulary.image_open, *slots, vocabulary.image_close]


def _phrase(vocabulary: Vocabulary, text: str) -> list[int]:
    words = vocabulary.encode(text)
    if not words:
        raise BadExpression(
            f'The expression {quoted(text)} has nothing to read in it; write plain words.'
        )
    return [vocabulary.phrase_open, *words, vocabulary.phrase_close]


def _text(vocabulary: Vocabulary, text: str, regions: Sequence[Region]) -> list[int]:
    """Text whose phrases that have regions are tagged, each followed by its boxes."""
    boxes: dict[str, list[Region]] = {}
    for region in regions:
        boxes.setdefault(region.phrase, []).append(region)
    ids: list[int] = []
    begin = 0
    for phrase, (first, last) in zip(boxes, mentions(text, boxes), strict=True):
        ids += vocabulary.encode(text[begin:first]) + _phrase(vocabulary, phrase)
        ids += _object(vocabulary, boxes[phrase])
        begin = last
    return ids + vocabulary.encode(text[begin:])


def _object(vocabulary: Vocabulary, regions: Sequence[Region]) -> list[int]:
    """``<object> UL LR (</delimiter_of_multi_objects/> UL LR)* </object>``."""
    ids: list[int] = []
    for region in regions:
        try:
            cells = encode_box(region.box_in_image)
        except ValueError as error:
            raise BadExpression(f'A region cannot be used: {error}.') from None
        ids += [vocabulary.delimiter, *map(vocabulary.location, cells)]
    return [vocabulary.object_open, *ids[1:], vocabulary.object_close]
