"""Golden answers: what the released checkpoint has published about one picture, snowman.png.

They show what no stored reference can: that these weights, read in this way, are Kosmos-2.  The
picture lies beside the checkpoint on the hub and in microsoft/unilm, kosmos-2/demo/images.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
import io

import numpy as np
from PIL import Image as PillowImage

from kosmos_ros.engine.answering.constraints import OutputConstraints
from kosmos_ros.engine.answering.decoding import DecodingRules, Greedy
from kosmos_ros.engine.answering.generate import generate_tokens
from kosmos_ros.engine.answering.prefill import SequenceState
from kosmos_ros.engine.base import Image
from kosmos_ros.engine.runners.runner import KeyValues, Runner
from kosmos_ros.errors import EngineError
from kosmos_ros.model import prompts
from kosmos_ros.model.config import Kosmos2Config
from kosmos_ros.model.preprocess import pixels_from_image
from kosmos_ros.model.vocabulary import Vocabulary

ImageTransform = Callable[[Image], Image]
# Ids of the released vocabulary; those below are written in them.
_IDS = 65037


def unchanged(image: Image) -> Image:
    """Return the picture as the file has it."""
    return image


def as_jpeg(image: Image) -> Image:
    """Return the picture saved as JPEG and read again, as the official demo does; some answers
    depend on it.
    """
    file = io.BytesIO()
    PillowImage.fromarray(image).save(file, 'JPEG')
    return np.asarray(PillowImage.open(file))


@dataclass(frozen=True, slots=True)
class GoldenCase:
    """``<grounding>TEXT<phrase>PHRASE</phrase>``, and the ids that must follow.

    :param name: for people.
    :param transform: applied to the picture before it is encoded.
    :param text: words before the phrase, or instead of one.
    :param phrase: words of the phrase, or ''.
    :param expected: ids of the answer, up to ``</s>`` or as far as they are published.
    """

    name: str
    transform: ImageTransform
    text: str
    phrase: str
    expected: tuple[int, ...]

    def prompt(self, vocabulary: Vocabulary) -> list[int]:
        """Return the ids behind the image."""
        ids = [vocabulary.grounding, *vocabulary.encode(self.text)]
        if self.phrase:
            words = vocabulary.encode(self.phrase)
            ids += [vocabulary.phrase_open, *words, vocabulary.phrase_close]
        return ids


# <object>, cells 44 and 863, </object>: in every published answer, this is the snowman.
_SNOWMAN = (64009, 64057, 64876, 64010)

# Two sources: the slow tests of huggingface/transformers (tests/models/kosmos2/
# test_modeling_kosmos2.py), which give ids; and the model card of
# microsoft/kosmos-2-patch14-224, which gives text of the picture as it is.
CASES = (
    # Slow test.  'An image of' - 'a snowman [44, 863] warming himself by a fire [5, 911].'
    GoldenCase(
        'brief caption',
        as_jpeg,
        'An image of',
        '',
        (
            *(64007, 10, 43867, 64008, *_SNOWMAN, 5950, 597, 32),
            *(64007, 10, 646, 64008, 64009, 64018, 64924, 64010, 4, 2),
        ),
    ),
    # Slow test.  'The image features a snowman sitting by a campfire [5, 1007] in the snow. He is
    # wearing a hat [48, 250] ...'.  From the scarf that follows on, the published answer is longer
    # than an engine has room for, and ends differently in test and card.
    GoldenCase(
        'detailed caption',
        as_jpeg,
        'Describe this image in detail:',
        '',
        (
            *(24, 1648, 1338, 10, 43867, 1280, 32),
            *(64007, 10, 30879, 64008, 64009, 64018, 65020, 64010, 12, 5, 1842, 4),
            *(71, 17, 1679, 64007, 10, 3958, 64008, 64009, 64061, 64263, 64010),
        ),
    ),
    # Card, 'Referring Expression Comprehension': the box, and nothing behind it.
    GoldenCase('referring expression', unchanged, '', 'a snowman next to a fire', (*_SNOWMAN, 2)),
    # Card, 'Phrase Grounding': the box; the sentence that follows is given as text only.
    GoldenCase('phrase grounding', unchanged, '', 'a snowman', _SNOWMAN),
)


@dataclass(frozen=True, slots=True)
class GoldenResult:
    """The outcome of one case: the expected answer and the one that came, as text."""

    name: str
    passed: bool
    expected: str
    found: str


def golden_results(
    runner: Runner, vocabulary: Vocabulary, config: Kosmos2Config, image: Image
) -> Iterator[GoldenResult]:
    """Ask a runner of the released checkpoint every question that has a golden answer.

    :param image: snowman.png, RGB uint8[height, width, 3].
    :return: one result for each of `CASES`, each as soon as it is known.
    :raises EngineError: when the vocabulary is not the released one, so that nothing is published
        about this model.
    """
    if vocabulary.size != _IDS:
        raise EngineError(
            f'this engine has {vocabulary.size} ids, the released Kosmos-2 {_IDS}: there are '
            'published answers of the latter only; leave out --golden'
        )
    transforms: tuple[ImageTransform, ...] = (as_jpeg, unchanged)
    prefixes = {
        transform: _prefix(runner, vocabulary, config, transform(image))
        for transform in transforms
    }
    for case in CASES:
        found = _answer(runner, vocabulary, config, case, prefixes[case.transform])
        yield GoldenResult(
            case.name,
            found == case.expected,
            vocabulary.decode(case.expected),
            vocabulary.decode(found),
        )


def _answer(
    runner: Runner,
    vocabulary: Vocabulary,
    config: Kosmos2Config,
    case: GoldenCase,
    prefix: KeyValues,
) -> tuple[int, ...]:
    """Return the engine's own greedy answer, as many tokens as are published."""
    prompt = case.prompt(vocabulary)
    ids, most = np.array([prompt]), len(case.expected)
    hidden, kv_cache = runner.prefill(
        ids, np.array([ids.shape[1]]), prefix=prefix, reserve=most - 1
    )
    constraints = OutputConstraints(vocabulary, config.text.no_repeat_ngram_size)
    stop_ids = frozenset((vocabulary.eos,))
    rules = DecodingRules(constraints, tuple(prompt), stop_ids, most, vocabulary.first_location)
    decoding = Greedy(rules)
    state = SequenceState(kv_cache, len(prompt), hidden)
    for _ in generate_tokens(runner, vocabulary, state, decoding):
        pass
    return decoding.best.ids


def _prefix(
    runner: Runner, vocabulary: Vocabulary, config: Kosmos2Config, image: Image
) -> KeyValues:
    embeds = runner.vision(pixels_from_image(image, config.vision.image_size))
    ids = np.array([prompts.image_prefix(vocabulary, config.latent_query_num)])
    return runner.prefill(ids, np.array([ids.shape[1]]), images=[embeds])[1]
