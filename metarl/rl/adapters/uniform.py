"""A policy that knows nothing: uniform actions. To look at an environment before anything is
trained."""

import math

import gymnasium
import torch
from torch import Tensor

from metarl.errors import SettingError
from metarl.noise import Noise
from metarl.rl.types import Act, RLAdapter


class UniformActions(RLAdapter[None]):
    """It has no state and learns nothing."""

    def __init__(self, action_space: gymnasium.Space) -> None:
        """Raises: ValueError unless the actions are Discrete or a bounded Box."""
        is_box = isinstance(action_space, gymnasium.spaces.Box) and action_space.is_bounded()
        if not is_box and not isinstance(action_space, gymnasium.spaces.Discrete):
            raise SettingError(
                f"action space is {action_space}; expected Discrete or a Box with finite bounds"
            )
        self._space = action_space

    def begin(self, num_tasks: int, episodes_per_task: int = 1, noise: Noise | None = None) -> None:
        return None

    def act(self, state: None, obs: Tensor, noise: Noise | None) -> Act:
        """Draws an action. Without noise it is the middle of the box, or action 0: a uniform
        distribution has no mode."""
        num_worlds = len(obs)
        if isinstance(self._space, gymnasium.spaces.Discrete):
            count = int(self._space.n)
            action = torch.zeros(num_worlds, dtype=torch.int64, device=obs.device)
            if noise is not None:
                action = noise.integers(count, num_worlds)
            log_prob = torch.full((num_worlds,), -math.log(count), device=obs.device)
            return Act(action=action + int(self._space.start), log_prob=log_prob)
        assert isinstance(self._space, gymnasium.spaces.Box)
        low, high = (
            torch.as_tensor(bound, device=obs.device)
            for bound in (self._space.low, self._space.high)
        )
        share = torch.full((num_worlds, *self._space.shape), 0.5, device=obs.device)
        if noise is not None:
            share = noise.uniform(*share.shape)
        return Act(
            action=low + share * (high - low), log_prob=-(high - low).log().sum().expand(num_worlds)
        )
