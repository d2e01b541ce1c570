"""Curves of several seeds, with numbers by hand."""

import pytest

from metarl.report.training_curve import training_curve


def test_a_curve_begins_where_all_seeds_have_begun() -> None:
    """Their first rows are at other steps where episodes end early; none of the beginning is lost
    but what only some of them tell."""
    one = [{"steps": steps, "return": value} for steps, value in ((10, 1.0), (20, 3.0), (30, 5.0))]
    other = [{"steps": steps, "return": value} for steps, value in ((14, 2.0), (24, 4.0))]
    curve = training_curve([one, other], "return", "steps")
    assert curve.x.tolist() == [14.0, 24.0]
    assert curve.raw.tolist() == [pytest.approx([1.8, 3.8]), [2.0, 4.0]]


def test_seeds_that_share_no_range_have_a_point() -> None:
    one, other = [{"steps": 5, "return": 1.0}], [{"steps": 9, "return": 3.0}]
    assert training_curve([one, other], "return", "steps").x.tolist() == [5.0]
