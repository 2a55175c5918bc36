"""Conversion of a camera image to the normalised pixels that the model reads."""

import numpy as np
import numpy.typing as npt
from PIL import Image

# CLIP's statistics of red, green and blue, for values 0..1.
MEAN = np.array([0.48145466, 0.4578275, 0.40821073], dtype=np.float32)
STD = np.array([0.26862954, 0.26130258, 0.27577711], dtype=np.float32)
_SCALE = (1 / (255 * STD))[:, None, None]
_SHIFT = (-MEAN / STD)[:, None, None]


def pixels_from_image(image: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.float32]:
    """Resize an image to a square and normalise it.

    The aspect ratio is not kept, so boxes are fractions of the full frame.  The filter is Pillow's
    antialiased bicubic: other filters differ by up to a quarter of the brightness range on real
    photos, which moves the boxes.  (microsoft/unilm, kosmos-2 caption_obj_few_shot.py;
    transformers, CLIPImageProcessor.)

    :param image: RGB, uint8[height, width, 3], at least one pixel.
    :param size: side in pixels, 224 in the released model.
    :return: contiguous float32[1, 3, size, size].
    :raises ValueError: when the image has another shape or type.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise ValueError(
            f'expected RGB uint8[height, width, 3], got {image.dtype}{list(image.shape)}'
        )
    # reducing_gap would be faster on large images, but inexact.
    resized = Image.fromarray(image).resize(
        (size, size), Image.Resampling.BICUBIC, reducing_gap=None
    )
    channels = np.ascontiguousarray(np.asarray(resized).transpose(2, 0, 1))
    pixels: npt.NDArray[np.float32] = np.multiply(channels, _SCALE, dtype=np.float32)
    pixels += _SHIFT
    return pixels[None]
