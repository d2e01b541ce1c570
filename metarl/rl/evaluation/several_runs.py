"""What several runs say together: of one learner over training seeds, and of two learners on the
same tasks and seeds.

Scores are [S, N, E], E episodes of each of N tasks by each of S seeds, or [S, N]; all seeds are
scored on the same tasks. A training seed makes all tasks' scores, so seeds are clusters: S × N
scores say far less than S · N independent ones.

Intervals are value ± t · se. The standard error is a two-level bootstrap's: a resample draws S
seeds with replacement and N tasks, the same ones for all of them, because a task that is hard for
one seed is hard for the next (the pigeonhole bootstrap, Owen 2007; tasks drawn apart for each seed
would count as S · N). Student's t, and a factor for the variance that resampling few seeds loses,
follow how much of the variance is the seeds' and how much the tasks'. A percentile interval can't
leave the range of the seeds seen: by simulation it holds the truth in 75 % of the time with 3 seeds
that differ much and in 86 % with 5, where it says 95; these in 93 to 96 % with 3, 5 or 10 seeds on 30
tasks (92 to 95 % where a few tasks are far worse than the rest; docs/reports.md has the table), 89
to 98 % with 2 seeds. Shares have intervals made for proportions, which hold it in 88 to 100 %:
least often near 0 and 1 where seeds differ much, and then by telling too good a share, for the seed
that fails is not among those seen (tests/rl/evaluation/test_several_runs.py).
"""

import itertools
import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import torch
from torch import Tensor

from metarl.core.quantiles import t_quantile
from metarl.rl.evaluation.proportions import exact_interval, proportion_interval
from metarl.rl.evaluation.statistics import BLOCK, Statistic, checked, iqm

Scores = Tensor | np.ndarray
"""[S, N, E] or [S, N]."""

Estimate = dict[str, float]
"""`value`, `ci_low`, `ci_high`."""


def across_runs(
    scores: Scores,
    generator: torch.Generator,
    *,
    optimum: float | None = None,
    confidence: float = 0.95,
    num_resamples: int = 2000,
) -> dict[str, Estimate | str]:
    """`mean`, `iqm` and `median` of a learner's scores, and `over`, in words what the intervals are
    over.

    Args:
      scores: [S, N, E] or [S, N], of runs with S seeds on the same N tasks, E episodes each.
      optimum: where known, the best score; adds `optimality_gap`, see `optimality_gap`.
      num_resamples: of the bootstrap, 2 or more.
    Raises: ValueError for other shapes, numbers that aren't finite, a confidence outside (0, 1).
    """
    if num_resamples < 2:
        raise ValueError(f"num_resamples is {num_resamples}; expected 2 or more")
    by_seed, words = _by_seed(scores), over(*scores.shape[:2])
    statistics: dict[str, Statistic] = {"mean": _mean, "iqm": iqm, "median": _median}
    if optimum is not None:
        statistics["optimality_gap"] = lambda values, dim: optimality_gap(values, optimum, dim)
    found: dict[str, Estimate | str] = {"over": words}
    for name, statistic in statistics.items():
        found[name] = _estimate(statistic, by_seed, generator, confidence, num_resamples)
    return found


def paired_differences(
    first: Scores, second: Scores, generator: torch.Generator, *, confidence: float = 0.95
) -> dict[str, Estimate | str]:
    """`mean`, `iqm` and `median` of first − second on the same task with the same seed, and
    `first_better`, the share above 0.

    Episodes of a task are averaged first; ties count half. Seeds are drawn together: right where
    runs of a seed share something (the start, the random data), and no harm where they don't.

    Raises: ValueError where the seeds aren't as many, or of one seed each on one task, whose
      episodes aren't pairs.
    """
    shape = first.shape[:2]
    if shape == second.shape[:2] == (1, 1):
        raise ValueError(
            "one seed of each on one task: episodes aren't pairs; expected several seeds or tasks, "
            "or difference_of_means"
        )
    first, second = _same_tasks(first, second)
    if len(first) != len(second):
        raise ValueError(
            f"{len(first)} seeds beside {len(second)}; expected as many: differences are paired by "
            "seed"
        )
    difference = first.mean(2) - second.mean(2)
    found = across_runs(difference, generator, confidence=confidence)
    return found | {"over": over(*shape), "first_better": _share(_better(difference), confidence)}


