"""Diagonal Gaussians against torch.distributions."""

import torch
from torch.distributions import Independent, Normal
from torch.distributions.kl import kl_divergence as divergence_of_torch

from metarl.nn.gaussians import Gaussian, kl_divergence


def gaussian(generator: torch.Generator) -> Gaussian:
    drawn = torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64)
    return Gaussian(mean=drawn[0], log_variance=drawn[1])


def of_torch(belief: Gaussian) -> Independent:
    return Independent(Normal(belief.mean, belief.log_variance.exp().sqrt()), 1)


def test_divergence_is_that_of_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    p, q = gaussian(generator), gaussian(generator)
    expected = divergence_of_torch(of_torch(p), of_torch(q))
    torch.testing.assert_close(kl_divergence(p, q), expected, rtol=1e-12, atol=1e-12)
    assert (kl_divergence(p, p) == 0).all()


def test_a_sample_is_so_many_deviations_from_the_mean() -> None:
    belief = gaussian(torch.Generator().manual_seed(1))
    # One deviation above the mean the density is e^(−1/2) for each of the 5 numbers.
    ratio = of_torch(belief).log_prob(belief.at(torch.ones(5, dtype=torch.float64)))
    ratio = ratio - of_torch(belief).log_prob(belief.mean)
    torch.testing.assert_close(ratio, torch.full((3, 4), -2.5, dtype=torch.float64))
