"""What can be asked besides where something is: tasks, and what they need to be told."""

from dataclasses import dataclass, replace
from enum import IntEnum

from kosmos_ros.errors import BadExpression
from kosmos_ros.limits import Limits
from kosmos_ros.model.boxes import Box
from kosmos_ros.model.expressions import check_text


class Task(IntEnum):
    """Tasks, equal to the constants of ``kosmos_ros_msgs/action/Ask`` (a test compares them)."""

    CAPTION = 0
    DETAILED_CAPTION = 1
    GROUND_CAPTION = 2
    QUESTION = 3
    GROUNDED_QUESTION = 4
    READ_TEXT = 5
    DESCRIBE_REGION = 6
    COMPLETE = 7
    CHAT = 8


# Tasks that also work without any image.
TEXT_TASKS = (Task.COMPLETE, Task.CHAT)


@dataclass(frozen=True, slots=True)
class Region:
    """A part of the last image in front of it, and the words of the text that mean it.

    Regions with the same phrase are what one plural phrase means, such as 'the two dogs'.
    """

    box_in_image: Box
    phrase: str = ''


@dataclass(frozen=True, slots=True)
class Example:
    """One image of its own, with the text that belongs behind it, in full."""

    text: str
    regions: tuple[Region, ...] = ()


@dataclass(frozen=True, slots=True)
class Ask:
    """One question, read and checked by `kosmos_ros.model.prompts`.

    :param text: what the task works on; '' where it needs none.
    :param phrases: of GROUND_CAPTION: parts of the text to be found, in its order.
    :param images: how many images the question is about, those of examples not counted; 0: as
        many as the engine is given.
    :param regions: what the text means by some of its phrases, in the last image.
    :param examples: come before the question, each with one image.
    :param max_tokens: of the answer; 0: as many as are usual.
    :param beams: 1: greedy.
    """

    task: Task
    text: str = ''
    phrases: tuple[str, ...] = ()
    images: int = 0
    regions: tuple[Region, ...] = ()
    examples: tuple[Example, ...] = ()
    max_tokens: int = 0
    beams: int = 1


def cleaned(ask: Ask, limits: Limits) -> Ask:
    """The same with clean texts, once its numbers are within the limits.

    :raises BadExpression: one sentence that says what to do.
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
    for count, most, what in (
        (images, limits.max_images, 'images, those of examples counted'),
        (regions, limits.max_regions, 'regions'),
        (len(ask.phrases), limits.max_regions, 'phrases'),
        (ask.beams, limits.max_beams, 'beams'),
    ):
        if count > most:
            raise BadExpression(f'These are {count} {what}; at most {most} are allowed.')
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
