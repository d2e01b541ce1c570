"""Posterior sampling in the gridworld: believes in one of the goals that are still possible, goes
there, and waits for the next episode to believe in another. What it loses on the Bayes-optimal
search is the price of not planning its exploration.
"""

from typing import Any

import torch
from torch import Tensor

from envs.small.gridworld_optima import possible_goals
from metarl.noise import Noise
from metarl.rl.types import Act, RLAdapter, Step
from metarl.struct import replace, struct


@struct
class Belief:
    """What is believed in W worlds: which goals are possible, and the one to go to in this
    episode."""

    possible: Tensor  # [W, cells] bool
    target: Tensor  # [W] int64, a cell


class PosteriorSampling(RLAdapter[Belief]):
    """Thompson 1933; Osband et al. 2013 (arXiv:1306.0940). Draws the goal of each episode from the
    posterior, which is uniform on what is possible; without noise it takes the first of them.
    """

    def __init__(self, size: int) -> None:
        self._size = size

    def begin(
        self, num_tasks: int, episodes_per_task: int = 1, noise: Noise | None = None
    ) -> Belief:
        num_worlds = num_tasks * episodes_per_task
        possible = torch.zeros(num_worlds, self._size**2, dtype=torch.bool)
        possible[:, possible_goals(self._size)] = True
        return Belief(possible=possible, target=_target(possible, noise))

    def act(self, state: Belief, obs: Tensor, noise: Noise | None) -> Act:
        """Goes along x, then along y, then stays."""
        cell = obs.argmax(-1)
        x = state.target // self._size - cell // self._size
        y = state.target % self._size - cell % self._size
        along_x = torch.where(x > 0, 2, 4)  # right, left
        along_y = torch.where(y > 0, 1, 3)  # up, down
        return Act(action=torch.where(x != 0, along_x, torch.where(y != 0, along_y, 0)))

    def observe(self, state: Belief, obs: Tensor, act: Act, step: Step) -> Belief:
        here = torch.nn.functional.one_hot(step.next_obs.argmax(-1), self._size**2).bool()
        found = (step.reward > 0)[:, None]
        return replace(state, possible=torch.where(found, here, state.possible & ~here))

    def update(self, state: Belief, data: Any, noise: Noise | None = None) -> Belief:
        return replace(state, target=_target(state.possible, noise))


def _target(possible: Tensor, noise: Noise | None) -> Tensor:
    """[W] one of the possible cells of each world."""
    weights = possible.double()
    return weights.argmax(-1) if noise is None else noise.choices(weights)
