"""What every engine refuses before it computes anything: arguments of the wrong type or number."""

from collections.abc import Sequence
from dataclasses import replace

from kosmos_ros.engine.base import Engine, ImageContext, Transcript
from kosmos_ros.errors import shown
from kosmos_ros.limits import Limits
from kosmos_ros.model.boxes import Box
from kosmos_ros.model.prompts import check_places, check_task
from kosmos_ros.model.tasks import Ask, Example, Region, Task, checked


def check_locate(
    engine: Engine, context: ImageContext, expressions: Sequence[str], top_k: int
) -> None:
    """Check the arguments of `Engine.locate`, each expression by `Engine.check_expression`.

    :raises BadExpression: when an expression cannot be asked.
    :raises TypeError, ValueError: as `check_locate_types`.
    """
    check_locate_types(engine, context, expressions, top_k)
    for expression in expressions:
        engine.check_expression(expression)


def check_locate_types(
    engine: Engine, context: ImageContext, expressions: Sequence[str], top_k: int
) -> None:
    """Check the arguments of `Engine.locate`, but not what the expressions say.

    :raises TypeError: when `expressions` is no list, such as a single text; when `top_k` is no
        whole number; or when `context` is no image that `engine` has encoded.
    :raises ValueError: when `top_k` is less than 1.
    """
    if isinstance(expressions, (str, bytes)) or not isinstance(expressions, Sequence):
        raise TypeError(f'expressions is a list of texts, not {shown(expressions)}')
    if not isinstance(top_k, int) or isinstance(top_k, bool):
        raise TypeError(f'top_k is a whole number, not {shown(top_k)}')
    if top_k < 1:
        raise ValueError(f'top_k is {top_k}; it must be 1 or more')
    _check_contexts(engine, [context])


def check_question(engine: Engine, ask: Ask, history: Transcript | None, limits: Limits) -> Ask:
    """Check a question, as far as that needs no model, and return it with normalised texts.

    :raises BadExpression: when the question is outside a limit, or does not fit its task.
    :raises TypeError: when something is of another type than promised.
    """
    check_ask_types(engine, ask, history)
    ask = checked(ask, limits)
    check_task(ask)
    check_places(ask)
    return ask


def check_question_with_images(
    engine: Engine,
    ask: Ask,
    contexts: Sequence[ImageContext],
    history: Transcript | None,
    limits: Limits,
) -> Ask:
    """Check the arguments of `Engine.ask` and return the question as `check_question` does.

    :raises BadExpression: as `check_question`.
    :raises TypeError: also when `engine` has not encoded one of the images.
    :raises ValueError: when `contexts` are not as many as `ask` needs.
    """
    check_ask_types(engine, ask, history)
    ask = check_question(engine, with_images(engine, ask, contexts), history, limits)
    check_images(ask, contexts)
    return ask


def check_ask_types(engine: Engine, ask: Ask, history: Transcript | None) -> None:
    """Check the types of a question.

    :raises TypeError: when something is of another type than promised, or `history` is a
        conversation with another engine.
    """
    if not isinstance(ask, Ask) or not isinstance(ask.task, Task):
        raise TypeError(f'a question is an Ask with a Task, not {shown(ask)}')
    examples = ask.examples if isinstance(ask.examples, tuple) else ()
    regions = [one.regions for one in examples if isinstance(one, Example)]
    for one in (ask.phrases, ask.regions, ask.examples, *regions):
        if not isinstance(one, tuple):
            raise TypeError(f'phrases, regions and examples are tuples, not {shown(one)}')
    for example in ask.examples:
        if not isinstance(example, Example):
            raise TypeError(f'examples are a tuple of Example, not of {shown(example)}')
    for region in _regions(ask):
        if not isinstance(region, Region) or not isinstance(region.box_in_image, Box):
            raise TypeError(f'regions are a tuple of Region with a Box, not of {shown(region)}')
    for number in (ask.images, ask.max_tokens, ask.beams):
        if not isinstance(number, int) or isinstance(number, bool):
            raise TypeError(f'images, max_tokens and beams are whole numbers, not {shown(number)}')
    if history is not None and not isinstance(history, Transcript):
        raise TypeError(f'a conversation is a Transcript, not {shown(history)}')
    if history is not None and history.made_by not in (None, engine):
        raise TypeError('history is no conversation with this engine')


def with_images(engine: Engine, ask: Ask, contexts: Sequence[ImageContext]) -> Ask:
    """Return the question with the number of its images, if it leaves that open.

    :raises TypeError: when `contexts` is no list of images that `engine` has encoded.
    """
    if not isinstance(contexts, Sequence):
        raise TypeError(f'contexts is a list of encoded images, not {shown(contexts)}')
    _check_contexts(engine, contexts)
    return ask if ask.images else replace(ask, images=max(len(contexts) - len(ask.examples), 0))


def check_images(ask: Ask, contexts: Sequence[ImageContext]) -> None:
    """Check that the images given are as many as a question needs.

    :raises ValueError: when they are not.
    """
    needed = ask.images + len(ask.examples)
    if len(contexts) != needed:
        raise ValueError(f'{len(contexts)} images were given, and the question needs {needed}')


def _check_contexts(engine: Engine, contexts: Sequence[object]) -> None:
    """Check that an engine gets only images that it has encoded.

    :raises TypeError: when it has not.
    """
    for context in contexts:
        if not isinstance(context, ImageContext) or context.made_by is not engine:
            raise TypeError(f'{shown(context)} is no image that this engine has encoded')


def _regions(ask: Ask) -> list[Region]:
    return [*ask.regions, *(region for example in ask.examples for region in example.regions)]
