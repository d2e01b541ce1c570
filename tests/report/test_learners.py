"""What several learners say together: seeds put together by their settings, and numbers by hand."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from support.run_folders import run_folder

from metarl.errors import UserError
from metarl.report.finished import finished_runs
from metarl.report.learners import Learner, learners, side_by_side
from metarl.rl.evaluation.proportions import proportion_interval


def read(folder: Path) -> list[Learner]:
    return learners(finished_runs([folder])[0])


def test_runs_that_differ_in_their_seed_alone_are_one_learner(tmp_path: Path) -> None:
    for seed in (2, 0, 1):
        run_folder(tmp_path / f"run{seed}", [[1.0]], seed=seed)
        run_folder(tmp_path / f"other{seed}", [[1.0]], seed=seed, algo="rl2_ppo")
    found = read(tmp_path)
    assert [(one.name, [run.seed for run in one.runs]) for one in found] == [
        ("rl2_ppo", [0, 1, 2]),
        ("maml_ppo", [0, 1, 2]),
    ]


def test_learners_of_one_algorithm_are_named_by_what_tells_them_apart(tmp_path: Path) -> None:
    run_folder(tmp_path / "a", [[1.0]], settings={"inner_lr": 0.1, "clip": 0.3})
    run_folder(tmp_path / "b", [[1.0]], settings={"inner_lr": 0.5, "clip": 0.3})
    run_folder(tmp_path / "c", [[1.0]], settings={"inner_lr": 0.1, "clip": 0.3}, shows_task=True)
    assert [one.name for one in read(tmp_path)] == [
        "maml_ppo (algo.inner_lr=0.1)",
        "maml_ppo (algo.inner_lr=0.5)",
        "maml_ppo, shown the task",
    ]


def test_two_runs_of_one_seed_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        run_folder(tmp_path / name, [[1.0]], seed=3)
    with pytest.raises(
        UserError, match=r"a/evaluation.json and .*b/evaluation.json are both maml_ppo with seed 3"
    ):
        read(tmp_path)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"returns": [[1.0], [2.0]]}, "2 tasks of half_cheetah_vel; expected the 1 task of half"),
        (
            {"returns": [[1.0]], "env": "ant_vel"},
            "1 task of ant_vel; expected the 1 task of half",
        ),
        (
            {"returns": [[1.0, 2.0]]},
            "b/evaluation.json has 1 updates of 2 episodes; expected 0 of 2,",
        ),
        (
            {"returns": [[1.0]], "deterministic": True},
            "b/evaluation.json was evaluated with deterministic=True, .*a/evaluation.json with none",
        ),
        (
            {"returns": [[1.0]], "inner_lr_decay": 0.5},
            "b/evaluation.json was evaluated with inner_lr_decay=0.5, .* the same of all seeds",
        ),
    ],
)
def test_runs_on_other_tasks_or_evaluated_otherwise_are_refused(
    tmp_path: Path, other: dict[str, Any], said: str
) -> None:
    run_folder(tmp_path / "a", [[1.0]])
    run_folder(tmp_path / "b", **{"seed": 1, **other})
    with pytest.raises(UserError, match=said):
        read(tmp_path)


def test_numbers_by_hand(tmp_path: Path) -> None:
    """Two seeds on two tasks, before and after one update; standing still has -10 and -20."""
    scale = {"zero": [-10.0, -20.0], "one": [0.0, 0.0]}
    run_folder(tmp_path / "0", [[-8.0, -4.0], [-12.0, -6.0]], seed=0, scale=scale)
    run_folder(tmp_path / "1", [[-6.0, -2.0], [-14.0, -15.0]], seed=1, scale=scale)
    found = side_by_side(read(tmp_path))
    (learner,) = found["learners"]
    before, after = learner["returns"]
    assert before["mean"]["value"] == pytest.approx(-10.0) and after["mean"][
        "value"
    ] == pytest.approx(-6.75)
    assert after["mean"]["ci_low"] < -6.75 < after["mean"]["ci_high"]
    assert after["over"] == "over 2 seeds and 2 tasks"
    assert after["by_seed"] == pytest.approx([-5.0, -8.5])
    # (-6.75 + 15) / 15
    assert after["normalised"]["value"] == pytest.approx(0.55)
    # One of four got worse: the second seed's second task, from -14 to -15.
    assert [row["value"] for row in learner["made_worse"]] == [0.25]
    beside = found["beside"]
    assert beside["stand_still"] == -350 and beside["random_initialisation"] == {
        "maml_ppo": [-300.0, -300.0]
    }
    assert found["num_tasks"] == 2 and learner["env_steps"] == [2_000_000, 2_000_000]


def test_references_and_success_are_means_over_the_runs(tmp_path: Path) -> None:
    for seed, rate in ((0, 0.5), (1, 1.0)):
        references = {
            "oracle": {"mean": 2.0 + seed},
            "gittins": [{"mean": 1.0}, {"mean": 1.5 + seed}],
        }
        run_folder(
            tmp_path / str(seed),
            [[1.0, 1.0]],
            seed=seed,
            success=[0.0, rate],
            references=references,
        )
    found = side_by_side(read(tmp_path))
    # Evaluations of earlier versions kept the rates alone, which tell no interval.
    rows = found["learners"][0]["returns"]
    assert [row["success"] for row in rows] == [{"value": 0.0}, {"value": 0.75}]
    assert found["beside"]["references"] == {"oracle": [2.5], "gittins": [1.0, 2.0]}


def test_solved_episodes_have_an_interval_over_seeds_and_tasks(tmp_path: Path) -> None:
    no, half, yes = [False, False], [True, False], [True, True]
    for seed, last in ((0, yes), (1, half)):
        run_folder(
            *(tmp_path / str(seed), [[-9.0, -1.0], [-9.0, -2.0]]),
            seed=seed,
            success=[0.0, 0.5],
            solved=[[no, yes], [no, last]],
            references={"scripted": {"mean": 2.0, "success_rate": 0.5 + seed / 2}},
        )
    found = side_by_side(read(tmp_path))
    before, after = (row["success"] for row in found["learners"][0]["returns"])
    # Nothing of two seeds on two tasks: as of one trial, see `_share`.
    assert before["value"] == before["ci_low"] == 0 and 0.5 < before["ci_high"] < 1
    assert after["value"] == 7 / 8 and after["ci_low"] < 7 / 8 < after["ci_high"]
    assert found["beside"]["success"]["references"] == {"scripted": [0.75]}
    assert found["beside"]["success"]["random_initialisation"] == {"maml_ppo": [0.0, 0.5]}
    assert "stand_still" not in found["beside"]["success"]
    # One seed has the interval of its own evaluation's table.
    (alone,) = side_by_side(read(tmp_path / "0"))["learners"]
    low, high = proportion_interval(torch.tensor([yes, yes]))
    assert alone["returns"][1]["success"] == {"value": 1.0, "ci_low": low, "ci_high": high}


@pytest.mark.parametrize(
    "solved", [[[[True, True]]], [[[True]], [[True, True]]], [[["x"]], [["y"]]], [3, 4]]
)
def test_successes_of_other_episodes_are_damaged(tmp_path: Path, solved: list[Any]) -> None:
    """One task tells them alone, one tells fewer, or they aren't truth values."""
    run_folder(tmp_path, [[-9.0], [-8.0]], solved=solved)
    with pytest.raises(UserError, match="the returns of its tasks are damaged"):
        read(tmp_path)


