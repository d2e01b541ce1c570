"""What is read of a picture is what a viewer shows, in every mode and bit depth; what can't be read
is said in a line."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from metarl.fewshot.picture_pixels import is_picture, pixels, shown

GREY = np.arange(256, dtype=np.uint8).reshape(16, 16)  # every shade once
INK = Image.merge(
    "LA", (Image.new("L", (16, 16), 0), Image.fromarray(255 - GREY))
)  # black, on white the same shades
DEEP = GREY.astype(np.uint16) * 257  # 65535 / 255 = 257
LAB = ImageCms.buildTransform(
    ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
)


def saved(picture, kind: str, **options) -> bytes:
    file = io.BytesIO()
    picture = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    picture.save(file, kind, **options)
    return file.getvalue()


def read(content: bytes) -> np.ndarray:
    return np.asarray(shown(content, grey=True)[0]).astype(int)


def in_rgb(kind: str) -> Image.Image:
    return Image.fromarray(GREY).convert("RGB").convert(kind)


SHADES = {
    "L": (GREY, "PNG", {}),
    "RGB": (in_rgb("RGB"), "PPM", {}),
    "P": (Image.fromarray(GREY).convert("P"), "PNG", {}),
    "CMYK": (in_rgb("CMYK"), "TIFF", {}),
    "CMYK of a JPEG": (in_rgb("CMYK"), "JPEG", {"quality": 100}),
    "YCbCr": (in_rgb("YCbCr"), "TIFF", {}),
    "LAB": (ImageCms.applyTransform(in_rgb("RGB"), LAB), "TIFF", {}),
    "LA": (INK, "PNG", {}),
    "RGBA": (INK.convert("RGBA"), "PNG", {}),
    "RGBA of a TIFF": (INK.convert("RGBA"), "TIFF", {}),
    "RGBA of a WebP": (INK.convert("RGBA"), "WEBP", {"lossless": True}),
    "16 bits": (DEEP, "PNG", {}),
    "16 bits of a TIFF": (DEEP, "TIFF", {}),
    "16 bits of a TIFF, white is zero": (65535 - DEEP, "TIFF", {"tiffinfo": {262: 0}}),
    "16 bits of a PGM": (DEEP, "PPM", {}),
    "32 bits up to 255": (GREY.astype(np.int32), "TIFF", {}),
    "32 bits up to 65535": (DEEP.astype(np.int32), "TIFF", {}),
    "32 bits, measurements": (GREY.astype(np.int32) * 4000 - 300_000, "TIFF", {}),
    "floats up to 1": (GREY.astype(np.float32) / 255, "TIFF", {}),
    "floats up to 255": (GREY.astype(np.float32), "TIFF", {}),
    "floats, measurements": (GREY.astype(np.float32) * 1e6 - 3e6, "TIFF", {}),
}


@pytest.mark.parametrize("name", SHADES)
def test_shades_are_those_that_were_drawn(name):
    picture, kind, options = SHADES[name]
    # JPEG, YCbCr and LAB round: by a unit or two.
    tolerance = 2 if name in ("CMYK of a JPEG", "YCbCr", "LAB") else 0
    assert np.abs(read(saved(picture, kind, **options)) - GREY).max() <= tolerance


def test_floats_that_overshoot_a_little_or_are_no_numbers_keep_their_scale():
    values = GREY.astype(np.float32) / 255
    values[0, 0], values[0, 1], values[15, 15] = np.nan, -0.1, 1.1
    expected = GREY.copy()
    expected[0, 1] = 0
    assert np.array_equal(read(saved(values, "TIFF")), expected)


def test_one_bit_pictures_are_black_and_white():
    two = GREY > 100
    assert np.array_equal(read(saved(two, "PNG")), 255 * two) and np.array_equal(
        read(saved(two, "TIFF")), 255 * two
    )


def test_transparent_entries_of_a_palette_are_white():
    picture = Image.fromarray(GREY).convert("P")
    picture.putpalette([0] * 768)
    assert np.array_equal(read(saved(picture, "PNG", transparency=(255 - GREY).tobytes())), GREY)
    of_a_gif = read(saved(picture, "GIF", transparency=7))
    assert of_a_gif.reshape(-1)[7] == 255 and of_a_gif.sum() == 255


def png(depth: int, colour: int, row: bytes, transparent: bytes) -> bytes:
    """One row of four pixels, of which one value is transparent."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 4, 1, depth, colour, 0, 0, 0)
    parts = {
        b"IHDR": header,
        b"tRNS": transparent,
        b"IDAT": zlib.compress(b"\0" + row),
        b"IEND": b"",
    }
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, data) for kind, data in parts.items())


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (png(1, 0, bytes([0b0100_0000]), b"\0\0"), [255, 255, 255, 255]),
        (
            png(2, 0, bytes([0b00_01_10_11]), b"\0\1"),
            [0, 255, 170, 255],
        ),  # 0, 1, 2, 3 are 0, 85, 170, 255.
        (png(4, 0, bytes([0x0F, 0x2F]), b"\0\2"), [0, 255, 255, 255]),
        (png(8, 0, bytes([0, 7, 9, 10]), b"\0\7"), [0, 255, 9, 10]),
        (
            png(16, 0, struct.pack(">4H", 0, 257, 514, 65535), struct.pack(">H", 257)),
            [0, 255, 2, 255],
        ),
        (
            png(8, 2, bytes([0] * 3 + [7] * 3 + [9] * 6), struct.pack(">3H", 7, 7, 7)),
            [0, 255, 9, 9],
        ),
        (
            png(
                16,
                2,
                struct.pack(">12H", *[0] * 3, *[0x0703] * 3, *[2313] * 6),
                struct.pack(">3H", *[0x0703] * 3),
            ),
            [0, 255, 9, 9],
        ),
    ],
    ids=["1 bit", "2 bits", "4 bits", "8 bits", "16 bits", "RGB", "RGB of 16 bits"],
)
def test_a_transparent_value_is_white_in_every_bit_depth(content, expected):
    assert read(content).tolist() == [expected]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_stand_upright_as_the_file_says(kind, orientation):
    scene = np.zeros((32, 48), dtype=np.uint8)
    scene[:16, :16], scene[:16, 16:32] = 255, 128  # upper left, and right of it
    # How the camera wrote the scene: the inverse of what turns it upright, by the rows and columns
    # that EXIF 2.3 lists.
    written = {
        1: scene,
        2: scene[:, ::-1],
        3: scene[::-1, ::-1],
        4: scene[::-1],
        5: scene.T,
        6: scene.T[::-1],
        7: scene.T[::-1, ::-1],
        8: scene.T[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 100}, "WEBP": {"lossless": True}}.get(kind, {})
    found = read(saved(np.ascontiguousarray(written), kind, exif=exif, **options))
    assert found.shape == scene.shape and np.abs(found - scene).max() <= 2