def difference_of_means(first: Scores, second: Scores, *, confidence: float = 0.95) -> Estimate:
    """Estimates the mean of first − second on the same tasks, whose seeds aren't pairs and may
    differ in number.

    The variances of the means over either learner's seeds and over tasks, of the differences on
    the same task, add up; so do their degrees of freedom, by Satterthwaite's rule.
    """
    first, second = _same_tasks(first, second)
    difference = first.mean(2).unsqueeze(1) - second.mean(2).unsqueeze(0)
    value, parts = difference.mean().item(), _Parts(difference)
    if parts.variance == 0:
        return {"value": value, "ci_low": value, "ci_high": value}
    reach = t_quantile(confidence, parts.degrees) * math.sqrt(parts.variance)
    return {"value": value, "ci_low": value - reach, "ci_high": value + reach}


def probability_of_improvement(
    first: Scores, second: Scores, *, confidence: float = 0.95
) -> Estimate:
    """Estimates how probably a new run of the first learner beats a new run of the second on a new
    task (Agarwal et al. 2021).

        1/N Σₙ 1/(S S') Σ_{s, s'} [x_sn > y_s'n] + ½ [x_sn = y_s'n]

    Over all pairs of seeds, whose numbers may differ: seed 3 of one learner has nothing to do with
    seed 3 of another. Episodes of a task are averaged first.

    Args: first, second: [S, N, E] or [S, N] each, on the same N tasks.
    Raises: ValueError as `across_runs`, and where the tasks aren't as many.
    """
    first, second = _same_tasks(first, second)
    return _share(_better(first.mean(2).unsqueeze(1) - second.mean(2).unsqueeze(0)), confidence)


def performance_profile(
    scores: Scores, thresholds: Sequence[float], *, confidence: float = 0.95
) -> list[Estimate]:
    """Estimates for each threshold τ the share of runs on tasks that score above it (Dolan & Moré
    2002): all of the distribution at a glance.

    Episodes of a task are averaged first. Where a learner's profile is above another's for every τ,
    it is the better one.
    """
    of_tasks = _by_seed(scores).mean(2)
    return [_share((of_tasks > threshold).double(), confidence) for threshold in thresholds]


def interval_over_seeds(values: Tensor, *, confidence: float = 0.95) -> tuple[Tensor, Tensor]:
    """The ends [...] of the interval of the mean over S seeds, which are all that varies, by
    Student's t: mean ± t · s / √S.

    Args: values: [S, ...] with S of 2 or more.
    """
    if len(values) < 2:
        raise ValueError(f"values have the shape {tuple(values.shape)}; expected 2 seeds or more")
    error = values.std(0) / math.sqrt(len(values))
    reach = t_quantile(confidence, len(values) - 1) * error
    return values.mean(0) - reach, values.mean(0) + reach


def made_worse_across_runs(returns: Tensor, *, confidence: float = 0.95) -> list[Estimate]:
    """Estimates for each update the share of tasks whose mean return it lowers, over the tasks of
    all seeds; of one seed as `metarl.rl.evaluation.proportions` does.

    Args: returns: [S, N, K + 1, E] after 0, 1, ..., K updates.
    """
    if returns.ndim != 4:
        raise ValueError(
            f"returns have the shape {tuple(returns.shape)}; expected [S, N, K + 1, E]"
        )
    means = checked(returns).mean(3)
    return [
        success_across_runs((after < before)[..., None], confidence=confidence)
        for before, after in itertools.pairwise(means.unbind(2))
    ]


