"""The posterior of a context: products of Gaussians against Bayes' rule, and that the order means
nothing."""

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from metarl.nn.gaussians import GaussianByVariance
from metarl.nn.task_posterior import FactorEncoder, product, standard


def test_product_is_what_bayes_rule_gives_factor_by_factor(generator):
    """N(m, v) times the likelihood N(x; ., s) is N((m s + x v) / (v + s), v s / (v + s)), one after
    the other."""
    mean = torch.randn(5, 2, dtype=torch.float64, generator=generator)
    variance = torch.rand(5, 2, dtype=torch.float64, generator=generator) + 0.1
    m, v = mean[0], variance[0]
    for x, s in zip(mean[1:], variance[1:], strict=True):
        m, v = (m * s + x * v) / (v + s), v * s / (v + s)
    found = product(GaussianByVariance(mean=mean, variance=variance))
    torch.testing.assert_close(found.mean, m)
    torch.testing.assert_close(found.variance, v)


def test_equal_factors_divide_the_variance_by_their_number():
    found = product(
        GaussianByVariance(mean=torch.full((3, 4, 2), 0.7), variance=torch.full((3, 4, 2), 0.2))
    )
    torch.testing.assert_close(found.mean, torch.full((3, 2), 0.7))
    torch.testing.assert_close(found.variance, torch.full((3, 2), 0.05))


def test_order_of_transitions_means_nothing_and_tasks_are_apart(generator):
    encoder = FactorEncoder(4, (8,), 3, generator=generator).double()
    context = torch.randn(2, 6, 4, dtype=torch.float64, generator=generator)
    found = product(encoder(context))
    shuffled = product(encoder(context[:, torch.randperm(6, generator=generator)]))
    torch.testing.assert_close(shuffled.mean, found.mean)
    torch.testing.assert_close(shuffled.variance, found.variance)
    alone = product(encoder(context[1:]))
    torch.testing.assert_close(alone.mean, found.mean[1:])


def test_a_factor_without_certainty_changes_nothing():
    mean, variance = torch.tensor([[1.0], [9.0]]), torch.tensor([[0.5], [torch.inf]])
    found = product(GaussianByVariance(mean=mean, variance=variance))
    assert (found.mean.item(), found.variance.item()) == (1.0, 0.5)


def test_factors_are_never_narrower_than_rounding_allows():
    found = product(
        GaussianByVariance(mean=torch.tensor([[1.0], [3.0]]), variance=torch.zeros(2, 1))
    )
    assert found.mean.item() == pytest.approx(2.0) and found.variance.item() == pytest.approx(5e-8)


def test_divergence_from_the_prior_is_that_of_torch(generator):
    found = GaussianByVariance(
        mean=torch.randn(4, 3, generator=generator),
        variance=torch.rand(4, 3, generator=generator) + 0.01,
    )
    expected = kl_divergence(Normal(found.mean, found.variance.sqrt()), Normal(0.0, 1.0)).sum(-1)
    torch.testing.assert_close(found.kl_to_standard(), expected)
    assert standard(2, 3, like=found.mean).kl_to_standard().tolist() == [0.0, 0.0]


def test_draws_have_the_mean_and_the_deviation(generator):
    found = GaussianByVariance(mean=torch.tensor([2.0]), variance=torch.tensor([0.09])).at(
        torch.randn(20000, 1, generator=generator)
    )
    assert found.mean().item() == pytest.approx(2.0, abs=0.01)  # four standard errors
    assert found.std().item() == pytest.approx(0.3, rel=0.03)
