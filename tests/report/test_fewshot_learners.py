"""Few-shot runs are found where they lie, and put together by their settings."""

from pathlib import Path

import pytest
import torch
from support.run_folders import few_shot_folder, run_folder

from metarl.errors import UserError
from metarl.fewshot.evaluate import interval_over_seeds_and_tasks
from metarl.report.fewshot_learners import (
    after_each_update,
    few_shot_learners,
    few_shot_runs,
    references,
)
from metarl.report.finished import all_runs, configs_below

TASKS = [[0.5, 0.7, 0.9], [0.7, 0.8, 1.0]]


def test_seeds_of_one_setting_are_one_learner(tmp_path: Path) -> None:
    for seed, tasks in enumerate(TASKS):
        few_shot_folder(tmp_path / f"a{seed}", tasks, seed=seed)
    few_shot_folder(tmp_path / "b", TASKS[0], settings={"inner_lr": 0.1})
    few_shot_folder(tmp_path / "c", TASKS[0], settings={"inner_lr": 0.2}, transductive=True)
    run_folder(tmp_path / "rl", [[1.0, 2.0]])
    (few_shot_folder(tmp_path / "going", TASKS[0], seed=5) / "evaluation.json").unlink()
    runs, begun = few_shot_runs(configs_below([tmp_path, tmp_path / "b"]))
    learners = few_shot_learners(runs)
    assert [[run.seed for run in learner.runs] for learner in learners] == [[0, 1], [0], [0]]
    names = ["maml", "maml (learner.inner_lr=0.1)", "maml (transductive)"]
    assert [learner.name for learner in learners] == names
    assert begun == [tmp_path / "going"]


def test_means_of_seeds_have_intervals_over_seeds_and_tasks(tmp_path: Path) -> None:
    for seed, tasks in enumerate(TASKS):
        few_shot_folder(tmp_path / f"a{seed}", tasks, seed=seed, means=[0.2 + 0.1 * seed])
    (learner,) = few_shot_learners(few_shot_runs(configs_below([tmp_path]))[0])
    before, after = after_each_update(learner)
    exact = interval_over_seeds_and_tasks(torch.tensor(TASKS, dtype=torch.float64))
    assert after == {
        "value": exact.mean,
        "ci_low": exact.mean - exact.half_width,
        "ci_high": exact.mean + exact.half_width,
    }
    # Two seeds 0.1 apart: t = 12.71, standard error 0.05; beside it their tasks' 0.1.
    half_width = ((12.706 * 0.05) ** 2 + 0.1**2) ** 0.5
    assert before is not None and before["value"] == pytest.approx(0.25)
    assert before["ci_high"] - 0.25 == pytest.approx(half_width, rel=1e-4)
    assert references(learner) == {"random initialisation": [0.25, 0.25]}


def test_before_the_last_update_intervals_are_over_seeds_and_tasks_where_these_are_told(
    tmp_path: Path,
) -> None:
    before = [[0.1, 0.2, 0.6], [0.2, 0.3, 0.1]]
    for seed, (tasks, at_first) in enumerate(zip(TASKS, before, strict=True)):
        run = {"seed": seed, "means": [sum(at_first) / 3], "by_task_before": [at_first]}
        few_shot_folder(tmp_path / f"a{seed}", tasks, **run)
    (learner,) = few_shot_learners(few_shot_runs(configs_below([tmp_path]))[0])
    exact = interval_over_seeds_and_tasks(torch.tensor(before, dtype=torch.float64))
    found = after_each_update(learner)[0]
    assert found is not None and found["value"] == pytest.approx(0.25)
    assert found["ci_high"] - 0.25 == pytest.approx(exact.half_width)


def test_a_single_seed_has_the_interval_of_its_evaluation(tmp_path: Path) -> None:
    few_shot_folder(tmp_path, [0.5, 0.7, 0.9])
    (learner,) = few_shot_learners(few_shot_runs(configs_below([tmp_path]))[0])
    assert after_each_update(learner)[1] == pytest.approx(
        {"value": 0.7, "ci_low": 0.6, "ci_high": 0.8}
    )


def test_a_task_that_diverged_leaves_no_mean(tmp_path: Path) -> None:
    few_shot_folder(tmp_path, [0.5, None])
    (learner,) = few_shot_learners(few_shot_runs(configs_below([tmp_path]))[0])
    assert after_each_update(learner)[1] is None and learner.by_task[0, 1] == torch.inf


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (
            {"ways": 20, "shots": 5},
            "other tasks than .*a/evaluation.json: ways=20, shots=5; ex.* wa",
        ),
        ({"spec_hash": "def"}, "spec_hash=def; expected spec_hash=abc"),
        ({"by_task": [0.5]}, "num_tasks=1; expected num_tasks=2"),
        ({"learner": "reptile", "split": "train"}, "split=train; expected split=test"),
        ({}, "are both maml with seed 0; expected one run of each seed"),
        ({"updates": [{"mean": 1.0}]}, "b/evaluation.json: the numbers of its tasks are damaged"),
        ({"by_task_before": []}, "b/evaluation.json: the numbers of its tasks are damaged"),
        ({"by_task_before": [[0.5]]}, "b/evaluation.json: the numbers of its tasks are damaged"),
        ({"updates": []}, "b/evaluation.json: the numbers of its tasks are damaged"),
    ],
)
def test_what_does_not_belong_together_is_named(tmp_path: Path, other: dict, said: str) -> None:
    few_shot_folder(tmp_path / "a", [0.5, 0.7])
    few_shot_folder(tmp_path / "b", **{"by_task": [0.5, 0.7], **other})
    with pytest.raises(UserError, match=said):
        few_shot_learners(few_shot_runs(configs_below([tmp_path]))[0])


def test_where_reinforcement_learning_is_expected_few_shot_runs_are_named(tmp_path: Path) -> None:
    few_shot_folder(tmp_path, [0.5])
    with pytest.raises(UserError, match="has few-shot runs alone; expected runs of reinforcement"):
        all_runs(configs_below([tmp_path]))
