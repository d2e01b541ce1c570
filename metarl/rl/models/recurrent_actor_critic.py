"""An actor and critics with a memory each, for off-policy learning: nothing is shared between them.

A memory that both use is pulled by two losses of different size, and fails; with one each the plain
recurrent agent holds its own beside methods made for meta-learning.

Source: Ni et al. 2022 (arXiv:2110.05038, section 4).
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import torch
from torch import Tensor, nn

from metarl.core.checks import check_counts, check_layers
from metarl.nn.mlp import MLP
from metarl.nn.recurrent import Memory
from metarl.nn.squashed import SquashedGaussianPolicy
from metarl.nn.twin import TwinCritics
from metarl.rl.models.policies import flat_size
from metarl.rl.models.unit_actions import StretchedPolicy, UnitActions

NUM_SCALARS = 2  # reward, and whether the episode ended with the step


class Beside(nn.Module):
    """A memory whose output has, beside its own, what a layer of rectified units makes of the
    present
    input: what matters now needn't go through the memory. Meets `metarl.nn.recurrent.Memory`."""

    def __init__(
        self, memory: Memory, input_size: int, width: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.memory = memory
        self.present = MLP((input_size, width), "relu", generator=generator)
        self.output_size = memory.output_size + width
        self.max_steps = memory.max_steps

    def initial(self, batch_size: int) -> Any:
        return self.memory.initial(batch_size)

    def step(self, x: Tensor, state: Any, active: Tensor | None = None) -> tuple[Tensor, Any]:
        output, after = self.memory.step(x, state, active)
        return torch.cat([output, self.present(x).relu()], dim=-1), after

    def sequence(self, x: Tensor) -> Tensor:
        return torch.cat([self.memory.sequence(x), self.present(x).relu()], dim=-1)


class RecurrentActor(nn.Module):
    """A memory over [observation, feedback of the step before], and a squashed policy on its
    output. Meets what `metarl.rl.adapters.memory.MemoryAdapter` asks of a model.

    Feedback is (action in [−1, 1], reward, whether the episode ended), zeros before a trial's first
    step.
    """

    def __init__(
        self,
        obs_size: int,
        actions: UnitActions,
        *,
        memory: Callable[..., nn.Module],
        present_size: int,
        head_sizes: Sequence[int],
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.actions = actions
        self.feedback_size = actions.size + NUM_SCALARS
        input_size = obs_size + self.feedback_size
        inner: Any = memory(input_size=input_size, generator=generator)
        self.memory = Beside(inner, input_size, present_size, generator)
        policy = SquashedGaussianPolicy(
            self.memory.output_size, actions.size, head_sizes, generator=generator
        )
        self.policy = StretchedPolicy(policy, actions)

    def feedback(
        self, obs: Tensor, action: Tensor, reward: Tensor, terminated: Tensor, truncated: Tensor
    ) -> Tensor:
        """What the next step gets to know of this one: [..., F]."""
        ended = (terminated | truncated).to(reward)
        return torch.cat(
            [self.actions.to_unit(action), torch.stack([reward, ended], dim=-1)], dim=-1
        )

    def no_feedback(self, shape: Sequence[int]) -> Tensor:
        """[*shape, F] zeros: before the first step of a trial."""
        return self.actions.low.new_zeros(*shape, self.feedback_size)

    def inputs(self, obs: Tensor, feedback: Tensor) -> Tensor:
        """obs [..., O], feedback [..., F] of the step before -> what the memory takes [..., O +
        F]."""
        return torch.cat([obs, feedback], dim=-1)


class RecurrentCritics(nn.Module):
    """Two critics on one memory: Q(what was until now, o, a) [2, T, B]."""

    def __init__(
        self,
        obs_size: int,
        action_size: int,
        *,
        memory: Callable[..., nn.Module],
        present_size: int,
        head_sizes: Sequence[int],
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.memory: Memory = memory(  # type: ignore[assignment]
            input_size=obs_size + action_size + NUM_SCALARS, generator=generator
        )
        self.present = MLP((obs_size + action_size, present_size), "relu", generator=generator)
        self.heads = TwinCritics(
            self.memory.output_size + present_size, head_sizes, generator=generator
        )

    def forward(self, inputs: Tensor, obs: Tensor, action: Tensor) -> Tensor:
        """inputs [T, B, I], obs [T, B, O], action [T, B, A] in [−1, 1]."""
        return self.judge(self.memory.sequence(inputs), obs, action)

    def judge(self, remembered: Tensor, obs: Tensor, action: Tensor) -> Tensor:
        """The values of actions [T, B, A] at obs [T, B, O], given what the memory remembered
        [T, B, H]."""
        present = self.present(torch.cat([obs, action], dim=-1)).relu()
        return self.heads(torch.cat([remembered, present], dim=-1))


class RecurrentActorCritic(nn.Module):
    """The actor, the critics, their slow copy, and the logarithm of the temperature, 0 at the
    start."""

    def __init__(
        self,
        observation_space: gymnasium.spaces.Box,
        action_space: gymnasium.Space,
        *,
        memory: Callable[..., nn.Module],
        present_size: int,
        head_sizes: Sequence[int],
        generator: torch.Generator,
    ) -> None:
        """
        Args:
          memory: makes a memory from the keywords input_size and generator.
          present_size: units of the layer that brings the present step past the memory.
        Raises: SettingError for actions that aren't vectors in a bounded box, or numbers out of
          range.
        """
        super().__init__()
        check_counts({"present_size": present_size})
        check_layers({"head_sizes": head_sizes})
        obs_size, actions = flat_size(observation_space), UnitActions(action_space)
        sizes: dict[str, Any] = {
            "memory": memory,
            "present_size": present_size,
            "head_sizes": head_sizes,
        }
        self.actor = RecurrentActor(obs_size, actions, **sizes, generator=generator)
        self.critics = RecurrentCritics(obs_size, actions.size, **sizes, generator=generator)
        self.target_critics = copy.deepcopy(self.critics).requires_grad_(False)
        self.log_temperature = nn.Parameter(torch.zeros(()))
