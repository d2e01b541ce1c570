"""What a viewer shows of a picture, as bytes: upright as the file says, on white where it is
transparent.

Every mode and bit depth that Pillow reads is meant. Colours are as stored, without their ICC
profile.
"""

import io
import warnings
from functools import cache
from io import BufferedIOBase
from typing import BinaryIO, cast

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

# Drawn by another program (and what it does with a stranger's file is its own affair), or
# recognised but never read.
_NOT_READ = {"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG"}
# What is recognised by its content alone. Other kinds have no mark of their own: half of all files
# could be a TGA.
_MARKED = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "AVIF", "JPEG2000", "PSD", "QOI")
_NO_FRAMES = {"MPO", "PSD"}  # Their later frames are previews, or layers of the first.

_ORIENTATION = 0x0112  # the EXIF tag
_TO_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0  # of TIFF
_KEY_SCALE = {"L;2": 85, "L;4": 17}  # from a pixel in the file to the byte that Pillow makes of it


@cache
def _formats() -> dict[str, list[str]]:
    """The kinds of pictures that we read, each with the suffixes of its files."""
    suffixes = Image.registered_extensions()  # Imports all of Pillow's readers.
    return {
        name: [suffix for suffix, of in suffixes.items() if of == name]
        for name in Image.OPEN
        if name not in _NOT_READ
    }


@cache
def suffixes() -> frozenset[str]:
    """Returns the suffixes of files that are pictures by their name: `.png`, `.tif`, ..."""
    return frozenset(suffix for of_format in _formats().values() for suffix in of_format)


def is_picture(file: BufferedIOBase) -> bool:
    """Tells whether a file is a picture by its content, whatever it is called."""
    try:
        with warnings.catch_warnings(action="ignore"):
            Image.open(
                cast(BinaryIO, file), formats=[name for name in _MARKED if name in _formats()]
            )
    except Image.DecompressionBombError:
        return True  # Too large: who reads it is told so.
    except Exception:  # Whatever the reader of another kind of file stumbles over.
        return False
    return True


def pixels(content: bytes, size: int, *, grey: bool) -> tuple[np.ndarray, bool]:
    """[C, size, size] uint8 of the middle square, resized; and whether the file has further frames,
    which are left out.

    Args: grey: one channel instead of three.
    Raises: ValueError as `shown`.
    """
    picture, has_more = shown(content, grey=grey)
    side = min(picture.size)
    left, top = ((length - side) // 2 for length in picture.size)
    square = picture.crop((left, top, left + side, top + side)).resize(
        (size,) * 2, Image.Resampling.BILINEAR
    )
    array = np.asarray(square)
    return (array[None] if grey else array.transpose(2, 0, 1)), has_more


def shown(content: bytes, *, grey: bool) -> tuple[Image.Image, bool]:
    """The first frame in mode L or RGB, and whether there are further ones.

    Raises: ValueError saying what is wrong with the file.
    """
    try:
        # Pillow warns of odd metadata, which don't show, and of pictures that are large but are
        # read.
        with warnings.catch_warnings(action="ignore"):
            picture = Image.open(io.BytesIO(content), formats=list(_formats()))
            has_more = picture.format not in _NO_FRAMES and bool(
                getattr(picture, "is_animated", False)
            )
            return _upright(_opaque(picture), picture).convert("L" if grey else "RGB"), has_more
    except UnidentifiedImageError as error:
        raise ValueError("it is of no kind that Pillow reads") from error
    except Exception as error:  # The readers of some forty formats raise whatever comes.
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error


def _opaque(picture: Image.Image) -> Image.Image:
    """Returns the picture with 8 bits a channel, and white where it is transparent."""
    key = _transparent_key(picture)
    picture.load()
    if picture.mode[0] in "IF":  # I, I;16, I;16B, F
        values = np.asarray(picture).astype(np.float64)
        grey = _grey_bytes(picture, values)
        return Image.fromarray(
            grey if key is None else np.where(values == key, np.uint8(255), grey)
        )
    if picture.mode == "LAB":
        profiles = (ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"))
        in_rgb = ImageCms.applyTransform(picture, ImageCms.buildTransform(*profiles, "LAB", "RGB"))
        assert in_rgb is not None, "it isn't changed in place"
        return in_rgb
    if key is None and picture.mode not in ("LA", "La", "PA", "RGBA", "RGBa"):
        return picture
    if key is not None:
        picture.info["transparency"] = key
    if picture.mode == "La":
        picture = picture.convert("LA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))


def _transparent_key(picture: Image.Image) -> int | bytes | tuple[int, ...] | None:
    """Returns the value of the pixels that means transparent (of a palette: how opaque each is);
    None if there is none.

    PNG names it in the file's own bit depth, and so does Pillow, which reads the pixels as bytes.
    """
    key: int | bytes | tuple[int, ...] | None = picture.info.get("transparency")
    # Every file's picture has tiles, which its annotations don't know.
    raw = picture.tile[0][3] if picture.tile else None  # type: ignore[attr-defined]
    # No byte that stands for 1 to 15 is below 16.
    if isinstance(key, int) and isinstance(raw, str) and key < 16:
        return key * _KEY_SCALE.get(raw, 1)
    if isinstance(key, tuple) and raw == "RGB;16B":
        return tuple(value >> 8 for value in key)
    return key


def _grey_bytes(picture: Image.Image, values: np.ndarray) -> np.ndarray:
    """uint8 of whole or real numbers, [H, W].

    White is the largest number of the file's bit depth where that is known. Else it is the smallest
    of 1, 255 and 65535 that the numbers fit to, or, if none does, they are stretched from the
    lowest to the highest as viewers of measurements do.
    """
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    tags = getattr(picture, "tag_v2", {})
    if "16" in picture.mode:
        white = 2.0 ** tags.get(_BITS_PER_SAMPLE, (16,))[0] - 1
    elif picture.mode == "I" and picture.format in ("PNG", "PPM"):
        white = 65535.0
    else:
        # A quarter to either side: resampling overshoots.
        white = next(
            (w for w in (1.0, 255.0, 65535.0) if -0.25 * w <= low and high <= 1.25 * w), np.inf
        )
    black, white = (0.0, white) if np.isfinite(white) else (low, high)
    share = np.nan_to_num((values - black) / (white - black), nan=0.0).clip(0, 1)
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        share = 1 - share
    return (255 * share).round().astype(np.uint8)


def _upright(shown: Image.Image, picture: Image.Image) -> Image.Image:
    """Turned as the file's EXIF (or XMP) says. TIFFs are turned by Pillow when it reads them, which
    removes the tag."""
    try:
        orientation = picture.getexif().get(_ORIENTATION)
    except Exception:  # Broken metadata: a viewer shows the picture as it lies there.
        return shown
    return shown.transpose(_TO_UPRIGHT[orientation]) if orientation in _TO_UPRIGHT else shown
