"""Makes dynamics models that fit an environment's spaces."""

from collections.abc import Sequence

import gymnasium
import torch

from metarl.errors import SettingError
from metarl.nn.dynamics import FeedForwardDynamics, RecurrentDynamics
from metarl.nn.mlp import Activation


def feed_forward_dynamics(
    observation_space: gymnasium.spaces.Box,
    action_space: gymnasium.Space,
    *,
    hidden_sizes: Sequence[int],
    activation: Activation,
    generator: torch.Generator,
) -> FeedForwardDynamics:
    """Raises: ValueError for spaces that it doesn't fit, or numbers out of range."""
    sizes = _sizes(observation_space, action_space)
    return FeedForwardDynamics(*sizes, hidden_sizes, activation=activation, generator=generator)


def recurrent_dynamics(
    observation_space: gymnasium.spaces.Box,
    action_space: gymnasium.Space,
    *,
    num_models: int,
    memory_size: int,
    hidden_sizes: Sequence[int],
    activation: Activation,
    generator: torch.Generator,
) -> RecurrentDynamics:
    """Raises: ValueError for spaces that it doesn't fit, or numbers out of range."""
    return RecurrentDynamics(
        *_sizes(observation_space, action_space),
        num_models=num_models,
        memory_size=memory_size,
        hidden_sizes=hidden_sizes,
        activation=activation,
        generator=generator,
    )


def _sizes(
    observation_space: gymnasium.spaces.Box, action_space: gymnasium.Space
) -> tuple[int, int]:
    """Returns O and A, the sizes of an observation and of an action."""
    if len(observation_space.shape) != 1:
        raise SettingError(
            f"dynamics models take flat observations [O], got the shape {observation_space.shape}"
        )
    if not isinstance(action_space, gymnasium.spaces.Box) or len(action_space.shape) != 1:
        raise SettingError(
            f"action space {action_space}: dynamics models and planners take flat Boxes only"
        )
    return observation_space.shape[0], action_space.shape[0]