def test_evaluations_without_a_scale_have_no_score(tmp_path: Path) -> None:
    run_folder(tmp_path, [[1.0]])
    assert "normalised" not in side_by_side(read(tmp_path))["learners"][0]["returns"][0]


def test_a_scale_that_one_run_tells_is_that_of_all(tmp_path: Path) -> None:
    """All have the same tasks: -4 is .6 of the way from -10 to 0, -2 is .8."""
    run_folder(tmp_path / "a", [[-4.0]])
    scale = {"zero": [-10.0], "one": [0.0]}
    run_folder(tmp_path / "b", [[-2.0]], algo="rl2_ppo", scale=scale)
    told = [one["returns"][0]["normalised"] for one in side_by_side(read(tmp_path))["learners"]]
    assert [row["value"] for row in told] == pytest.approx([0.6, 0.8])


def test_intervals_are_the_same_whoever_stands_beside(tmp_path: Path) -> None:
    for seed, mean in ((0, -4.0), (1, -7.0)):
        run_folder(tmp_path / f"b{seed}", [[mean, -2.0], [-9.0, -1.0]], seed=seed)
    (alone,) = side_by_side(read(tmp_path))["learners"]
    scale = {"zero": [-10.0, -12.0], "one": [0.0, 0.0]}
    run_folder(tmp_path / "a", [[-4.0], [-5.0]], algo="rl2_ppo", scale=scale)
    _, beside = side_by_side(read(tmp_path))["learners"]
    for row in beside["returns"]:
        assert row.pop("normalised")
    assert beside == alone


