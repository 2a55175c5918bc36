"""The node's parameters: one table, by which they are declared, checked and documented."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
import math
from typing import Literal

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter

from kosmos_ros.engine.directory.reference import LEVELS
from kosmos_ros.engine.load import RUNNERS
from kosmos_ros.limits import Limits

Value = bool | int | float | str | Sequence[str]
Change = Literal['at any time', 'before configure', 'at start']

_LIMITS = Limits()
# ROS reads it as false, as YAML does, unless it is in quotes.
_OFF = LEVELS[0]


@dataclass(frozen=True, slots=True)
class Row:
    """One parameter.

    :param change: when it may be set: `configure` loads the engine and `activate` subscribes; the
        executor's threads are made at the start.
    """

    name: str
    default: Value
    change: Change
    description: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def choices_text(self) -> str:
        """The choices for people."""
        return ', '.join(self.choices)


TABLE = (
    Row(
        'engine', '', 'before configure',
        'Engine directory, or the NAME or NAME:ARGUMENT of an installed one; empty: the tabletop.',
    ),
    Row(
        'runner', 'auto', 'before configure',
        'What runs the engine; auto: the fastest here of '
        'tensorrt, torch on CUDA, onnxruntime, torch.',
        choices=RUNNERS,
    ),
    Row(
        'self_check', 'quick', 'before configure',
        'Compare the engine with its stored reference answers when it is loaded.',
        choices=LEVELS,
    ),
    Row(
        'build_plans', 'never', 'before configure',
        'Build TensorRT plans that this machine lacks; missing: before serving; only: then end.',
        choices=('never', 'missing', 'only'),
    ),
    Row(
        'cameras', ['camera'], 'before configure',
        'Names of the cameras. One: its topics are image and camera_info; several: NAME/image ...',
    ),
    Row(
        'image_transport', 'raw', 'before configure',
        'raw: sensor_msgs/Image on image; compressed: CompressedImage on image/compressed.',
        choices=('raw', 'compressed'),
    ),
    Row(
        'image_reliability', 'best_effort', 'before configure',
        'best_effort: any camera; reliable: lost parts of images come again, from reliable ones.',
        choices=('best_effort', 'reliable'),
    ),
    Row(
        'expressions', [''], 'at any time',
        'Standing expressions: looked for in new images of every camera, results on ~/detections.',
    ),
    Row(
        'rate', 5.0, 'at any time',
        'Look for the standing expressions at most this often per second and camera.',
        low=0.01, high=1000.0,
    ),
    Row(
        'score_threshold', 0.05, 'at any time',
        'Standing expressions: leave out boxes that score less.', low=0.0, high=1.0,
    ),
    Row(
        'max_image_age', 1.0, 'at any time',
        'Seconds; calls that do not say otherwise refuse older images.', low=0.001, high=86400.0,
    ),
    Row(
        'timeout', 10.0, 'at any time',
        'Seconds within which calls that do not say otherwise are answered.',
        low=0.001, high=_LIMITS.max_timeout_s,
    ),
    Row(
        'max_waiting', _LIMITS.max_waiting, 'at start',
        'Calls that may wait while another is being answered; one more is BUSY at once.',
        low=1, high=64,
    ),
    Row(
        'max_asks', _LIMITS.max_asks, 'at start',
        'Goals of the action ask that may run at once; one more is BUSY at once.',
        low=1, high=64,
    ),
    Row(
        'ask_timeout', 60.0, 'at any time',
        'Seconds within which goals that do not say otherwise are answered.',
        low=0.001, high=_LIMITS.max_ask_timeout_s,
    ),
    Row(
        'max_conversations', 16, 'before configure',
        'Conversations that are kept; the least recently used go first.', low=1, high=1000,
    ),
    Row(
        'conversation_age', 600.0, 'before configure',
        'Seconds after which an unused conversation is forgotten.',
        low=0.001, high=86400.0,
    ),
    Row(
        'conversation_memory', 512, 'before configure',
        'MiB of keys and values kept between turns; those of older turns are computed again.',
        low=0, high=100_000,
    ),
    Row('autostart', True, 'at start', 'Configure and activate at the start.'),
)  # fmt: skip
_ROWS = {row.name: row for row in TABLE}


@dataclass(frozen=True, slots=True)
class Settings:
    """A snapshot of the values of all parameters; take one for each use."""

    engine: str
    runner: str
    self_check: str
    build_plans: str
    cameras: tuple[str, ...]
    image_transport: str
    image_reliability: str
    expressions: tuple[str, ...]
    rate: float
    score_threshold: float
    max_image_age: float
    timeout: float
    max_waiting: int
    max_asks: int
    ask_timeout: float
    max_conversations: int
    conversation_age: float
    conversation_memory: int
    autostart: bool


def declare(node: Node) -> None:
    """Declare all parameters; callbacks that check them must have been added before.

    :raises rclpy.exceptions.ParameterException: when a value from outside is refused.
    """
    for row in TABLE:
        node.declare_parameter(row.name, row.default, _descriptor(row))


def settings_from(values: Mapping[str, Value]) -> Settings:
    """Return declared values as `Settings`."""
    return Settings(
        **{name: _value_of(_ROWS[name], value) for name, value in values.items()}  # type: ignore[arg-type]
    )


def read_settings(node: Node) -> Settings:
    """Return a snapshot of the present values."""
    present = node.get_parameters(list(_ROWS))
    return settings_from({parameter.name: parameter.value for parameter in present})


def texts(value: object) -> tuple[str, ...]:
    """Return a list of texts without the empty ones; a single text is a list, too."""
    if isinstance(value, str):
        value = [value]
    return tuple(text for text in value or () if text)  # type: ignore[attr-defined]


def refusal(parameter: Parameter, configured: bool) -> str:
    """Return why a value is refused, in one sentence; empty when it is not.

    Ranges are checked here again, as NaN passes the middleware's check.
    """
    row = _ROWS.get(parameter.name)
    if row is None:
        return ''
    value = parameter.value
    if row.change == 'before configure' and configured:
        return (
            f'{row.name} is used when the node is configured; set it after '
            '`ros2 lifecycle set NODE deactivate` and `ros2 lifecycle set NODE cleanup`.'
        )
    if isinstance(row.default, list):
        return _refused_list(row, value)
    if row.choices and _value_of(row, value) not in row.choices:
        return f'{row.name} must be one of {row.choices_text}.'
    if row.low is not None and row.high is not None:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not (number and math.isfinite(value) and row.low <= value <= row.high):
            return f'{row.name} must be a number from {row.low:g} to {row.high:g}.'
    return ''


def _value_of(row: Row, value: Value) -> Value:
    if isinstance(row.default, list):
        return texts(value)
    return _OFF if value is False and _OFF in row.choices else value


def _refused_list(row: Row, value: object) -> str:
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, Sequence) or not all(isinstance(item, str) for item in items):
        return f'{row.name} must be a list of texts, for example "[\'the red ball\']".'
    if row.name == 'cameras':
        names = texts(items)
        if not names or len(set(names)) < len(names):
            return 'cameras must be at least one name, and different ones.'
        if wrong := [name for name in names if not _is_topic_name(name)]:
            return f'{wrong[0]!r} cannot be part of a topic: use letters, digits and _.'
    return ''


def _is_topic_name(name: str) -> bool:
    return name.isascii() and name.isidentifier()


def _descriptor(row: Row) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(
        name=row.name,
        description=f'{row.description} May be set {row.change}.',
        additional_constraints=f'One of {row.choices_text}.' if row.choices else '',
        read_only=row.change == 'at start',
        # An empty list on the command line has no type of its own, and the word off comes as a
        # truth value; so the check is ours.
        dynamic_typing=isinstance(row.default, list) or _OFF in row.choices,
    )
    if row.low is not None and row.high is not None:
        if isinstance(row.default, float):
            bounds = FloatingPointRange(from_value=float(row.low), to_value=float(row.high))
            descriptor.floating_point_range = [bounds]
        else:
            whole = IntegerRange(from_value=int(row.low), to_value=int(row.high), step=1)
            descriptor.integer_range = [whole]
    return descriptor


def markdown_table() -> str:
    """Return the table for the README."""
    lines = ['| Parameter | Default | Range | May be set | |', '|---|---|---|---|---|']
    for row in TABLE:
        span = f'`{row.choices_text.replace(", ", "`, `")}`' if row.choices else ''
        if row.low is not None:
            span = f'{row.low:g} to {row.high:g}'
        cells = (f'`{row.name}`', f'`{_yaml(row.default)}`', span, row.change, row.description)
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines) + '\n'


def _yaml(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value)
