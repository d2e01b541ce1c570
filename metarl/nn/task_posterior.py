"""What a context says of the task: a Gaussian over a latent z, made of a factor for each
transition.

The factors are multiplied, so the order of transitions means nothing and the posterior gets
narrower with every one.

Source: Rakelly et al. 2019 (arXiv:1903.08254, section 4.1).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from metarl.core.checks import check_layers
from metarl.nn.gaussians import GaussianByVariance
from metarl.nn.mlp import MLP, draw_by_width

LEAST_VARIANCE = 1e-7
"""The least variance of a single factor. A narrower one would outvote all others to rounding."""


def standard(*shape: int, like: Tensor) -> GaussianByVariance:
    """N(0, 1), [*shape]: what is known of a task before its first transition."""
    return GaussianByVariance(mean=like.new_zeros(shape), variance=like.new_ones(shape))


def product(factors: GaussianByVariance) -> GaussianByVariance:
    """The normalised product of n Gaussians [..., n, L]:

        1/σ² = Σₙ 1/σₙ²,     μ = σ² Σₙ μₙ/σₙ²

    There is no factor for the prior, as published: how wide one transition alone leaves the
    posterior is the encoder's to say.
    """
    precision = factors.variance.clamp(min=LEAST_VARIANCE).reciprocal()
    variance = precision.sum(-2).reciprocal()
    return GaussianByVariance(mean=variance * (precision * factors.mean).sum(-2), variance=variance)


class FactorEncoder(nn.Module):
    """A perceptron from one transition [..., I] to its factor [..., L]."""

    def __init__(
        self,
        input_size: int,
        hidden_sizes: Sequence[int],
        latent_size: int,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_layers({"hidden_sizes": hidden_sizes})
        self.latent_size = latent_size
        self.trunk = MLP((input_size, *hidden_sizes, 2 * latent_size), "relu", generator=generator)
        weights = self.trunk.weights(dict(self.trunk.named_parameters()))
        draw_by_width(weights, generator=generator)

    def forward(self, transitions: Tensor) -> GaussianByVariance:
        mean, variance = self.trunk(transitions).chunk(2, dim=-1)
        return GaussianByVariance(mean=mean, variance=functional.softplus(variance))
