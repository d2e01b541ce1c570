"""What the charts of a report show, as numbers: performance profiles, and returns task by task over
what makes the task."""

import itertools
import re
from collections.abc import Sequence

import torch
from torch import Tensor

from metarl.report.finished import Finished
from metarl.report.learners import Learner
from metarl.rl.evaluation.several_runs import Estimate, performance_profile
from metarl.struct import struct

NUM_THRESHOLDS = 61
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_FEW, _SHORT = 8, 16  # kinds of tasks, and letters, that stand beside each other by their names


@struct
class TaskAxis:
    """What tells the held-out tasks apart: a number, or one of few names, or else their order."""

    label: str
    values: list[float]  # [N] where each task stands
    names: list[str] | None  # of few kinds of tasks: where each of them stands is its index


def task_axis(run: Finished) -> TaskAxis:
    """Says where the tasks of an evaluation stand on an axis. What makes a task is read from its
    numbers, or, in evaluations of earlier versions, from its words."""
    words, exact = run.tasks, run.numbers
    kinds = list(dict.fromkeys(words))
    frames = {_NUMBER.sub("", text) for text in words}
    if exact is not None or (len(frames) == 1 and len(kinds) > 1):
        read = [_NUMBER.findall(text) for text in words]
        told = all(len(numbers) == 1 for numbers in read)
        if exact is not None or told:
            values = exact if exact is not None else [float(numbers[0]) for numbers in read]
            label = frames.pop() if told and len(frames) == 1 else ""
            if not label.strip():
                label = " ".join(run.report["tasks"][0].get("numbers", {"task": 0}))
            label = " ".join(label.replace("_", " ").split())
            return TaskAxis(label=label, values=values, names=None)
    if len(kinds) <= _FEW and max(map(len, kinds)) <= _SHORT:
        values = [float(kinds.index(text)) for text in words]
        return TaskAxis(label="task", values=values, names=kinds)
    values = [float(number) for number in range(1, len(words) + 1)]
    return TaskAxis(label="task, in the order of the evaluation", values=values, names=None)


def thresholds(learners: Sequence[Learner]) -> list[float]:
    """Returns at which a profile is drawn: from the lowest to the highest mean of a task."""
    ends = [_of_tasks(learner.returns) for learner in learners]
    low = min(values.min().item() for values in ends)
    high = max(values.max().item() for values in ends)
    return torch.linspace(low, high, NUM_THRESHOLDS, dtype=torch.float64).tolist()


def profiles(learner: Learner, at: Sequence[float]) -> dict[int, list[Estimate]]:
    """The share of tasks, of all seeds, whose mean return is above each of the thresholds: before
    adapting and after the last update, by the number of updates.

    A share falls as its threshold rises, so what bounds one from below bounds those before it, too,
    and what bounds it from above those behind it. Else a band would gape where all tasks are above,
    because there nothing shows how much seeds differ.
    """
    last = learner.returns.shape[2] - 1
    return {
        update: _falling(performance_profile(learner.returns[:, :, update], at))
        for update in dict.fromkeys((0, last))
    }


def ends_of_tasks(learner: Learner) -> Tensor:
    """[N, 2] the mean of each task over seeds and episodes, before and after the last update."""
    return learner.returns[:, :, [0, -1]].mean((0, 3))


def reach_over_tasks(learners: Sequence[Learner]) -> tuple[float, float]:
    """The ends of an axis on which the `ends_of_tasks` of all of these stand."""
    ends = [ends_of_tasks(learner) for learner in learners]
    low, high = min(e.min().item() for e in ends), max(e.max().item() for e in ends)
    margin = 0.05 * (high - low) or 1.0
    return low - margin, high + margin


def _falling(estimates: list[Estimate]) -> list[Estimate]:
    lows = itertools.accumulate((e["ci_low"] for e in reversed(estimates)), max)
    highs = itertools.accumulate((e["ci_high"] for e in estimates), min)
    ends = zip(reversed(list(lows)), highs, strict=True)
    return [
        {"value": estimate["value"], "ci_low": low, "ci_high": high}
        for estimate, (low, high) in zip(estimates, ends, strict=True)
    ]


def _of_tasks(returns: Tensor) -> Tensor:
    """[S, N, 2] means of each task before and after the last update, from [S, N, K + 1, E]."""
    return returns[:, :, [0, -1]].mean(3)
