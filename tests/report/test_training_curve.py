"""Curves of several seeds, with numbers by hand."""

import math

import pytest

from metarl.report.training_curve import training_curve, what_bands_are


def test_a_curve_begins_where_all_seeds_have_begun() -> None:
    """Their first rows are at other steps where episodes end early; none of the beginning is lost
    but what only some of them tell."""
    one = [{"steps": steps, "return": value} for steps, value in ((10, 1.0), (20, 3.0), (30, 5.0))]
    other = [{"steps": steps, "return": value} for steps, value in ((14, 2.0), (24, 4.0))]
    curve = training_curve([one, other], "return", "steps")
    assert curve.x.tolist() == [14.0, 24.0]
    assert curve.raw.tolist() == [pytest.approx([1.8, 3.8]), [2.0, 4.0]]


def test_a_curve_ends_where_a_seed_no_longer_tells_the_number() -> None:
    full = [{"steps": step, "return": 1.0 * step} for step in range(1, 6)]
    broken = [row if 2 <= row["steps"] <= 3 else {"steps": row["steps"]} for row in full]
    assert training_curve([full, broken], "return", "steps").x.tolist() == [2.0, 3.0]
    with_nan = [row | {"return": math.nan} if row["steps"] > 3 else row for row in full]
    assert training_curve([full, with_nan], "return", "steps").x.tolist() == [1.0, 2.0, 3.0]


def test_bands_are_called_what_they_are() -> None:
    assert what_bands_are([]) == what_bands_are([1, 1]) == ""
    assert what_bands_are([2, 1]) == "the range of two seeds"
    assert what_bands_are([5, 1]) == "the 95 % interval of the mean"
    assert what_bands_are([3, 2]) == "the 95 % interval of the mean, of two seeds their range"


def test_seeds_that_share_no_range_have_a_point() -> None:
    one, other = [{"steps": 5, "return": 1.0}], [{"steps": 9, "return": 3.0}]
    assert training_curve([one, other], "return", "steps").x.tolist() == [5.0]


def test_smooth_points_are_means_of_those_before_and_bands_those_of_all_seeds() -> None:
    """A hundred points: each smooth one is the mean of two."""
    runs = [
        [{"steps": step, "return": 1.0 * slope * step} for step in range(100)]
        for slope in (0, 1, 2, 5)
    ]
    curve = training_curve(runs, "return", "steps")
    assert curve.window == 2
    assert curve.smooth[1, :4].tolist() == [0.0, 0.5, 1.5, 2.5]
    assert curve.mean[:4].tolist() == [0.0, 1.0, 3.0, 5.0]
    # The standard deviation of 0, 1, 2, 5 is √(14 / 3); Student's t of 3 degrees of freedom 3.1824.
    half = 2.5 * 3.1824463 * math.sqrt(14 / 3) / 2
    assert (curve.low[3], curve.high[3]) == pytest.approx((5 - half, 5 + half), rel=1e-4)
    two = training_curve(runs[1:3], "return", "steps")
    assert (two.low[3], two.high[3]) == (2.5, 5.0)
