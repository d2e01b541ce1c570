"""What a few-shot evaluation reports: references on the same tasks, tasks that diverged, and where
a class is met again."""

import json

import pytest
import torch

from metarl.fewshot.sinusoid import Sinusoid
from metarl.fewshot.types import TaskSize
from metarl.report import fewshot


class Constant:
    """Answers a number everywhere after its update, and zero before; notes the largest input it was
    asked about."""

    num_updates, transductive = 1, False

    def __init__(self, value):
        self.value, self.asked = value, []

    def begin(self, num_tasks):
        return 0.0

    def update(self, state, data):
        return self.value

    def predict(self, state, x):
        self.asked.append(x.max().item())
        return torch.full_like(x, state)


def evaluated(adapter, references):
    return fewshot.evaluate(
        adapter,
        Sinusoid(),
        TaskSize(ways=1, shots=2, queries=5),
        split="test",
        num_tasks=30,
        num_updates=None,
        tasks=lambda: torch.Generator().manual_seed(3),
        device=torch.device("cpu"),
        references=references,
    )


def test_references_meet_the_same_tasks():
    one, same, worse = Constant(0.5), Constant(0.5), Constant(9.0)
    report = evaluated(one, {"same": same, "worse": worse})
    assert one.asked == same.asked == worse.asked
    assert report["references"]["same"] == report["updates"]
    assert report["references"]["worse"][1]["mean"] > report["updates"][1]["mean"]
    lines = fewshot.table(report).splitlines()
    assert [line.split("  ")[-1] for line in lines[-2:]] == ["same", "worse"]


def test_each_tasks_number_is_kept_after_each_update():
    report = evaluated(Constant(0.5), {})
    told = [*report["by_task_before"], report["by_task"]]
    assert [len(tasks) for tasks in told] == [30, 30]
    for tasks, row in zip(told, report["updates"], strict=True):
        assert sum(tasks) / 30 == pytest.approx(row["mean"])
    assert told[0] != told[1]


def test_tasks_that_diverge_are_counted_and_not_left_out():
    report = evaluated(Constant(float("inf")), {})
    after = report["updates"][1]
    assert after == {"update": 1, "mean": None, "half_width": None, "num_tasks": 30, "diverged": 30}
    assert report["updates"][0]["mean"] > 0 and "30 of 30 tasks diverged" in fewshot.table(report)
    assert report["by_task"] == [None] * 30  # JSON knows no infinity.
    run = {**report, "learner": "maml", "seed": 0, "overrides": []}
    table = fewshot.comparison([run, json.loads(json.dumps(run)) | {"seed": 1}])
    assert table.count("| diverged |") == 3


def test_seeds_of_a_sweep_are_pooled_before_and_after_and_keep_the_tasks_they_share():
    run = {**evaluated(Constant(0.5), {}), "learner": "maml", "seed": 0, "overrides": []}
    again = json.loads(json.dumps(run)) | {"seed": 1}
    cells = [line.split("|")[5:8] for line in fewshot.comparison([run, again]).splitlines()[2:]]
    assert (
        cells[0] == cells[1] == cells[2]
    )  # Two seeds with equal numbers are no more tasks than one.
    again["updates"][0]["mean"] += 1.0
    before = [
        float(line.split("|")[5]) for line in fewshot.comparison([run, again]).splitlines()[2:]
    ]
    assert before[2] == pytest.approx(
        (before[0] + before[1]) / 2, abs=1e-4
    )  # shown with four digits


def test_instances_are_numbered_from_one():
    found = fewshot.instances(torch.tensor([[0.0, 1.0], [0.5, 1.0]]))
    assert [(row["instance"], row["mean"]) for row in found] == [(1, 0.25), (2, 1.0)]
    # Standard deviation √(2 · 0.25²) = 0.35355; 1.96 · 0.35355 / √2 = 0.49.
    assert found[0]["half_width"] == pytest.approx(0.49, abs=1e-6)
