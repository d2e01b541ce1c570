import math

import numpy as np
import pytest
from matplotlib.figure import Figure

from metarl.report.plots import drawn as drawn_as
from metarl.report.plots import (
    figure_of,
    learning_curve_png,
    legend_below,
    return_curves,
    unit_of_time,
)


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were written, to be looked into."""
    figures, savefig = [], Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *a, **k: (figures.append(self), savefig(self, *a, **k))[1]
    )
    return figures


def lines(figure):
    return {line.get_label(): line for line in figure.axes[0].lines}


def test_learning_curve_of_several_seeds_is_their_mean_where_all_have_been(tmp_path, drawn):
    def run(shift, steps):
        return [
            {"env_steps": s, "return_before": -100 + shift, "return_after": s / 10 + shift}
            for s in steps
        ]

    # At 100 and 200 both are there; the second seed has no row at 200: between 150 and 250 it is 20
    # + 6.
    learning_curve_png(
        tmp_path / "curve.png",
        [run(0, [100, 200]), run(6, [50, 150, 250])],
        title="half_cheetah_vel, maml_ppo",
    )
    found = lines(drawn[0])
    assert list(found["after adaptation"].get_xdata()) == [100, 200]
    assert list(found["after adaptation"].get_ydata()) == [13, 23]
    assert list(found["before"].get_ydata()) == [-97, -97]


def test_learning_curve_is_smoothed_without_looking_ahead(tmp_path, drawn):
    rows = [
        {"env_steps": 10 * i, "return_before": 0.0, "return_after": float(i == 60)}
        for i in range(100)
    ]
    learning_curve_png(
        tmp_path / "curve.png", [rows], title="x"
    )  # 100 rows: the mean of 100 // 50 = 2
    after = lines(drawn[0])["after adaptation"].get_ydata()
    assert {i: y for i, y in enumerate(after) if y} == {60: 0.5, 61: 0.5}


def test_rows_that_are_not_finite_are_bridged(tmp_path, drawn):
    rows = [
        {"env_steps": 10 * i, "return_before": math.nan, "return_after": float(i)}
        for i in range(100)
    ]
    rows[30]["return_after"] = math.inf
    learning_curve_png(tmp_path / "curve.png", [rows], title="x")
    found = lines(drawn[0])
    assert list(found["after adaptation"].get_ydata())[-2:] == [97.5, 98.5]
    assert all(math.isnan(value) for value in found["before"].get_ydata())


def test_one_row_can_be_drawn(tmp_path):
    learning_curve_png(
        tmp_path / "b.png", [[{"env_steps": 9, "return_before": 1, "return_after": 2}]], title="x"
    )


def test_a_run_without_rows_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"2 runs with \[1, 0\] rows"):
        learning_curve_png(
            tmp_path / "a.png",
            [[{"env_steps": 1, "return_before": 1, "return_after": 2}], []],
            title="x",
        )


def test_returns_are_called_what_they_are():
    rows = [{"return_before": 1.0, "return_after": 2.0}]
    assert return_curves(rows, "update") == {
        "return_after": "after adaptation",
        "return_before": "before",
    }
    assert return_curves(rows, "episode") == {
        "return_after": "last episode of the trial",
        "return_before": "first episode",
    }
    assert return_curves([{"return": 1.0}], "episode") == {"return": "the trial's only episode"}
    # As earlier versions logged it.
    assert return_curves([{"return_before": 1.0, "return_after": 1.0}], "episode") == {
        "return_after": "the trial's only episode"
    }


def test_success_stands_beside_the_returns(tmp_path, drawn):
    rows = [
        {
            "env_steps": s,
            "return_before": 0.0,
            "return_after": 1.0,
            "success_before": 0.1,
            "success_after": s / 9,
        }
        for s in (3, 6)
    ]
    learning_curve_png(tmp_path / "curve.png", [rows], title="x")
    found = {line.get_label(): line for line in drawn[0].axes[1].lines}
    assert list(found["after adaptation"].get_ydata()) == pytest.approx([3 / 9, 6 / 9])


def test_the_time_that_training_took_stands_beside_the_steps(tmp_path, drawn):
    rows = [
        {"env_steps": s, "seconds": 3 * s, "return_before": 0.0, "return_after": s / 10}
        for s in (20, 60, 100)
    ]
    learning_curve_png(tmp_path / "curve.png", [rows], title="x")
    steps, time = drawn[0].axes
    assert time.get_xlabel() == "minutes of training"
    (after,) = (line for line in time.lines if line.get_label() == "after adaptation")
    assert list(after.get_xdata()) == [1, 3, 5] and list(after.get_ydata()) == [2, 6, 10]
    assert steps.get_ylim() == time.get_ylim()


def test_over_time_seeds_stand_together_at_the_same_steps(tmp_path, drawn):
    """The second seed went on a machine twice as fast, which says nothing of how it learns: no band.
    Its step 20 came after 10 s, that of the first after 20."""
    runs = [
        [{"env_steps": i, "seconds": i * s, "return_before": 0.0, "return_after": i} for i in at]
        for s, at in ((1.0, (10, 20, 30)), (0.5, (20, 40, 60, 80)))
    ]
    learning_curve_png(tmp_path / "curve.png", runs, title="x")
    (after,) = (x for x in drawn[0].axes[1].lines if x.get_label() == "after adaptation")
    assert list(after.get_xdata()) == [15, 22.5] and list(after.get_ydata()) == [20, 30]
    bands = [area.get_paths()[0].vertices for area in drawn[0].axes[1].collections]
    assert all(band[:, 1].max() <= 30 for band in bands)


def test_a_pause_is_no_part_of_the_training(tmp_path, drawn):
    """Of a run that was stopped for long the line over time is broken there."""
    seconds = [*range(1, 30), *range(5000, 5030)]
    rows = [
        {"env_steps": i, "seconds": s, "return_before": 0.0, "return_after": i}
        for i, s in enumerate(seconds)
    ]
    learning_curve_png(tmp_path / "curve.png", [rows], title="x")
    (after,) = (x for x in drawn[0].axes[1].lines if x.get_label() == "after adaptation")
    assert int(np.isnan(after.get_ydata()).sum()) == 1


def test_few_seeds_have_a_line_each_and_shares_stay_shares(tmp_path, drawn):
    """Of three seeds one has learnt it: the interval of the mean alone would hide that."""
    runs = [
        [
            {"env_steps": i, "return_before": 0.0, "return_after": 100.0 * best * i}
            | {"success_before": 0.0, "success_after": float(best * i > 5)}
            for i in range(1, 11)
        ]
        for best in (0, 0, 1)
    ]
    learning_curve_png(tmp_path / "curve.png", runs, title="x")
    returns, solved = drawn[0].axes
    ends = sorted(line.get_ydata()[-1] for line in returns.lines if line.get_linewidth() < 1)
    assert ends == [0, 0, 0, 0, 0, 1000]  # before and after of each
    for area in solved.collections:
        shares = area.get_paths()[0].vertices[:, 1]
        assert shares.min() >= 0 and shares.max() <= 1


def test_rows_of_earlier_versions_tell_no_time(tmp_path, drawn):
    rows = [{"env_steps": 9, "return_before": 1, "return_after": 2}]
    learning_curve_png(tmp_path / "a.png", [rows, [rows[0] | {"seconds": 1.0}]], title="x")
    assert len(drawn[0].axes) == 1


@pytest.mark.parametrize(
    ("seconds", "unit"), [(119, ("seconds", 1)), (120, ("minutes", 60)), (10800, ("hours", 3600))]
)
def test_time_is_told_in_a_unit_that_reads_well(seconds, unit):
    assert unit_of_time(seconds) == unit


@pytest.mark.parametrize(
    ("values", "ends", "words"),
    [
        # Two seeds: from one to the other. Three: mean 3 and t √(7 / 3), see interval_over_seeds.
        ([1.0, 6.0], (1.0, 6.0), "mean, range and each one of 2 seeds"),
        ([1.0, 2.0, 6.0], (3 - 6.572, 3 + 6.572), "mean, 95 % interval and each one of 3 seeds"),
    ],
)
def test_the_band_of_several_seeds_is_their_interval(tmp_path, drawn, values, ends, words):
    runs = [
        [{"env_steps": s, "return_before": 0.0, "return_after": value} for s in (1, 2)]
        for value in values
    ]
    learning_curve_png(tmp_path / "curve.png", runs, title="x")
    axes = drawn[0].axes[0]
    heights = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx(ends, abs=1e-3)
    assert axes.get_xlabel() == f"environment steps\n{words}"
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == [
        "after adaptation",
        "before",
    ]


def test_a_long_legend_leaves_the_panels_their_height(recwarn):
    heights = []
    for num in (4, 60):
        with figure_of(panels=3, title="many learners") as (figure, axes):
            for number in range(num):
                axes[0].plot([0, 1], [0, number], label=f"maml_ppo inner_lr={number}, seed 0")
            legend_below(figure, *axes[0].get_legend_handles_labels())
            drawn_as(figure, "png")
            heights.append(axes[0].get_position().height * figure.get_figheight())
    # Ends of rounding a height to rows of the legend, in inches.
    assert heights[1] == pytest.approx(heights[0], abs=0.8)
    assert not recwarn.list  # of a layout that collapses
