"""The picture of several learners: numbers, looks, and panels for what there is."""

from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from support.run_folders import run_folder

from metarl.report.finished import finished_runs
from metarl.report.learners import learners, side_by_side
from metarl.report.learners_plot import learners_figure, learners_png, looks_of
from metarl.report.plots import BLUE, PURPLE
from metarl.report.recorded import Recorded


def rows(*after: float, **more: float) -> list[dict[str, float]]:
    return [
        {
            "iteration": i,
            "env_steps": 100.0 * i,
            "return_before": -9.0,
            "return_after": value,
            **more,
        }
        for i, value in enumerate(after)
    ]


def drawn(folder: Path, *recorded: Recorded) -> Figure:
    of = learners(finished_runs([folder])[0])
    return learners_figure(side_by_side(of), of, recorded)


def line(axes: Any, label: str) -> Any:
    found = [x for x in axes.lines if x.get_label() == label]
    found += [part.lines[0] for part in axes.containers if part.get_label() == label]
    (only,) = found
    return only


def table(**changes: Any) -> Recorded:
    return Recorded(
        **{
            "label": "theirs",
            "source": "a log",
            "env": "half_cheetah_vel",
            "rows": [],
            "returns": torch.tensor([[-9.0, -5.0], [-11.0, -7.0]]),
            "targets": torch.tensor([0.5, 1.5]),
            **changes,
        }
    )


def test_it_shows_how_learners_adapt_and_how_they_were_trained(tmp_path: Path) -> None:
    for seed in (0, 1):
        curve = [
            row | {"seconds": 60.0 + 300 * row["iteration"]} for row in rows(-8.0, -4.0 + 2 * seed)
        ]
        run_folder(tmp_path / f"a{seed}", [[-8.0, -4.0], [-12.0, -6.0]], seed=seed, rows=curve)
        run_folder(
            tmp_path / f"b{seed}",
            [[-2.0], [-4.0]],
            seed=seed,
            algo="rl2_ppo",
            unit="episode",
            rows=curve,
        )
    figure = drawn(tmp_path)
    adaptation, steps, time = figure.axes
    assert list(line(adaptation, "maml_ppo").get_ydata()) == [-10, -5]
    assert list(line(adaptation, "rl2_ppo").get_ydata()) == [-3, -3]  # it doesn't adapt further
    assert [text.get_text() for text in adaptation.texts] == ["↓ standing still −350"]
    assert adaptation.get_ylim()[0] > -100
    assert list(line(steps, "maml_ppo").get_ydata()) == [-8, -3]
    assert (
        list(line(time, "maml_ppo").get_xdata()) == [1, 6]
        and time.get_xlabel() == "minutes of training"
    )
    assert (
        line(steps, "maml_ppo").get_color() == BLUE and line(steps, "rl2_ppo").get_color() == PURPLE
    )
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert sorted(names) == ["maml_ppo, 2 seeds", "rl2_ppo, 2 seeds"]
    assert steps.get_xlabel() == "environment steps\nsmoothed; band: the range of two seeds"
    assert figure.get_suptitle() == "half_cheetah_vel: 2 held-out tasks"


def test_a_recorded_curve_stands_beside_ours_before_and_after_adaptation(tmp_path: Path) -> None:
    run_folder(tmp_path, [[-8.0, -4.0]], rows=rows(-8.0, -4.0))
    theirs = table(rows=rows(-7.0, -6.0, -5.0), returns=None, targets=None)
    adaptation, steps = drawn(tmp_path, theirs).axes
    assert list(line(steps, "theirs").get_ydata()) == [-7, -6, -5]
    assert list(line(steps, "theirs, before adaptation").get_ydata()) == [-9, -9, -9]
    assert list(line(steps, "maml_ppo, before adaptation").get_ydata()) == [-9, -9]
    assert "theirs" not in [x.get_label() for x in adaptation.containers]


