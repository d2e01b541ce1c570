"""Evaluations as flat rows of numbers, for evaluations.jsonl and for loggers."""

from collections.abc import Mapping
from typing import Any

import torch

from metarl.report.evaluation import summaries
from metarl.rl.data.collect import Streams
from metarl.rl.evaluation.curve import Acting, adaptation_curve, held_out_tasks
from metarl.rl.types import BatchedEnv, RLAdapter
from metarl.run.shown import HIGH, LOW

Row = dict[str, float]

SCORED_BY = ("iqm", "mean")
"""The means of the returns by which states can be compared."""


def measured_returns(
    adapter: RLAdapter[Any],
    env: BatchedEnv,
    streams: Streams,
    *,
    num_tasks: int,
    skip: int,
    num_updates: int,
    scored_by: str,
    acting: Acting,
    device: torch.device,
) -> Row:
    """Adapts to held-out tasks and returns the row of it, whose score is that after the last
    update.

    Args:
      env: num_tasks * E worlds.
      skip: how many held-out tasks at the beginning of their list are left to other evaluations.
        Where fewer are listed than all ask for, those at the beginning come again.
      scored_by: one of `SCORED_BY`.
      acting: see `metarl.rl.evaluation.curve.adaptation_curve`.
    Raises: SettingError if training could have seen one of the tasks, or there aren't as many.
    """
    tasks = held_out_tasks(env.prior, num_tasks, skip)
    curve = adaptation_curve(
        *(adapter, env, tasks, streams),
        num_tasks=num_tasks,
        num_updates=num_updates,
        device=device,
        acting=acting,
    )
    report = {"returns": summaries(curve.outcomes, streams.tasks)}
    return {**returns_row(report, num_updates, scored_by), "diverged_episodes": curve.diverged}


def returns_row(report: Mapping[str, Any], scored: int, scored_by: str) -> Row:
    """Makes a row of the `returns` of an evaluation: `return_mean_0`, `return_iqm_0` with its
    interval, ..., for each number of updates, and `success_rate_0` where a task can be solved.

    Args:
      scored: after how many updates a return is the `score`, or after all if they are fewer.
      scored_by: which of its means is, one of `SCORED_BY`.
    """
    row: Row = {}
    for found in report["returns"]:
        k = found["update"]
        row[score_name(k, "mean")] = found["mean"]
        _add(row, score_name(k, "iqm"), found["iqm"], found["ci_low"], found["ci_high"])
        if "success_ci_low" in found:
            ends = (found["success_ci_low"], found["success_ci_high"])
            _add(row, f"success_rate_{k}", found["success_rate"], *ends)
    last = report["returns"][-1]["update"]
    return {"score": row[score_name(min(scored, last), scored_by)], **row}


def score_name(num_updates: int, scored_by: str) -> str:
    """The name under which a row has the mean of this kind after so many updates."""
    return f"return_{scored_by}_{num_updates}"


def measures_row(report: Mapping[str, Any], *, less_is_better: bool) -> Row:
    """Makes a row of the `updates` of a few-shot evaluation: `accuracy_0` with its interval, ....
    The `score` is that after the last update; of an error it is the negative, because more is
    better.

    Raises: FloatingPointError if a number isn't finite.
    """
    row: Row = {}
    for found in report["updates"]:
        name = f"{report['measure']}_{found['update']}"
        if found["mean"] is None:
            raise FloatingPointError(f"{name} isn't finite for {found['diverged']} tasks")
        ends = (found["mean"] - found["half_width"], found["mean"] + found["half_width"])
        _add(row, name, found["mean"], *ends)
    last = report["updates"][-1]["mean"]
    return {"score": -last if less_is_better else last, **row}


def _add(row: Row, name: str, value: float, low: float, high: float) -> None:
    row |= {name: value, name + LOW: low, name + HIGH: high}
