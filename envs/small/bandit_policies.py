"""Agents that know how to learn about Bernoulli arms with probabilities U[0, 1]: Gittins indices,
Thompson sampling, UCB1.

They pull the arm with the largest index, a number for each arm that follows from its successes and
failures alone. They are `metarl.rl.types.RLAdapter`s, so a learner's returns can be set beside
theirs.
"""

import logging
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from metarl.noise import Noise
from metarl.rl.types import Act, RLAdapter, Step
from metarl.struct import struct


@struct
class Record:
    """What the arms of W bandits gave so far."""

    successes: Tensor  # [W, k]
    failures: Tensor  # [W, k]

    @property
    def pulls(self) -> Tensor:
        return self.successes + self.failures


MOST_PULLS = 600
"""The most for which `gittins_indices` are worked out: time and memory grow with their cube."""

Index = Callable[[Record, Noise | None], Tensor]
"""The index [W, k] of each arm."""


def reference_learners(num_arms: int, num_pulls: int) -> dict[str, RLAdapter[Record]]:
    """All of this file for a problem of `num_pulls` pulls in all."""

    def gittins(record: Record, noise: Noise | None) -> Tensor:
        return gittins_index(record, num_pulls)

    indices: dict[str, Index] = {
        "gittins": gittins,
        "thompson_sampling": thompson_index,
        "ucb1": ucb1_index,
    }
    if num_pulls > MOST_PULLS:
        logging.getLogger("metarl").warning(
            "without gittins beside the others: its indices for %d pulls would take more than "
            "minutes; they are worked out for up to %d",
            num_pulls,
            MOST_PULLS,
        )
        del indices["gittins"]
    return {name: IndexPolicy(num_arms, index) for name, index in indices.items()}


class IndexPolicy(RLAdapter[Record]):
    """Pulls the arm with the largest index, the first of them where several are equal."""

    def __init__(self, num_arms: int, index: Index) -> None:
        self._num_arms = num_arms
        self._index = index

    def begin(
        self, num_tasks: int, episodes_per_task: int = 1, noise: Noise | None = None
    ) -> Record:
        none = torch.zeros(num_tasks * episodes_per_task, self._num_arms)
        return Record(successes=none, failures=none)

    def act(self, state: Record, obs: Tensor, noise: Noise | None) -> Act:
        return Act(action=self._index(state, noise).argmax(-1))

    def observe(self, state: Record, obs: Tensor, act: Act, step: Step) -> Record:
        pulled = torch.nn.functional.one_hot(act.action, self._num_arms)
        reward = step.reward[:, None]
        return Record(
            successes=state.successes + pulled * reward,
            failures=state.failures + pulled * (1 - reward),
        )


def ucb1_index(record: Record, noise: Noise | None = None) -> Tensor:
    """mean + √(2 ln t / n) after n of t pulls (Auer et al. 2002), infinite for an arm that was
    never pulled."""
    n = record.pulls
    total = n.sum(-1, keepdim=True).clamp(min=1.0)
    index = record.successes / n + (2 * total.log() / n).sqrt()
    return torch.where(n > 0, index, torch.inf)


def thompson_index(record: Record, noise: Noise | None) -> Tensor:
    """A draw from each arm's posterior Beta(1 + successes, 1 + failures) (Thompson 1933); without
    noise its mean."""
    alpha, beta = 1 + record.successes, 1 + record.failures
    if noise is None:
        return alpha / (alpha + beta)
    # X / (X + Y) is Beta(α, β) for X ~ Gamma(α), Y ~ Gamma(β).
    x, y = noise.gamma(alpha), noise.gamma(beta)
    return x / (x + y)


def gittins_index(record: Record, num_pulls: int) -> Tensor:
    """The index of `gittins_indices` for the pulls that remain of `num_pulls`; all worlds have made
    equally many."""
    n = record.pulls.long()
    remaining = max(1, num_pulls - int(n[0].sum()))
    table = gittins_indices(num_pulls)[remaining - 1]
    last = len(table) - 1
    return table[n.clamp(max=last), record.successes.long().clamp(max=last)]


@cache
def gittins_indices(num_pulls: int, num_levels: int = 128, discount: float = 1.0) -> list[Tensor]:
    """Finite-horizon Gittins indices of an arm with prior Beta(1, 1) (Kaufmann 2018,
    arXiv:1601.01190).

    The index after s successes in n pulls, with m pulls to go, is the best ratio of reward to pulls
    that a rule τ for when to stop can have:

        index = max over τ ≤ m of E[Σₜ γᵗ rewardₜ] / E[Σₜ γᵗ],     t = 0, ..., τ − 1

    where the first reward is 1 with probability (1 + s) / (2 + n).

    We try the rules that are best for an arm that must earn a level λ per pull: stop where what can
    be earned is at most λ times the pulls that it takes. Of `num_levels` − 1 levels λ the best
    ratio is taken. Each is that of a real rule, so the index is never too high; it is too low by
    less than 10⁻³ for 100 pulls and 5·10⁻³ for 500, and by about a fourth of that with twice the
    levels. With several arms the policy isn't exactly the best, which is known for discounted
    endless problems only, but is within a fraction of a percent of it.

    Args: discount: γ. Below 1, many pulls give the indices of the endless problem, as Gittins,
    Glazebrook & Weber (2011) list them. Returns: for m = 1, ..., num_pulls a table [num_pulls − m +
    1, num_pulls − m + 1] by n and s. Takes time and memory ~ num_pulls³.
    """
    pulls = torch.arange(num_pulls)
    mean = (1 + pulls[None, :]) / (2 + pulls[:, None])  # [n, s]; s > n never happens
    tables = [torch.zeros(size, size) for size in range(num_pulls, 0, -1)]
    for level in range(1, num_levels):
        # Expected reward and number of pulls, both discounted, under the level's rule; zero where
        # it stops.
        ahead = torch.zeros(2, num_pulls + 1, num_pulls + 1)
        for table in tables:
            size = len(table)
            p = mean[:size, :size]
            now = discount * torch.lerp(
                ahead[:, 1 : size + 1, :size], ahead[:, 1 : size + 1, 1 : size + 1], p
            )
            now[0] += p
            now[1] += 1
            ratio = now[0] / now[1]
            torch.maximum(table, ratio, out=table)
            ahead = now * (ratio > level / num_levels)
    return tables
