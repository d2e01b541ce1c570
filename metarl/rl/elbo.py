"""The evidence lower bound that teaches a learner what its tasks are (Zintgraf et al. 2020,
arXiv:1910.08348, eq. 8)."""

import torch
from torch import Tensor

from metarl.nn.gaussians import Gaussian, kl_divergence
from metarl.noise import Noise
from metarl.struct import struct


@struct
class Terms:
    """Some of the terms of a sum over the first c[b] numbers of each of B rows, and what each of
    them counts."""

    index: Tensor  # [B, n] int64
    weight: Tensor  # [B, n] float64; 0 on padding


def all_terms(counts: Tensor) -> Terms:
    """Each number below c [B] once."""
    index = torch.arange(int(counts.max()), device=counts.device).expand(len(counts), -1)
    within = index < counts.unsqueeze(1)
    return Terms(index=index * within, weight=within.double())


def drawn_terms(counts: Tensor, num: int, noise: Noise) -> Terms:
    """One number from each of `num` equal stretches of 0, ..., c [B], each at random: a sum over
    them, each counting c / num, is an unbiased estimate of the whole sum."""
    uniform = noise.uniform(len(counts), num, dtype=torch.float64).to(counts.device)
    place = (torch.arange(num, device=counts.device) + uniform) * counts.unsqueeze(1) / num
    index = place.long().minimum(counts.unsqueeze(1) - 1)  # a product may be rounded up
    return Terms(index=index, weight=(counts.double() / num).unsqueeze(1).expand_as(index))


def taken(x: Tensor, terms: Terms) -> Tensor:
    """x [B, T, ...] -> [B, n, ...], the entries of the terms."""
    index = terms.index.reshape(*terms.index.shape, *[1] * (x.ndim - 2))
    return x.gather(1, index.expand(*terms.index.shape, *x.shape[2:]))


def reconstruction(error: Tensor, samples: Terms, steps: Terms) -> Tensor:
    """Σ_t Σ_k error(z_t, step k) of each of B trials, [B]; error [B, n, k]: of the samples z_t that
    one took, and the steps."""
    weight = samples.weight.unsqueeze(2) * steps.weight.unsqueeze(1)
    return (error * weight.to(error)).sum((1, 2))


def divergence_chain(beliefs: Gaussian, lengths: Tensor) -> Tensor:
    """Σ_t KL(q_t ‖ q_{t−1}) of each of B trials, [B] in nats, with q_{−1} = N(0, I): what the
    belief of each step says beyond the one before. Gradients go back through both.

    Args: beliefs: [B, T + 1, L] before the first step and after each; lengths: [B] steps of each
      trial, the rest is padding.
    """
    zero = torch.zeros_like(beliefs.mean[:, :1])
    before = Gaussian(
        mean=torch.cat([zero, beliefs.mean[:, :-1]], dim=1),
        log_variance=torch.cat([zero, beliefs.log_variance[:, :-1]], dim=1),
    )
    found = kl_divergence(beliefs, before)
    time = torch.arange(found.shape[1], device=found.device)
    return found.where(time <= lengths.unsqueeze(1), 0).sum(1)
