"""The networks of Stable-Baselines3's agents, made by its own constructors, and how they act."""

import copy
from collections.abc import Sequence
from typing import Any

import gymnasium
import torch
from torch import Tensor, nn

from metarl.choices import check_choice
from metarl.core.checks import check_one_layer_or_more
from metarl.nn.heads import CategoricalPolicy, GaussianPolicy, Outputs
from metarl.nn.normaliser import Normaliser
from metarl.nn.squashed import LOG_STD_RANGE, SquashedGaussianPolicy
from metarl.noise import Noise
from metarl.rl.models.policies import flat_size
from metarl.rl.models.unit_actions import UnitActions
from metarl.rl.sb3.library import library, seeded

ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU}


def _unused_rate(_: float) -> float:
    """The algorithm sets the rate before every update; a constructor asks for one, too."""
    return 0.0


class PPOAgent(nn.Module):
    """Policy and value of PPO, two perceptrons that share nothing.

    Args:
      vec_normalize: whether observations and rewards are normalised by running statistics, as
        Stable-Baselines3's VecNormalize does: the observations here, in deviations of all that
        were seen, clipped at 10; the rewards where the algorithm learns.
    Raises: SettingError for spaces or sizes that it doesn't fit; UserError without the library.
    """

    policy: Any
    observations: Normaliser | None

    def __init__(
        self,
        observation_space: gymnasium.spaces.Box,
        action_space: gymnasium.Space,
        *,
        hidden_sizes: Sequence[int],
        activation: str,
        vec_normalize: bool,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        library()
        from stable_baselines3.common.policies import ActorCriticPolicy

        _check(hidden_sizes, activation)
        size = flat_size(observation_space)
        self.spaces = (observation_space, action_space)
        with seeded(Noise(generator)):
            self.policy = ActorCriticPolicy(
                observation_space,
                action_space,
                _unused_rate,
                net_arch=list(hidden_sizes),
                activation_fn=ACTIVATIONS[activation],
            )
        self.is_discrete = isinstance(action_space, gymnasium.spaces.Discrete)
        self.observations = Normaliser(size) if vec_normalize else None

    def forward(self, obs: Tensor) -> Outputs:
        hidden = self.policy.mlp_extractor.forward_actor(self.normalised(obs))
        found = self.policy.action_net(hidden)
        if self.is_discrete:
            return {"logits": found}
        return {"mean": found, "log_std": self.policy.log_std.expand_as(found)}

    def normalised(self, obs: Tensor) -> Tensor:
        return obs if self.observations is None else self.observations(obs)

    @property
    def head(self) -> type[GaussianPolicy] | type[CategoricalPolicy]:
        """The maths of its actions' distribution."""
        return CategoricalPolicy if self.is_discrete else GaussianPolicy


class SACAgent(nn.Module):
    """Actor, two critics and their slow copies of soft actor-critic, which share nothing.

    Raises: SettingError for spaces or sizes that it doesn't fit, discrete actions among them;
    UserError without the library.
    """

    policy: Any

    def __init__(
        self,
        observation_space: gymnasium.spaces.Box,
        action_space: gymnasium.Space,
        *,
        hidden_sizes: Sequence[int],
        activation: str,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        library()
        from stable_baselines3.sac.policies import SACPolicy

        _check(hidden_sizes, activation)
        flat_size(observation_space)
        self.actions = UnitActions(action_space)
        assert isinstance(action_space, gymnasium.spaces.Box)
        self.spaces = (observation_space, action_space)
        with seeded(Noise(generator)):
            self.policy = SACPolicy(
                observation_space,
                action_space,
                _unused_rate,
                net_arch=list(hidden_sizes),
                activation_fn=ACTIVATIONS[activation],
            )

    def forward(self, obs: Tensor) -> Outputs:
        actor = self.policy.actor
        hidden = actor.latent_pi(obs)
        log_std = actor.log_std(hidden).clamp(*LOG_STD_RANGE)
        return {"mean": actor.mu(hidden), "log_std": log_std}

    def act(self, outputs: Outputs, noise: Noise | None) -> Tensor:
        return self.actions.to_env(SquashedGaussianPolicy.act(outputs, noise)[0])


class Greedy(nn.Module):
    """What an agent most likely does, [..., O] -> [..., A]."""

    def __init__(self, agent: PPOAgent | SACAgent) -> None:
        super().__init__()
        # Part by part: the whole policy holds distributions of its last batch, which can't be copied.
        self.observations: Normaliser | None = None
        self.actions: UnitActions | None = None
        self.is_discrete = False
        if isinstance(agent, PPOAgent):
            parts = [agent.policy.mlp_extractor.policy_net, agent.policy.action_net]
            self.observations = copy.deepcopy(agent.observations)
            self.is_discrete = agent.is_discrete
        else:
            parts = [agent.policy.actor.latent_pi, agent.policy.actor.mu]
            self.actions = copy.deepcopy(agent.actions)
        self.network = copy.deepcopy(nn.Sequential(*parts))
        self.requires_grad_(False)

    def forward(self, obs: Tensor) -> Tensor:
        if self.observations is not None:
            obs = self.observations(obs)
        found: Tensor = self.network(obs)
        if self.is_discrete:
            return found.argmax(-1)
        return found if self.actions is None else self.actions.to_env(found.tanh())


def _check(hidden_sizes: Sequence[int], activation: str) -> None:
    check_one_layer_or_more({"hidden_sizes": hidden_sizes})
    check_choice("activation", activation, ACTIVATIONS)
