"""What has been read of a sequence, and the image prefix that questions about a frame share."""

from dataclasses import dataclass

import numpy as np

from kosmos_ros.engine.base import Image
from kosmos_ros.engine.runners.runner import KeyValues, Runner
from kosmos_ros.model import prompts
from kosmos_ros.model.config import Kosmos2Config
from kosmos_ros.model.preprocess import pixels_from_image
from kosmos_ros.model.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class SequenceState:
    """The first `tokens` ids of a sequence, after the network has read them.

    :param kv_cache: their keys and values.
    :param hidden: hidden state [B,D] of the last of them, in the runner's memory.
    """

    kv_cache: KeyValues
    tokens: int
    hidden: object


class EncodedImage:
    """An image's embeddings and, once a question has been asked, its prefix."""

    def __init__(self, embeddings: object) -> None:
        self.embeddings = embeddings
        self.prefix: SequenceState | None = None


class ImagePrefix:
    """Reads ``<s>`` and an image, which stand in front of all questions about it."""

    def __init__(self, runner: Runner, vocabulary: Vocabulary, config: Kosmos2Config) -> None:
        self._runner = runner
        self._side = config.vision.image_size
        self.ids = tuple(prompts.image_prefix(vocabulary, config.latent_query_num))

    def encode(self, image: Image) -> EncodedImage:
        """Compute the embeddings of an image, RGB uint8[height, width, 3]."""
        return EncodedImage(self._runner.vision(pixels_from_image(image, self._side)))

    def read(self, image: EncodedImage) -> SequenceState:
        """Return the state after the prefix; it is computed once for an image."""
        if image.prefix is None:
            ids = np.array([self.ids])
            hidden, kv_cache = self._runner.prefill(
                ids, np.array([ids.shape[1]]), images=[image.embeddings]
            )
            image.prefix = SequenceState(kv_cache, ids.shape[1], hidden)
        return image.prefix

    def length_in(self, sequence: tuple[int, ...]) -> int:
        """Return the number of tokens of the prefix that a sequence begins with: all or 0."""
        length = len(self.ids)
        return length if sequence[:length] == self.ids else 0