def test_learners_that_differ_in_what_one_of_them_lacks_have_names_of_their_own(
    tmp_path: Path,
) -> None:
    many = {"a": 1, "b": 1}
    for place, settings in enumerate(({}, {"inner_lr": 0.1}, {"a": 2, "b": 2, "c": 1}, many)):
        run_folder(tmp_path / str(place), [[1.0]], settings=settings)
    run_folder(tmp_path / "9", [[1.0]], settings={"a": 2, "b": 2, "c": 2})
    names = [learner.name for learner in learners(finished_runs([tmp_path])[0])]
    assert names == [
        "maml_ppo",
        "maml_ppo (algo.inner_lr=0.1)",
        "maml_ppo (algo.a=2, algo.b=2, ...), 1",
        "maml_ppo (algo.a=1, algo.b=1)",
        "maml_ppo (algo.a=2, algo.b=2, ...), 2",
    ]


def test_what_changes_no_number_makes_no_learner_of_its_own(tmp_path: Path) -> None:
    for seed in (0, 1):
        folder = run_folder(tmp_path / str(seed), [[-8.0, -4.0]], seed=seed)
        config = yaml.safe_load((folder / "config.yaml").read_text())
        config |= {
            "eval_every": seed or None,
            "eval_tasks": 3 + seed,
            "loggers": ["csv"] * seed,
            "wandb": {"mode": f"mode {seed}"},
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (learner,) = read(tmp_path)
    assert len(learner.runs) == 2


def test_a_reference_of_longer_trials_is_another_one(tmp_path: Path) -> None:
    """Who knows that three episodes come explores otherwise than who knows of two."""
    for name, means in (("a", [1.0, 2.0]), ("b", [0.5, 2.0, 4.0])):
        rows = {"bayes_optimal": [{"mean": mean} for mean in means], "oracle": {"mean": 5.0}}
        settings = {"episodes_per_trial": len(means)}
        run_folder(tmp_path / name, [[0.0] * len(means)], settings=settings, references=rows)
    assert side_by_side(read(tmp_path))["beside"]["references"] == {
        "bayes_optimal, of 2 in all": [1.0, 2.0],
        "bayes_optimal, of 3 in all": [0.5, 2.0, 4.0],
        "oracle": [5.0],
    }


def test_learners_that_see_the_task_are_of_one_problem_too(tmp_path: Path) -> None:
    """Their definition differs from that of those who don't, and must not from one another's."""
    run_folder(tmp_path / "a", [[1.0]], spec_hash="abc")
    for seed, spec_hash in enumerate(("def", "ghi")):
        run_folder(tmp_path / f"b{seed}", [[1.0]], seed=seed, spec_hash=spec_hash, shows_task=True)
    with pytest.raises(UserError, match=r"b1/eval.* another problem than .*b0/eval.* ghi and def"):
        read(tmp_path)


def test_settings_tell_problems_apart_where_an_evaluation_has_no_hash(tmp_path: Path) -> None:
    for name, horizon in (("a", 100), ("b", 200)):
        folder = run_folder(tmp_path / name, [[1.0]], seed=horizon)
        config = yaml.safe_load((folder / "config.yaml").read_text())
        config["env"]["horizon"] = horizon
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match=r"env.horizon=200 and 100"):
        read(tmp_path)
