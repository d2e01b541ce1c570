"""The maths of soft actor-critic, step by step: what critics are fitted to, and what a policy is
judged by. Two critics come as [2, ...]; callers take the mean over the steps that count.

Source: Haarnoja et al. 2018 (arXiv:1801.01290, arXiv:1812.05905).
"""

import torch
from torch import Tensor

from metarl.types import Params


def bellman_target(
    reward: Tensor, terminated: Tensor, next_value: Tensor, *, discount: float
) -> Tensor:
    """r + γ (1 − terminated) V(o'): [...]. A time limit doesn't end what is to come."""
    return reward + discount * (~terminated * next_value)


def bellman_error(q: Tensor, target: Tensor) -> Tensor:
    """Σᵢ (Qᵢ − target)² over both critics: [2, ...] -> [...]. The target is a constant."""
    return (q - target.detach()).square().sum(0)


def soft_value(q: Tensor, log_prob: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """min(Q₁, Q₂) − α log π, of actions drawn from the policy: [2, ...] -> [...]. Its mean is the
    soft value; the policy is to raise it."""
    return q.amin(0) - temperature * log_prob


@torch.no_grad()
def follow(target: Params, source: Params, rate: float) -> None:
    """target ← (1 − rate) target + rate source, in place: a copy that changes slowly."""
    for name, leaf in target.items():
        leaf.lerp_(source[name], rate)
