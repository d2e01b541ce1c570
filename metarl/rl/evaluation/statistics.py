"""What a table of returns says about *new* tasks: mean, interquartile mean, what adapting gains and
how often it harms, with intervals.

Returns are [N, E]: E episodes of each of N tasks that were drawn from the prior. Everything is
float64 on the CPU.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from metarl.rl.evaluation.proportions import proportion_interval

BLOCK = 4_000_000
"""Numbers that resampling holds at a time."""


class Statistic(Protocol):
    """A summary along one dimension, called as torch.mean is: [..., M] -> [...]."""

    def __call__(self, values: Tensor, dim: int) -> Tensor: ...


def iqm(values: Tensor, dim: int | None = None) -> Tensor:
    """The interquartile mean: the mean of what remains without the lowest and the highest ⌊M/4⌋ of
    M values.

    Unlike the median it uses half of the data, unlike the mean no outlier moves it. With [N, E] and
    no `dim`, all N·E episodes are pooled, as in Agarwal et al. 2021 (arXiv:2108.13264).

    Raises: ValueError for NaN or infinite values, which sorting would otherwise put among the
    trimmed ones unseen.
    """
    values = checked(values)
    if dim is None:
        values, dim = values.flatten(), 0
    count = values.shape[dim]
    cut = count // 4
    return values.sort(dim).values.narrow(dim, cut, count - 2 * cut).mean(dim)


def stratified_bootstrap_interval(
    returns: Tensor,
    statistic: Statistic,
    generator: torch.Generator,
    *,
    confidence: float = 0.95,
    num_resamples: int = 2000,
) -> tuple[float, float]:
    """Percentile bootstrap interval of a statistic of all episodes, over tasks and over the
    episodes within each.

    A resample draws N tasks with replacement, then E episodes with replacement within each drawn
    task: each task is a stratum, its episodes are never mixed with another's. Agarwal et al. 2021
    redraw only within the strata, because a benchmark's tasks are fixed; ours are a sample from a
    prior, and the question is what happens on the next one, so the tasks are drawn anew, too.
    Drawing at both levels counts the noise of episodes twice (Davison & Hinkley 1997, §3.8), that
    is an interval wider by at most √2, by little if tasks differ more than episodes do; with few
    tasks it makes up for the percentile interval's being too short.

    Args:
      returns: [N, E], or [N] for one episode of each task.
      statistic: of the pooled N·E episodes, for instance `iqm` or `torch.mean`.
      generator: on the CPU.
    Returns: the (1 − confidence)/2 and (1 + confidence)/2 quantiles over the resamples.
    Raises: ValueError for NaN or infinite returns, other shapes, or a confidence outside (0, 1).
    """
    returns = _per_task(returns)
    tasks = _resampled_tasks(len(returns), num_resamples, generator)
    measure = lambda resamples: statistic(resamples.flatten(1), dim=1)
    return _quantiles(_resampled(measure, returns, tasks, generator), confidence)


def summary(
    returns: Tensor,
    generator: torch.Generator,
    *,
    confidence: float = 0.95,
    num_resamples: int = 2000,
) -> dict[str, float]:
    """`mean` and `iqm` of all episodes; `ci_low` and `ci_high` bound the IQM, not the mean.

    Args: returns: [N, E] or [N], as for stratified_bootstrap_interval, which gives the interval.
    """
    returns = _per_task(returns)
    low, high = stratified_bootstrap_interval(
        returns, iqm, generator, confidence=confidence, num_resamples=num_resamples
    )
    return {
        "mean": returns.mean().item(),
        "iqm": iqm(returns).item(),
        "ci_low": low,
        "ci_high": high,
    }


def adaptation_gain(
    returns: Tensor,
    generator: torch.Generator,
    *,
    confidence: float = 0.95,
    num_resamples: int = 2000,
) -> dict[str, float]:
    """What the first update brings: the paired difference on each task, and its statistics over
    tasks.

        gainₙ = mean over episodes of returns[n, 1] − mean over episodes of returns[n, 0]

    Tasks differ far more in what can be earned than in what is gained, so pairing gives the
    narrower interval. Episodes before and after are independent and are resampled apart, within the
    same drawn tasks.

    Args: returns: [N, K + 1, E] after 0, 1, ..., K updates, K ≥ 1.
    Returns: `mean` and `iqm` over the N gains, and the interval `ci_low`, `ci_high` of that IQM.
    """
    if returns.ndim != 3 or returns.shape[1] < 2:
        raise ValueError(
            f"returns have the shape {tuple(returns.shape)}; expected [N, K + 1, E] with K of 1 or "
            "more"
        )
    before, after = _per_task(returns[:, 0]), _per_task(returns[:, 1])
    gain = after.mean(-1) - before.mean(-1)
    tasks = _resampled_tasks(len(gain), num_resamples, generator)
    resampled_before, resampled_after = (
        _resampled(lambda resamples: resamples.mean(-1), x, tasks, generator)
        for x in (before, after)
    )
    low, high = _quantiles(iqm(resampled_after - resampled_before, dim=1), confidence)
    return {"mean": gain.mean().item(), "iqm": iqm(gain).item(), "ci_low": low, "ci_high": high}


def normalised_score(
    returns: Tensor,
    stand_still: Tensor,
    oracle: Tensor,
    generator: torch.Generator,
    *,
    confidence: float = 0.95,
    num_resamples: int = 2000,
) -> dict[str, float]:
    """`mean`, 0 for standing still and 1 for the oracle, with the interval `ci_low`, `ci_high` over
    tasks.

        (mean return − mean of standing still) / (mean of the oracle − mean of standing still)

    The ratio of means, not the mean of ratios: where a task asks for little, standing still is
    nearly as good as the oracle, and a ratio of that task alone is anything. A resample draws the
    same tasks for all three.

    Args: returns, stand_still, oracle: [N, E], E may differ, or [N].
    Raises: ValueError unless the oracle is better than standing still.
    """
    returns, stand_still, oracle = (_per_task(x).mean(1) for x in (returns, stand_still, oracle))
    if not oracle.mean() > stand_still.mean():
        raise ValueError(
            f"the oracle has {oracle.mean().item():g}, standing still "
            f"{stand_still.mean().item():g}; expected more of the oracle"
        )
    gained, scale = returns - stand_still, oracle - stand_still
    tasks = _resampled_tasks(len(returns), num_resamples, generator)
    low, high = _quantiles(gained[tasks].mean(1) / scale[tasks].mean(1), confidence)
    return {"mean": (gained.mean() / scale.mean()).item(), "ci_low": low, "ci_high": high}


def made_worse(returns: Tensor) -> list[dict[str, float]]:
    """Returns for each update the share of tasks whose mean return it lowers, with a 95 % interval
    made for proportions, and the share of tasks that have less than before any update.

    Noise counts, too: an update that changes nothing makes half of those tasks worse whose means
    aren't equal.

    Args: returns: [N, K + 1, E] after 0, 1, ..., K updates.
    Returns: K times `update`, `share`, `ci_low`, `ci_high`, `share_below_unadapted`.
    """
    means = checked(returns).mean(-1)
    rows = []
    for update in range(1, means.shape[1]):
        worse = means[:, update] < means[:, update - 1]
        low, high = proportion_interval(worse)
        below = (means[:, update] < means[:, 0]).double().mean().item()
        share = worse.double().mean().item()
        rows.append(
            {
                "update": update,
                "share": share,
                "ci_low": low,
                "ci_high": high,
                "share_below_unadapted": below,
            }
        )
    return rows


def checked(values: Tensor) -> Tensor:
    """Returns the values in float64 on the CPU. Raises: ValueError for no values at all, NaN or
    infinite ones."""
    values = values.detach().to("cpu", torch.float64)
    if values.numel() == 0:
        raise ValueError("no values at all; statistics need at least one")
    bad = values[~values.isfinite()]
    if len(bad):
        raise ValueError(
            f"{bad[0].item()} among {values.numel()} values; statistics need finite numbers"
        )
    return values


def _per_task(returns: Tensor) -> Tensor:
    """[N, E] float64 from [N, E] or [N]."""
    if returns.ndim not in (1, 2):
        raise ValueError(
            f"returns have the shape {tuple(returns.shape)}; expected [N, E], or [N] for one "
            "episode each"
        )
    return checked(returns).reshape(len(returns), -1)


def _resampled_tasks(num_tasks: int, num_resamples: int, generator: torch.Generator) -> Tensor:
    """[R, N] task indices."""
    return torch.randint(num_tasks, (num_resamples, num_tasks), generator=generator)


def _resampled(
    measure: Callable[[Tensor], Tensor], returns: Tensor, tasks: Tensor, generator: torch.Generator
) -> Tensor:
    """returns [N, E], tasks [R, N] -> what `measure` makes of R resamples [R, N, E]: of each drawn
    task, E of its episodes drawn with replacement. It gets some resamples at a time, as rows."""
    num_episodes, found = returns.shape[1], []
    for some in tasks.split(max(1, BLOCK // returns.numel())):
        episodes = torch.randint(num_episodes, (*some.shape, num_episodes), generator=generator)
        found.append(measure(returns.flatten()[some[..., None] * num_episodes + episodes]))
    return torch.cat(found)


def _quantiles(values: Tensor, confidence: float) -> tuple[float, float]:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; expected a number between 0 and 1")
    tail = (1 - confidence) / 2
    low, high = values.quantile(torch.tensor([tail, 1 - tail], dtype=values.dtype)).tolist()
    return low, high
