"""Agents with a belief: an encoder of the trial so far, decoders that teach it, and heads on the
observation and the belief.

The heads learn from rewards by their own loss, the rest from what the trials were like. No gradient
goes from the one to the other.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import gymnasium
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from metarl.choices import check_choice, expected
from metarl.core.checks import check_counts, check_layers
from metarl.errors import SettingError
from metarl.nn.gaussians import Gaussian
from metarl.nn.heads import Outputs
from metarl.nn.mlp import MLP, Activation
from metarl.nn.normaliser import RETURNS_DIFFER, Normaliser, update_beneath
from metarl.nn.step_decoders import Decoder, RewardMap
from metarl.nn.trial_encoder import StepParts, TrialEncoder
from metarl.rl.data.replay import Steps
from metarl.rl.models.policies import flat_size, policy_for
from metarl.rl.models.published_weights import draw_as_published

DECODED = ("reward", "state")
FIRST_WEIGHTS = ("xavier", "published")
NUM_SAMPLES = 64
"""Samples of z over which a picture of the belief takes the mean."""


class BeliefHeads(nn.Module):
    """A policy and a value on [observation, μ, log σ²], each normalised by running statistics.
    Observation and belief go through a layer of their own first, which both heads share.

    Meets `metarl.rl.algorithms.ppo.ActorCritic`.
    """

    def __init__(
        self,
        obs_size: int,
        latent_size: int,
        action_space: gymnasium.Space,
        *,
        obs_embedding: int,
        belief_embedding: int,
        head_sizes: Sequence[int],
        activation: Activation,
        init_std: float,
        min_std: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        check_counts({"obs_embedding": obs_embedding, "belief_embedding": belief_embedding})
        check_layers({"head_sizes": head_sizes})
        self._sizes = (obs_size, 2 * latent_size)
        self.obs_layer = MLP((obs_size, obs_embedding), generator=generator)
        self.belief_layer = MLP((2 * latent_size, belief_embedding), generator=generator)
        size = obs_embedding + belief_embedding
        self.policy = policy_for(
            size,
            action_space,
            hidden_sizes=head_sizes,
            activation=activation,
            init_std=init_std,
            min_std=min_std,
            output_scale=0.01,  # starts near the uniform policy, or near action 0
            generator=generator,
        )
        self.value_head = MLP((size, *head_sizes, 1), activation, generator=generator)
        self.observations = Normaliser(obs_size)
        self.beliefs = Normaliser(2 * latent_size)
        self.returns = Normaliser(1, least_variance=RETURNS_DIFFER)

    def inputs(self, obs: Tensor, belief: Gaussian) -> Tensor:
        """obs [..., O], belief [..., L] -> [..., O + 2 L], without the belief's graph."""
        return torch.cat([self.observations(obs), self.beliefs(_numbers(belief))], dim=-1)

    def features(self, inputs: Tensor) -> Tensor:
        obs, belief = inputs.split(self._sizes, dim=-1)
        embedded = [self.obs_layer(obs).tanh(), self.belief_layer(belief).tanh()]
        return torch.cat(embedded, dim=-1)

    def evaluate(self, inputs: Tensor) -> tuple[Outputs, Tensor]:
        features = self.features(inputs)
        return self.policy(features), self.value_head(features).squeeze(-1)

    def rescale_returns(self, returns: Tensor) -> None:
        update_beneath(self.value_head, self.returns, returns)

    def take_in(self, obs: Tensor, belief: Gaussian) -> None:
        """Takes obs [n, O] and belief [n, L] into the running statistics."""
        self.observations.update(obs)
        self.beliefs.update(_numbers(belief))


