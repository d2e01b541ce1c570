"""The picture of an evaluation: the numbers are there, agents keep their colours, and one episode
is readable."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from metarl.report.adaptation_plot import LOOKS, adaptation_curve_png, adaptation_figure


def row(update, iqm, mean=None, **more):
    return {
        "update": update,
        "mean": iqm - 3 if mean is None else mean,
        "iqm": iqm,
        "ci_low": iqm - 9,
        "ci_high": iqm + 8,
    } | more


def report(**changes):
    return {
        "env": "half_cheetah_vel",
        "algo": "maml_ppo",
        "split": "fixed",
        "num_tasks": 30,
        "unit": "update",
        "returns": [row(0, -170), row(1, -92, mean=-97.5)],
        "random_initialisation": [row(0, -310), row(1, -320)],
        "stand_still": row(0, -300),
    } | changes


def lines(axes):
    """By label; of what is drawn with an interval, the line in its middle."""
    found = {line.get_label(): line for line in axes.lines}
    return found | {part.get_label(): part.lines[0] for part in axes.containers}


def words(figure):
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    texts += [
        label
        for axes in figure.axes
        for label in (axes.get_xlabel(), axes.get_ylabel(), axes.get_title(loc="left"))
    ]
    texts += [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    return " | ".join([*texts, figure.get_suptitle()])


def test_it_shows_the_numbers_and_the_references(tmp_path):
    figure = adaptation_figure(report())
    found = lines(figure.axes[0])
    assert list(found["maml_ppo"].get_ydata()) == [-170, -92]
    assert list(found["maml_ppo, mean"].get_ydata()) == [-173, -97.5]
    assert list(found["random initialisation"].get_ydata()) == [-310, -320]
    assert list(found["standing still"].get_ydata()) == [-300, -300]
    (bars,) = figure.axes[0].containers[0].lines[2]
    assert [segment[:, 1].tolist() for segment in bars.get_segments()] == [
        [-179, -162],
        [-101, -84],
    ]
    adaptation_curve_png(tmp_path / "curve.png", report())
    assert np.asarray(Image.open(tmp_path / "curve.png").convert("L")).std() > 10
    assert [file.name for file in tmp_path.iterdir()] == ["curve.png"]


def test_title_names_environment_and_algorithm_and_words_fit_the_learner():
    updates = words(adaptation_figure(report()))
    assert (
        "half_cheetah_vel, maml_ppo: 30 held-out tasks" in updates
        and "updates on the task" in updates
    )
    episodes = words(adaptation_figure(report(unit="episode", algo="rl2_ppo")))
    assert "episode of the trial" in episodes and "update" not in episodes
    assert "1 held-out task" in words(adaptation_figure(report(num_tasks=1)))
    assert "update" not in words(adaptation_figure(one_episode()))


def test_points_of_agents_stand_beside_each_other():
    found = lines(adaptation_figure(report()).axes[0])
    x = found["maml_ppo"].get_xdata(), found["random initialisation"].get_xdata()
    assert all(abs(a - b) > 0.05 for a, b in zip(*x, strict=True))
    assert list(np.round(x[0])) == [0, 1]


@pytest.mark.parametrize(
    "order", [["oracle", "gittins", "ucb1"], ["ucb1", "thompson_sampling", "gittins"]]
)
def test_a_colour_is_always_the_same_agents(order):
    figure = adaptation_figure(
        report(references={name: [row(0, -1), row(1, -2)] for name in order})
    )
    found = lines(figure.axes[0])
    for name in order:
        assert to_rgb(found[name.replace("_", " ")].get_color()) == to_rgb(LOOKS[name].color)
    assert to_rgb(found["maml_ppo"].get_color()) == to_rgb(LOOKS["learner"].color)


def one_episode(**more):
    return report(
        unit="episode",
        algo="rl2_ppo",
        returns=[row(0, 81)],
        random_initialisation=[row(0, 51)],
        references={"oracle": row(0, 84), "gittins": [row(0, 82)], "ucb1": [row(0, 69)]},
        **more,
    )


def test_one_episode_has_a_row_for_each_agent():
    axes = adaptation_figure(one_episode()).axes[0]
    rows = {
        tick.get_text(): y
        for tick, y in zip(axes.get_yticklabels(), axes.get_yticks(), strict=True)
    }
    assert sorted(rows, key=rows.get) == [
        "standing still",
        "random initialisation",
        "ucb1",
        "rl2_ppo",
        "gittins",
        "oracle",
    ]
    found = lines(axes)
    assert (list(found["gittins"].get_xdata()), list(found["gittins"].get_ydata())) == (
        [82],
        [rows["gittins"]],
    )


def test_one_episode_shows_what_happens_within_it():
    curve = {
        "mean": [1.0, 2.0],
        "ci_low": [0.5, 1.5],
        "ci_high": [1.5, 2.5],
        "first_tenth": 1.0,
        "last_tenth": 2.0,
    }
    error = curve | {"mean": [0.9, 0.1]}
    within = {
        "learner": {"step": [10, 20], "reward": curve, "prediction error": error},
        "ucb1": {"step": [10, 20], "reward": curve},
    }
    _, reward, measured = adaptation_figure(one_episode(within_episode=within)).axes
    assert list(lines(reward)["rl2_ppo"].get_ydata()) == [1.0, 2.0]
    assert list(measured.lines[0].get_ydata()) == [0.9, 0.1]
    assert "prediction error" in measured.get_ylabel()


def test_success_is_drawn_where_it_is_told():
    def solved(rate):
        return {"success_rate": rate, "success_ci_low": rate - 0.1, "success_ci_high": rate + 0.1}

    figure = adaptation_figure(
        report(returns=[row(0, -9, **solved(0.2)), row(1, -1, **solved(0.8))])
    )
    found = lines(figure.axes[1])
    assert list(found["maml_ppo"].get_ydata()) == [0.2, 0.8]
    assert "random initialisation" not in found  # which says nothing of success here


def test_fixed_speeds_are_marked_with_what_they_earn():
    bounds = [
        {"num_speeds": k, "mean": -100 / k, "mean_with_allowance": -100 / k - 30} for k in (1, 2)
    ]
    for allowance, notes in ((0.0, "mean"), (30.0, "mean, less 30 (run-up, control)")):
        figure = adaptation_figure(report(fixed_speeds={"bounds": bounds, "allowance": allowance}))
        marked = {text.get_text(): text.xy[1] for text in figure.axes[0].texts}
        assert marked == {"1 fixed speed": -130, "2 fixed speeds": -80}
        label = figure.axes[0].get_xlabel().replace("\n", " ")
        assert label == f"updates on the task fixed speeds: {notes}"


def test_fixed_speeds_that_earn_alike_are_named_together():
    bounds = [
        {"num_speeds": k, "mean": at, "mean_with_allowance": at}
        for k, at in ((1, -160), (2, -90), (3, -88))
    ]
    figure = adaptation_figure(report(fixed_speeds={"bounds": bounds, "allowance": 0.0}))
    marked = {text.get_text(): text.xy[1] for text in figure.axes[0].texts}
    assert marked == {"1 fixed speed": -160, "2 and 3 fixed speeds": -89}


def test_who_learnt_nothing_does_not_press_what_was_learnt_flat():
    far = report(stand_still=row(0, -900), random_initialisation=[row(0, -310), row(1, -320)])
    figure = adaptation_figure(far)
    found = lines(figure.axes[0])
    assert "random initialisation" in found and "standing still" not in found
    assert figure.axes[0].get_ylim()[0] > -400
    assert "↓ standing still −900" in words(figure)
    assert words(figure).count("standing still") == 1  # not in the legend


def test_reports_of_earlier_versions_can_be_drawn():
    old = report()
    del old["algo"]
    assert "half_cheetah_vel: 30 held-out tasks" in words(adaptation_figure(old))
