"""What every engine refuses before it computes anything: arguments of the wrong type or number."""

from collections.abc import Sequence
from dataclasses import replace

from kosmos_ros.engine.base import ImageContext, Transcript
from kosmos_ros.model.tasks import Ask, Task


def check_locate(expressions: Sequence[str], top_k: int) -> None:
    """Check the arguments of `Engine.locate`.

    :raises TypeError: when `expressions` is a single text, or `top_k` no whole number.
    :raises ValueError: when `top_k` is less than 1.
    """
    if isinstance(expressions, (str, bytes)):
        raise TypeError(f'expressions is a list of texts, not the text {expressions!r:.80}')
    if not isinstance(top_k, int) or isinstance(top_k, bool):
        raise TypeError(f'top_k is a whole number, not {top_k!r:.80}')
    if top_k < 1:
        raise ValueError(f'top_k is {top_k}; it must be 1 or more')


def check_ask_types(ask: Ask, history: Transcript | None) -> None:
    """Check the types of a question.

    :raises TypeError: when something is of another type than promised.
    """
    if not isinstance(ask, Ask) or not isinstance(ask.task, Task):
        raise TypeError(f'a question is an Ask with a Task, not {ask!r:.80}')
    for one in (ask.phrases, ask.regions, ask.examples):
        if not isinstance(one, tuple):
            raise TypeError(f'phrases, regions and examples are tuples, not {one!r:.80}')
    for number in (ask.images, ask.max_tokens, ask.beams):
        if not isinstance(number, int) or isinstance(number, bool):
            raise TypeError(f'images, max_tokens and beams are whole numbers, not {number!r:.80}')
    if history is not None and not isinstance(history, Transcript):
        raise TypeError(f'a conversation is a Transcript, not {history!r:.80}')


def with_images(ask: Ask, contexts: Sequence[ImageContext]) -> Ask:
    """Return the question with the number of its images, if it leaves that open.

    :raises TypeError: when `contexts` is a single one.
    """
    if isinstance(contexts, ImageContext):
        raise TypeError('contexts is a list of encoded images, not a single one')
    return ask if ask.images else replace(ask, images=max(len(contexts) - len(ask.examples), 0))


def check_images(ask: Ask, contexts: Sequence[ImageContext]) -> None:
    """Check that the images given are as many as a question needs.

    :raises ValueError: when they are not.
    """
    needed = ask.images + len(ask.examples)
    if len(contexts) != needed:
        raise ValueError(f'{len(contexts)} images were given, and the question needs {needed}')
