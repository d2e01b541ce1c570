"""Posterior sampling in the gridworld: believes in one of the goals that are still possible, goes there, and waits for the next
episode to believe in another. What it loses on the Bayes-optimal search is the price of not planning its exploration.
"""

from typing import Any

import torch
from torch import Tensor

from envs.gridworld_optima import possible_goals
from metarl.rl.types import Step
from metarl.struct import replace, struct


@struct
class Belief:
    """Of W worlds: which goals are possible, and the one that is believed in for this episode."""

    possible: Tensor  # [W, cells] bool
    target: Tensor  # [W] int64, a cell
    num_episodes: int  # begun so far


class PosteriorSampling:
    """Thompson 1933; Osband et al. 2013 (arXiv:1306.0940). Draws the goal of each episode from the posterior, which is uniform on
    what is possible. Meets `metarl.rl.types.RLAdapter`.

    Args: seed: of the draws, which happen where the protocol has no generator.
    """

    def __init__(self, size: int, seed: int = 0) -> None:
        self._size, self._seed = size, seed

    def begin(self, num_tasks: int, episodes_per_task: int = 1) -> Belief:
        num_worlds = num_tasks * episodes_per_task
        possible = torch.zeros(num_worlds, self._size**2, dtype=torch.bool)
        possible[:, possible_goals(self._size)] = True
        return self._with_target(Belief(possible=possible, target=possible[:, 0].long(), num_episodes=0))

    def act(self, state: Belief, obs: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Along x, then along y, then stay."""
        cell = obs.argmax(-1)
        x = state.target // self._size - cell // self._size
        y = state.target % self._size - cell % self._size
        along_x = torch.where(x > 0, 2, 4)  # right, left
        along_y = torch.where(y > 0, 1, 3)  # up, down
        action = torch.where(x != 0, along_x, torch.where(y != 0, along_y, 0))
        return action, torch.zeros(len(obs))

    def observe(self, state: Belief, obs: Tensor, action: Tensor, step: Step) -> Belief:
        here = torch.nn.functional.one_hot(step.next_obs.argmax(-1), self._size**2).bool()
        found = (step.reward > 0)[:, None]
        return replace(state, possible=torch.where(found, here, state.possible & ~here))

    def update(self, state: Belief, data: Any) -> Belief:
        return self._with_target(state)

    def _with_target(self, belief: Belief) -> Belief:
        generator = torch.Generator().manual_seed(self._seed + belief.num_episodes)
        target = torch.multinomial(belief.possible.double(), 1, generator=generator)[:, 0]
        return replace(belief, target=target, num_episodes=belief.num_episodes + 1)
