"""What a share of successes says about new tasks: intervals made for proportions, in which episodes
of one task are alike.

Near 0 and 1 a bootstrap has no width, for resamples of nothing but failures are nothing but
failures.
"""

import torch
from torch import Tensor

from metarl.core.quantiles import beta_quantile

DOUBT = 2.0
"""Tasks that would have to differ before half is believed of what the tasks seen say about how
alike their episodes are."""


def success_summary(success: Tensor) -> dict[str, float]:
    """`success_rate`, the part of all episodes that solved their task, with its 95 % interval
    `success_ci_low`, `_high`.

    Args: success: [N, E] bool, as for `proportion_interval`.
    """
    low, high = proportion_interval(success)
    return {
        "success_rate": success.double().mean().item(),
        "success_ci_low": low,
        "success_ci_high": high,
    }


def proportion_interval(success: Tensor, *, confidence: float = 0.95) -> tuple[float, float]:
    """Clopper and Pearson's interval (1934) of the rate on new tasks, as from `effective_size`
    independent trials.

    So Korn and Graubard (1998) treat clusters. Four failures of four tasks give [0, .60], however
    often each task was played. It is made to hold the true rate at least as often as it says. By
    simulation (the slow test of tests/rl/evaluation/test_proportions.py: 10, 30 and 100 tasks × 1,
    4 and 20 episodes, whose correlation within a task is 0, .1, .3, .6 or 1; 400 draws each, so ± 2
    %), a 95 % interval holds

    | true rate | .5 | .9 | .98 | 1 |
    |---|---|---|---|---|
    | at least | 93 % | 93.5 % | 97 % | 100 % |
    | on average | 97 % | 98 % | 99 % | 100 % |

    of the time. A bootstrap over tasks and episodes holds .98 in 34, 68 and 98 % of the time with
    10, 30 and 100 tasks.

    Args: success: [N, E] bool, or [N] for one episode of each task.
    Raises: ValueError for other shapes, no values at all, or a confidence outside (0, 1).
    """
    success = _per_task(success)
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; expected a number between 0 and 1")
    rate, trials = success.mean().item(), effective_size(success)
    return exact_interval(rate * trials, trials, confidence=confidence)


def effective_size(success: Tensor) -> float:
    """Returns how many independent trials N tasks with E episodes each are worth: from N, where a
    task is solved always or never, to N E.

        N E / (1 + (E − 1) ρ),     ρ = (m ρ̂ + DOUBT) / (m + DOUBT)

    The denominator is the design effect. ρ̂ is the correlation of episodes of one task, from how
    much the tasks' rates vary, and m counts the tasks with an episode of the rarer outcome, all
    that ρ̂ stands on: with none there is nothing to say, and ρ is 1.
    """
    success = _per_task(success)
    num_tasks, num_episodes = success.shape
    rate, of_tasks = success.mean(), success.mean(1)
    informative = int((of_tasks < 1).sum() if rate > 0.5 else (of_tasks > 0).sum())
    if informative == 0 or num_tasks == 1 or num_episodes == 1 or rate == 1:
        return float(num_tasks)
    # The variance of the tasks' rates is rate (1 − rate) (1 + (E − 1) ρ) / E.
    design_effect = (of_tasks.var() * num_episodes / (rate * (1 - rate))).item()
    correlation = min(max((design_effect - 1) / (num_episodes - 1), 0.0), 1.0)
    correlation = (informative * correlation + DOUBT) / (informative + DOUBT)
    return num_tasks * num_episodes / (1 + (num_episodes - 1) * correlation)


def exact_interval(successes: float, trials: float, *, confidence: float) -> tuple[float, float]:
    """Clopper and Pearson's: the rates under which as many successes or more, or as few or fewer,
    aren't rarer than the tail.

    Numbers needn't be whole.
    """
    tail, failures = (1 - confidence) / 2, trials - successes
    low = beta_quantile(tail, successes, failures + 1) if successes > 0 else 0.0
    high = beta_quantile(1 - tail, successes + 1, failures) if failures > 1e-12 * trials else 1.0
    return low, high


def _per_task(success: Tensor) -> Tensor:
    """Returns the successes [N, E] as 0 and 1 in float64."""
    if success.ndim not in (1, 2) or success.numel() == 0:
        raise ValueError(
            f"success has the shape {tuple(success.shape)}; expected [N, E], or [N] for one "
            "episode each"
        )
    return success.detach().to("cpu", torch.float64).reshape(len(success), -1)
