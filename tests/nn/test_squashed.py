"""The squashed policy: its density beside the change of variables done by numbers, and where tanh
is flat."""

import math

import pytest
import torch

from metarl.nn.squashed import SquashedGaussianPolicy
from metarl.noise import Noise

log_prob, sample = SquashedGaussianPolicy.log_prob, SquashedGaussianPolicy.sample


def outputs(mean, log_std, dtype=torch.float64):
    return {
        "mean": torch.tensor([mean], dtype=dtype),
        "log_std": torch.tensor([log_std], dtype=dtype),
    }


@pytest.mark.parametrize(("mean", "log_std"), [(0.0, 0.0), (1.5, -1.0), (-3.0, 0.5), (4.0, 1.0)])
def test_density_is_the_probability_of_a_small_interval(mean, log_std):
    """By the Gaussian's distribution function at atanh of the interval's ends."""
    width = 1e-6

    def below(a):
        return 0.5 * (1 + math.erf((math.atanh(a) - mean) / (math.exp(log_std) * math.sqrt(2))))

    for a in (-0.99, -0.3, 0.0, 0.6, 0.97):
        share = below(a + width / 2) - below(a - width / 2)
        if share / width > 1e-5:  # Else it is rounding.
            found = log_prob(outputs([mean], [log_std]), torch.tensor([[a]], dtype=torch.float64))
            # Of the distribution function's 16 digits some 5 are left.
            assert found.item() == pytest.approx(math.log(share / width), abs=1e-4)


def test_densities_of_two_dimensions_integrate_to_one():
    axis = torch.linspace(-1, 1, 402, dtype=torch.float64)[1:-1]
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1)
    density = log_prob(outputs([0.3, -0.2], [-1.0, -0.7]), grid).exp()
    # The trapezoidal rule on a smooth function that ends at 0 is exact to many digits.
    assert density.sum().item() * (axis[1] - axis[0]).item() ** 2 == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("u", [-40.0, -12.0, -3.0, 0.0, 0.01, 5.0, 9.5, 30.0])
def test_log_probability_of_a_sample_is_right_where_tanh_is_flat(u, dtype):
    """log(1 − tanh²(u)) = −2 log cosh u, and log cosh u = |u| + log(1 + e^{−2|u|}) − log 2."""
    std, drawn = 0.7, -1.3
    mean = u - std * drawn
    found = sample(outputs([mean], [math.log(std)], dtype), torch.tensor([[drawn]], dtype=dtype))[1]
    log_cosh = abs(u) + math.log1p(math.exp(-2 * abs(u))) - math.log(2)
    expected = -0.5 * drawn**2 - math.log(std) - 0.5 * math.log(2 * math.pi) + 2 * log_cosh
    assert found.item() == pytest.approx(
        expected, rel=1e-5 if dtype == torch.float32 else 1e-12, abs=1e-6
    )


def test_the_usual_correction_makes_saturated_actions_look_less_likely_than_they_are():
    """An action that is ±1 in float32 gets −log(1e-6) = 13.8 from log(1 − a² + 1e-6); the slope of
    tanh at u = 12 says −log(1 − tanh²(u)) = 2 log cosh 12 = 22.6."""
    mean, std = 12.0, 0.5
    action, found = sample(outputs([mean], [math.log(std)], torch.float32), torch.zeros(1, 1))
    of_u = -math.log(std) - 0.5 * math.log(2 * math.pi)
    usual = of_u - math.log(1 - action.item() ** 2 + 1e-6)
    assert usual - of_u == pytest.approx(13.8, abs=0.1)
    assert found.item() - of_u == pytest.approx(22.6, abs=0.1)


def test_saturated_actions_have_finite_densities_and_gradients():
    found = outputs([20.0, -20.0, 0.0], [2.0, -20.0, 0.0], torch.float32)
    leaves = {name: leaf.requires_grad_() for name, leaf in found.items()}
    action, of_sample = sample(leaves, torch.tensor([[3.0, 0.0, -3.0]]))
    (of_sample.sum() + action.sum()).backward()
    assert all(leaf.grad.isfinite().all() for leaf in leaves.values())
    assert log_prob(found, torch.tensor([[1.0, -1.0, 0.0]])).isfinite().all()
    assert action.abs().max() <= 1


def test_given_and_sampled_actions_have_the_same_density():
    generator = torch.Generator().manual_seed(0)
    policy = SquashedGaussianPolicy(3, 2, (8,), generator=generator).double()
    found = policy(torch.randn(50, 3, dtype=torch.float64, generator=generator))
    action, of_sample = policy.act(found, Noise(generator))
    torch.testing.assert_close(policy.log_prob(found, action), of_sample)
    assert not action.requires_grad and not of_sample.requires_grad


def test_gradients_through_a_sample_match_finite_differences():
    drawn = torch.tensor([[0.4, -1.2]], dtype=torch.float64)

    def both(mean, log_std):
        action, density = sample({"mean": mean, "log_std": log_std}, drawn)
        return action.sum(-1) + density

    at = [
        torch.tensor([[0.3, -2.0]], dtype=torch.float64),
        torch.tensor([[-0.5, 0.2]], dtype=torch.float64),
    ]
    assert torch.autograd.gradcheck(both, [leaf.requires_grad_() for leaf in at])


def test_without_noise_the_action_is_the_tanh_of_the_mean():
    found = outputs([0.5, -2.0], [0.0, 0.0])
    assert SquashedGaussianPolicy.act(found, None)[0].tolist()[0] == pytest.approx(
        [math.tanh(0.5), math.tanh(-2.0)]
    )


def test_deviations_stay_in_their_range():
    policy = SquashedGaussianPolicy(1, 1, (4,), generator=torch.Generator().manual_seed(1))
    low, high = (policy(torch.full((1, 1), x))["log_std"].item() for x in (-1e9, 1e9))
    assert {-20.0, 2.0} >= {low, high} or (min(low, high) >= -20.0 and max(low, high) <= 2.0)
    found = policy.with_params(dict(policy.named_parameters()), torch.ones(2, 1))
    torch.testing.assert_close(found, policy(torch.ones(2, 1)))
