"""Pictures from files, from Pillow and from NumPy, as the one kind of image that engines take."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
import warnings

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow
from PIL import UnidentifiedImageError

from kosmos_ros.errors import BadImage, shown
from kosmos_ros.limits import Limits

# Not all that Pillow reads: for some it starts other programs.
FORMATS = ('PNG', 'JPEG', 'WEBP', 'BMP', 'TIFF', 'GIF', 'PPM')
# All that Pillow is known to raise for damaged files, depending on where the damage is.
_DAMAGE = (
    OSError, SyntaxError, ValueError, TypeError, EOFError, IndexError, KeyError, OverflowError,
    ZeroDivisionError, AttributeError, Pillow.DecompressionBombError,
)  # fmt: skip
# What a file system refuses, in words for people.
_CURES = {
    FileNotFoundError: 'there is no such file',
    IsADirectoryError: 'it is a folder; name a file in it',
}


def image_from(
    source: npt.NDArray[np.uint8] | Pillow.Image | Path | str, limits: Limits
) -> npt.NDArray[np.uint8]:
    """Return a picture as RGB uint8[height, width, 3].

    :param source: such an array, which is returned as it is; an image of Pillow's; or a path.
    :raises BadImage: when a file cannot be read as a picture, or is too large.
    :raises TypeError: when it is something else.
    :raises ValueError: when an array has another shape.
    """
    if isinstance(source, (str, Path)):
        return read_image(Path(source), str(source), limits)
    if isinstance(source, Pillow.Image):
        check_size(*source.size, 'The image', limits)
        # It may be a file that Pillow reads only now.
        with _naming_damage('The image'):
            return rgb_from(source)
    if not isinstance(source, np.ndarray) or source.dtype != np.uint8:
        raise TypeError(
            'an image is uint8[height, width, 3], an image of Pillow, or a path, '
            f'not {shown(source)}'
        )
    if source.ndim != 3 or source.shape[2] != 3 or 0 in source.shape:
        raise ValueError(f'an image has the shape [height, width, 3], not {source.shape}')
    height, width, _ = source.shape
    check_size(width, height, 'The image', limits)
    return source


def read_image(
    file: Path | BinaryIO, name: str, limits: Limits, formats: tuple[str, ...] = FORMATS
) -> npt.NDArray[np.uint8]:
    """Decode a picture file as RGB uint8[height, width, 3], after its header has shown its size.

    Orientation tags are ignored: boxes refer to the pixels as they are stored.

    :param name: what to call it in messages.
    :raises BadImage: when it is not one of `formats`, is too large, cut off or damaged.
    """
    try:
        with _naming_damage(name), Pillow.open(file, formats=formats) as picture:
            check_size(*picture.size, name, limits)
            return rgb_from(picture)
    except UnidentifiedImageError:
        raise BadImage(f'{name} is no picture; use one of {", ".join(formats)}.') from None


@contextmanager
def _naming_damage(name: str) -> Iterator[None]:
    """Turn what Pillow raises into a sentence.

    :raises BadImage: when a picture cannot be read or is damaged.
    """
    try:
        # Pillow's own limit only warns, and ours has been checked by then.
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    except UnidentifiedImageError:
        raise
    except _DAMAGE as error:
        if isinstance(error, OSError) and error.strerror:
            why = _CURES.get(type(error), error.strerror)
        else:
            why = f'it is damaged: {str(error).rstrip(".")}'
        raise BadImage(f'{name} cannot be read as a picture: {why}.') from None


def check_size(width: int, height: int, name: str, limits: Limits) -> None:
    """Refuse a size before any memory is asked for.

    :param name: what to call the image in messages.
    :raises BadImage: when it has no pixels, or more than are allowed.
    """
    if width < 1 or height < 1:
        raise BadImage(f'{name} is {width}x{height}, it has no pixels; check where it comes from.')
    if width * height > limits.max_pixels:
        raise BadImage(
            f'{name} is {width}x{height}, {width * height / 1e6:.0f} megapixels; '
            f'at most {limits.max_pixels / 1e6:.0f} are allowed.'
        )


def rgb_from(picture: Pillow.Image) -> npt.NDArray[np.uint8]:
    """Convert an image of Pillow's, of any mode, to RGB uint8[height, width, 3]."""
    if picture.mode.startswith('I'):
        # Pillow would cut 16 bits at 255 instead of scaling them.
        grey = (np.asarray(picture).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8)
        return np.ascontiguousarray(np.repeat(grey[:, :, None], 3, axis=2))
    return np.ascontiguousarray(np.asarray(picture.convert('RGB')))
