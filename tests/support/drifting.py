"""A small world whose episodes end at different steps: for tests of learners that play trials."""

import gymnasium
import numpy as np
import torch
from torch import Tensor

from metarl.rl.spec import EnvSpec
from metarl.rl.types import Step
from metarl.struct import struct


@struct
class Lengths:
    length: Tensor  # [N] steps after which an episode terminates


class Drifting:
    """Observations drift by the action and noise, each episode terminates after its task's length
    or is truncated at 5."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    num_uniforms = 1
    spec = EnvSpec(name="drifting", family="drifting", variant="default", horizon=5, definition={})

    def __init__(self, num_worlds: int, *, discrete: bool = False) -> None:
        box = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
        self.num_worlds, self.action_space = (
            num_worlds,
            gymnasium.spaces.Discrete(3) if discrete else box,
        )
        self.prior = self
        self.episode = 0

    def sample(self, num, generator) -> Lengths:
        return Lengths(length=torch.randint(1, 8, (num,), generator=generator))

    def set_tasks(self, tasks: Lengths) -> None:
        self.length = tasks.length

    def reset(self, uniform, worlds=None) -> Tensor:
        self.count, self.episode = torch.zeros(self.num_worlds), self.episode + 1
        self.generator = torch.Generator().manual_seed(int(uniform[0, 0] * 2**53))
        self.obs = torch.randn(self.num_worlds, 2, generator=self.generator)
        return self.obs

    def check(self) -> None:
        return

    def rest(self, worlds: Tensor) -> None:
        return

    def step(self, action: Tensor) -> Step:
        self.count += 1
        move = action.float() if action.ndim == 2 else action[:, None].float()
        self.obs = self.obs + 0.1 * move + torch.randn(self.num_worlds, 2, generator=self.generator)
        # The second episode of a trial is a step shorter: trials have gaps at different places.
        terminated = self.count >= (self.length - self.episode % 2).clamp(min=1)
        return Step(
            next_obs=self.obs,
            reward=self.obs.sum(-1),
            terminated=terminated,
            truncated=(self.count >= 5) & ~terminated,
            diverged=torch.zeros(self.num_worlds, dtype=torch.bool),
            terms={},
        )