def test_a_recorded_table_of_the_same_tasks_has_its_mean_beside_ours(tmp_path: Path) -> None:
    run_folder(tmp_path, [[-8.0, -4.0, -3.0], [-12.0, -6.0, -5.0]])  # 1 and 2 m/s
    for targets, is_there in (([2.0004, 1.0], True), ([1.02, 2.0], False), ([1.0, 1.0], False)):
        adaptation, tasks = drawn(tmp_path, table(targets=torch.tensor(targets))).axes
        labels = [x.get_label() for x in adaptation.containers]
        assert ("theirs" in labels) == is_there, targets
        assert line(tasks, "theirs") is not None
        if is_there:
            assert list(line(adaptation, "theirs").get_ydata()) == [-10, -6]


def test_a_recorded_table_stands_beside_ours_task_by_task(tmp_path: Path) -> None:
    run_folder(tmp_path, [[-8.0, -4.0, -3.0], [-12.0, -6.0, -5.0]])
    _, tasks = drawn(tmp_path, table()).axes
    # After one update, as theirs end there; our tasks ask for 1 and 2 m/s.
    assert list(line(tasks, "theirs").get_xdata()) == [0.5, 1.5]
    assert list(line(tasks, "theirs").get_ydata()) == [-5, -7]
    assert list(line(tasks, "maml_ppo").get_xdata()) == [1, 2]
    assert list(line(tasks, "maml_ppo").get_ydata()) == [-4, -6]
    assert tasks.get_ylabel() == "mean return after 1 update"


