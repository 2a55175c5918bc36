"""Pixels against the official image processor."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
import pytest
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from kosmos_ros.model.preprocess import MEAN, STD, pixels_from_image

STEP = 1 / 255 / STD.min()


def official(image: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.float32]:
    """Process as the released checkpoint does: resized, not cropped."""
    processor = CLIPImageProcessorPil(
        size={'height': size, 'width': size}, do_center_crop=False, do_convert_rgb=True
    )
    result = processor(Image.fromarray(image), return_tensors='np')['pixel_values']
    return np.asarray(result)


@pytest.mark.parametrize(
    'name',
    [
        'carnaby_street.jpg',
        'corgi.jpg',
        'man_ball.png',
        'six_planes.png',
        'snowman.png',
        'two_dogs.jpg',
    ],
)
def test_equals_the_official_processor_on_photos(shared_data: Path, name: str) -> None:
    image = np.array(Image.open(shared_data / name).convert('RGB'))
    ours = pixels_from_image(image, 224)
    assert np.abs(ours - official(image, 224)).max() < 1e-5 < STEP


@pytest.mark.parametrize('shape', [(480, 640), (1, 1), (3, 900), (224, 224), (100, 50)])
@pytest.mark.parametrize('size', [56, 224])
def test_equals_the_official_processor_on_noise(shape: tuple[int, int], size: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    ours = pixels_from_image(image, size)
    assert ours.shape == (1, 3, size, size)
    assert ours.dtype == np.float32
    assert ours.flags.c_contiguous
    assert np.abs(ours - official(image, size)).max() < 1e-5


def test_values() -> None:
    white = pixels_from_image(np.full((4, 4, 3), 255, np.uint8), 8)
    assert white[0, :, 0, 0] == pytest.approx((1 - MEAN) / STD)
    black = pixels_from_image(np.zeros((4, 4, 3), np.uint8), 8)
    assert black[0, :, 0, 0] == pytest.approx(-MEAN / STD)


def test_views_and_read_only_images() -> None:
    """Cameras send padded rows, reversed channels and read-only memory."""
    padded = np.random.default_rng(1).integers(0, 256, (40, 50, 4), dtype=np.uint8)
    padded.flags.writeable = False
    for view in (padded[..., :3], padded[:, 5:45, 2::-1], padded[::-1, :, :3]):
        expected = pixels_from_image(view.copy(), 28)
        assert np.array_equal(pixels_from_image(view, 28), expected)


@pytest.mark.parametrize(
    'image',
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 0, 3), np.uint8),
    ],
)
def test_other_arrays_are_refused(image: npt.NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match='expected RGB uint8'):
        pixels_from_image(image, 28)
