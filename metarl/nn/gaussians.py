"""Diagonal Gaussians as values: beliefs about what a task is. Gradients flow through all of it.

There are two structs. An encoder of whole trials gives log σ², one of single steps σ², and each
keeps what its network gave, because converting would round.
"""

from torch import Tensor

from metarl.struct import struct


@struct
class Gaussian:
    """N(μ, diag σ²) over L numbers, for any leading dimensions."""

    mean: Tensor  # [..., L]
    log_variance: Tensor  # [..., L]

    @property
    def deviation(self) -> Tensor:
        """σ, [..., L]."""
        return (0.5 * self.log_variance).exp()

    def at(self, standard: Tensor) -> Tensor:
        """μ + σ ε, [..., L]: a sample if ε is drawn from N(0, I)."""
        return self.mean + self.deviation * standard


def kl_divergence(p: Gaussian, q: Gaussian) -> Tensor:
    """KL(p‖q) = ½ Σᵢ [ log σ_q² − log σ_p² + (σ_p² + (μ_p − μ_q)²) / σ_q² − 1 ]: [...] in nats."""
    log_ratio = p.log_variance - q.log_variance
    distance = (p.mean - q.mean).square() * (-q.log_variance).exp()
    return 0.5 * (log_ratio.exp() + distance - log_ratio - 1).sum(-1)


@struct
class GaussianByVariance:
    """N(mean, diag variance), for any leading dimensions, as products of Gaussians need it."""

    mean: Tensor  # [..., L]
    variance: Tensor  # [..., L]

    def at(self, standard: Tensor) -> Tensor:
        """mean + √variance ε, [..., L]."""
        return self.mean + self.variance.sqrt() * standard

    def kl_to_standard(self) -> Tensor:
        """KL(N(μ, σ²) ‖ N(0, 1)) = ½ Σ (σ² + μ² − 1 − log σ²): [...] in nats."""
        return 0.5 * (self.variance + self.mean.square() - 1 - self.variance.log()).sum(-1)
