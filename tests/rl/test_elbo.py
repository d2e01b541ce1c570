"""The evidence lower bound: drawn terms against all of them, and the chain of divergences step by
step."""

import itertools

import pytest
import torch
from torch.distributions import Independent, Normal
from torch.distributions.kl import kl_divergence

from metarl.nn.gaussians import Gaussian
from metarl.noise import Noise
from metarl.rl.elbo import Terms, all_terms, divergence_chain, drawn_terms, reconstruction, taken

COUNTS = torch.tensor([3, 1, 7])


def test_all_terms_are_the_numbers_below_the_count() -> None:
    terms = all_terms(COUNTS)
    for count, index, weight in zip(COUNTS, terms.index, terms.weight, strict=True):
        assert index.tolist() == list(range(count)) + [0] * (7 - count)  # Padding takes any.
        assert weight.tolist() == [1.0] * count + [0.0] * (7 - count)


@pytest.mark.parametrize("num", [1, 2, 5, 7])
def test_a_drawn_number_stands_for_its_share_of_the_sum(num) -> None:
    """Each number's expected weight is 1: the mean over many draws, of which 20 000 have a standard
    error below 0.02."""
    noise, rows = Noise(torch.Generator().manual_seed(0)), COUNTS.repeat_interleave(20_000)
    terms = drawn_terms(rows, num, noise)
    assert terms.index.shape == (60_000, num) and (terms.index < rows[:, None]).all()
    weights = torch.zeros(60_000, 7, dtype=torch.float64)
    weights.scatter_add_(1, terms.index, terms.weight)
    for count, found in zip(COUNTS.tolist(), weights.reshape(3, -1, 7).mean(1), strict=True):
        expected = torch.tensor([1.0] * count + [0.0] * (7 - count), dtype=torch.float64)
        torch.testing.assert_close(found, expected, rtol=0, atol=0.08)


def test_as_many_as_there_are_is_each_once() -> None:
    terms = drawn_terms(torch.tensor([5, 5]), 5, Noise(torch.Generator().manual_seed(0)))
    assert terms.index.tolist() == [list(range(5))] * 2 and (terms.weight == 1).all()


def test_a_sum_over_pairs_is_the_mean_of_its_estimates() -> None:
    """Exact: each pair of one sample and one step is equally likely, and counts for all."""
    error = torch.rand(1, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    whole = reconstruction(error, all_terms(torch.tensor([4])), all_terms(torch.tensor([3])))
    estimates = []
    for sample, step in itertools.product(range(4), range(3)):
        one = [
            Terms(index=torch.tensor([[at]]), weight=torch.tensor([[float(count)]]))
            for at, count in ((sample, 4), (step, 3))
        ]
        estimates.append(reconstruction(error[:, sample : sample + 1, step : step + 1], *one))
    torch.testing.assert_close(torch.stack(estimates).mean(0), whole)
    torch.testing.assert_close(whole, error.sum((1, 2)))


def test_taken_are_the_entries_of_the_terms() -> None:
    x = torch.arange(12.0).reshape(2, 3, 2)
    terms = Terms(index=torch.tensor([[2, 0], [1, 1]]), weight=torch.ones(2, 2))
    assert taken(x, terms).tolist() == [[[4, 5], [0, 1]], [[8, 9], [8, 9]]]
    assert taken(x[..., 0], terms).tolist() == [[4, 0], [8, 8]]


def test_the_chain_is_a_divergence_from_each_belief_to_the_one_before() -> None:
    drawn = torch.randn(2, 2, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    beliefs = Gaussian(mean=drawn[0], log_variance=drawn[1])

    def at(row: int, time: int) -> Independent:
        mean, deviation = drawn[0, row, time], (drawn[1, row, time] / 2).exp()
        return Independent(Normal(mean, deviation), 1)

    zero = torch.zeros(3, dtype=torch.float64)
    prior = Independent(Normal(zero, zero + 1), 1)
    found = divergence_chain(beliefs, torch.tensor([3, 1]))
    for row, length in enumerate([3, 1]):
        chain = [prior, *(at(row, time) for time in range(length + 1))]
        expected = sum(kl_divergence(q, p) for p, q in itertools.pairwise(chain))
        torch.testing.assert_close(found[row], expected)
