"""Decoders lead from a task to its steps, in learners that infer what the task is. They are what
teaches the encoder.

z, L numbers, stands for the task. Each of n samples of it is paired with each of k steps, and every
pair has an error.
"""

from collections.abc import Sequence
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from metarl.core.checks import check_one_layer_or_more
from metarl.errors import SettingError
from metarl.nn.mlp import MLP, mlp
from metarl.nn.trial_encoder import StepParts

OF_A_REWARD = ("next_obs", "action", "obs")
"""What a reward may be told from, besides z."""


class Decoder(Protocol):
    """What learners ask of a decoder."""

    def error(self, latent: Tensor, steps: StepParts) -> Tensor:
        """[..., n, k] of samples z [..., n, L] and steps [..., k, ...]."""
        ...


class RewardDecoder(nn.Module):
    """Predicts the reward from z and from what it sees of a step, in squared error.

    Where the next observation says all that a reward depends on besides the task, the rest is
    better hidden. An agent stays where it is paid, so that who sees it stay knows the reward
    without knowing the task, and the belief has less to tell.

    Args:
      sees: some of `OF_A_REWARD`, in any order.
      settings: those of `_Pairs`.
    Raises: ValueError for another name, and for a size below 1; so do the others here.
    """

    def __init__(self, *, sees: Sequence[str] = OF_A_REWARD, **settings: Any) -> None:
        super().__init__()
        if not sees or not set(sees) <= set(OF_A_REWARD):
            expected = f"a list of some of {', '.join(OF_A_REWARD)}"
            raise SettingError(f"sees {sees}: expected {expected}")
        self.pairs = _Pairs([name for name in OF_A_REWARD if name in sees], 1, **settings)

    def forward(self, latent: Tensor, steps: StepParts) -> Tensor:
        """[..., n, k] the rewards expected, of z [..., n, L]."""
        return self.pairs(latent, steps).squeeze(-1)

    def error(self, latent: Tensor, steps: StepParts) -> Tensor:
        return (self(latent, steps) - steps.reward.unsqueeze(-2)).square()


class StateDecoder(nn.Module):
    """Predicts the next observation from z, the action and the observation, in squared error: the
    mean over its numbers.

    Args: obs_size and other settings: those of `_Pairs`.
    """

    def __init__(self, *, obs_size: int, **settings: Any) -> None:
        super().__init__()
        self.pairs = _Pairs(("action", "obs"), obs_size, obs_size=obs_size, **settings)

    def forward(self, latent: Tensor, steps: StepParts) -> Tensor:
        """[..., n, k, O] the next observations expected, of z [..., n, L]."""
        return self.pairs(latent, steps)

    def error(self, latent: Tensor, steps: StepParts) -> Tensor:
        return (self(latent, steps) - steps.next_obs.unsqueeze(-3)).square().mean(-1)


class RewardMap(nn.Module):
    """Predicts for each of S states whether it pays, from z alone: for worlds whose observation is
    one-hot, S = O.

    The error is the cross-entropy (in nats) of whether the reward of a step is above 0, in the
    state it leads to.
    """

    def __init__(
        self,
        *,
        latent_size: int,
        obs_size: int,
        action_size: int,
        hidden_sizes: Sequence[int],
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_one_layer_or_more({"hidden_sizes": hidden_sizes})
        sizes = (latent_size, *hidden_sizes, obs_size)
        self.network = MLP(sizes, "relu", generator=generator)

    def forward(self, latent: Tensor) -> Tensor:
        """z [..., L] -> the logits [..., S] of each state's chance to pay."""
        return self.network(latent)

    def error(self, latent: Tensor, steps: StepParts) -> Tensor:
        logits = self(latent) @ steps.next_obs.transpose(-1, -2)
        pays = (steps.reward > 0).to(logits).unsqueeze(-2).expand_as(logits)
        return functional.binary_cross_entropy_with_logits(logits, pays, reduction="none")


class _Pairs(nn.Module):
    """A perceptron with ReLUs of z and of what is known of a step, for every pair of them.

    The first layer is linear in both, so it is computed once for each z and once for each step, and
    added up for each pair.

    Args:
      known: which of `StepParts` it sees, of next_obs, action and obs.
      num_outputs: Y.
      obs_embedding, action_embedding: what the layer with ReLUs gives that observations, or
        actions, go through first; 0: there is none. The observations before and after a step share
        theirs.
      generator: draws the weights.
    """

    def __init__(
        self,
        known: Sequence[str],
        num_outputs: int,
        *,
        latent_size: int,
        obs_size: int,
        action_size: int,
        hidden_sizes: Sequence[int],
        obs_embedding: int = 0,
        action_embedding: int = 0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_one_layer_or_more({"hidden_sizes": hidden_sizes})
        self._known, self._latent_size = tuple(known), latent_size
        given = {"obs": obs_size, "action": action_size}
        embedded = {"obs": obs_embedding, "action": action_embedding}
        self.layers = nn.ModuleDict(
            {
                kind: MLP((given[kind], size), generator=generator)
                for kind, size in embedded.items()
                if size > 0
            }
        )
        size = sum(embedded[kind] or given[kind] for kind in map(_kind, known))
        sizes = (latent_size + size, *hidden_sizes, num_outputs)
        self.network = MLP(sizes, "relu", generator=generator)

    def forward(self, latent: Tensor, steps: StepParts) -> Tensor:
        """z [..., n, L] and steps [..., k, ...] -> [..., n, k, Y]."""
        known = torch.cat([self._seen(name, getattr(steps, name)) for name in self._known], dim=-1)
        first, *others = (cast(nn.Linear, layer) for layer in self.network.layers)
        of_latent, of_step = first.weight.split([self._latent_size, known.shape[-1]], dim=1)
        summed = functional.linear(latent, of_latent, first.bias).unsqueeze(-2)
        summed = summed + functional.linear(known, of_step).unsqueeze(-3)
        return mlp(summed.relu(), [(layer.weight, layer.bias) for layer in others], "relu")

    def _seen(self, name: str, part: Tensor) -> Tensor:
        kind = _kind(name)
        return self.layers[kind](part).relu() if kind in self.layers else part


def _kind(name: str) -> str:
    """`obs` for both observations of a step."""
    return name.removeprefix("next_")
