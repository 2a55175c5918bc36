"""Picture files, and where drawn ones go."""

from pathlib import Path
import sys
import warnings

import numpy as np
from PIL import Image as Pillow
from PIL import UnidentifiedImageError

from kosmos_ros.engine.base import Image
from kosmos_ros.errors import BadImage, KosmosError
from kosmos_ros.limits import Limits

# Not all that Pillow reads: for some it starts other programs.
_FORMATS = ('PNG', 'JPEG', 'WEBP', 'BMP', 'TIFF', 'GIF', 'PPM')
SUFFIXES = ('.png', '.jpg', '.jpeg', '.webp', '.bmp', '.tif', '.tiff', '.gif', '.ppm', '.pgm')


class PictureError(KosmosError):
    """A picture cannot be written; the message says why and what to do."""


def read_picture(path: Path, limits: Limits) -> Image:
    """A file as RGB, uint8[height, width, 3].

    Orientation tags are ignored, as the node does: boxes refer to the pixels as they are stored.

    :raises BadImage: when it cannot be read as a picture, or is too large.
    """
    try:
        # Pillow's own limit only warns, and ours has been checked by then.
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            with Pillow.open(path, formats=_FORMATS) as picture:
                if picture.width * picture.height > limits.max_pixels:
                    raise BadImage(
                        f'{path} is {picture.width}x{picture.height}; at most '
                        f'{limits.max_pixels / 1e6:.0f} megapixels are allowed'
                    )
                return _rgb(picture)
    except BadImage:
        raise
    except UnidentifiedImageError:
        raise BadImage(f'{path} is no picture; use one of {", ".join(_FORMATS)}') from None
    # All that Pillow is known to raise for damaged files, depending on where the damage is.
    except (
        OSError, SyntaxError, ValueError, TypeError, EOFError, IndexError, KeyError,
        OverflowError, ZeroDivisionError, AttributeError, Pillow.DecompressionBombError,
    ) as error:  # fmt: skip
        why = getattr(error, 'strerror', None) or error
        raise BadImage(f'{path} cannot be read as a picture: {why}') from None


def _rgb(picture: Pillow.Image) -> Image:
    if picture.mode.startswith('I'):
        # Pillow would cut 16 bits at 255 instead of scaling them.
        grey = (np.asarray(picture).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    return np.array(picture.convert('RGB'))


def place_for(out: Path | None, source: Path, command: str) -> Path:
    """Where the drawn picture of a source goes, which has been read.

    :param out: what the user chose; None: this directory.
    :raises PictureError: when nothing can be written there, before any work is done.
    """
    place = out or Path(f'{source.stem}.{command}.png')
    if not place.parent.is_dir():
        raise PictureError(
            f'{place.parent} is not a directory; choose another place for the picture'
        )
    if place.is_dir():
        raise PictureError(f'{place} is a directory; choose another place for the picture')
    if place.exists() and place.samefile(source):
        raise PictureError(f'{place} is what was asked about; choose another place')
    return place


def write_picture(picture: Pillow.Image, place: Path) -> None:
    """
    :raises PictureError: when the file cannot be written.
    """
    try:
        picture.save(place)
    except OSError as error:
        raise PictureError(f'{place} cannot be written: {error.strerror or error}') from None
    print(f'picture: {place.resolve()}', file=sys.stderr)