class BeliefModel(nn.Module):
    """An encoder of trials, decoders of their steps, and the heads that act."""

    def __init__(
        self,
        observation_space: gymnasium.spaces.Box,
        action_space: gymnasium.Space,
        *,
        latent_size: int,
        encoder: Callable[..., TrialEncoder],
        decodes: Sequence[str],
        reward_decoder: Callable[..., nn.Module],
        state_decoder: Callable[..., nn.Module],
        first_weights: str = "xavier",
        generator: torch.Generator,
        **heads: Any,
    ) -> None:
        """
        Args:
          latent_size: how many numbers stand for the task.
          encoder, reward_decoder, state_decoder: make these, two of them `Decoder`s, from the
            keywords latent_size, obs_size, action_size and generator.
          decodes: which of `DECODED` are made.
          first_weights: one of `FIRST_WEIGHTS`: `xavier` is each layer's own way, `published` that
            of `metarl.rl.models.published_weights`.
          heads: of `BeliefHeads`.
        Raises: ValueError for spaces that no policy fits, or numbers out of range.
        """
        super().__init__()
        if not decodes:
            raise SettingError(f"decodes []: {expected(None, DECODED)}, or both")
        for name in decodes:
            check_choice("decodes", name, DECODED)
        check_choice("first_weights", first_weights, FIRST_WEIGHTS)
        obs_size = flat_size(observation_space)
        self.num_actions: int | None = None
        if isinstance(action_space, gymnasium.spaces.Discrete):
            self.num_actions = int(action_space.n)
        sizes: dict[str, Any] = {
            "latent_size": latent_size,
            "obs_size": obs_size,
            "action_size": self.num_actions or int(np.prod(action_space.shape or ())),
            "generator": generator,
        }
        self.encoder = encoder(**sizes)
        makers = {"reward": reward_decoder, "state": state_decoder}
        self.decoders = nn.ModuleDict(
            {name: makers[name](**sizes) for name in DECODED if name in decodes}
        )
        _check_map(self.decoders, observation_space)
        self.heads = BeliefHeads(obs_size, latent_size, action_space, generator=generator, **heads)
        if first_weights == "published":
            draw_as_published(
                memory=self.encoder.memory,
                policy=self.heads.policy,
                value=self.heads.value_head,
                others=(
                    self.encoder,
                    self.decoders,
                    self.heads.obs_layer,
                    self.heads.belief_layer,
                ),
                generator=generator,
            )

    def inference_parameters(self) -> dict[str, Tensor]:
        """The parameters of encoder and decoders, by name."""
        return {
            name: leaf for name, leaf in self.named_parameters() if not name.startswith("heads.")
        }

    def parts(self, steps: Steps) -> StepParts:
        """Steps [...] as networks take them."""
        action = steps.action
        if self.num_actions is not None:
            action = functional.one_hot(action, self.num_actions).to(steps.reward)
        flags = torch.stack([steps.terminated, steps.first], dim=-1).to(steps.reward)
        return StepParts(
            obs=steps.obs, action=action, reward=steps.reward, next_obs=steps.next_obs, flags=flags
        )

    def beliefs(self, steps: Steps, *, truncation: int | None = None) -> Gaussian:
        """The prior and the belief after each step of B trials, [B, T + 1, L]; steps [B, T,
        ...]."""
        return self.encoder.sequence(self.parts(steps), truncation=truncation)

    def errors(self, latent: Tensor, steps: Steps) -> dict[str, Tensor]:
        """[B, n, k] for each decoder: of n samples z [B, n, L], each for k steps [B, k, ...] of its
        trial."""
        parts = self.parts(steps)
        decoders = cast(Mapping[str, Decoder], self.decoders)
        return {name: decoder.error(latent, parts) for name, decoder in decoders.items()}

    def chances(self, belief: Gaussian) -> Tensor | None:
        """[..., S] for each state the chance that it pays, as the belief has it; None unless the
        decoder is a `RewardMap`.

        The mean over the same samples of z at every call.
        """
        decoder = dict(self.decoders.items()).get("reward")
        if not isinstance(decoder, RewardMap):
            return None
        generator = torch.Generator().manual_seed(0)
        shape = (NUM_SAMPLES, *[1] * (belief.mean.ndim - 1), belief.mean.shape[-1])
        standard = torch.randn(shape, generator=generator).to(belief.mean)
        return decoder(belief.at(standard)).sigmoid().mean(0)


def _check_map(decoders: nn.ModuleDict, space: gymnasium.spaces.Box) -> None:
    """Raises: ValueError for a `RewardMap` where observations can't be one-hot. A task that is shown
    beside them lies in [−1, 1]."""
    is_map = any(isinstance(decoder, RewardMap) for decoder in decoders.values())
    if is_map and not ((space.low >= -1).all() and (space.high <= 1).all()):
        low, high = space.low.min(), space.high.max()
        raise SettingError(
            f"observations lie in [{low:g}, {high:g}]: a RewardMap takes one-hot ones; expected "
            "model=belief"
        )


def _numbers(belief: Gaussian) -> Tensor:
    """[..., 2 L], cut off from the encoder's graph."""
    return torch.cat([belief.mean, belief.log_variance], dim=-1).detach()
