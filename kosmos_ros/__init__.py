"""Language-grounded perception for robots: Kosmos-2 as a library, commands and a ROS 2 node.

docs/library.md shows the library.  Each name is imported when it is first used, so that a program
pays for NumPy and for runners only when it asks for an engine.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kosmos_ros.engine.answering.arguments import (
        check_locate,
        check_question,
        check_question_with_images,
    )
    from kosmos_ros.engine.base import (
        Answer,
        Draft,
        Engine,
        Finish,
        ImageContext,
        ImageSource,
        PhraseGrounding,
        Report,
        ScoredBox,
        Transcript,
    )
    from kosmos_ros.engine.load import load_engine
    from kosmos_ros.errors import (
        BadExpression,
        BadImage,
        EngineError,
        EngineFileError,
        KosmosError,
        RunnerUnavailable,
        SelfCheckFailed,
    )
    from kosmos_ros.limits import Limits
    from kosmos_ros.model.boxes import Box
    from kosmos_ros.model.expressions import check_expression
    from kosmos_ros.model.images import image_from
    from kosmos_ros.model.tasks import Ask, Example, Region, Task

__version__ = '0.1.0'

# Written out, as type checkers read it.
__all__ = [
    'Answer',
    'Ask',
    'BadExpression',
    'BadImage',
    'Box',
    'Draft',
    'Engine',
    'EngineError',
    'EngineFileError',
    'Example',
    'Finish',
    'ImageContext',
    'ImageSource',
    'KosmosError',
    'Limits',
    'PhraseGrounding',
    'Region',
    'Report',
    'RunnerUnavailable',
    'ScoredBox',
    'SelfCheckFailed',
    'Task',
    'Transcript',
    '__version__',
    'check_expression',
    'check_locate',
    'check_question',
    'check_question_with_images',
    'image_from',
    'load_engine',
]
_NAMES_IN = {
    'kosmos_ros.engine.answering.arguments': (
        'check_locate', 'check_question', 'check_question_with_images',
    ),
    'kosmos_ros.engine.base': (
        'Answer', 'Draft', 'Engine', 'Finish', 'ImageContext', 'ImageSource', 'PhraseGrounding',
        'Report', 'ScoredBox', 'Transcript',
    ),
    'kosmos_ros.engine.load': ('load_engine',),
    'kosmos_ros.errors': (
        'BadExpression', 'BadImage', 'EngineError', 'EngineFileError', 'KosmosError',
        'RunnerUnavailable', 'SelfCheckFailed',
    ),
    'kosmos_ros.limits': ('Limits',),
    'kosmos_ros.model.boxes': ('Box',),
    'kosmos_ros.model.expressions': ('check_expression',),
    'kosmos_ros.model.images': ('image_from',),
    'kosmos_ros.model.tasks': ('Ask', 'Example', 'Region', 'Task'),
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _NAMES_IN.items() for name in names}


# Type checkers would take any name for one that this finds.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Import a public name when it is first used.

        :raises AttributeError: when there is no such name.
        """
        module = _MODULE_OF.get(name)
        if module is None:
            raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
        value = getattr(import_module(module), name)
        # Found directly from now on.
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """Return the public names, and what every module has."""
    return sorted({*globals(), *__all__})
