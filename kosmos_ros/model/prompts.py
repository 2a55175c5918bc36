"""Token sequences that put a question to the model.

What stands in front of every question about one image is the same (``image_prefix``), so it is
read once a frame.
"""

from kosmos_ros.errors import BadExpression
from kosmos_ros.model.expressions import quoted
from kosmos_ros.model.vocabulary import Vocabulary


def image_prefix(vocabulary: Vocabulary, latents: int) -> list[int]:
    """``<s> <image> [slots] </image>``.

    :param latents: image tokens per image, 64 in the released model; their embeddings replace
        those of the slots.
    :return: `latents` + 3 ids; the slots are 4, 5, ... as the Hugging Face processor writes them.
    """
    slots = list(range(vocabulary.first_piece, vocabulary.first_piece + latents))
    if slots and slots[-1] >= vocabulary.mask:
        # A small vocabulary has fewer pieces than there are slots, and a tag in a slot would
        # confuse whoever parses the sequence.  Not <pad>: implementations that count positions by
        # it would skip the slot.
        slots = [vocabulary.unk] * latents
    return [vocabulary.bos, vocabulary.image_open, *slots, vocabulary.image_close]


def refer(vocabulary: Vocabulary, expression: str) -> list[int]:
    """``<grounding><phrase>EXPRESSION</phrase><object>``: the next two tokens are the box.

    The released prompt ends with ``</phrase>`` (microsoft/unilm,
    kosmos-2/evaluation/refcoco/cook_data.py); ``<object>`` is the only continuation that leads to
    a box, so it is given instead of generated.

    :param expression: plain text, from ``check_expression``.
    :raises BadExpression: when nothing of the text is left for the model to read.
    """
    words = vocabulary.encode(expression)
    if not words:
        raise BadExpression(
            f'The expression {quoted(expression)} has nothing to read in it; write plain words.'
        )
    phrase = [vocabulary.phrase_open, *words, vocabulary.phrase_close]
    return [vocabulary.grounding, *phrase, vocabulary.object_open]
