"""Messages in and out; whatever an image claims, only BadImage comes of it."""

import io
import math
import sys
import types

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
from PIL import Image as Pillow
import pytest
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from kosmos_ros.engine.base import ScoredBox
from kosmos_ros.errors import BadImage, EngineError
from kosmos_ros.limits import Limits
from kosmos_ros.model.boxes import Box
from kosmos_ros.node.conversion.detections import Detection, check_boxes, detections_message
from kosmos_ros.node.conversion.images import (
    decode_compressed_image,
    decode_image,
    decode_raw_image,
    image_message,
)
from kosmos_ros.node.conversion.stamped_image import DecodedImage
from kosmos_ros.node.conversion.text import one_line

LIMITS = Limits()
RGB = np.random.default_rng(5).integers(0, 256, (6, 8, 3), np.uint8)


def message(array: np.ndarray = RGB, encoding: str = 'rgb8', **changed: object) -> Image:
    result = image_message(array, encoding, Header(frame_id='eye'))
    for name, value in changed.items():
        setattr(result, name, value)
    return result


def with_alpha(rgb: np.ndarray) -> np.ndarray:
    return np.concatenate([rgb, np.full((*rgb.shape[:2], 1), 9, np.uint8)], axis=2)


@pytest.mark.parametrize(
    ('encoding', 'array'),
    [
        ('rgb8', RGB),
        ('bgr8', RGB[:, :, ::-1]),
        ('rgba8', with_alpha(RGB)),
        ('bgra8', with_alpha(RGB[:, :, ::-1])),
    ],
)
def test_usual_encodings(encoding: str, array: np.ndarray) -> None:
    image = decode_raw_image(message(array, encoding), LIMITS)
    assert np.array_equal(image.pixels, RGB)
    assert image.pixels.flags.c_contiguous
    assert image.header.frame_id == 'eye'
    assert (image.width, image.height) == (8, 6)


def test_mono8() -> None:
    image = decode_raw_image(message(RGB[:, :, 0], 'mono8'), LIMITS)
    assert np.array_equal(image.pixels, np.repeat(RGB[:, :, :1], 3, axis=2))


def test_padded_rows_and_spare_bytes() -> None:
    padded = np.zeros((6, 30), np.uint8)
    padded[:, :24] = RGB.reshape(6, 24)
    data = padded.tobytes() + b'spare'
    image = decode_raw_image(message(step=30, data=data), LIMITS)
    assert np.array_equal(image.pixels, RGB)


def test_byte_order_means_nothing_for_bytes() -> None:
    assert np.array_equal(decode_raw_image(message(is_bigendian=1), LIMITS).pixels, RGB)


@pytest.mark.parametrize(
    ('changed', 'word'),
    [
        ({'data': bytes(143)}, '143 bytes'),
        ({'data': b''}, '0 bytes'),
        ({'step': 0}, 'step of 0'),
        ({'step': 23}, 'step of 23'),
        ({'step': 25}, 'step x height'),
        ({'width': 9}, 'step'),
        ({'height': 7}, 'step x height'),
        ({'width': 0}, 'no pixels'),
        ({'height': 0}, 'no pixels'),
        ({'width': 10_000, 'height': 10_000}, '100 megapixels'),
        ({'width': 2**32 - 1, 'height': 2**32 - 1, 'step': 2**32 - 1}, 'megapixels'),
    ],
)
def test_lies(changed: dict[str, object], word: str) -> None:
    with pytest.raises(BadImage, match=word):
        decode_raw_image(message(**changed), LIMITS)


def test_other_encodings_name_the_cure() -> None:
    with pytest.raises(BadImage, match=r"'bayer_rggb8' needs cv_bridge.*rgb8, bgr8"):
        decode_raw_image(message(encoding='bayer_rggb8'), LIMITS)


def test_cv_bridge_is_used_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    class CvBridge:
        def imgmsg_to_cv2(self, asked: Image, encoding: str) -> np.ndarray:
            assert encoding == 'rgb8'
            if asked.encoding == 'yuv422':
                raise TypeError('buffer is too small for requested array')
            return RGB

    module = types.ModuleType('cv_bridge')
    module.CvBridge = CvBridge  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, 'cv_bridge', module)
    image = decode_raw_image(message(encoding='bayer_rggb8'), LIMITS)
    assert np.array_equal(image.pixels, RGB)
    with pytest.raises(BadImage, match='too small'):
        decode_raw_image(message(encoding='yuv422'), LIMITS)
    with pytest.raises(BadImage, match='does not make RGB'):
        decode_raw_image(message(encoding='bayer_rggb8', height=5), LIMITS)
    with pytest.raises(BadImage, match='fit together'):
        decode_raw_image(message(encoding='bayer_rggb8', data=b''), LIMITS)


UINT32 = st.one_of(st.integers(0, 40), st.integers(0, 2**32 - 1))
ENCODINGS = st.one_of(
    st.sampled_from(['rgb8', 'bgr8', 'rgba8', 'bgra8', 'mono8', '16UC1', '8UC3', 'bayer_rggb8']),
    st.text(max_size=12),
)


@settings(max_examples=2000, deadline=None)
@given(UINT32, UINT32, UINT32, ENCODINGS, st.integers(0, 255), st.binary(max_size=4000))
def test_only_bad_image_comes_out(
    width: int, height: int, step: int, encoding: str, big: int, data: bytes
) -> None:
    fields = {'width': width, 'height': height, 'step': step, 'is_bigendian': big}
    odd = Image(encoding=encoding, data=data, **fields)
    try:
        image = decode_raw_image(odd, Limits(max_pixels=10_000))
    except BadImage:
        return
    assert image.pixels.shape == (height, width, 3)
    assert image.pixels.dtype == np.uint8


