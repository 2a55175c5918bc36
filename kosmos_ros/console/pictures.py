"""Picture files: reading them, and where drawn ones go."""

from pathlib import Path
import sys

from PIL import Image as Pillow

from kosmos_ros.engine.base import Image
from kosmos_ros.errors import KosmosError
from kosmos_ros.limits import Limits
from kosmos_ros.model.images import read_image

SUFFIXES = ('.png', '.jpg', '.jpeg', '.webp', '.bmp', '.tif', '.tiff', '.gif', '.ppm', '.pgm')


class PictureError(KosmosError):
    """A picture cannot be written; the message says why and what to do."""


def read_picture(path: Path, limits: Limits) -> Image:
    """Read a file as RGB, uint8[height, width, 3].

    :raises BadImage: when it cannot be read as a picture, or is too large.
    """
    return read_image(path, str(path), limits)


def output_path(out: Path | None, source: Path, command: str) -> Path:
    """Return where the drawn picture of a source goes, which has been read.

    :param out: what the user chose; None: this directory.
    :raises PictureError: when nothing can be written there, before any work is done.
    """
    path = out or Path(f'{source.stem}.{command}.png')
    if not path.parent.is_dir():
        raise PictureError(
            f'{path.parent} is not a directory; choose another place for the picture'
        )
    if path.is_dir():
        raise PictureError(f'{path} is a directory; choose another place for the picture')
    if path.exists() and path.samefile(source):
        raise PictureError(f'{path} is what was asked about; choose another place')
    return path


def write_picture(picture: Pillow.Image, path: Path) -> None:
    """Write a picture and say where it is.

    :raises PictureError: when the file cannot be written.
    """
    try:
        picture.save(path)
    except OSError as error:
        raise PictureError(f'{path} cannot be written: {error.strerror or error}') from None
    print(f'picture: {path.resolve()}', file=sys.stderr)
