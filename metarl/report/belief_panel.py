"""How a belief about the task is drawn beside the picture of a moment: how it moved over the
episode so far, or where the learner expects to be paid.

z1 ~~~~~~~▒▒▒~~~    ← μ as a line and μ ± σ as a band, in deviations of the prior
z2 ~~~▒▒▒▒~~~~~~
or a map of the states, each as bright as its chance to pay
"""

import math

import numpy as np
from PIL import Image, ImageDraw

from metarl.report.panels import (
    FAINT,
    INK,
    MARK,
    PAPER,
    TRACK,
    VALUE,
    letters,
    line_height,
    shortened,
    text_letters,
)
from metarl.rl.types import BatchedEnv, Belief
from metarl.struct import struct

REACH = 30.0
"""Deviations of the prior N(0, 1); what is beyond is drawn at the edge. Beliefs of a learner that
weighs the prior little go far: heights are as arsinh, so that 1 and 10 can both be seen."""
_BAND = (45, 96, 128)  # VALUE on PAPER, half of it


@struct
class BeliefSoFar:
    """What is believed at a moment of an episode, and what was before it."""

    mean: np.ndarray  # [t + 1, L], before the first step and after each so far
    deviation: np.ndarray  # [t + 1, L]
    num_steps: int  # of a whole episode: how many the width has room for
    chances: np.ndarray | None = None  # [columns, rows] of each state now; row 0 is at the bottom
    marked: tuple[int, ...] = ()  # steps at which something happens


def as_map(belief: Belief, world: int, env: BatchedEnv) -> np.ndarray | None:
    """[columns, rows] the chance of each state to pay, arranged as the environment's `map_shape`
    says, else in a row; None if the belief doesn't say."""
    if belief.chances is None:
        return None
    chances = belief.chances[world].cpu().numpy()
    columns, rows = getattr(env, "map_shape", (len(chances), 1))
    found: np.ndarray = chances[: columns * rows].reshape(columns, rows)
    return found


def beside(picture: np.ndarray, belief: BeliefSoFar) -> np.ndarray:
    """The picture [H, W, 3] with the belief to its right, [H, W', 3]: a square map, or curves of
    half its width."""
    height, width = picture.shape[:2]
    side = Image.new("RGB", (height if belief.chances is not None else width // 2, height), PAPER)
    _draw_belief(side, belief, width + side.width)
    return np.concatenate([picture, np.asarray(side)], axis=1)


def _draw_belief(side: Image.Image, belief: BeliefSoFar, panel_width: int) -> None:
    """Fills a picture with a belief under its title, in the letters of the panel's other text."""
    title = "belief: μ, ± σ" if belief.chances is None else "chance to pay, %"
    font, head = text_letters(panel_width), line_height(panel_width)
    title = shortened(title, side.width, font)
    ImageDraw.Draw(side).text((side.width / 2, head / 2), title, INK, font, anchor="mm")
    if belief.chances is None:
        _draw_curves(side, belief, head)
    else:
        _draw_map(side, belief.chances, head)


def _draw_curves(side: Image.Image, belief: BeliefSoFar, head: float) -> None:
    draw = ImageDraw.Draw(side)
    margin = side.width / 20
    num = belief.mean.shape[1]
    strip = (side.height - head - margin) / num
    for index in range(num):
        top = head + strip * index
        middle, half = top + strip / 2, strip * 0.44

        def at(step: int, value: float, middle: float = middle, half: float = half) -> tuple:
            along = margin + (side.width - 2 * margin) * step / belief.num_steps
            height = math.asinh(value) / math.asinh(REACH)
            return along, middle - half * min(max(height, -1.0), 1.0)

        draw.rectangle((*at(0, REACH), *at(belief.num_steps, -REACH)), outline=TRACK)
        mean, deviation = belief.mean[:, index], belief.deviation[:, index]
        if len(mean) > 1:
            above = [at(step, value) for step, value in enumerate((mean + deviation).tolist())]
            below = [at(step, value) for step, value in enumerate((mean - deviation).tolist())]
            draw.polygon([*above, *below[::-1]], fill=_BAND)
        draw.line([at(0, 0.0), at(belief.num_steps, 0.0)], FAINT, 1)
        for step in belief.marked:
            draw.line([at(step, REACH), at(step, -REACH)], MARK, max(1, round(side.height / 180)))
        if len(mean) > 1:
            line = [at(step, value) for step, value in enumerate(mean.tolist())]
            draw.line(line, VALUE, max(1, round(side.height / 180)))


def _draw_map(side: Image.Image, chances: np.ndarray, head: float) -> None:
    """A cell is as far from the paper's colour to that of values as the root of its chance is from
    0 to 1, as in the picture of a whole trial, so that small chances can be told apart; the chance
    stands in it in %."""
    draw = ImageDraw.Draw(side)
    columns, rows = chances.shape
    cell = min(side.width / (columns + 0.5), (side.height - head) / (rows + 0.5))
    left, bottom = (side.width - cell * columns) / 2, side.height - cell / 4
    for column in range(columns):
        for row in range(rows):
            chance = float(chances[column, row])
            corner = (left + cell * column, bottom - cell * (row + 1))
            colour = tuple(
                round(dark + (bright - dark) * math.sqrt(chance))
                for dark, bright in zip(PAPER, VALUE, strict=True)
            )
            opposite = (corner[0] + cell, corner[1] + cell)
            draw.rectangle((*corner, *opposite), colour, outline=TRACK)
            middle = (corner[0] + cell / 2, corner[1] + cell / 2)
            ink = PAPER if chance > 0.25 else INK
            draw.text(middle, f"{100 * chance:.0f}", ink, letters(cell * 0.45), anchor="mm")
