"""A world with a known optimum that takes a few hundred updates to learn: which of two sides pays."""

import gymnasium
import numpy as np
import torch
from torch import Tensor

from metarl.rl.spec import EnvSpec
from metarl.rl.types import Step
from metarl.struct import struct


@struct
class Side:
    side: Tensor  # [N] −1 or 1


class Sides:
    """An episode of 4 steps pays side · a at each, and shows nothing. Who knows the side earns 4, who
    guesses earns 4 or −4."""

    observation_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    num_uniforms, num_train, num_test, split = 1, 2, 2, "none"
    num_held_out = None
    spec = EnvSpec(name="sides", family="sides", variant="default", horizon=4, definition={})

    def __init__(self, num_worlds: int) -> None:
        self.num_worlds, self.prior = num_worlds, self

    def train_tasks(self) -> Side:
        return Side(side=torch.tensor([-1.0, 1.0]))

    def sample(self, num: int, generator: torch.Generator) -> Side:
        return self.test_tasks(num)

    def test_tasks(self, num: int | None = None) -> Side:
        return Side(side=torch.tensor([-1.0, 1.0]).repeat(num or 1)[:num])

    def set_tasks(self, tasks: Side) -> None:
        self.side = tasks.side

    def reset(self, uniform, worlds=None) -> Tensor:
        self.count = 0
        return torch.zeros(self.num_worlds, 1)

    def check(self) -> None:
        return

    def rest(self, worlds: Tensor) -> None:
        return

    def step(self, action: Tensor) -> Step:
        self.count += 1
        never = torch.zeros(self.num_worlds, dtype=torch.bool)
        return Step(
            next_obs=torch.zeros(self.num_worlds, 1),
            reward=self.side * action[:, 0],
            terminated=never,
            truncated=torch.full_like(never, self.count == 4),
            diverged=never,
            terms={},
        )
