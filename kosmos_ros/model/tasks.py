"""The tasks of the ``ask`` action and the data of one question."""

from dataclasses import dataclass, replace
from enum import IntEnum

from kosmos_ros.errors import BadExpression
from kosmos_ros.limits import Limits
from kosmos_ros.model.boxes import Box
from kosmos_ros.model.expressions import check_text


class Task(IntEnum):
    """A task; values equal the constants of ``kosmos_ros_msgs/action/Ask`` (tested)."""

    CAPTION = 0
    DETAILED_CAPTION = 1
    GROUND_CAPTION = 2
    QUESTION = 3
    GROUNDED_QUESTION = 4
    READ_TEXT = 5
    DESCRIBE_REGION = 6
    COMPLETE = 7
    CHAT = 8


# These tasks also work without an image.
TEXT_TASKS = (Task.COMPLETE, Task.CHAT)


@dataclass(frozen=True, slots=True)
class Region:
    """A box in the latest image, and the phrase of the text that refers to it.

    Several regions may share one plural phrase, such as 'the two dogs'.
    """

    box_in_image: Box
    phrase: str = ''


@dataclass(frozen=True, slots=True)
class Example:
    """An example for few-shot prompting: the complete text that follows its one image."""

    text: str
    regions: tuple[Region, ...] = ()


@dataclass(frozen=True, slots=True)
class Ask:
    """One question; `kosmos_ros.model.prompts` checks it against its task.

    :param text: the question or text that the task needs; '' where it needs none.
    :param phrases: for GROUND_CAPTION only: parts of the text to find, in the text's order.
    :param images: how many images the question is about, without those of the examples; 0: as many
        as the engine is given.
    :param regions: boxes in the last image that phrases of the text refer to.
    :param examples: precede the question, each with one image.
    :param max_tokens: the maximum length of the answer; 0 for the default.
    :param beams: the number of beams of beam search; 1 is greedy decoding.
    """

    task: Task
    text: str = ''
    phrases: tuple[str, ...] = ()
    images: int = 0
    regions: tuple[Region, ...] = ()
    examples: tuple[Example, ...] = ()
    max_tokens: int = 0
    beams: int = 1


def checked(ask: Ask, limits: Limits) -> Ask:
    """Check a question against the limits, and return it with normalised texts.

    :raises BadExpression: when it is outside a limit or a text is refused; the message is one
        sentence that says what to do.
    """
    for name, number, least in (
        ('images', ask.images, 0),
        ('max_tokens', ask.max_tokens, 0),
        ('beams', ask.beams, 1),
    ):
        if number < least:
            raise BadExpression(f'{name} is {number}; it must be {least} or more.')
    images = ask.images + len(ask.examples)
    regions = len(ask.regions) + sum(len(example.regions) for example in ask.examples)
    for count, limit, what in (
        (images, limits.max_images, 'images, those of examples counted'),
        (regions, limits.max_regions, 'regions'),
        (len(ask.phrases), limits.max_regions, 'phrases'),
        (ask.beams, limits.max_beams, 'beams'),
    ):
        if count > limit:
            raise BadExpression(f'These are {count} {what}; at most {limit} are allowed.')
    return replace(
        ask,
        text=check_text(ask.text, limits.max_text_chars, 'text'),
        phrases=tuple(_phrase(phrase, limits) for phrase in ask.phrases),
        regions=tuple(_region(region, limits) for region in ask.regions),
        examples=tuple(
            Example(
                check_text(example.text, limits.max_text_chars, 'text of an example'),
                tuple(_region(region, limits) for region in example.regions),
            )
            for example in ask.examples
        ),
    )


def _region(region: Region, limits: Limits) -> Region:
    return replace(region, phrase=_phrase(region.phrase, limits))


def _phrase(phrase: str, limits: Limits) -> str:
    return check_text(phrase, limits.max_expression_chars, 'phrase')