def success_across_runs(success: Tensor, *, confidence: float = 0.95) -> Estimate:
    """Estimates the part of episodes that solve their task; of one seed as
    `metarl.rl.evaluation.proportions` does.

    Args: success: [S, N, E] bool.
    """
    if success.ndim != 3:
        raise ValueError(f"success has the shape {tuple(success.shape)}; expected [S, N, E]")
    if len(success) == 1:
        low, high = proportion_interval(success[0], confidence=confidence)
        return {"value": success.double().mean().item(), "ci_low": low, "ci_high": high}
    return _share(success.double().mean(2), confidence, episodes=success.shape[2])


def normalised_across_runs(
    scores: Tensor, zero: Tensor, one: Tensor, generator: torch.Generator
) -> Estimate:
    """A score over seeds and tasks, 0 where the tasks have `zero` (standing still) and 1 where they
    have `one` (the best that can be had), see `metarl.rl.evaluation.statistics.normalised_score`.

        R = (mean score − mean zero) / (mean one − mean zero)

    Its interval is that of the mean of  (score − zero − R (one − zero)) / mean(one − zero), whose
    mean is 0: to first order R varies with it.

    Args: scores: [S, N, E] or [S, N]; zero, one: [N] of the same tasks.
    Raises: ValueError unless `one` is the higher on average.
    """
    scores = _by_seed(scores).mean(2)
    zero, one = checked(zero), checked(one)
    width = (one - zero).mean()
    if not width > 0:
        raise ValueError(
            f"{one.mean():g} scores 1 and {zero.mean():g} scores 0; expected more of 1"
        )
    ratio = ((scores.mean(0) - zero).mean() / width).item()
    varying = (scores - zero - ratio * (one - zero)) / width
    around = _estimate(_mean, varying[..., None], generator, 0.95, 2000)
    return {"value": ratio} | {end: ratio + around[end] for end in ("ci_low", "ci_high")}


def optimality_gap(values: Tensor, optimum: float, dim: int) -> Tensor:
    """Returns how much is missing to the optimum on average, where more than the optimum counts as
    it: mean of max(optimum − value, 0)."""
    return (optimum - values).clamp(min=0).mean(dim)


def over(num_seeds: int, num_tasks: int) -> str:
    """What an interval from so many seeds and tasks is over, in words."""
    if num_seeds == num_tasks == 1:
        return "over episodes of one task, one seed"
    tasks = f"{num_tasks} tasks" if num_tasks != 1 else "one task"
    return f"over {tasks}, one seed" if num_seeds == 1 else f"over {num_seeds} seeds and {tasks}"


def _estimate(
    statistic: Statistic,
    scores: Tensor,
    generator: torch.Generator,
    confidence: float,
    num_resamples: int,
) -> Estimate:
    """A statistic of all S · N · E scores, and its interval."""
    _check_confidence(confidence)
    value = statistic(scores.flatten(), dim=0).item()
    parts = _Parts(scores.mean(2))
    if parts.variance == 0:
        return {"value": value, "ci_low": value, "ci_high": value}
    error = _resampled(statistic, scores, generator, num_resamples).std().item() / math.sqrt(
        parts.kept
    )
    reach = t_quantile(confidence, parts.degrees) * error
    return {"value": value, "ci_low": value - reach, "ci_high": value + reach}


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; expected a number between 0 and 1")


class _Parts:
    """Splits the variance of the mean of `values`, which are crossed by seeds and tasks, [S, N] or
    [S, S', N].

    What is neither the seeds' nor the tasks' own is in each of the parts, which makes intervals a
    little wider than they need be.
    """

    def __init__(self, values: Tensor) -> None:
        means = [
            values.movedim(dim, 0).flatten(1).mean(1)
            for dim in range(values.ndim)
            if values.shape[dim] > 1
        ]
        parts = [(of.var().item() / len(of), len(of)) for of in means]
        self.counts = [count for _, count in parts]
        self.variance = sum(part for part, _ in parts)
        if self.variance > 0:
            # Satterthwaite
            self.degrees = self.variance**2 / sum(part**2 / (count - 1) for part, count in parts)
            # By resampling
            self.kept = sum(part * (count - 1) / count for part, count in parts) / self.variance


