"""Agents that know how to learn about Bernoulli arms with probabilities U[0, 1]: Gittins indices, Thompson sampling, UCB1.

They pull the arm with the largest index, a number for each arm that follows from its successes and failures alone. They meet
`metarl.rl.types.RLAdapter`, so a learner's returns can be set beside theirs.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from metarl.rl.types import RLAdapter, Step
from metarl.struct import struct


@struct
class Record:
    """What the arms of W bandits gave so far."""

    successes: Tensor  # [W, k]
    failures: Tensor  # [W, k]

    @property
    def pulls(self) -> Tensor:
        return self.successes + self.failures


Index = Callable[[Record, torch.Generator | None], Tensor]
"""The index [W, k] of each arm."""


def reference_learners(num_arms: int, num_pulls: int) -> dict[str, RLAdapter[Record]]:
    """All of this file for a problem of `num_pulls` pulls in all."""

    def gittins(record: Record, generator: torch.Generator | None) -> Tensor:
        return gittins_index(record, num_pulls)

    indices: dict[str, Index] = {"gittins": gittins, "thompson_sampling": thompson_index, "ucb1": ucb1_index}
    return {name: IndexPolicy(num_arms, index) for name, index in indices.items()}


class IndexPolicy:
    """Pulls the arm with the largest index, the first of them where several are equal."""

    def __init__(self, num_arms: int, index: Index) -> None:
        self._num_arms, self._index = num_arms, index

    def begin(self, num_tasks: int, episodes_per_task: int = 1) -> Record:
        none = torch.zeros(num_tasks * episodes_per_task, self._num_arms)
        return Record(successes=none, failures=none)

    def act(self, state: Record, obs: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        return self._index(state, generator).argmax(-1), torch.zeros(len(obs))

    def observe(self, state: Record, obs: Tensor, action: Tensor, step: Step) -> Record:
        pulled = torch.nn.functional.one_hot(action, self._num_arms)
        reward = step.reward[:, None]
        return Record(successes=state.successes + pulled * reward, failures=state.failures + pulled * (1 - reward))

    def update(self, state: Record, data: Any) -> Record:
        """The same: everything was learnt when it was observed."""
        return state


def ucb1_index(record: Record, generator: torch.Generator | None = None) -> Tensor:
    """mean + √(2 ln t / n) after n of t pulls (Auer et al. 2002), infinite for an arm that was never pulled."""
    n = record.pulls
    total = n.sum(-1, keepdim=True).clamp(min=1.0)
    index = record.successes / n + (2 * total.log() / n).sqrt()
    return torch.where(n > 0, index, torch.inf)


def thompson_index(record: Record, generator: torch.Generator | None) -> Tensor:
    """A draw from each arm's posterior Beta(1 + successes, 1 + failures) (Thompson 1933); without a generator its mean."""
    alpha, beta = 1 + record.successes, 1 + record.failures
    if generator is None:
        return alpha / (alpha + beta)
    # torch.distributions has no argument for a generator. X / (X + Y) is Beta(α, β) for X ~ Gamma(α), Y ~ Gamma(β).
    x, y = (torch._standard_gamma(shape, generator=generator) for shape in (alpha, beta))
    return x / (x + y)


def gittins_index(record: Record, num_pulls: int) -> Tensor:
    """The index of `gittins_indices` for the pulls that remain of `num_pulls`; all worlds have made equally many."""
    n = record.pulls.long()
    remaining = max(1, num_pulls - int(n[0].sum()))
    table = gittins_indices(num_pulls)[remaining - 1]
    last = len(table) - 1
    return table[n.clamp(max=last), record.successes.long().clamp(max=last)]


@cache
def gittins_indices(num_pulls: int, num_levels: int = 64) -> list[Tensor]:
    """Finite-horizon Gittins indices of an arm with prior Beta(1, 1), without discount (Kaufmann 2018, arXiv:1601.01190).

    The index with m pulls to go is the sure payment λ per pull at which one is indifferent between starting to pull the arm,
    free to stop for good, and never doing so: the root in λ of

        C_m(n, s) = p − λ + p max(0, C_{m−1}(n + 1, s + 1)) + (1 − p) max(0, C_{m−1}(n + 1, s)),     C_0 = 0,

    after s successes in n pulls, p = (1 + s) / (2 + n). C falls in λ and is convex, so between levels 1 / num_levels apart the
    root of the chord is slightly too high, by some 10⁻⁵. With several arms the policy isn't exactly the best, which is known
    for discounted endless problems only, but is within a fraction of a percent of it.

    Returns: for m = 1, ..., num_pulls a table [num_pulls − m + 1, num_pulls − m + 1] by n and s. Takes time and memory ~ num_pulls³.
    """
    pulls = torch.arange(num_pulls)
    mean = (1 + pulls[None, :]) / (2 + pulls[:, None])  # [n, s]; s > n never happens
    sizes = [num_pulls - m for m in range(num_pulls)]
    tables = [torch.zeros(size, size) for size in sizes]
    before = [(m + 1) * mean[:size, :size] for m, size in enumerate(sizes)]  # C at λ = 0: one never stops
    for level in torch.linspace(0, 1, num_levels + 1).tolist()[1:]:
        worth = torch.zeros(num_pulls + 1, num_pulls + 1)  # max(0, C)
        for m, size in enumerate(sizes):
            gain = torch.lerp(worth[1 : size + 1, :size], worth[1 : size + 1, 1 : size + 1], mean[:size, :size])
            gain += mean[:size, :size] - level
            # The share of this interval that lies below the root of the chord: all, a part, or none.
            tables[m] += (before[m] / (before[m] - gain)).clamp_(0.0, 1.0) / num_levels
            before[m] = gain
            worth = gain.clamp(min=0.0)
    return tables
