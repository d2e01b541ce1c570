"""An encoder leads from the steps of a trial to a belief about its task, in learners that infer
what the task is.

z is what is believed in: L numbers that stand for the task.
"""

import torch
from torch import Tensor, nn

from metarl.core.checks import check_counts
from metarl.nn.gaussians import Gaussian
from metarl.nn.mlp import MLP
from metarl.nn.recurrent import GRU
from metarl.struct import map_tensors, struct


@struct
class StepParts:
    """Steps as networks take them: as the environment gives them, but discrete actions are one-hot,
    truth values numbers."""

    obs: Tensor  # [..., O]
    action: Tensor  # [..., A]
    reward: Tensor  # [...]
    next_obs: Tensor  # [..., O] the true successor
    flags: Tensor  # [..., 2]: it terminated; it was the first step of its episode


class TrialEncoder(nn.Module):
    """q(z | the steps so far), after every step. Each part of a step goes through a layer of its
    own with ReLUs, all of them together into a GRU, and its state h gives μ and log σ². Before the
    first step h is 0, which gives the prior.

    The observation before the step tells how an episode begins, which no step before it has shown.

    Args:
      next_obs_embedding, reward_embedding, action_embedding, obs_embedding: what the layer of each
        part gives; of the last two 0 leaves the part out. The flags go with next_obs.
      generator: draws the weights.
    Raises: ValueError for a size that is too small.
    """

    def __init__(
        self,
        *,
        obs_size: int,
        action_size: int,
        latent_size: int,
        hidden_size: int,
        next_obs_embedding: int,
        reward_embedding: int,
        action_embedding: int,
        obs_embedding: int,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_counts({"latent_size": latent_size, "next_obs_embedding": next_obs_embedding})
        check_counts({"reward_embedding": reward_embedding})
        parts = {
            "next_obs": (obs_size + 2, next_obs_embedding),
            "reward": (1, reward_embedding),
            "action": (action_size, action_embedding),
            "obs": (obs_size, obs_embedding),
        }
        for name in ("action", "obs"):
            if parts[name][1] == 0:
                del parts[name]
        self.latent_size = latent_size
        self.embeddings = nn.ModuleDict(
            {name: MLP(sizes, generator=generator) for name, sizes in parts.items()}
        )
        size = sum(embedded for _, embedded in parts.values())
        self.memory = GRU(size, hidden_size, generator=generator)
        self.head = MLP((hidden_size, 2 * latent_size), generator=generator)

    def initial(self, batch_size: int) -> Tensor:
        """h [B, H] before the first step."""
        return self.memory.initial(batch_size)

    def belief(self, hidden: Tensor) -> Gaussian:
        """What h [..., H] says of z."""
        mean, log_variance = self.head(hidden).chunk(2, dim=-1)
        return Gaussian(mean=mean, log_variance=log_variance)

    def step(self, parts: StepParts, hidden: Tensor, active: Tensor | None = None) -> Tensor:
        """h [B, H] after one more step [B, ...]; where active [B] is False it stays."""
        return self.memory.step(self._embedded(parts), hidden, active)[1]

    def sequence(self, parts: StepParts, *, truncation: int | None = None) -> Gaussian:
        """The prior and the belief after each of T steps, [B, T + 1, L]; parts [B, T, ...].

        Args: truncation: steps after which the gradient stops on its way back through h; None: it
          goes to the first step.
        """
        x = self._embedded(parts).transpose(0, 1)
        outputs = [self.initial(x.shape[1]).unsqueeze(0)]
        for stretch in x.split(truncation or len(x)):
            outputs.append(self.memory.sequence(stretch, outputs[-1][-1].detach()))
        return map_tensors(lambda leaf: leaf.transpose(0, 1), self.belief(torch.cat(outputs)))

    def _embedded(self, parts: StepParts) -> Tensor:
        inputs = {
            "next_obs": torch.cat([parts.next_obs, parts.flags], dim=-1),
            "reward": parts.reward.unsqueeze(-1),
            "action": parts.action,
            "obs": parts.obs,
        }
        layers = self.embeddings.items()
        return torch.cat([layer(inputs[name]).relu() for name, layer in layers], dim=-1)
