"""What a table says of each learner once it has adapted as far as it was evaluated: returns, what
adapting gained, and how it stands to another learner.

Means, medians and scores are those of `learners.side_by_side`; what sets two states or two learners
against each other is worked out here. Intervals are over seeds and tasks.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from metarl.choices import expected
from metarl.errors import UserError
from metarl.report.evaluation import stage
from metarl.report.learners import Learner, scale
from metarl.rl.evaluation.several_runs import (
    Estimate,
    across_runs,
    difference_of_means,
    made_worse_across_runs,
    paired_differences,
    probability_of_improvement,
)
from metarl.struct import struct

Numbers = Mapping[str, Any]


@struct
class Summary:
    """A learner after all of its updates, or in the last episode of its trial."""

    name: str
    seeds: list[int]
    stage: str  # what its state is called: "after 3 updates"
    env_steps: int | None  # of one seed, on average
    seconds: float | None  # of training, of one seed, on average
    mean: Estimate
    iqm: Estimate
    median: Estimate
    before: Estimate | None  # the mean before any update; None of a learner that has none
    solved: Estimate | None  # the share of episodes that solve their task, where one can be solved
    gain: Estimate | None  # the mean of what is more than before on the same task
    made_worse: Estimate | None  # the share of tasks with less than before
    normalised: Estimate | None  # 0 for standing still, 1 for the best that can be had
    gap: Estimate | None  # what is missing to that, on average
    better: Estimate | None  # the probability that it beats the learner `against`
    difference: Estimate | None  # its mean return less that learner's, on the same tasks


def summaries(
    found: Numbers, learners: Sequence[Learner], against: str | None = None
) -> tuple[list[Summary], str | None]:
    """Returns the summaries, and the name of the learner that the others are set against; None of a
    single one.

    Args:
      found: what `learners.side_by_side` says of the learners.
      against: a learner's name, None for the first one's.
    Raises: UserError for a name that none of them has.
    """
    against = compared_with([learner.name for learner in learners], against)
    other = next((learner for learner in learners if learner.name == against), None)
    ends = scale([run for learner in learners for run in learner.runs])
    rows = [
        _summary(numbers, learner, other, ends)
        for numbers, learner in zip(found["learners"], learners, strict=True)
    ]
    return rows, against


def compared_with(names: Sequence[str], against: str | None) -> str | None:
    """The learner that the others are set against: None of a single one, else the one that is asked
    for, or the first one. Raises: UserError for a name that none of them has."""
    if against is not None and against not in names:
        raise UserError(f"against={against}: {expected(against, names)}")
    return None if len(names) == 1 else against or names[0]


def _summary(
    numbers: Numbers,
    learner: Learner,
    against: Learner | None,
    ends: tuple[Tensor, Tensor] | None,
) -> Summary:
    """Args: ends: of the tasks, see `scale`."""
    # Of its own, so that its intervals are the same whoever stands beside it.
    generator = torch.Generator().manual_seed(0)
    rows, returns = numbers["returns"], learner.returns
    first, last, adapts = returns[:, :, 0], returns[:, :, -1], len(rows) > 1
    found: dict[str, Any] = dict.fromkeys(("gain", "made_worse", "gap", "better", "difference"))
    # Of one task and one seed the episodes are all that varies, and they aren't pairs.
    is_single = returns.shape[:2] == (1, 1)
    if adapts:
        gains = last.mean(2) - first.mean(2)
        found["gain"] = (
            difference_of_means(last, first) if is_single else across_runs(gains, generator)["mean"]
        )
        found["made_worse"] = made_worse_across_runs(returns[:, :, [0, -1]])[0]
    if ends is not None and not is_single:
        missing = last.mean(2) - ends[1]
        found["gap"] = across_runs(missing, generator, optimum=0.0)["optimality_gap"]
    if against is not None and against is not learner:
        theirs = against.returns[:, :, -1]
        found["better"] = probability_of_improvement(last, theirs)
        same_seeds = [run.seed for run in learner.runs] == [run.seed for run in against.runs]
        if same_seeds and not is_single:
            found["difference"] = paired_differences(last, theirs, generator)["mean"]
        else:
            found["difference"] = difference_of_means(last, theirs)
    steps = [steps for steps in numbers["env_steps"] if steps is not None]
    seconds = [time for time in numbers["seconds"] if time is not None]
    return Summary(
        name=learner.name,
        seeds=[run.seed for run in learner.runs],
        stage=stage(learner.unit, rows[-1]["update"]),
        env_steps=round(sum(steps) / len(steps)) if steps else None,
        seconds=sum(seconds) / len(seconds) if seconds else None,
        **{name: rows[-1][name] for name in ("mean", "iqm", "median")},
        before=rows[0]["mean"] if adapts else None,
        solved=rows[-1].get("success"),
        normalised=rows[-1].get("normalised"),
        **found,
    )
