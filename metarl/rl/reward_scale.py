"""Rewards in units of what they add up to: another way than normalised returns to give a value
function numbers of size 1."""

import torch
from torch import Tensor, nn

from metarl.nn.normaliser import Normaliser

_BOUND = 10.0  # what a scaled reward is clipped to


class RewardScale(nn.Module):
    """r / deviation of Rₜ = γ Rₜ₋₁ + rₜ, clipped to ±10. The deviation is that of all R seen so
    far, in all trials up to the same step, so early rewards are scaled by the little that is known
    then.

    All is computed on the CPU, wherever the rewards lie: which trials still run decides what is
    computed, and a GPU would be waited for at each of their steps.

    Source: `VecNormalize` of OpenAI's baselines, as the published VariBAD uses it. How we differ:
    there R is 0 instead of its last value where a trial ends.
    """

    def __init__(self, *, discount: float) -> None:
        super().__init__()
        self._discount = discount
        self.sums = Normaliser(1)

    @torch.no_grad()
    def forward(self, reward: Tensor, mask: Tensor) -> Tensor:
        """Takes in the rewards [T, B] of whole trials, and scales them; `mask` is False on padding,
        which is not changed."""
        rewards, masks = reward.cpu(), mask.cpu()
        running, scaled = torch.zeros_like(rewards[0]), []
        for now, real in zip(rewards, masks, strict=True):
            running = self._discount * running + now
            if real.any():
                self.sums.update(running[real].unsqueeze(-1))
            scaled.append((now * self.sums.scale).clamp(-_BOUND, _BOUND).where(real, now))
        return torch.stack(scaled).to(reward.device)
