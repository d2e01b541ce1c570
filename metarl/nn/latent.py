"""The latent of an episode: numbers z ~ N(μ, diag σ²) that a policy sees beside the observation,
drawn when an episode begins and held to its end.

Episodes of one task then differ as wholes, for instance in how fast the robot runs, and their
returns tell which z suits the task. A policy without a latent explores step by step, around one way
to behave. μ and log σ are parameters of the policy, and adaptation moves them.

The first layer takes (s, z), and with `latent_products` the products of z with every number of s,
too: W s + z (W' s) + ..., so that z changes how the policy responds to what it observes. A latent
that is only added shifts the units until they saturate, and its extremes then make a policy that
is blind to s.

Source: Gupta et al. 2018 (arXiv:1802.07245, MAESN). How we differ: the gradient by μ is that of the
density of z, in the outer update, too, where theirs goes through z (metarl/nn/beside.py has that);
σ shrinks by a fixed factor; and the latents of a task's episodes are spread evenly over N(μ, σ²).
"""

import math

import torch
from torch import Tensor, nn

from metarl.core.checks import check_not_negative
from metarl.noise import Noise

MEAN, LOG_STD = "latent_mean", "latent_log_std"
"""The names of μ and log σ among a policy's parameters and outputs."""


def latent_parameters(size: int) -> dict[str, nn.Parameter]:
    """μ = 0 and log σ = 0, [size] each; {} for size 0. Raises: SettingError for a negative size."""
    check_not_negative({"latent_size": size})
    return {name: nn.Parameter(torch.zeros(size)) for name in (MEAN, LOG_STD)} if size else {}


def num_latent_inputs(obs_size: int, size: int, *, products: bool) -> int:
    """How many inputs a latent of `size` numbers adds to the first layer's."""
    return size * (1 + obs_size) if products else size


def with_products(obs: Tensor, size: int) -> Tensor:
    """(s, z) [..., O + L] -> (s, z, z₁ s, ..., z_L s) [..., O + L + L O], with L = size."""
    products = obs[..., -size:, None] * obs[..., None, :-size]
    return torch.cat([obs, products.flatten(-2)], dim=-1)


def latent_outputs(params: dict[str, Tensor]) -> dict[str, Tensor]:
    """μ and log σ among a policy's outputs: [L], or [N, 1, L] of stacked parameters, to broadcast
    against z [N, E, L]. Copies: whoever holds outputs while an optimizer moves the parameters in
    place must not see them move."""
    return {
        name: (params[name].unsqueeze(-2) if params[name].dim() == 2 else params[name]).clone()
        for name in (MEAN, LOG_STD)
    }


def draw_latents(mean: Tensor, log_std: Tensor, num_episodes: int, noise: Noise | None) -> Tensor:
    """z [N, E, L] for E episodes of N tasks with μ, log σ [N, L]; μ itself without noise.

    Each z alone is N(μ, σ²), but together they are spread evenly: every element takes one value
    from each of E intervals of equal probability, in an order of its own (Latin hypercube; McKay et
    al. 1979). Few episodes then cover the distribution.
    """
    if noise is None:
        return mean[:, None].expand(-1, num_episodes, -1)
    shape = (len(mean), num_episodes, mean.shape[-1])
    interval = noise.uniform(*shape, dtype=mean.dtype).argsort(dim=1)
    share = (interval + noise.uniform(*shape, dtype=mean.dtype)) / num_episodes
    edge = torch.finfo(mean.dtype).eps
    return mean[:, None] + log_std.exp()[:, None] * torch.special.ndtri(share.clamp(edge, 1 - edge))


def gaussian_kl(mean_p: Tensor, log_std_p: Tensor, mean_q: Tensor, log_std_q: Tensor) -> Tensor:
    """KL(p ‖ q) of diagonal Gaussians, summed over their elements: [..., L] -> [...]."""
    log_ratio = log_std_p - log_std_q
    z = (mean_p - mean_q) * (-log_std_q).exp()
    return (0.5 * (z.square() + (2 * log_ratio).exp() - 1) - log_ratio).sum(-1)


def latent_kl(p: dict[str, Tensor], q: dict[str, Tensor]) -> Tensor:
    """KL(p ‖ q) of the latents' distributions among two policies' outputs, [N] of stacked ones."""
    return gaussian_kl(p[MEAN], p[LOG_STD], q[MEAN], q[LOG_STD]).squeeze(-1)


def latent_log_prob(outputs: dict[str, Tensor], latent: Tensor) -> Tensor:
    """log N(z; μ, σ²) [..., E] of z [..., E, L], summed over its elements."""
    z = (latent - outputs[MEAN]) * (-outputs[LOG_STD]).exp()
    return -(0.5 * z.square() + outputs[LOG_STD] + 0.5 * math.log(2 * math.pi)).sum(-1)
