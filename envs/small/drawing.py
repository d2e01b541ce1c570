"""What the drawings of worlds without physics share: a line above them that says what their colours
mean, and letters."""

from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]

BLUE, LIGHT_BLUE, GREEN, RED, ORANGE = (
    (40, 80, 200),
    (205, 222, 245),
    (60, 170, 80),
    (210, 70, 50),
    (230, 140, 30),
)
WHITE, GREY, INK = (255, 255, 255), (170, 170, 170), (40, 44, 52)
SMALLEST = 9  # px, of letters that one can read


def legend(meanings: Mapping[str, Colour], *, width: int, height: int) -> np.ndarray:
    """[h, width, 3] uint8, white: a square of each colour and what it means, to stand above a
    drawing; with it [height, width]. h is 0 where such a picture is too small for letters."""
    size = min(height / 20, 24.0)
    size *= min(1.0, 0.94 * width / _length(meanings, size))
    if size < SMALLEST:
        return np.zeros((0, width, 3), np.uint8)
    strip = Image.new("RGB", (width, round(1.8 * size)), WHITE)
    draw, middle = ImageDraw.Draw(strip), strip.height / 2
    x = (width - _length(meanings, size)) / 2
    for text, colour in meanings.items():
        draw.rectangle((x, middle - 0.4 * size, x + 0.8 * size, middle + 0.4 * size), colour, GREY)
        draw.text((x + 1.2 * size, middle), text, INK, _font(size), anchor="lm")
        x += _width(text, size)
    return np.asarray(strip)


def write(
    picture: np.ndarray, texts: Mapping[tuple[float, float], str], *, size: float
) -> np.ndarray:
    """The picture with texts around their middles (x, y) px, in letters of `size` px; as it is
    where they are too small."""
    if size < SMALLEST:
        return picture
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    for place, text in texts.items():
        draw.text(place, text, INK, _font(size), anchor="mm")
    return np.array(image)


def _length(meanings: Mapping[str, Colour], size: float) -> float:
    return sum(_width(text, size) for text in meanings) - size


def _width(text: str, size: float) -> float:
    """Returns the width of a square, its text and the gap after it."""
    return 2.2 * size + _font(size).getlength(text)


def _font(size: float) -> ImageFont.FreeTypeFont:
    # In whole sizes the letters stand well apart; of 0 there are none.
    font = ImageFont.load_default(max(int(size), 1))
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow was built without FreeType"
    return font
