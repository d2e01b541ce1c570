"""The networks of PEARL: what infers the task from transitions, and an actor and critics that are
told what it found.

Source: Rakelly et al. 2019 (arXiv:1903.08254).
"""

import copy
from collections.abc import Sequence

import gymnasium
import torch
from torch import Tensor, nn

from metarl.core.checks import check_counts, check_layers
from metarl.nn.gaussians import GaussianByVariance
from metarl.nn.heads import Outputs
from metarl.nn.mlp import MLP, draw_by_width
from metarl.nn.squashed import SquashedGaussianPolicy
from metarl.nn.task_posterior import FactorEncoder
from metarl.nn.twin import TwinCritics
from metarl.rl.models.policies import flat_size
from metarl.rl.models.unit_actions import UnitActions
from metarl.types import Params


class PearlModel(nn.Module):
    """An encoder of transitions (o, a, r[, o']), a policy π(a | o, z), two critics Q(o, a, z), a
    value V(o, z) and its target, which follows it slowly. Actions are in [−1, 1] for all of
    them."""

    def __init__(
        self,
        observation_space: gymnasium.spaces.Box,
        action_space: gymnasium.Space,
        *,
        latent_size: int,
        encoder_sizes: Sequence[int],
        hidden_sizes: Sequence[int],
        context_has_next_obs: bool,
        generator: torch.Generator,
    ) -> None:
        """
        Args:
          context_has_next_obs: whether the encoder sees where a transition led, which it needs
            where tasks differ in their dynamics.
        Raises: SettingError for actions that aren't vectors in a bounded box.
        """
        super().__init__()
        check_counts({"latent_size": latent_size})
        check_layers({"encoder_sizes": encoder_sizes, "hidden_sizes": hidden_sizes})
        obs_size = flat_size(observation_space)
        self.actions = UnitActions(action_space)
        action_size = self.actions.size
        self.context_has_next_obs = context_has_next_obs
        self.latent_size = latent_size
        seen = obs_size + latent_size
        transition = obs_size + action_size + 1 + (obs_size if context_has_next_obs else 0)
        self.encoder = FactorEncoder(transition, encoder_sizes, latent_size, generator=generator)
        self.policy = SquashedGaussianPolicy(seen, action_size, hidden_sizes, generator=generator)
        self.critics = TwinCritics(seen + action_size, hidden_sizes, generator=generator)
        self.value = MLP((seen, *hidden_sizes, 1), "relu", generator=generator)
        draw_by_width(self.value.weights(dict(self.value.named_parameters())), generator=generator)
        self.target_value = copy.deepcopy(self.value).requires_grad_(False)

    def factors(
        self, obs: Tensor, action: Tensor, reward: Tensor, next_obs: Tensor
    ) -> GaussianByVariance:
        """What each transition says of the task, [..., L]. Args: obs, next_obs [..., O], action
        [..., A] in [−1, 1], reward [...]."""
        seen = [obs, action, reward.unsqueeze(-1)]
        if self.context_has_next_obs:
            seen.append(next_obs)
        return self.encoder(torch.cat(seen, dim=-1))

    def outputs(self, obs: Tensor, z: Tensor) -> Outputs:
        """The policy's at obs [..., O], z [..., L]."""
        return self.policy(torch.cat([obs, z], dim=-1))

    def q(self, obs: Tensor, action: Tensor, z: Tensor, params: Params | None = None) -> Tensor:
        """[2, ...] what either critic expects. Args: params: of the critics, if not their own."""
        x = torch.cat([obs, action, z], dim=-1)
        return self.critics(x) if params is None else self.critics.with_params(params, x)

    def v(self, obs: Tensor, z: Tensor) -> Tensor:
        """[...]."""
        return self.value(torch.cat([obs, z], dim=-1)).squeeze(-1)

    def target_v(self, obs: Tensor, z: Tensor) -> Tensor:
        """[...]."""
        return self.target_value(torch.cat([obs, z], dim=-1)).squeeze(-1)
