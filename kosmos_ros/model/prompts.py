"""The model's prompts as token sequences.

A sequence is ``<s>``, images (``<image>``, slots for the image's embeddings, ``</image>``) and
text.  All prompts about one image begin with the same ``image_prefix``, so it is read once per
frame.

One table, `PROMPT_TEMPLATES`, holds the text of every task.  Sources: [demo] is microsoft/unilm,
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
class PromptTemplate:
    """The text of a task's prompt.

    :param template: the text after the image; ``{text}`` is replaced by the user's text.
    :param grounded: whether the prompt begins with ``<grounding>``, which asks for boxes.
    :param default_text: replaces a missing text; None where the task requires a text.
    :param source: where the template was published.
    """

    template: str
    grounded: bool
    default_text: str | None
    source: str


_QUESTION = 'Question: {text} Answer:'
PROMPT_TEMPLATES = {
    Task.CAPTION: PromptTemplate('An image of', True, '', '[demo]: brief'),
    Task.DETAILED_CAPTION: PromptTemplate(
        'Describe {text} in detail:', True, 'this image', '[demo]: detailed; [paper] figure 13'
    ),
    # Only the text before the phrase is its context: microsoft/unilm,
    # kosmos-2/evaluation/flickr/cook_data.py; [paper] 4.1.1.
    Task.GROUND_CAPTION: PromptTemplate('{text}', True, None, '[paper] 4.1.1'),
    Task.QUESTION: PromptTemplate(_QUESTION, False, None, '[paper] 4.3.1'),
    Task.GROUNDED_QUESTION: PromptTemplate(_QUESTION, True, None, '[card]'),
    Task.READ_TEXT: PromptTemplate(_QUESTION, False, 'What does it say?', '[paper] 4.3.1'),
    # The paper's figure has no <grounding> here; the card has it.
    Task.DESCRIBE_REGION: PromptTemplate(
        '{text} is', True, 'It', '[card]; [paper] 4.2.1 and table 9'
    ),
    Task.COMPLETE: PromptTemplate('{text}', False, None, '[paper] figure 12'),
    # Nothing is published on how turns are joined.  Here questions and answers follow one another,
    # and turns that add an image begin with <grounding>.
    Task.CHAT: PromptTemplate(_QUESTION, False, None, '[paper] figure 10'),
}
# Of an answer that gives one box: UL LR </object>
BOX_TOKENS = 3
_WITHOUT_TEXT = (Task.CAPTION, Task.DESCRIBE_REGION)
_WITHOUT_REGIONS = (Task.CAPTION, Task.DETAILED_CAPTION, Task.GROUND_CAPTION)
_LABELS = re.compile(r'^question\s*:\s*|\s*\banswer\s*:$', re.IGNORECASE)


def image_prefix(vocabulary: Vocabulary, latents: int) -> list[int]:
    """Return ``<s> <image> [slots] </image>``.

    :param latents: image tokens per image, 64 in the released model; their embeddings replace
        those of the slots.
    :return: `latents` + 3 ids; the slots are 4, 5, ... as the Hugging Face processor writes them.
    """
    return [vocabulary.bos, *_image(vocabulary, latents)]


def refer_prompt(vocabulary: Vocabulary, expression: str) -> list[int]:
    """Return ``<grounding><phrase>EXPRESSION</phrase><object>``; the next two tokens are the box.

    The released prompt ends with ``</phrase>`` (microsoft/unilm,
    kosmos-2/evaluation/refcoco/cook_data.py).  ``<object>`` is the only continuation that leads
    to a box, so it is part of the prompt instead of being generated.

    :param expression: plain text, from ``check_expression``.
    :raises BadExpression: when the text has no visible characters.
    """
    return [vocabulary.grounding, *_phrase(vocabulary, expression), vocabulary.object_open]


def prompts_for(vocabulary: Vocabulary, ask: Ask, latents: int, *, begin: bool) -> list[list[int]]:
    """Return a question's prompts as token ids; the model continues each with the answer.

    Several images follow one another directly.  Images of examples come first, each followed by
    its text, as in microsoft/unilm, kosmos-2/unilm/data/vl/caption_obj_few_shot.py.
    ``<grounding>`` occurs once, in the question itself.

    :param ask: from ``checked``.
    :param begin: whether the prompt begins a sequence; otherwise it continues after an answer.
    :return: one sequence; for GROUND_CAPTION one per phrase, each up to ``<object>``.
    :raises BadExpression: as ``check_task``; also when a phrase is not in the text, or a region
        has no area or lies outside the image.
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
    text, regions = _text_with_regions(ask)
    refers_to_image = bool(regions) or (ask.task is Task.CHAT and ask.images > 0)
    grounded = PROMPT_TEMPLATES[ask.task].grounded
    if grounded or (ask.task in TEXT_TASKS and refers_to_image):
        front.append(vocabulary.grounding)
    return [front + _text(vocabulary, text, regions)]


