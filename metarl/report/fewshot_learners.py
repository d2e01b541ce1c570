"""Few-shot learners, each with the finished runs of its seeds: what they say together.

The counterpart of finished.py and learners.py, which do this for reinforcement learning. Here a run
has one number for each task, an accuracy or a squared error, and a mean after each update.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metarl.errors import UserError
from metarl.fewshot.evaluate import interval_over_seeds_and_tasks
from metarl.report.finished import ConfigsBelow, evaluations, numbers_of
from metarl.report.learners import by_setting, named_settings
from metarl.rl.evaluation import several_runs
from metarl.rl.evaluation.several_runs import Estimate

_ALIKE = ("dataset", "spec_hash", "split", "ways", "shots", "queries", "measure")
"""What all runs of a page have in common."""


@dataclass(frozen=True, kw_only=True)
class FewShotRun:
    """A few-shot run that has been evaluated."""

    place: Path
    """The file of the run's evaluation."""
    config: dict[str, Any]
    report: dict[str, Any]
    metrics: list[dict[str, Any]]

    @property
    def seed(self) -> int:
        return int(self.report["seed"])

    @property
    def algo(self) -> str:
        """The learner as the command line calls it."""
        words = " (transductive)" if self.report["transductive"] else ""
        return str(self.report["learner"]) + words

    @property
    def shows_task(self) -> bool:
        return False

    @property
    def by_task(self) -> Tensor:
        """[N] float64 after the last update; infinite where a task diverged."""
        return _numbers(self.report["by_task"])

    def after(self, update: int) -> Tensor | None:
        """`by_task` after so many updates; None where the evaluation doesn't tell it: those of
        earlier versions have the last ones alone."""
        if update == len(self.report["updates"]) - 1:
            return self.by_task
        before = self.report.get("by_task_before")
        return None if before is None else _numbers(before[update])


def _numbers(of_tasks: Sequence[float | None]) -> Tensor:
    values = [math.inf if value is None else value for value in of_tasks]
    return torch.tensor(values, dtype=torch.float64)


@dataclass(frozen=True, kw_only=True)
class FewShotLearner:
    """Runs that differ in their seeds alone."""

    name: str
    runs: list[FewShotRun]

    @property
    def by_task(self) -> Tensor:
        """[S, N] float64, see `FewShotRun.by_task`."""
        return torch.stack([run.by_task for run in self.runs])


def few_shot_runs(below: ConfigsBelow) -> tuple[list[FewShotRun], list[Path]]:
    """Returns the finished few-shot runs that these configurations are of, in order of their
    places, and the folders of those that haven't been evaluated yet.

    Raises: UserError for an evaluation that can't be read.
    """
    found: dict[Path, FewShotRun] = {}
    begun: dict[Path, Path] = {}
    for file, config in (pair for configs in below.values() for pair in configs.items()):
        if "dataset" not in config:
            continue
        of_run = [
            FewShotRun(place=place, config=config, report=report, metrics=numbers_of(metrics))
            for place, report, metrics in evaluations(file, _ENTRIES)
        ]
        for run in of_run:
            _check_whole(run)
            found[run.place.resolve()] = run
        if not of_run:
            begun[file.parent.resolve()] = file.parent
    return [found[place] for place in sorted(found)], [begun[place] for place in sorted(begun)]


_ENTRIES = (*_ALIKE, "transductive", "num_updates", "updates", "by_task", "learner", "seed")


def _check_whole(run: FewShotRun) -> None:
    """Raises: UserError for numbers that no comparison can be made of."""
    try:
        rows = run.report["updates"]
        whole = run.by_task.ndim == 1 and len(run.by_task) > 0 and len(rows) > 0
        whole = whole and all(row["mean"] is None or "half_width" in row for row in rows)
        told = [run.after(update) for update in range(len(rows))]
        whole = whole and all(of is None or of.shape == run.by_task.shape for of in told)
    except (KeyError, IndexError, TypeError, ValueError):
        whole = False
    if not whole:
        raise UserError(
            f"{run.place}: the numbers of its tasks are damaged; expected one for each task, and a "
            "mean after each update"
        )


