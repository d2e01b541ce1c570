"""Lays out a moment of an episode as a picture: the world, what is to be done, and the numbers of
what is done.

task                                   ← a line over all scenes, or two
title              time | title  time  ← a panel for each scene (before | after adaptation)
[        world        ] | [  world  ]  ← in its corner what has changed in the episode until now
velocity 1.21    return | ...
▬▬▬▬▬▬▬▬▬▏target        | ...          ← a gauge where the task has a target for one of the numbers
0     1     2 m/s       | ...
prediction error ⌇⌇⌇⌇   | ...          ← a curve over the episode of what the learner measures of its steps

A film has letters of two sizes: those of what is to be done, and those of all else.
"""

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import field
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from metarl.struct import struct

UNITS = {"velocity": "m/s", "distance": "m"}  # of our environments' terms
CURVE_LINES = 3  # lines of text that a curve takes, the first of them for its name
LETTERS = 0.625  # size of letters in lines of text
GAUGE_LINES = 1.7  # of a gauge, the most of them for the numbers of its scale

PAPER, INK, FAINT, TRACK = (24, 27, 31), (242, 244, 246), (160, 167, 175), (64, 70, 78)
# Sky blue and orange of Okabe and Ito (2008), 10:1 and 8:1 on the paper
VALUE, MARK = (
    (86, 180, 233),
    (240, 160, 30),
)


@struct
class Shot:
    """One world at one moment."""

    picture: np.ndarray  # [H, W, 3] uint8
    moment: str  # since the start of the episode: "1.25 s" or "step 25"
    reward_so_far: float
    # Of the step that led here; of yes or no, whether it was so in the episode until now
    terms: dict[str, float | bool]
    over: bool  # the episode ended earlier; what is shown is its last moment
    # What the learner measures of its steps
    curves: "dict[str, Curve]" = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=lambda: UNITS)  # of the terms, by name
    changes: Mapping[str, int] = field(default_factory=dict)  # what happens -> at which step
    num_steps: int = 0  # so far


@struct
class Curve:
    """A number over the episode so far, drawn from 0 to 1."""

    values: tuple[float, ...]  # one for each step so far
    num_steps: int  # of a whole episode: how many values the width has room for


@struct
class Gauge:
    """A term of the step that the task has a target for, and the range to draw."""

    target: float
    low: float
    high: float


def frame(
    shots: Mapping[str, Shot],
    *,
    task: str,
    gauges: Mapping[str, Gauge],
    tasks: Sequence[str] = (),
) -> np.ndarray:
    """The scenes of one task side by side, [H', W', 3] uint8 with even H' and W'.

    Args:
      shots: title of the scene -> its shot, pictures of one size.
      gauges: by the name of the term.
      tasks: all tasks of the film, which are written in letters of one size; none: this one.
    """
    panels = [_panel(title, shot, gauges) for title, shot in shots.items()]
    width, height = panels[0].size
    # At least as high as two lines of the smallest letters.
    gap, head = _even(width / 60), max(_even(width / 10), 24)
    whole = Image.new("RGB", (len(panels) * width + (len(panels) - 1) * gap, head + height), PAPER)
    text, font = _headline(task, (task, *tasks), width=0.96 * whole.width, height=head)
    ImageDraw.Draw(whole).text(
        (whole.width / 2, head / 2), text, INK, font, anchor="mm", align="center", spacing=head / 12
    )
    for index, panel in enumerate(panels):
        whole.paste(panel, (index * (width + gap), head))
    return np.asarray(whole)