def test_the_first_frame_is_taken_and_further_ones_are_noticed():
    frames = [Image.new("L", (4, 4), shade) for shade in (10, 200)]
    for kind in ("GIF", "TIFF", "PNG"):
        picture, has_more = pixels(
            saved(frames[0], kind, save_all=True, append_images=frames[1:]), 4, grey=True
        )
        assert has_more and set(picture.flatten().tolist()) == {10}
        assert not pixels(saved(frames[0], kind), 4, grey=True)[1]


def huge() -> bytes:
    content = png(1, 0, b"", b"\0\0")
    header = b"IHDR" + struct.pack(">IIBBBBB", 20_000, 18_000, 1, 0, 0, 0, 0)
    return content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]


NOISE = np.random.default_rng(0).integers(
    256, size=(400, 400), dtype=np.uint8
)  # more than a chunk of a PNG holds


def broken_chunk() -> bytes:
    first, second, rest = saved(NOISE, "PNG").split(b"IDAT", 2)
    return first + b"IDAT" + second + bytes(4) + rest


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "of no kind that Pillow reads"),
        (saved(NOISE, "PNG")[:50_000], "truncated"),
        (saved(NOISE, "JPEG")[:50_000], "truncated"),
        (huge(), "360000000 pixels"),
        (broken_chunk(), "broken PNG file"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "of no kind that Pillow reads"),
    ],
    ids=["empty", "half a PNG", "half a JPEG", "too large", "broken chunk", "EPS"],
)
def test_what_is_wrong_with_a_file_is_said_in_a_line(content, message):
    with pytest.raises(ValueError, match=message) as caught:
        shown(content, grey=False)
    assert "\n" not in str(caught.value)


def test_pictures_are_recognised_by_their_content():
    for content in (saved(GREY, "TIFF"), saved(GREY, "PPM"), saved(GREY, "PNG"), huge()):
        assert is_picture(io.BytesIO(content))
    for content in (b"", b"P3 of the notes", b"a,b\n1,2\n", bytes(300), b"BM", b"GIF89a"):
        assert not is_picture(io.BytesIO(content))
