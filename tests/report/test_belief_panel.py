"""What is drawn of a belief beside the picture of a moment."""

from types import SimpleNamespace

import numpy as np
import torch

from metarl.report.belief_panel import BeliefSoFar, as_map, beside
from metarl.report.panels import MARK, PAPER, VALUE
from metarl.rl.types import Belief
from metarl.struct import replace

PICTURE = np.zeros((120, 160, 3), np.uint8)


def so_far(mean: list[float], chances: np.ndarray | None = None) -> BeliefSoFar:
    values = np.array(mean)[:, None]
    return BeliefSoFar(
        mean=values, deviation=np.full_like(values, 0.5), num_steps=10, chances=chances
    )


def test_the_picture_stays_and_the_belief_stands_to_its_right() -> None:
    whole = beside(PICTURE, so_far([0.0, 1.0]))
    assert whole.shape == (120, 240, 3) and not whole[:, :160].any()
    assert beside(PICTURE, so_far([0.0], np.zeros((5, 5)))).shape == (120, 280, 3)


def test_a_mean_is_drawn_as_far_up_as_it_is_high() -> None:
    def rows(value: float) -> np.ndarray:
        side = beside(PICTURE, so_far([value] * 11))[:, 160:]
        return np.nonzero((side == VALUE).all(-1).sum(1) > 40)[0]

    low, middle, high = (rows(value).mean() for value in (-2.0, 0.5, 2.0))
    assert high < middle < low
    # Of the strip's height, 88 % for −30 to 30, by their arsinh.
    share = np.arcsinh(2) / np.arcsinh(30)
    assert np.isclose(low - high, share * 0.88 * (120 - 10 - 4), atol=2)
    assert rows(500.0).size  # beyond the reach it is drawn at the edge


def test_a_map_has_the_brightest_cell_where_the_chance_is_highest() -> None:
    chances = np.zeros((3, 2))
    chances[2, 1] = 1.0  # to the right, above
    side = beside(PICTURE, so_far([0.0], chances))[:, 160:]
    bright = (side == VALUE).all(-1)
    rows, columns = np.nonzero(bright)
    assert columns.min() > 60 and rows.max() < 80
    assert (side == PAPER).all(-1).any()


def test_a_step_at_which_something_happens_is_marked_in_the_course_of_a_belief() -> None:
    belief = replace(so_far([0.0, 1.0]), marked=(5,))
    side = beside(PICTURE, belief)[:, 160:]
    columns = np.nonzero((side == MARK).all(-1).sum(0) > 40)[0]
    assert columns.tolist() == [40]  # half of ten steps, in a side of 80 points
    assert not (beside(PICTURE, so_far([0.0, 1.0])) == MARK).all(-1).any()


def test_states_are_arranged_as_the_environment_says() -> None:
    chances = torch.arange(8.0).expand(2, -1)
    belief = Belief(mean=torch.zeros(2, 1), deviation=torch.ones(2, 1), chances=chances)
    found = as_map(belief, 1, SimpleNamespace(map_shape=(2, 3)))
    assert found.tolist() == [[0, 1, 2], [3, 4, 5]]  # the rest isn't a state: a task that is shown
    assert as_map(belief, 1, SimpleNamespace()).shape == (8, 1)
    without = Belief(mean=torch.zeros(2, 1), deviation=torch.ones(2, 1))
    assert as_map(without, 1, SimpleNamespace()) is None
