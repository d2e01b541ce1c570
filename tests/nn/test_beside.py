"""What a policy sees beside the observation: contexts and noise made a latent, of one task or of
many."""

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from metarl.core import params as P
from metarl.nn.beside import CONTEXT, NOISE_LOG_STD, NOISE_MEAN, beside, prior_kl, with_beside
from metarl.nn.heads import CategoricalPolicy, GaussianPolicy

N, B, O = 3, 4, 2


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_noise_becomes_a_latent_and_the_context_follows():
    params = {
        NOISE_MEAN: torch.tensor([1.0, -2.0]),
        NOISE_LOG_STD: torch.tensor([0.0, 2.0]).log1p(),  # σ = 1, 3
        CONTEXT: torch.tensor([5.0]),
    }
    obs = torch.tensor([[7.0, 8.0, 0.5, -1.0]])  # of which the last two are noise
    seen = beside(params, obs)
    torch.testing.assert_close(seen, torch.tensor([[1.5, -5.0, 5.0]]))
    torch.testing.assert_close(
        with_beside(obs, seen, 5), torch.tensor([[7.0, 8.0, 1.5, -5.0, 5.0]])
    )
    assert beside({"log_std": torch.zeros(2)}, obs) is None
    assert with_beside(obs, None, 4) is obs


@pytest.mark.parametrize("make", [GaussianPolicy, CategoricalPolicy])
def test_stacked_tasks_see_what_each_sees_alone(make):
    generator = torch.Generator().manual_seed(1)
    policy = make(O, 2, (5,), context_size=3, noise_size=2, generator=generator).double()
    stacked = {
        name: leaf + 0.3 * random(N, *leaf.shape, seed=len(name))
        for name, leaf in P.of(policy).items()
    }
    obs = random(N, B, O + 2)
    together = policy.with_params(stacked, obs)
    for task in range(N):
        alone = P.call(policy, P.task(stacked, task), obs[task])
        for name, leaf in alone.items():
            torch.testing.assert_close(leaf.expand_as(together[name][task]), together[name][task])


def test_prior_is_the_kl_to_a_standard_gaussian():
    mean, log_std = random(3), random(3, seed=1)
    expected = kl_divergence(Normal(mean, log_std.exp()), Normal(0.0, 1.0)).sum()
    found = prior_kl({NOISE_MEAN: mean, NOISE_LOG_STD: log_std})
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"context_size": -1}, "context_size -1: expected 0 or more"),
        ({"noise_size": -2}, "noise_size -2: expected 0 or more"),
        ({"latent_size": 1, "noise_size": 2}, "latent_size 1 and noise_size 2: expected 0 of one"),
    ],
)
def test_mistakes_are_named(sizes, message):
    with pytest.raises(ValueError, match=message):
        GaussianPolicy(3, 2, (8,), **sizes)
