"""A goal of the action, checked as far as that is possible before its images are decoded."""

from collections.abc import Sequence
from dataclasses import dataclass
import math

from kosmos_ros_msgs.action import Ask as AskAction
from kosmos_ros_msgs.msg import Example as ExampleMsg
from kosmos_ros_msgs.msg import Region as RegionMsg
from sensor_msgs.msg import Image

from kosmos_ros.errors import BadExpression
from kosmos_ros.limits import Limits
from kosmos_ros.model.boxes import Box
from kosmos_ros.model.expressions import quoted
from kosmos_ros.model.tasks import TEXT_TASKS, Ask, Example, Region, Task
from kosmos_ros.node.parameters import Settings
from kosmos_ros.node.refer.query import seconds_from

# Width and height of an image; None: not known yet.
Size = tuple[int, int] | None
_WHOLE_IMAGE = Box(0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class AskGoal:
    """What is asked for, in pixels of images whose size is not known yet.

    :param regions: corners x0, y0, x1, y1 and phrase.
    :param examples: text and regions, each about one of `example_images`.
    """

    task: Task
    text: str
    phrases: tuple[str, ...]
    camera: str
    images: tuple[Image, ...]
    regions: tuple['PixelRegion', ...]
    example_images: tuple[Image, ...]
    examples: tuple[tuple[str, tuple['PixelRegion', ...]], ...]
    conversation_id: str
    max_tokens: int
    beams: int
    max_image_age_s: float
    timeout_s: float

    @property
    def needs_camera(self) -> bool:
        """Whether the newest image of a camera is part of the question."""
        return not self.images and bool(self.camera or self.task not in TEXT_TASKS)

    def ask(self, size: Size, example_sizes: Sequence[Size]) -> Ask:
        """Return the question to an engine.

        :param size: of the image that its regions are in; while it is not known, they are all of
            it, which is enough to check everything else.
        """
        return Ask(
            task=self.task,
            text=self.text,
            phrases=self.phrases,
            images=len(self.images) + self.needs_camera,
            regions=tuple(region.within(size) for region in self.regions),
            examples=tuple(
                Example(text, tuple(region.within(one) for region in regions))
                for (text, regions), one in zip(self.examples, example_sizes, strict=True)
            ),
            max_tokens=self.max_tokens,
            beams=self.beams,
        )


@dataclass(frozen=True, slots=True)
class PixelRegion:
    """A box in pixels of an image, and the words that refer to it."""

    corners_px: tuple[float, float, float, float]
    phrase: str

    def within(self, size: Size) -> Region:
        """Return the region as fractions of an image of this size."""
        box = _WHOLE_IMAGE if size is None else Box.from_pixels(self.corners_px, *size)
        return Region(box, self.phrase)


def ask_goal_from(request: AskAction.Goal, settings: Settings, limits: Limits) -> AskGoal:
    """Check what the engine does not: its `check_ask` checks texts and counts.

    :raises BadExpression: when a field cannot be used.
    """
    try:
        task = Task(request.task)
    except ValueError:
        known = ', '.join(f'{one} {one.name}' for one in Task)
        raise BadExpression(f'There is no task {request.task}; there are {known}.') from None
    if request.conversation_id and task is not Task.CHAT:
        raise BadExpression(
            f'{task.name} is no part of a conversation; leave conversation_id empty, or ask CHAT.'
        )
    images = len(request.images) + len(request.examples)
    if images > limits.max_images:
        raise BadExpression(
            f'The goal has {images} images, those of examples counted; '
            f'at most {limits.max_images} are allowed.'
        )
    timeout_s = seconds_from(request.timeout, 'timeout', settings.ask_timeout)
    if timeout_s > limits.max_ask_timeout_s:
        raise BadExpression(
            f'timeout is {timeout_s:g} s; at most {limits.max_ask_timeout_s:g} s are allowed.'
        )
    examples: Sequence[ExampleMsg] = request.examples
    return AskGoal(
        task=task,
        text=request.text,
        phrases=tuple(request.phrases),
        camera=request.camera,
        images=tuple(request.images),
        regions=_regions(request.regions),
        example_images=tuple(example.image for example in examples),
        examples=tuple((example.text, _regions(example.regions)) for example in examples),
        conversation_id=request.conversation_id,
        max_tokens=request.max_tokens,
        beams=request.beams or 1,
        max_image_age_s=seconds_from(
            request.max_image_age, 'max_image_age', settings.max_image_age
        ),
        timeout_s=timeout_s,
    )


def _regions(messages: Sequence[RegionMsg]) -> tuple[PixelRegion, ...]:
    return tuple(_region(message) for message in messages)


def _region(message: RegionMsg) -> PixelRegion:
    box = message.box
    x, y = box.center.position.x, box.center.position.y
    width, height = box.size_x, box.size_y
    which = f'The region {quoted(message.phrase)}' if message.phrase else 'A region'
    if not all(map(math.isfinite, (x, y, width, height))):
        raise BadExpression(f'{which} has a number that is not finite; give all four in pixels.')
    if not (width > 0 and height > 0):
        raise BadExpression(
            f'{which} is {width:g} x {height:g} pixels; its size_x and size_y must be positive.'
        )
    # `!=` also holds for NaN.
    if box.center.theta != 0:
        raise BadExpression(f'{which} is rotated; only upright boxes (theta 0) can be used.')
    corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    return PixelRegion(corners, message.phrase)
