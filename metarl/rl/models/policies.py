"""From an environment's spaces to a policy that fits them."""

from collections.abc import Sequence

import gymnasium
import torch

from metarl.errors import SettingError
from metarl.nn.heads import CategoricalPolicy, GaussianPolicy
from metarl.nn.mlp import Activation


def mlp_policy(
    observation_space: gymnasium.spaces.Box,
    action_space: gymnasium.Space,
    *,
    hidden_sizes: Sequence[int],
    activation: Activation,
    init_std: float,
    min_std: float,
    action_unit: float | None = None,
    latent_size: int = 0,
    latent_gain: float = 1.0,
    latent_products: bool = False,
    context_size: int = 0,
    noise_size: int = 0,
    generator: torch.Generator,
) -> GaussianPolicy | CategoricalPolicy:
    """A perceptron policy of the observation and, with a latent_size, of the episode's latent, with
    a context_size or a noise_size of what metarl/nn/beside.py says; see
    `policy_for`.

    Raises: ValueError for spaces that it doesn't fit, or numbers out of range.
    """
    if not hidden_sizes:
        raise SettingError("hidden_sizes []: expected at least one layer")
    return policy_for(
        flat_size(observation_space),
        action_space,
        hidden_sizes=hidden_sizes,
        activation=activation,
        init_std=init_std,
        min_std=min_std,
        action_unit=action_unit,
        latent_size=latent_size,
        latent_gain=latent_gain,
        latent_products=latent_products,
        context_size=context_size,
        noise_size=noise_size,
        generator=generator,
    )


def policy_for(
    input_size: int,
    action_space: gymnasium.Space,
    *,
    hidden_sizes: Sequence[int],
    activation: Activation,
    init_std: float,
    min_std: float,
    action_unit: float | None = None,
    latent_size: int = 0,
    latent_gain: float = 1.0,
    latent_products: bool = False,
    context_size: int = 0,
    noise_size: int = 0,
    output_scale: float = 1.0,
    generator: torch.Generator,
) -> GaussianPolicy | CategoricalPolicy:
    """A perceptron policy: Gaussian for continuous actions, categorical for discrete ones (then
    init_std, min_std and action_unit don't act).

    Args:
      action_unit: the action for an output of 1, as a share of half the action's range; of 1 where
        the range has no bounds. None: outputs are actions.
      latent_size, latent_gain, latent_products, context_size, noise_size: see
        `metarl.nn.heads`.
    Raises: ValueError for an action space that it doesn't fit, or numbers out of range.
    """
    if any(size < 1 for size in hidden_sizes):
        raise SettingError(
            f"hidden_sizes {list(hidden_sizes)}: expected layers of 1 unit or more each"
        )
    if isinstance(action_space, gymnasium.spaces.Discrete):
        return CategoricalPolicy(
            input_size,
            int(action_space.n),
            hidden_sizes,
            activation=activation,
            output_scale=output_scale,
            latent_size=latent_size,
            latent_gain=latent_gain,
            latent_products=latent_products,
            context_size=context_size,
            noise_size=noise_size,
            generator=generator,
        )
    if isinstance(action_space, gymnasium.spaces.Box) and len(action_space.shape) == 1:
        return GaussianPolicy(
            input_size,
            action_space.shape[0],
            hidden_sizes,
            activation=activation,
            init_std=init_std,
            min_std=min_std,
            output_scale=output_scale,
            latent_size=latent_size,
            latent_gain=latent_gain,
            latent_products=latent_products,
            context_size=context_size,
            noise_size=noise_size,
            unit=None if action_unit is None else action_unit * _half_range(action_space),
            generator=generator,
        )
    raise SettingError(f"policies fit Discrete or flat Box action spaces, got {action_space}")


def _half_range(action_space: gymnasium.spaces.Box) -> torch.Tensor:
    """[A] float32; 1 where there are no bounds."""
    half = (
        torch.from_numpy(action_space.high).double() - torch.from_numpy(action_space.low).double()
    ) / 2
    return half.masked_fill(~half.isfinite(), 1.0).float()


def flat_size(observation_space: gymnasium.spaces.Box) -> int:
    """O of flat observations [O]. Raises: ValueError for others."""
    if len(observation_space.shape) != 1:
        raise SettingError(
            f"policies take flat observations [O], got the shape {observation_space.shape}"
        )
    return observation_space.shape[0]