def grid(frames: Sequence[np.ndarray], *, max_width: int = 1920) -> np.ndarray:
    """Frames of one size, row by row, in about the shape of a screen, scaled down to at most
    `max_width`; even sides. What is too few for a row stands in its middle."""
    height, width = frames[0].shape[:2]
    columns = _num_columns(len(frames), width / height)
    rows = -(-len(frames) // columns)
    gap = _even(width / 60)
    scale = min(1.0, (max_width - (columns - 1) * gap) / (columns * width))
    cell = (_even(width * scale), _even(height * scale))
    # Another colour than the frames', so that one sees where a task ends.
    whole = Image.new("RGB", (columns * (cell[0] + gap) - gap, rows * (cell[1] + gap) - gap), TRACK)
    for index, picture in enumerate(frames):
        small = Image.fromarray(picture).resize(cell, Image.Resampling.LANCZOS)
        row, column = divmod(index, columns)
        missing = columns - min(columns, len(frames) - row * columns)
        left = missing * (cell[0] + gap) // 2 + column * (cell[0] + gap)
        whole.paste(small, (left, row * (cell[1] + gap)))
    return np.asarray(whole)


def _num_columns(count: int, aspect: float) -> int:
    """Returns the number of columns that comes closest to 16:9, where every empty cell counts as
    its share of the frames."""

    def cost(columns: int) -> float:
        rows = -(-count // columns)
        return abs(math.log(columns * aspect / rows / (16 / 9))) + (columns * rows - count) / count

    return min(range(1, count + 1), key=cost)


@cache
def _headline(
    text: str, among: tuple[str, ...], *, width: float, height: float
) -> tuple[str, ImageFont.FreeTypeFont]:
    """The text, on two lines where those can be the larger ones, and the largest letters with which
    all of `among` have room."""

    def size(layout: str) -> tuple[float, float]:
        """Returns the size of the letters, and what is left beside the longest line. The largest
        wins: of layouts with equal letters it is the one whose lines are most alike."""
        lines = layout.split("\n")
        highest = height * (0.5 if len(lines) == 1 else 0.4)
        widest = max(1.0, *(letters(highest, bold=True).getlength(line) for line in lines))
        return highest * min(1.0, width / widest), width - widest

    def best(of: str) -> str:
        return max(_layouts(of), key=size)

    # Rounded up it would have no room.
    font = letters(int(min(size(best(each))[0] for each in among)), bold=True)
    # One line is enough where the letters of another text leave it room.
    layout = text if font.getlength(text) <= width else best(text)
    return "\n".join(shortened(line, width, font) for line in layout.split("\n")), font


def _layouts(text: str) -> list[str]:
    """Returns the text on one line and on two, parted after a comma or a colon outside of brackets;
    without such a sign, between two words."""

    def parted_after(signs: str) -> list[str]:
        return [
            f"{text[: at + 1].rstrip()}\n{text[at + 1 :].lstrip()}"
            for at, sign in enumerate(text[:-1])
            if sign in signs and text.count("(", 0, at) == text.count(")", 0, at)
        ]

    return [text, *(parted_after(",:") or parted_after(" "))]


def shortened(text: str, width: float, font: ImageFont.FreeTypeFont) -> str:
    """The text, or what has room of it, with an ellipsis for the rest."""
    shown = text
    while len(shown) > 1 and font.getlength(shown) > width:
        shown = shown[:-2].rstrip() + "…"
    return shown


def _panel(title: str, shot: Shot, gauges: Mapping[str, Gauge]) -> Image.Image:
    height, width = shot.picture.shape[:2]
    line, margin = line_height(width), width / 40
    below_numbers = GAUGE_LINES * len(gauges) + (CURVE_LINES + 0.2) * len(shot.curves)
    foot = line * (1 + below_numbers) + margin
    whole = Image.new("RGB", (_even(width), _even(line + height + foot)), PAPER)
    draw = ImageDraw.Draw(whole)
    small, middle = text_letters(width), line / 2
    clock = shot.moment + (", over" if shot.over else "")
    draw.text((width - margin, middle), clock, FAINT, small, anchor="rm")
    room = width - 3 * margin - draw.textlength(clock, small)
    draw.text((margin, middle), shortened(title, room, small), INK, small, anchor="lm")
    picture = Image.fromarray(shot.picture)
    whole.paste(
        Image.blend(picture, Image.new("RGB", picture.size, PAPER), 0.4) if shot.over else picture,
        (0, round(line)),
    )
    _write_changes(draw, shot, left=0, top=round(line), width=width, line=line)
    baseline = line + height + line * 0.6
    total = f"return {_signed(shot.reward_so_far, 1)}"
    room = width - 3 * margin - draw.textlength(total, small)
    numbers = _numbers(shot.terms, shot.units, room, small)
    draw.text((margin, baseline), numbers, INK, small, anchor="lm")
    draw.text((width - margin, baseline), total, INK, small, anchor="rm")
    for row, (name, gauge) in enumerate(gauges.items()):
        _draw_gauge(
            draw,
            gauge,
            shot.terms.get(name, 0.0),
            shot.units.get(name, ""),
            left=margin,
            right=width - margin,
            y=baseline + line * (GAUGE_LINES * row + 0.85),
            line=line,
        )
    top = baseline + line * (GAUGE_LINES * len(gauges) + 0.5)
    for name, curve in shot.curves.items():
        _draw_curve(
            *(draw, name, curve, shot.changes.values()),
            left=margin,
            right=width - margin,
            top=top,
            line=line,
        )
        top += line * (CURVE_LINES + 0.2)
    return whole


def _write_changes(
    draw: ImageDraw.ImageDraw, shot: Shot, *, left: float, top: float, width: float, line: float
) -> None:
    """Says in the picture's corner what has changed, from that step on."""
    for name, step in shot.changes.items():
        if shot.num_steps < step:
            continue
        font = text_letters(width)
        text = shortened(f"{name.replace('_', ' ')} at step {step}", width - line, font)
        right = left + draw.textlength(text, font) + 0.8 * line
        draw.rectangle((left, top, right, top + line), PAPER)
        draw.text((left + 0.4 * line, top + line / 2), text, MARK, font, anchor="lm")
        top += line


def _draw_curve(
    draw: ImageDraw.ImageDraw,
    name: str,
    curve: Curve,
    marked: Collection[int],
    *,
    left: float,
    right: float,
    top: float,
    line: float,
) -> None:
    """The name and the last value above the curve, an upright line at each of the `marked` steps;
    what is beyond 1 runs along the top."""
    last = _signed(curve.values[-1], 2) if curve.values else ""
    font = letters(line * LETTERS)
    room = right - left - draw.textlength(f" {last}", font)
    draw.text((left, top + line / 2), shortened(name, room, font), INK, font, anchor="lm")
    draw.text((right, top + line / 2), last, VALUE, font, anchor="rm")
    bottom, height = top + line * CURVE_LINES, line * (CURVE_LINES - 1)

    def point(step: int, value: float) -> tuple[float, float]:
        return left + (right - left) * step / curve.num_steps, bottom - height * min(
            max(value, 0.0), 1.0
        )

    for level, colour in ((0.0, FAINT), (1.0, TRACK)):
        draw.line([point(0, level), point(curve.num_steps, level)], colour, 1)
    for step in marked:
        draw.line([point(step, 0.0), point(step, 1.0)], MARK, max(1, round(line / 16)))
    points = [point(step + 1, value) for step, value in enumerate(curve.values)]
    if len(points) > 1:
        draw.line(points, VALUE, max(1, round(line / 16)))


def _draw_gauge(
    draw: ImageDraw.ImageDraw,
    gauge: Gauge,
    value: float,
    unit: str,
    *,
    left: float,
    right: float,
    y: float,
    line: float,
) -> None:
    """A bar from 0 to the value above its scale, and a mark at the target."""

    def x(number: float) -> float:
        share = (number - gauge.low) / (gauge.high - gauge.low)
        return left + (right - left) * min(max(share, 0.0), 1.0)

    thick = line * 0.16
    draw.rounded_rectangle((left, y - thick, right, y + thick), thick, TRACK)
    font = letters(line * LETTERS)
    numbers, digits = _scale(gauge, right - left, font)
    below, foot = y + 2 * thick, y + line * 0.9  # ends of marks, and what the numbers stand on
    after = right  # where what stands to the right of a number begins
    for number in reversed(numbers):
        at, text = x(number), _signed(number, digits)
        draw.line((at, y + thick, at, below), FAINT, max(1, round(line / 24)))
        half = draw.textlength(text, font) / 2
        at = min(max(at, left + half), right - half)
        draw.text((at, foot), text, FAINT, font, anchor="ms")
        # The unit stands once, behind the last number that leaves it room.
        if unit and at + half + draw.textlength(f" {unit}", font) <= after:
            draw.text((at + half, foot), f" {unit}", FAINT, font, anchor="ls")
            unit = ""
        after = at - half - line / 4
    zero = x(0.0)
    draw.rectangle((zero - thick / 4, y - 2.4 * thick, zero + thick / 4, below), FAINT)
    start, end = sorted((zero, x(value)))
    draw.rectangle((start, y - thick, end, y + thick), VALUE)
    target = x(gauge.target)
    draw.rectangle((target - thick / 2, y - 2.4 * thick, target + thick / 2, below), MARK)


def _scale(gauge: Gauge, width: float, font: ImageFont.FreeTypeFont) -> tuple[list[float], int]:
    """Returns the multiples of 1, 2 or 5 times a power of ten that stand at a gauge of this many
    points, as close as they can be read, and their digits after the point."""
    reach = gauge.high - gauge.low
    start = math.floor(math.log10(reach)) - 1
    for power, factor in itertools.product(range(start, start + 3), (1, 2, 5)):
        step, digits = factor * 10.0**power, max(0, -power)
        # With 9 digits, for 0.3 / 0.1 is a little less than 3.
        first, last = math.ceil(round(gauge.low / step, 9)), math.floor(round(gauge.high / step, 9))
        numbers = [step * index for index in range(first, last + 1)]
        widest = max((font.getlength(_signed(number, digits)) for number in numbers), default=0.0)
        # A step takes a number and as much room again.
        if 2 * widest <= width * step / reach:
            break
    return numbers, digits


def _numbers(
    terms: Mapping[str, float | bool],
    units: Mapping[str, str],
    room: float,
    font: ImageFont.FreeTypeFont,
) -> str:
    """The terms as text, as many as have room, without the costs: they are small, and the return
    has them."""

    def text(name: str, value: float | bool) -> str:
        word = (
            ("no", "yes")[value]
            if isinstance(value, bool)
            else f"{_signed(value, 2)} {units.get(name, '')}"
        )
        return f"{name.replace('_', ' ')} {word}".rstrip()

    shown = {name: value for name, value in terms.items() if not name.endswith("_cost")}
    texts = [text(name, value) for name, value in shown.items()]
    while texts and font.getlength("   ".join(texts)) > room:
        texts.pop()
    return "   ".join(texts)


def _signed(value: float, digits: int) -> str:
    return f"{value:z.{digits}f}".replace("-", "\N{MINUS SIGN}")


def line_height(width: float) -> float:
    """The height of a line of text in a panel of this width."""
    return width / 15


def text_letters(width: float) -> ImageFont.FreeTypeFont:
    """The letters of all text in a panel of this width."""
    return letters(line_height(width) * LETTERS)


@cache
def letters(size: float, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings along: the same letters on every machine."""
    import matplotlib

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(
        str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), max(8, round(size))
    )


def _even(size: float) -> int:
    """yuv420p has one colour value for 2 x 2 points."""
    return max(2, 2 * round(size / 2))
