"""What can be asked besides where something is: tasks, and what they need to be told."""

from dataclasses import dataclass
from enum import IntEnum

from kosmos_ros.model.boxes import Box


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
    :param images: how many images the question is about, those of examples not counted.
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
