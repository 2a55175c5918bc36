"""A Kosmos-2 on a runner: the engine that this package is about."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import cast

from kosmos_ros.engine.answering.arguments import (
    check_ask_types,
    check_images,
    check_locate_types,
    with_images,
)
from kosmos_ros.engine.answering.generate import AnswerGenerator
from kosmos_ros.engine.answering.locate import BoxLocator
from kosmos_ros.engine.answering.prefill import EncodedImage, ImagePrefix
from kosmos_ros.engine.base import (
    Draft,
    Engine,
    Finish,
    ImageContext,
    ImageSource,
    ScoredBox,
    Transcript,
)
from kosmos_ros.engine.runners.runner import Runner
from kosmos_ros.errors import BadExpression, EngineError
from kosmos_ros.limits import Limits
from kosmos_ros.model import prompts
from kosmos_ros.model.config import Kosmos2Config
from kosmos_ros.model.expressions import check_expression, quoted
from kosmos_ros.model.images import image_from
from kosmos_ros.model.tasks import Ask
from kosmos_ros.model.vocabulary import Vocabulary

_CACHED_PROMPTS = 1024


class Kosmos2Engine(Engine):
    """Answers questions with one runner.

    :param remarks: about its loading; with any, the engine calls itself a fallback.
    """

    def __init__(
        self,
        name: str,
        runner: Runner,
        vocabulary: Vocabulary,
        config: Kosmos2Config,
        limits: Limits | None = None,
        remarks: Sequence[str] = (),
    ) -> None:
        fallback = ', a fallback' if remarks else ''
        self.name = f'{name} on {runner.name}{fallback}'
        self.remarks = tuple(remarks)
        self._runner: Runner | None = runner
        self._vocabulary = vocabulary
        self._limits = limits or Limits()
        self._prefix = ImagePrefix(runner, vocabulary, config)
        self._locator = BoxLocator(runner, vocabulary)
        self._generator = AnswerGenerator(
            runner, vocabulary, config, self._prefix, self._limits, self
        )
        # Callers ask the same again and again: an expression is checked and tokenised once.
        self._refer_prompt = lru_cache(_CACHED_PROMPTS)(self._write_refer_prompt)

    def check_expression(self, expression: str) -> None:
        """See `Engine.check_expression`."""
        self._refer_prompt(expression)

    def encode_image(self, image: ImageSource) -> ImageContext:
        """See `Engine.encode_image`."""
        self._check_open()
        return ImageContext(self._prefix.encode(image_from(image, self._limits)), self)

    def locate(
        self, context: ImageContext, expressions: Sequence[str], top_k: int = 1
    ) -> list[tuple[ScoredBox, ...]]:
        """See `Engine.locate`.

        :raises EngineError: when the network gives something that is not a number.
        """
        self._check_open()
        check_locate_types(self, context, expressions, top_k)
        (image,) = _encoded([context])
        asked = [self._refer_prompt(expression) for expression in expressions]
        return self._locator.locate(self._prefix.read(image).kv_cache, asked, top_k)

    def check_ask(self, ask: Ask, history: Transcript | None = None) -> None:
        """See `Engine.check_ask`."""
        check_ask_types(self, ask, history)
        self._generator.request(ask, history)

    def ask(
        self, ask: Ask, contexts: Sequence[ImageContext], history: Transcript | None = None
    ) -> Iterator[Draft]:
        """See `Engine.ask`.

        :raises EngineError: in a later step, when the network gives something that is not a
            number.
        """
        self._check_open()
        check_ask_types(self, ask, history)
        request = self._generator.request(with_images(self, ask, contexts), history)
        check_images(request.ask, contexts)
        return self._while_open(self._generator.answer(request, _encoded(contexts), history))

    def close(self) -> None:
        """See `Engine.close`."""
        runner, self._runner = self._runner, None
        if runner is not None:
            runner.close()

    def _while_open(self, drafts: Iterator[Draft]) -> Iterator[Draft]:
        self._check_open()
        for draft in drafts:
            yield draft
            if draft.finish is Finish.NONE:
                self._check_open()

    def _check_open(self) -> None:
        if self._runner is None:
            raise EngineError(f'{self.name} has been closed; load it again.')

    def _write_refer_prompt(self, expression: str) -> list[int]:
        text = check_expression(expression, self._limits)
        if unknown := self._vocabulary.unknown_words(text):
            words = ', '.join(quoted(word) for word in unknown)
            raise BadExpression(f'The model does not know {words}; use other words.')
        ids = prompts.refer_prompt(self._vocabulary, text)
        if len(ids) > self._limits.max_expression_tokens:
            raise BadExpression(
                f'The expression has {len(ids)} tokens; shorten it to '
                f'{self._limits.max_expression_tokens} or fewer.'
            )
        return ids


def _encoded(contexts: Sequence[ImageContext]) -> list[EncodedImage]:
    """Return the images of contexts that this engine has made."""
    return [cast(EncodedImage, context.encoded) for context in contexts]
