"""Agents with a memory: what reaches the memory, and the heads that turn its output into actions
and values.

One memory serves policy and value: both need the same belief about the task, the value's loss is a
second teacher for it, and acting costs one recurrent step instead of two.
"""

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from metarl.core.checks import check_layers
from metarl.core.whose import is_ours
from metarl.errors import SettingError
from metarl.nn.heads import Outputs
from metarl.nn.mlp import MLP, Activation
from metarl.nn.normaliser import RETURNS_DIFFER, Normaliser, update_beneath
from metarl.nn.own_memory import try_memory
from metarl.nn.recurrent import Memory
from metarl.rl.models.policies import flat_size, policy_for

NUM_SCALARS = 3  # reward, terminated, truncated


class MemoryModel(nn.Module):
    """A memory over inputs [observation, feedback of the step before], a policy head and a value
    head on its output.

    Feedback is (action, reward, terminated, truncated) and, if asked for, the observation that the
    action answered; all zero before a trial's first step and never else. Observations and rewards
    are normalised by running statistics, which are part of the model's state and stay as they are
    while it acts; so are returns, whose scale the value head needn't learn.
    """

    def __init__(
        self,
        observation_space: gymnasium.spaces.Box,
        action_space: gymnasium.Space,
        *,
        memory: Callable[..., nn.Module],
        has_feedback: bool,
        head_sizes: Sequence[int],
        activation: Activation,
        init_std: float,
        min_std: float,
        generator: torch.Generator,
        # a default: run folders of older versions don't name it
        has_last_observation: bool = False,
    ) -> None:
        """
        Args:
          memory: makes the memory from the keywords input_size and generator.
          has_feedback: False takes the feedback away, for a baseline that can't know its task.
          has_last_observation: puts the observation of the step before into the feedback. An input
            is then a whole transition (o, a, r, o'), which a memory that looks up by content finds
            again by its o; without, o lies in the input before.
          head_sizes: hidden layers of either head; init_std, min_std: of a Gaussian policy.
        Raises: ValueError for spaces that no policy fits, or numbers out of range.
        """
        super().__init__()
        check_layers({"head_sizes": head_sizes})
        obs_size = flat_size(observation_space)
        self.num_actions = (
            int(action_space.n) if isinstance(action_space, gymnasium.spaces.Discrete) else None
        )
        self.action_size = self.num_actions or int(np.prod(action_space.shape or ()))
        self.has_feedback = has_feedback
        self._has_last_observation = has_last_observation
        self.feedback_size = (
            self.action_size + NUM_SCALARS + (obs_size if has_last_observation else 0)
        )
        input_size = obs_size + self.feedback_size
        self.memory: Memory = _made(memory, input_size, generator)  # type: ignore[assignment]
        self.policy = policy_for(
            self.memory.output_size,
            action_space,
            hidden_sizes=head_sizes,
            activation=activation,
            init_std=init_std,
            min_std=min_std,
            output_scale=0.01,  # starts near the uniform policy, or near action 0
            generator=generator,
        )
        self.value_head = MLP(
            (self.memory.output_size, *head_sizes, 1), activation, generator=generator
        )
        self.observations = Normaliser(obs_size)
        self.rewards = Normaliser(1)
        self.returns = Normaliser(1, least_variance=RETURNS_DIFFER)

    def feedback(
        self, obs: Tensor, action: Tensor, reward: Tensor, terminated: Tensor, truncated: Tensor
    ) -> Tensor:
        """What the next step gets to know of this one: [..., F], F = A + 3, and O more with the
        observation; discrete actions as one-hot."""
        if self.num_actions is not None:
            action = functional.one_hot(action, self.num_actions)
        if not self.has_feedback:
            return self.no_feedback(reward.shape)
        flags = [terminated[..., None], truncated[..., None]]  # which cat converts
        last = [self.observations(obs)] if self._has_last_observation else []
        return torch.cat([action, self.rewards(reward[..., None]), *flags, *last], dim=-1)

    def no_feedback(self, shape: Sequence[int]) -> Tensor:
        """[*shape, F] zeros: before the first step of a trial."""
        return self.rewards.mean.new_zeros(*shape, self.feedback_size)

    def inputs(self, obs: Tensor, feedback: Tensor) -> Tensor:
        """obs [..., O], feedback [..., F] of the step before -> what the memory takes [..., O +
        F]."""
        return torch.cat([self.observations(obs), feedback], dim=-1)

    def rescale_returns(self, returns: Tensor) -> None:
        """Takes returns [n, 1] into the statistics, and changes the value head so that its values,
        in units of reward, stay what they were."""
        update_beneath(self.value_head, self.returns, returns)

    def evaluate(self, inputs: Tensor) -> tuple[Outputs, Tensor]:
        """inputs [T, B, I] of trials from their first step on -> the policy's outputs and the values
        [T, B], see `heads`."""
        return self.heads(self.memory.sequence(inputs))

    def heads(self, memory_output: Tensor) -> tuple[Outputs, Tensor]:
        """[..., H] -> the policy's outputs, and the values [...] as deviations of `returns`:
        self.returns.inverse gives them in units of reward."""
        return self.policy(memory_output), self.value_head(memory_output).squeeze(-1)


def _made(
    memory: Callable[..., nn.Module], input_size: int, generator: torch.Generator | None
) -> nn.Module:
    """The memory for inputs of this size. Raises: SettingError for one of a user's own that isn't
    one."""
    own: Any = getattr(memory, "func", memory)
    try:
        made = memory(input_size=input_size, generator=generator)
    except TypeError as error:
        if is_ours(own):
            raise
        raise SettingError(
            f"model.memory: {error}; expected a constructor that takes input_size, its settings and "
            "generator"
        ) from error
    if not is_ours(type(made)):
        try_memory(made, input_size)
    return made