def few_shot_learners(runs: Sequence[FewShotRun]) -> list[FewShotLearner]:
    """Puts the runs of one setting together, in order of their first appearance.

    Raises: UserError naming two runs of one seed, or two that weren't evaluated on the same tasks.
    """
    first = runs[0]
    for run in runs:
        differing = [key for key in _ALIKE if run.report[key] != first.report[key]]
        if len(run.by_task) != len(first.by_task):
            differing.append("num_tasks")
        seeds = [of.config["evaluation"].get("seed") for of in (run, first)]
        if seeds[0] != seeds[1]:
            differing.append("evaluation.seed")
        if differing:
            own, other = (named_settings(_described(of, differing)) for of in (run, first))
            raise UserError(
                f"{run.place} was evaluated on other tasks than {first.place}: {own}; expected "
                f"{other}"
            )
    return [FewShotLearner(name=name, runs=of) for name, of in by_setting(runs).items()]


def _described(run: FewShotRun, keys: Sequence[str]) -> dict[str, Any]:
    known = {
        **run.report,
        "num_tasks": len(run.by_task),
        "evaluation.seed": run.config["evaluation"].get("seed"),
    }
    return {key: known[key] for key in keys}


def after_each_update(learner: FewShotLearner) -> list[Estimate | None]:
    """The mean over all runs after 0, 1, ... updates with its 95 % interval; None where a task of
    any run diverged.

    The interval is over tasks, and of several seeds over these, too (see
    `metarl.fewshot.evaluate.interval_over_seeds_and_tasks`). Where a run doesn't tell each task's number,
    its own interval stands for that of the tasks' means, which is no wider.
    """
    num_updates = min(len(run.report["updates"]) for run in learner.runs)
    rows = [[run.report["updates"][k] for run in learner.runs] for k in range(num_updates)]
    values = [[run.after(k) for run in learner.runs] for k in range(num_updates)]
    return [
        _over_seeds_and_tasks(of) or _together(row) for of, row in zip(values, rows, strict=True)
    ]


def _over_seeds_and_tasks(by_task: Sequence[Tensor | None]) -> Estimate | None:
    """The mean of several runs by the numbers of their tasks; None where these aren't all there."""
    told = [values for values in by_task if values is not None and bool(values.isfinite().all())]
    if len(told) < max(2, len(by_task)):
        return None
    exact = interval_over_seeds_and_tasks(torch.stack(told))
    return _estimate(exact.mean, exact.half_width)


def _together(rows: Sequence[Mapping[str, Any]]) -> Estimate | None:
    if any(row["mean"] is None for row in rows):
        return None
    means = torch.tensor([row["mean"] for row in rows], dtype=torch.float64)
    of_tasks = sum(row["half_width"] for row in rows) / len(rows)
    if len(rows) == 1:
        return _estimate(means.item(), of_tasks)
    low, high = several_runs.interval_over_seeds(means)
    return _estimate(means.mean().item(), math.hypot((high - low).item() / 2, of_tasks))


def _estimate(mean: float, half_width: float) -> Estimate:
    return {"value": mean, "ci_low": mean - half_width, "ci_high": mean + half_width}


def references(learner: FewShotLearner) -> dict[str, list[float | None]]:
    """What stands beside a learner in its evaluations, as means over its runs after each update."""
    found: dict[str, list[float | None]] = {}
    for name in dict.fromkeys(name for run in learner.runs for name in run.report["references"]):
        rows = [run.report["references"].get(name) for run in learner.runs]
        there = [[row["mean"] for row in of] for of in rows if of]
        found[name] = [
            None if None in means else sum(means) / len(means)
            for means in zip(*there, strict=False)
        ]
    return found
