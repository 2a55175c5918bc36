"""What is an image, and what is none."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image as Pillow
import pytest

from kosmos_ros import BadImage, Engine

from .engines import is_sentence, picture


def opened(path: Path) -> Pillow.Image:
    """An image whose pixels Pillow has not read yet; it leaves no file open."""
    return Pillow.open(BytesIO(path.read_bytes()))


BAD_IMAGES: dict[str, tuple[type[Exception], Callable[[Path], object]]] = {
    'floats': (TypeError, lambda folder: picture().astype(np.float32)),
    'wide integers': (TypeError, lambda folder: picture().astype(np.uint16)),
    'a list': (TypeError, lambda folder: picture().tolist()),
    'nothing': (TypeError, lambda folder: None),
    'bytes': (TypeError, lambda folder: picture().tobytes()),
    'grey': (ValueError, lambda folder: picture()[:, :, 0]),
    'four channels': (ValueError, lambda folder: np.zeros((4, 4, 4), np.uint8)),
    'a batch': (ValueError, lambda folder: picture()[None]),
    'no rows': (ValueError, lambda folder: picture()[:0]),
    'no columns': (ValueError, lambda folder: picture()[:, :0]),
    'no pixels': (BadImage, lambda folder: Pillow.new('RGB', (0, 4))),
    'a large image': (BadImage, lambda folder: Pillow.new('1', (8000, 8000))),
    'a text file': (BadImage, lambda folder: folder / 'words.txt'),
    'an empty file': (BadImage, lambda folder: folder / 'empty.png'),
    'a cut file': (BadImage, lambda folder: folder / 'cut.png'),
    'an opened cut file': (
        BadImage,
        lambda folder: Pillow.open(BytesIO((folder / 'cut.png').read_bytes())),
    ),
    'a missing file': (BadImage, lambda folder: folder / 'missing.png'),
    'a missing file by text': (BadImage, lambda folder: str(folder / 'missing.png')),
    'a folder': (BadImage, lambda folder: folder),
    'an empty path': (BadImage, lambda folder: ''),
    'a very long path': (BadImage, lambda folder: 'x' * 5000),
    'a path with a zero': (BadImage, lambda folder: 'x\0y'),
}


@pytest.mark.parametrize('case', BAD_IMAGES)
def test_refuses_what_is_no_image(engine: Engine, tmp_path: Path, case: str) -> None:
    (tmp_path / 'words.txt').write_text('no picture')
    (tmp_path / 'empty.png').touch()
    Pillow.fromarray(picture()).save(tmp_path / 'whole.png')
    (tmp_path / 'cut.png').write_bytes((tmp_path / 'whole.png').read_bytes()[:-60])
    kind, source = BAD_IMAGES[case]
    with pytest.raises(kind) as caught:
        engine.encode_image(source(tmp_path))  # type: ignore[arg-type]
    assert caught.type is kind
    assert is_sentence(caught.value)


def grey() -> Pillow.Image:
    """Dark with a light square, each grey a sum of few bits, so that all modes can hold it."""
    pixels = np.zeros((48, 64), np.uint8)
    pixels[12:30, 16:40] = 255
    return Pillow.fromarray(pixels)


def deep() -> Pillow.Image:
    return Pillow.fromarray(np.asarray(grey()).astype(np.uint16) * 257)


def with_transparency() -> Pillow.Image:
    image = grey().convert('P')
    image.info['transparency'] = bytes([0] * 256)
    return image


def turned() -> np.ndarray:
    return np.asarray(grey().convert('RGB')).transpose(1, 0, 2).copy().transpose(1, 0, 2)


def mirrored() -> np.ndarray:
    return np.asarray(grey().convert('RGB'))[:, ::-1].copy()[:, ::-1]


IMAGES: dict[str, Callable[[Path], object]] = {
    'L': lambda path: grey(),
    'RGB': lambda path: grey().convert('RGB'),
    'RGBA': lambda path: grey().convert('RGBA'),
    'LA': lambda path: grey().convert('LA'),
    'P': lambda path: grey().convert('P'),
    'P with transparency': lambda path: with_transparency(),
    '1': lambda path: grey().convert('1'),
    'CMYK': lambda path: grey().convert('RGB').convert('CMYK'),
    'I;16': lambda path: deep(),
    'F': lambda path: grey().convert('F'),
    'a path': lambda path: path,
    'a path as text': str,
    'an opened file': opened,
    'mirrored twice': lambda path: mirrored(),
    'transposed twice': lambda path: turned(),
    # NumPy may not write what Pillow owns.
    'read-only': lambda path: np.asarray(grey().convert('RGB')),
    'a part': lambda path: np.pad(np.asarray(grey().convert('RGB')), ((3, 3), (5, 5), (0, 1)))[
        3:-3, 5:-5, :3
    ],
}


@pytest.mark.parametrize('case', IMAGES)
def test_equal_pixels_give_equal_answers(engine: Engine, tmp_path: Path, case: str) -> None:
    path = tmp_path / 'grey.png'
    grey().save(path)
    image = IMAGES[case](path)
    before = np.array(image) if isinstance(image, np.ndarray) else None
    plain = engine.encode_image(np.array(grey().convert('RGB')))
    found = engine.locate(engine.encode_image(image), ['the red ball'], 2)  # type: ignore[arg-type]
    assert found == engine.locate(plain, ['the red ball'], 2)
    assert before is None or np.array_equal(before, image)
