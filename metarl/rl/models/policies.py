"""Makes policies that fit an environment's spaces."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import torch

from metarl.core.checks import check_one_layer_or_more
from metarl.errors import SettingError
from metarl.nn.heads import CategoricalPolicy, GaussianPolicy
from metarl.nn.mlp import Activation


@dataclass(frozen=True, kw_only=True)
class PolicySettings:
    """Says what a perceptron policy is like, whatever it sees and does. For discrete actions
    init_std, min_std and action_unit don't act.

    `metarl.nn.heads` says what the sizes and latent_gain and latent_products mean.
    """

    hidden_sizes: Sequence[int]
    activation: Activation
    init_std: float
    min_std: float
    action_unit: float | None = None
    """The action for an output of 1, as a share of half the action's range; of 1 where the range
    has no bounds. None: outputs are actions."""
    latent_size: int = 0
    latent_gain: float = 1.0
    latent_products: bool = False
    context_size: int = 0
    noise_size: int = 0
    output_scale: float = 1.0
    """A factor on the last layer's first weights."""


def mlp_policy(
    observation_space: gymnasium.spaces.Box,
    action_space: gymnasium.Space,
    *,
    generator: torch.Generator,
    **settings: Any,
) -> GaussianPolicy | CategoricalPolicy:
    """A perceptron policy of the observation and, with a latent_size, of the episode's latent, with
    a context_size or a noise_size of what metarl/nn/beside.py says.

    Args: settings: those of `PolicySettings`.
    Raises: ValueError for spaces that it doesn't fit, or numbers out of range.
    """
    check_one_layer_or_more({"hidden_sizes": PolicySettings(**settings).hidden_sizes})
    return policy_for(flat_size(observation_space), action_space, generator=generator, **settings)


def policy_for(
    input_size: int,
    action_space: gymnasium.Space,
    *,
    generator: torch.Generator,
    **settings: Any,
) -> GaussianPolicy | CategoricalPolicy:
    """A perceptron policy of an input [..., I]: Gaussian for continuous actions, categorical for
    discrete ones.

    Args: settings: those of `PolicySettings`.
    Raises: ValueError for an action space that it doesn't fit, or numbers out of range.
    """
    of = PolicySettings(**settings)
    common: dict[str, Any] = {
        "hidden_sizes": of.hidden_sizes,
        "activation": of.activation,
        "output_scale": of.output_scale,
        "latent_size": of.latent_size,
        "latent_gain": of.latent_gain,
        "latent_products": of.latent_products,
        "context_size": of.context_size,
        "noise_size": of.noise_size,
        "generator": generator,
    }
    if isinstance(action_space, gymnasium.spaces.Discrete):
        return CategoricalPolicy(input_size, int(action_space.n), **common)
    if isinstance(action_space, gymnasium.spaces.Box) and len(action_space.shape) == 1:
        share = of.action_unit
        return GaussianPolicy(
            input_size,
            action_space.shape[0],
            init_std=of.init_std,
            min_std=of.min_std,
            unit=None if share is None else share * _half_range(action_space),
            **common,
        )
    raise SettingError(f"policies fit Discrete or flat Box action spaces, got {action_space}")


def _half_range(action_space: gymnasium.spaces.Box) -> torch.Tensor:
    """[A] float32; 1 where there are no bounds."""
    half = (
        torch.from_numpy(action_space.high).double() - torch.from_numpy(action_space.low).double()
    ) / 2
    return half.masked_fill(~half.isfinite(), 1.0).float()


def flat_size(observation_space: gymnasium.spaces.Box) -> int:
    """Returns O, the size of flat observations [O]. Raises: ValueError for others."""
    if len(observation_space.shape) != 1:
        raise SettingError(
            f"policies take flat observations [O], got the shape {observation_space.shape}"
        )
    return observation_space.shape[0]