def phrase_spans(text: str, phrases: Iterable[str]) -> list[tuple[int, int]]:
    """Find phrases in a text as whole words, in the given order.

    :return: the indices (first, end) of each phrase, the end excluded.
    :raises BadExpression: when a phrase is missing; the message names it.
    """
    spans, begin = [], 0
    for phrase in phrases:
        match = re.compile(rf'(?<!\w){re.escape(phrase)}(?!\w)').search(text, begin)
        if not phrase or match is None:
            raise BadExpression(
                f'The phrase {quoted(phrase)} is not in the text {quoted(text)}; phrases must '
                'stand in it word for word, in this order.'
            )
        spans.append(match.span())
        begin = match.end()
    return spans


def check_task(ask: Ask) -> None:
    """Check that a question has what its task needs, and nothing that the task cannot use.

    :raises BadExpression: when it has not; the message is one sentence that names the task.
    """
    name, template = ask.task.name, PROMPT_TEMPLATES[ask.task]
    if template.default_text is None and not ask.text:
        raise BadExpression(f'{name} needs a text.')
    if ask.task in _WITHOUT_TEXT and ask.text:
        raise BadExpression(f'{name} takes no text; ask {quoted(ask.text)} as a QUESTION.')
    if ask.task is Task.GROUND_CAPTION and not ask.phrases:
        raise BadExpression(f'{name} needs phrases: the parts of the text to be found.')
    if ask.task is Task.GROUND_CAPTION and 0 < ask.max_tokens < BOX_TOKENS:
        raise BadExpression(f'A box has {BOX_TOKENS} tokens; max_tokens must not be less.')
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


def check_places(ask: Ask) -> None:
    """Check that all phrases stand in their texts, and that all regions can be written.

    :param ask: from ``checked``, after ``check_task``.
    :raises BadExpression: when a phrase is missing, or a region has no area or lies outside the
        image.
    """
    phrase_spans(ask.text, ask.phrases)
    examples = ((example.text, example.regions) for example in ask.examples)
    for text, regions in (_text_with_regions(ask), *examples):
        phrase_spans(text, dict.fromkeys(region.phrase for region in regions))
        for region in regions:
            _cells(region)


def _text_with_regions(ask: Ask) -> tuple[str, tuple[Region, ...]]:
    """Return the prompt's text behind the images, and the regions that its phrases refer to."""
    template, regions = PROMPT_TEMPLATES[ask.task], ask.regions
    text = ask.text or template.default_text or ''
    if ask.task is Task.DESCRIBE_REGION:
        text = next((region.phrase for region in regions if region.phrase), text)
        regions = tuple(Region(region.box_in_image, text) for region in regions)
    elif template.template == _QUESTION:
        text = _LABELS.sub('', text)
    return template.template.format(text=text), regions


def _contexts(text: str, phrases: Sequence[str]) -> list[tuple[str, str]]:
    """Return the text before each phrase, and the phrase."""
    return [(text[:first], text[first:last]) for first, last in phrase_spans(text, phrases)]


def _image(vocabulary: Vocabulary, latents: int) -> list[int]:
    slots = list(range(vocabulary.first_piece, vocabulary.first_piece + latents))
    if slots and slots[-1] >= vocabulary.mask:
        # A small vocabulary has fewer pieces than there are slots, and a tag in a slot would
        # mislead parsers of the sequence.  <pad> does not work either: implementations that number
        # positions by it would skip the slot.
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
    """Encode a text; phrases with regions are tagged, and their boxes follow them."""
    boxes: dict[str, list[Region]] = {}
    for region in regions:
        boxes.setdefault(region.phrase, []).append(region)
    ids: list[int] = []
    begin = 0
    for phrase, (first, last) in zip(boxes, phrase_spans(text, boxes), strict=True):
        ids += vocabulary.encode(text[begin:first]) + _phrase(vocabulary, phrase)
        ids += _object(vocabulary, boxes[phrase])
        begin = last
    return ids + vocabulary.encode(text[begin:])


def _object(vocabulary: Vocabulary, regions: Sequence[Region]) -> list[int]:
    """Return ``<object> UL LR (</delimiter_of_multi_objects/> UL LR)* </object>``."""
    ids: list[int] = []
    for region in regions:
        ids += [vocabulary.delimiter, *map(vocabulary.location, _cells(region))]
    return [vocabulary.object_open, *ids[1:], vocabulary.object_close]


def _cells(region: Region) -> tuple[int, int]:
    try:
        return encode_box(region.box_in_image)
    except ValueError as error:
        raise BadExpression(f'A region cannot be used: {error}.') from None