def _resampled(
    statistic: Statistic, scores: Tensor, generator: torch.Generator, num_resamples: int
) -> Tensor:
    """Returns the statistic of R resamples of seeds and tasks, [R], working on some at a time."""
    num_seeds, num_tasks = scores.shape[:2]
    block, found = max(1, BLOCK // scores.numel()), []
    for start in range(0, num_resamples, block):
        count = min(block, num_resamples - start)
        seeds = torch.randint(num_seeds, (count, num_seeds, 1), generator=generator)
        tasks = torch.randint(num_tasks, (count, 1, num_tasks), generator=generator)
        found.append(statistic(scores[seeds, tasks].flatten(1), dim=1))
    return torch.cat(found)


def _share(values: Tensor, confidence: float, episodes: int = 1) -> Estimate:
    """The mean of values within 0 and 1 that are crossed by seeds (of one or two learners) and
    tasks, [S, N] or [S, S', N], each the mean of so many episodes.

    Its interval is Clopper and Pearson's from as many independent trials as would vary as much,
    corrected for how little few seeds say of how much they vary (Korn & Graubard 1998). Where all
    values are 0 or all 1, seeds and tasks count once each.
    """
    _check_confidence(confidence)
    value, parts = values.mean().item(), _Parts(values)
    trials = 1 / sum(1 / count for count in parts.counts) if parts.counts else 1.0
    if parts.variance > 0:
        most = values.numel() * episodes
        trials = min(max(trials, value * (1 - value) / parts.variance), most)
        trials *= (
            NormalDist().inv_cdf((1 + confidence) / 2) / t_quantile(confidence, parts.degrees)
        ) ** 2
    low, high = exact_interval(value * trials, trials, confidence=confidence)
    return {"value": value, "ci_low": low, "ci_high": high}


def _by_seed(scores: Scores) -> Tensor:
    """[S, N, E] float64 from [S, N, E] or [S, N]."""
    scores = _with_episodes(scores)
    # With one seed and one task the episodes are all that differs.
    return scores.transpose(1, 2) if scores.shape[:2] == (1, 1) else scores


def _with_episodes(scores: Scores) -> Tensor:
    """[S, N, E] float64 from [S, N, E] or [S, N]."""
    scores = torch.as_tensor(scores)
    if scores.ndim not in (2, 3):
        raise ValueError(
            f"scores have the shape {tuple(scores.shape)}; expected [S, N, E] or [S, N]"
        )
    return checked(scores).reshape(*scores.shape[:2], -1)


def _same_tasks(first: Scores, second: Scores) -> tuple[Tensor, Tensor]:
    """Scores [S, N, E] and [S', N, E'] of two learners. Of one seed each on one task, episodes
    stand in the seeds' place: they are all that differs, and aren't pairs either."""
    first, second = _with_episodes(first), _with_episodes(second)
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"{first.shape[1]} tasks beside {second.shape[1]}; expected scores on the same tasks"
        )
    if first.shape[:2] == second.shape[:2] == (1, 1):
        return first.transpose(0, 2), second.transpose(0, 2)
    return first, second


def _better(difference: Tensor) -> Tensor:
    """1 where it is above 0, ½ where it is 0."""
    return (difference > 0).double() + 0.5 * (difference == 0).double()


def _mean(values: Tensor, dim: int) -> Tensor:
    return values.mean(dim)


def _median(values: Tensor, dim: int) -> Tensor:
    """Returns the median. Of an even number of values it lies halfway between the middle two,
    unlike torch.median's."""
    return values.quantile(0.5, dim)
