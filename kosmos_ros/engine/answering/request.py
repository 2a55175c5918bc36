"""From a question to the token sequences that the model is to continue."""

from collections.abc import Sequence
from dataclasses import dataclass

from kosmos_ros.engine.base import Transcript
from kosmos_ros.errors import BadExpression
from kosmos_ros.limits import Limits
from kosmos_ros.model import prompts
from kosmos_ros.model.config import Kosmos2Config
from kosmos_ros.model.expressions import quoted
from kosmos_ros.model.tasks import Ask, Task, checked
from kosmos_ros.model.vocabulary import Vocabulary

DEFAULT_NEW_TOKENS = 128


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """Token sequences to be continued.

    :param sequences: one; for GROUND_CAPTION one for each phrase.
    :param max_new_tokens: of each.
    :param turn_begin: index of the first token of this turn of a conversation.
    """

    ask: Ask
    sequences: tuple[tuple[int, ...], ...]
    max_new_tokens: int
    turn_begin: int


class RequestBuilder:
    """Checks questions and writes them as token ids.

    :param capacity: tokens that a sequence may have behind the image prefix.
    :param prefix: ids of the image prefix.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        config: Kosmos2Config,
        limits: Limits,
        capacity: int,
        prefix: tuple[int, ...],
    ) -> None:
        self._vocabulary = vocabulary
        self._latents = config.latent_query_num
        self._positions = config.text.max_position_embeddings
        self._limits = limits
        self._capacity = capacity
        self._prefix = prefix

    def build(self, ask: Ask, history: Transcript | None) -> GenerationRequest:
        """Check a question and write it as token ids.

        :raises BadExpression: when a text cannot be used, or all of it is too long.
        """
        ask = checked(ask, self._limits)
        self._check_words(ask)
        before: tuple[int, ...] = ()
        # A conversation in which nothing has been said is none.
        if history is not None and history.ids:
            before = (*history.ids, *self._end_of_sentence(history.ids[-1]))
        asked = prompts.prompts_for(self._vocabulary, ask, self._latents, begin=not before)
        sequences = tuple((*before, *ids) for ids in asked)
        least = prompts.BOX_TOKENS if ask.task is Task.GROUND_CAPTION else 1
        longest = max(map(len, sequences))
        limit = min(self._positions, self._capacity + self._prefix_length(sequences[0]))
        wanted = ask.max_tokens or min(DEFAULT_NEW_TOKENS, max(limit - longest, least))
        if longest + wanted > limit:
            raise BadExpression(
                f'The question has {longest} tokens, images and conversation counted, and the '
                f'answer may have {wanted}; together at most {limit} are possible.'
            )
        return GenerationRequest(ask, sequences, wanted, len(before))

    def _prefix_length(self, sequence: Sequence[int]) -> int:
        length = len(self._prefix)
        return length if tuple(sequence[:length]) == self._prefix else 0

    def _end_of_sentence(self, last: int) -> tuple[int, ...]:
        """Return a full stop for an answer that ends without one, where the vocabulary has it."""
        stop = self._vocabulary.full_stop
        is_word = self._vocabulary.is_text(last) and self._vocabulary.words(last)[-1:].isalnum()
        return (stop,) if stop is not None and is_word else ()

    def _check_words(self, ask: Ask) -> None:
        prompt = prompts.PROMPT_TEMPLATES[ask.task]
        texts = [ask.text or prompt.default_text or '', prompt.template.replace('{text}', '')]
        texts += [region.phrase for region in ask.regions]
        texts += [example.text for example in ask.examples]
        unknown = dict.fromkeys(
            word for text in texts for word in self._vocabulary.unknown_words(text)
        )
        if unknown:
            words = ', '.join(map(quoted, unknown))
            raise BadExpression(f'The model does not know {words}; use other words.')
