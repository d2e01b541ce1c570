"""Latents of episodes: their distribution, how evenly they lie, and their density, against
torch.distributions."""

import pytest
import torch
from torch.distributions import Normal

from metarl.nn.heads import CategoricalPolicy, GaussianPolicy
from metarl.nn.latent import LOG_STD, MEAN, draw_latents, latent_log_prob
from metarl.noise import Noise

N, E, L = 4000, 5, 2


def noise(seed=0):
    return Noise(torch.Generator().manual_seed(seed))


def drawn(mean=1.0, std=2.0, num_tasks=N):
    mean, log_std = torch.full((num_tasks, L), mean), torch.full((num_tasks, L), std).log()
    return draw_latents(mean, log_std, E, noise())


def test_each_interval_of_equal_probability_holds_one_latent_of_a_task():
    share = Normal(1.0, 2.0).cdf(drawn())
    assert torch.equal(
        (share * E).long().sort(dim=1).values, torch.arange(E)[None, :, None].expand(N, E, L)
    )


def test_each_episode_alone_has_the_stated_mean_and_std():
    z = drawn()
    # Standard errors over 4000 tasks: 2/√4000 = .032 of the mean, 2/√8000 = .022 of the deviation;
    # five of them.
    torch.testing.assert_close(z.mean(0), torch.full((E, L), 1.0), rtol=0, atol=0.16)
    torch.testing.assert_close(z.std(0), torch.full((E, L), 2.0), rtol=0, atol=0.11)


def test_elements_are_spread_in_orders_of_their_own():
    z = drawn(mean=0.0, std=1.0)
    # Correlation of independent numbers: 1/√(N E) = .007; five of them.
    assert (z[..., 0] * z[..., 1]).mean().abs() < 0.035


def test_without_noise_the_latent_is_the_mean():
    mean = torch.randn(3, L, generator=torch.Generator().manual_seed(1))
    assert torch.equal(
        draw_latents(mean, torch.zeros(3, L), E, None), mean[:, None].expand(3, E, L)
    )


def test_density_is_that_of_independent_gaussians():
    generator = torch.Generator().manual_seed(2)
    mean, log_std, z = (
        torch.randn(3, rows, L, generator=generator, dtype=torch.float64) for rows in (1, 1, E)
    )
    expected = Normal(mean, log_std.exp()).log_prob(z).sum(-1)
    torch.testing.assert_close(
        latent_log_prob({MEAN: mean, LOG_STD: log_std}, z), expected, rtol=1e-13, atol=1e-13
    )


@pytest.mark.parametrize("make", [GaussianPolicy, CategoricalPolicy])
def test_a_policy_with_a_latent_acts_on_it(make):
    policy = make(
        3, 2, (8,), latent_size=L, latent_gain=4.0, generator=torch.Generator().manual_seed(0)
    )
    plain = make(3 + L, 2, (8,), generator=torch.Generator().manual_seed(0))
    weight, own = policy.trunk.layers[0].weight, plain.trunk.layers[0].weight
    assert torch.equal(weight[:, :3], own[:, :3])
    assert torch.equal(weight[:, 3:], 4 * own[:, 3:])
    names = dict(policy.named_parameters())
    assert torch.equal(names[MEAN], torch.zeros(L))
    assert torch.equal(names[LOG_STD], torch.zeros(L))
    outputs = policy(torch.ones(3 + L))
    assert set(outputs) - set(plain(torch.ones(3 + L))) == {MEAN, LOG_STD}


@pytest.mark.parametrize("make", [GaussianPolicy, CategoricalPolicy])
def test_with_products_the_first_layer_is_linear_in_the_latent(make):
    """For a latent of (z₁, z₂) it has the weights W + z₁ W₁ + z₂ W₂ of the observation."""
    policy = make(
        3,
        2,
        (8,),
        latent_size=L,
        latent_gain=4.0,
        latent_products=True,
        generator=torch.Generator().manual_seed(0),
    )
    first = policy.trunk.layers[0]
    assert first.weight.shape == (8, 3 + L + 3 * L)
    obs, z = torch.tensor([0.3, -1.0, 2.0]), torch.tensor([0.7, -1.4])
    of_obs, of_z, of_first, of_second = first.weight.split([3, L, 3, 3], dim=1)
    hidden = (of_obs + z[0] * of_first + z[1] * of_second) @ obs + of_z @ z + first.bias
    expected = policy.trunk.layers[1](hidden.tanh())
    outputs = policy(torch.cat([obs, z]))
    found = outputs["mean"] if make is GaussianPolicy else outputs["logits"]
    torch.testing.assert_close(found, expected)
    params = dict(policy.named_parameters())
    torch.testing.assert_close(policy.with_params(params, torch.cat([obs, z])), outputs)


def test_gain_acts_on_the_latent_alone():
    at = lambda gain: (
        GaussianPolicy(
            3,
            2,
            (8,),
            latent_size=L,
            latent_gain=gain,
            latent_products=True,
            generator=torch.Generator().manual_seed(0),
        )
        .trunk.layers[0]
        .weight
    )
    ratio = at(4.0) / at(1.0)
    expected = torch.tensor([1.0] * 3 + [4.0] * L + [1.0] * 3 * L)
    torch.testing.assert_close(ratio, expected.expand_as(ratio))


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="latent_size -1: expected 0 or more"):
        GaussianPolicy(3, 2, (8,), latent_size=-1)


@pytest.mark.parametrize("make", [GaussianPolicy, CategoricalPolicy])
@pytest.mark.parametrize("stacked", [False, True])
def test_outputs_stay_when_parameters_are_moved_in_place(make, stacked):
    """As an optimizer moves them: a divergence from what was would be nothing."""
    policy = make(
        3, 2, (8,), latent_size=L, latent_gain=4.0, generator=torch.Generator().manual_seed(0)
    )
    params = {name: leaf.detach() for name, leaf in policy.named_parameters()}
    obs = torch.randn(4, 3 + L)
    if stacked:
        params = {name: leaf.expand(5, *leaf.shape) for name, leaf in params.items()}
        obs = obs.expand(5, 4, 3 + L)
    outputs = policy.with_params(params, obs)
    before = {name: leaf.clone() for name, leaf in outputs.items()}
    with torch.no_grad():
        for leaf in policy.parameters():
            leaf.add_(1.0)
    for name, leaf in before.items():
        assert torch.equal(outputs[name], leaf), name