def compressed(picture: Pillow.Image, kind: str = 'PNG', **options: object) -> CompressedImage:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return CompressedImage(format='whatever', data=buffer.getvalue())


@pytest.mark.parametrize('mode', ['RGB', 'RGBA', 'L', 'LA', 'P', '1'])
def test_png_modes(mode: str) -> None:
    picture = Pillow.fromarray(RGB).convert(mode)
    image = decode_compressed_image(compressed(picture), LIMITS)
    assert np.array_equal(image.pixels, np.asarray(picture.convert('RGB')))


@pytest.mark.parametrize('mode', ['RGB', 'L', 'CMYK'])
def test_jpeg_modes(mode: str) -> None:
    picture = Pillow.new(mode, (32, 16), 'red' if mode != 'L' else 120)
    image = decode_compressed_image(compressed(picture, 'JPEG', quality=95), LIMITS)
    assert image.pixels.shape == (16, 32, 3)
    expected = np.asarray(picture.convert('RGB')).astype(int)
    assert np.abs(image.pixels.astype(int) - expected).max() < 12


def test_sixteen_bits_are_scaled_not_cut() -> None:
    grey = np.arange(48, dtype=np.uint16).reshape(6, 8) * 1300
    image = decode_compressed_image(compressed(Pillow.fromarray(grey)), LIMITS)
    assert np.array_equal(image.pixels[:, :, 0], (grey >> 8).astype(np.uint8))


def test_orientation_tags_are_ignored() -> None:
    exif = Pillow.Exif()
    exif[0x0112] = 6
    picture = Pillow.new('RGB', (32, 16))
    image = decode_compressed_image(compressed(picture, 'JPEG', exif=exif), LIMITS)
    assert (image.width, image.height) == (32, 16)


def test_a_large_picture_is_refused_before_it_is_decoded() -> None:
    bomb = compressed(Pillow.new('1', (8_000, 8_000)))
    with pytest.raises(BadImage, match='64 megapixels'):
        decode_image(bomb, LIMITS)


@pytest.mark.parametrize('kind', ['GIF', 'BMP', 'TIFF', 'WEBP'])
def test_other_formats_are_refused(kind: str) -> None:
    with pytest.raises(BadImage, match='is no picture; use one of JPEG, PNG'):
        decode_image(compressed(Pillow.fromarray(RGB), kind), LIMITS)


@settings(max_examples=400, deadline=None)
@given(st.data(), st.sampled_from(['PNG', 'JPEG']))
def test_damaged_files(data: st.DataObject, kind: str) -> None:
    whole = bytearray(compressed(Pillow.fromarray(np.tile(RGB, (8, 8, 1))), kind).data)
    cut = data.draw(st.integers(0, len(whole)))
    places = st.integers(0, len(whole) - 1)
    damage = data.draw(st.dictionaries(places, st.integers(0, 255), max_size=8))
    for place, value in damage.items():
        whole[place] = value
    try:
        image = decode_image(CompressedImage(data=bytes(whole[:cut])), Limits(max_pixels=100_000))
    except BadImage:
        return
    assert image.pixels.ndim == 3


def test_photos(shared_data) -> None:
    for path in sorted(shared_data.glob('*.[jp][pn]g')):
        with Pillow.open(path) as photo:
            expected = np.asarray(photo.convert('RGB'))
        image = decode_image(CompressedImage(data=path.read_bytes()), LIMITS)
        assert np.array_equal(image.pixels, expected)


FRAME = DecodedImage(np.zeros((100, 200, 3), np.uint8), Header(frame_id='eye'))


def test_detections_are_in_the_image_s_pixels() -> None:
    located = ScoredBox(Box(0.1, 0.2, 0.5, 1.0), 0.75)
    array = detections_message([Detection('the cup', located)], FRAME)
    assert array.header.frame_id == 'eye'
    (detection,) = array.detections
    assert detection.header == array.header
    box = detection.bbox
    numbers = (box.center.position.x, box.center.position.y, box.size_x, box.size_y)
    assert numbers == pytest.approx((60, 60, 80, 80))
    assert box.center.theta == 0
    (result,) = detection.results
    assert (result.hypothesis.class_id, result.hypothesis.score) == ('the cup', 0.75)


NUMBERS = st.one_of(
    st.floats(-2, 2), st.floats(), st.sampled_from([0.0, -0.0, 1.0, math.nan, math.inf])
)


@settings(max_examples=1000, deadline=None)
@given(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS), max_size=4))
def test_no_senseless_number_is_published(rows: list[tuple[float, ...]]) -> None:
    located = [ScoredBox(Box(*row[:4]), row[4]) for row in rows]
    try:
        inside = check_boxes(located)
    except EngineError:
        return
    array = detections_message([Detection('x', one) for one in inside], FRAME)
    for detection in array.detections:
        box, centre = detection.bbox, detection.bbox.center.position
        assert 0 < box.size_x <= 200
        assert 0 < box.size_y <= 100
        assert 0 <= centre.x <= 200
        assert 0 <= centre.y <= 100
        assert 0 <= detection.results[0].hypothesis.score <= 1


@given(st.text())
def test_one_line_is_printable_and_can_be_sent(text: str) -> None:
    shown = one_line(text)
    assert shown.isprintable()
    assert len(shown.encode()) >= len(text[:400])


def test_one_line_of_half_a_surrogate() -> None:
    assert one_line('a\udce4\x1b[0m\n') == 'a\\xdce4\\x1b[0m\\x0a'


def test_little_endian_depth() -> None:
    depth = np.array([[1, 258]], '>u2')
    sent = image_message(depth, '16UC1', Header())
    assert bytes(sent.data) == b'\x01\x00\x02\x01'
    assert sent.step == 4