def test_more_learners_than_have_a_look_of_their_own_can_be_drawn(tmp_path: Path) -> None:
    for number in range(6):
        run_folder(tmp_path / str(number), [[-8.0, -4.0]], algo=f"algo{number}")
    of = learners(finished_runs([tmp_path])[0])
    learners_png(tmp_path / "all.png", side_by_side(of), of)
    assert (tmp_path / "all.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("split", ["fixed", "none"])
def test_the_title_says_whether_tasks_are_held_out(tmp_path: Path, split: str) -> None:
    run_folder(tmp_path, [[-8.0, -4.0]], split=split)
    title = drawn(tmp_path).axes[0].get_title(loc="left")
    words = {"fixed": "held-out task", "none": "task, the same as in training"}
    assert title == f"half_cheetah_vel: 1 {words[split]}"
    assert ("held-out" in drawn(tmp_path).axes[0].get_ylabel()) == (split == "fixed")


def test_each_reference_has_a_look_of_its_own_also_one_that_learns(tmp_path: Path) -> None:
    learning = [{"update": 0, "mean": -9.0}, {"update": 1, "mean": -7.0}]
    references = {
        "oracle": {"mean": -1.0},
        "gittins": {"mean": -2.0},
        "thompson_sampling": {"mean": -3.0},
        "posterior_sampling": learning,
    }
    run_folder(tmp_path, [[-8.0, -4.0]], references=references)
    adaptation, *_ = drawn(tmp_path).axes
    assert list(line(adaptation, "posterior sampling").get_ydata()) == [-9, -7]
    lines = [line(adaptation, name.replace("_", " ")) for name in references]
    assert len({(of._dash_pattern[1][0], of.get_marker()) for of in lines}) == len(lines)


def test_where_nobody_adapts_each_learner_is_a_point_beside_the_others(tmp_path: Path) -> None:
    for algo in ("grbal", "recurrent_mbrl"):
        run_folder(tmp_path / algo, [[-8.0], [-6.0]], algo=algo, unit="episode")
    adaptation, *_ = drawn(tmp_path).axes
    places = [line(adaptation, name).get_xdata()[0] for name in ("grbal", "recurrent_mbrl")]
    assert places[1] - places[0] == 1 and not adaptation.get_xticks().size
    assert adaptation.get_xlabel() == "no updates"
    run_folder(tmp_path / "maml", [[-8.0, -4.0], [-6.0, -4.0]])
    beside, *_ = drawn(tmp_path).axes
    # Beside one that adapts they are lines across.
    assert list(line(beside, "grbal").get_ydata()) == [-7, -7] and beside.get_xticks().size


def test_a_task_that_can_be_solved_has_a_panel_of_how_often_it_is(tmp_path: Path) -> None:
    run_folder(
        *(tmp_path / "maml", [[-8.0, -4.0], [-6.0, -4.0]]),
        success=[0.0, 0.75],
        solved=[[[False, False], [True, True]], [[False, False], [True, False]]],
        references={"scripted": {"mean": 3.0, "success_rate": 1.0}},
    )
    for seed in (0, 1):  # of an earlier version
        run_folder(tmp_path / str(seed), [[-8.0], [-6.0]], algo="grbal", seed=seed, success=[0.25])
    run_folder(tmp_path / "untold", [[-8.0], [-6.0]], algo="recurrent_mbrl")
    _, success = drawn(tmp_path).axes
    assert list(line(success, "maml_ppo").get_ydata()) == [0, 0.75]
    assert list(line(success, "scripted").get_ydata()) == [1, 1]
    assert list(line(success, "grbal").get_ydata()) == [0.25, 0.25]
    assert "recurrent_mbrl" not in success.get_legend_handles_labels()[1]
    assert "solved episodes" in success.get_ylabel()


def test_a_trial_of_one_episode_has_no_curve_before_adaptation(tmp_path: Path) -> None:
    """Earlier versions wrote its return twice."""
    twice = [row | {"return_before": row["return_after"]} for row in rows(-8.0, -4.0)]
    run_folder(tmp_path, [[-4.0]], algo="rl2_ppo", unit="episode", rows=twice)
    labels = [x.get_label() for axes in drawn(tmp_path).axes for x in axes.lines]
    assert "rl2_ppo" in labels and "rl2_ppo, before adaptation" not in labels


def test_a_learner_looks_as_its_algorithm_wherever_it_stands() -> None:
    names = ["rl2_ppo without memory", "rl2_ppo", "maml_ppo (algo.inner_lr=0.1)"]
    looks = looks_of(names)
    assert looks["rl2_ppo"] == looks_of(["rl2_ppo"])["rl2_ppo"]
    assert looks[names[2]] == looks_of(["maml_ppo"])["maml_ppo"]
    assert list(looks) == names and len(set(map(repr, looks.values()))) == 3


def test_learners_without_curves_are_named_below_them(tmp_path: Path) -> None:
    timed = rows(-8.0, -4.0, seconds=1.0)
    run_folder(tmp_path / "a", [[-4.0]], rows=timed)
    run_folder(tmp_path / "b", [[-4.0]], algo="promp", rows=rows(-8.0, -4.0))
    run_folder(tmp_path / "c", [[-4.0]], algo="rl2_ppo")
    _, steps, time = drawn(tmp_path).axes
    assert steps.get_xlabel() == "environment steps\nsmoothed\nnot told by rl2_ppo"
    assert time.get_xlabel().endswith("\nnot told by promp, rl2_ppo")


def test_trainings_of_very_different_length_are_both_seen_over_time(tmp_path: Path) -> None:
    for name, minutes in (("a", 2), ("b", 50)):
        timed = [row | {"seconds": 60.0 * minutes * (1 + row["iteration"])} for row in rows(-8, -4)]
        run_folder(tmp_path / name, [[-4.0]], rows=timed, algo={"a": "promp", "b": "pearl"}[name])
    time = drawn(tmp_path).axes[-1]
    assert time.get_xscale() == "log" and time.get_xlim()[0] == 2
    time.figure.canvas.draw()
    assert [tick.get_text() for tick in time.get_xticklabels()][:3] == ["1", "10", "100"]


def test_many_episodes_have_bands_instead_of_bars(tmp_path: Path) -> None:
    run_folder(tmp_path, [[-8.0, -7.0, -6.0, -5.0, -4.0, -3.0]], rows=rows(-8.0, -4.0))
    adaptation = drawn(tmp_path).axes[0]
    assert not adaptation.containers and len(adaptation.collections) == 1
    assert list(line(adaptation, "maml_ppo").get_ydata()) == [-8, -7, -6, -5, -4, -3]


def test_as_many_recorded_curves_are_drawn_as_there_are(tmp_path: Path) -> None:
    run_folder(tmp_path, [[-8.0, -4.0]], rows=rows(-8.0, -4.0))
    curve = {"rows": rows(-7.0, -6.0), "returns": None, "targets": None}
    theirs = [table(label=f"theirs {number}", **curve) for number in range(4)]
    axes = drawn(tmp_path, *theirs).axes[1]
    looks = [line(axes, one.label) for one in theirs]
    assert len({(*of._dash_pattern[1], of.get_color()) for of in looks}) == len(looks)
