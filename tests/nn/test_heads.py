"""Policies' distributions against torch.distributions, and parameters stacked over tasks against
each task alone."""

import math

import pytest
import torch
from support.type_checks import WrongType  # raised in place of ours
from torch.distributions import Categorical, Independent, Normal, kl_divergence

from metarl.core import params as P
from metarl.nn.heads import CategoricalPolicy, GaussianPolicy
from metarl.nn.mlp import MLP, affine, tanh_
from metarl.noise import Noise

NUM_TASKS, ROWS, OBS, ACTIONS = 3, 5, 4, 2


def policy(kind, **changes):
    make = GaussianPolicy if kind == "gaussian" else CategoricalPolicy
    return make(
        OBS, ACTIONS, (8, 6), generator=torch.Generator().manual_seed(0), **changes
    ).double()


def stacked_params(module, seed):
    generator = torch.Generator().manual_seed(seed)
    params = P.expand(P.of(module), NUM_TASKS)
    noise = {
        k: 0.3 * torch.randn(v.shape, generator=generator, dtype=v.dtype) for k, v in params.items()
    }
    return P.add(params, noise)


def observations(*lead):
    return torch.randn(*lead, OBS, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


def reference(outputs):
    if "logits" in outputs:
        return Categorical(logits=outputs["logits"])
    return Independent(
        Normal(outputs["mean"], outputs["log_std"].exp().expand_as(outputs["mean"])), 1
    )


@pytest.mark.parametrize("kind", ["gaussian", "categorical"])
def test_distributions_agree_with_torchs(kind):
    module, obs = policy(kind), observations(NUM_TASKS, ROWS)
    p, q = (module.with_params(stacked_params(module, seed), obs) for seed in (1, 2))
    action, log_prob = module.act(p, Noise(torch.Generator().manual_seed(3)))
    torch.testing.assert_close(log_prob, reference(p).log_prob(action), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        module.log_prob(q, action), reference(q).log_prob(action), rtol=1e-12, atol=1e-12
    )
    torch.testing.assert_close(module.entropy(p), reference(p).entropy(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        module.kl(p, q), kl_divergence(reference(p), reference(q)), rtol=1e-12, atol=1e-12
    )
    assert module.kl(p, p).abs().max() < 1e-14
    assert action.shape == ((NUM_TASKS, ROWS, ACTIONS) if kind == "gaussian" else (NUM_TASKS, ROWS))


@pytest.mark.parametrize("lead", [(ROWS,), (ROWS, 2)])
@pytest.mark.parametrize("kind", ["gaussian", "categorical"])
def test_stacked_parameters_act_as_each_task_alone(kind, lead):
    module, obs = policy(kind), observations(NUM_TASKS, *lead)
    params = stacked_params(module, 1)
    outputs = module.with_params(params, obs)
    action, log_prob = module.act(outputs, Noise(torch.Generator().manual_seed(3)))
    entropy = module.entropy(outputs)
    for i in range(NUM_TASKS):
        alone = P.call(module, P.task(params, i), obs[i])
        # Batched and single matrix products add up in another order.
        torch.testing.assert_close(
            module.log_prob(alone, action[i]), log_prob[i], rtol=1e-12, atol=1e-12
        )
        torch.testing.assert_close(module.entropy(alone), entropy[i], rtol=1e-12, atol=1e-12)
    through_call = P.call(module, params, obs)
    for name in outputs:
        torch.testing.assert_close(through_call[name], outputs[name], rtol=1e-12, atol=1e-12)


def test_gaussian_samples_have_the_stated_mean_and_std():
    outputs = {
        "mean": torch.tensor([1.0, -2.0]).expand(200_000, 2),
        "log_std": torch.tensor([0.5, 2.0]).log(),
    }
    samples, _ = GaussianPolicy.act(outputs, Noise(torch.Generator().manual_seed(0)))
    # Standard errors: σ/√n = .0011 and .0045 of the mean, σ/√(2n) = .0008 and .0032 of σ; five of
    # them.
    torch.testing.assert_close(samples.mean(0), torch.tensor([1.0, -2.0]), rtol=0, atol=0.022)
    torch.testing.assert_close(samples.std(0), torch.tensor([0.5, 2.0]), rtol=0, atol=0.016)


def test_categorical_samples_have_the_stated_probabilities():
    probs = torch.tensor([0.1, 0.6, 0.3])
    samples, _ = CategoricalPolicy.act(
        {"logits": probs.log().expand(200_000, 3)}, Noise(torch.Generator().manual_seed(0))
    )
    # Standard error √(p(1 − p)/n) ≤ .0011; five of them.
    torch.testing.assert_close(samples.bincount(minlength=3) / 200_000, probs, rtol=0, atol=0.0055)


def test_sampling_depends_on_the_noise_alone():
    module, obs = policy("gaussian"), observations(ROWS)
    draws = [
        module.act(module(obs), Noise(torch.Generator().manual_seed(seed)))[0] for seed in (1, 1, 2)
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


@pytest.mark.parametrize("kind", ["gaussian", "categorical"])
def test_without_noise_the_most_probable_action_is_taken(kind):
    module = policy(kind)
    outputs = module(observations(ROWS))
    action, log_prob = module.act(outputs, None)
    expected = reference(outputs)
    assert torch.equal(action, expected.mean if kind == "gaussian" else expected.probs.argmax(-1))
    torch.testing.assert_close(log_prob, expected.log_prob(action), rtol=1e-12, atol=1e-12)


def test_std_never_falls_below_its_minimum():
    module = policy("gaussian", init_std=0.5, min_std=0.1)
    with torch.no_grad():
        module.log_std.copy_(torch.tensor([math.log(0.01), math.log(0.3)]))
    torch.testing.assert_close(
        module(observations(ROWS))["log_std"].exp(), torch.tensor([0.1, 0.3]).double()
    )


def test_a_unit_scales_actions_and_leaves_the_inner_gradient():
    """In units of .1 a policy is that of an environment which divides its actions by 10."""
    unit = torch.tensor([0.1, 0.2], dtype=torch.float64)
    scaled, plain, obs = policy("gaussian", unit=unit), policy("gaussian"), observations(ROWS)
    action, log_prob = plain.act(plain(obs), Noise(torch.Generator().manual_seed(3)))
    acted, density = scaled.act(scaled(obs), Noise(torch.Generator().manual_seed(3)))
    torch.testing.assert_close(acted, unit * action, rtol=1e-14, atol=0)
    torch.testing.assert_close(
        density, log_prob - unit.log().sum(), rtol=1e-13, atol=0
    )  # Change of variables.
    slopes = [
        torch.autograd.grad(module.log_prob(module(obs), a).sum(), list(module.parameters()))
        for module, a in ((plain, action), (scaled, acted))
    ]
    torch.testing.assert_close(slopes[0], slopes[1], rtol=1e-10, atol=1e-12)


def test_tanh_in_place_is_tanh():
    x = torch.linspace(-12, 12, 10_001)
    # One rounding of σ near ½ or 1, doubled: 2 · 2⁻²⁴ · 1, and the final rounding.
    torch.testing.assert_close(tanh_(x.clone()), x.tanh(), rtol=0, atol=2e-7)
    assert tanh_(torch.tensor([math.nan])).isnan().all()
    assert torch.equal(tanh_(x.double()), x.double().tanh())


def test_mlp_with_one_layer_is_affine():
    net = MLP((2, 1), output_scale=0.5, generator=torch.Generator().manual_seed(0))
    weight = net.layers[0].weight
    torch.testing.assert_close(
        net(torch.tensor([[2.0, 3.0]])).item(), (2 * weight[0, 0] + 3 * weight[0, 1]).item()
    )
    # Xavier: |w| ≤ √(6 / (2 + 1)) = 1.41, halved.
    assert weight.abs().max() <= 0.5 * math.sqrt(2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: CategoricalPolicy.act(
                {"logits": torch.tensor([[0.0, 1.0], [0.0, math.nan]])}, None
            ),
            "logits are NaN or infinite; expected finite numbers",
        ),
        (lambda: MLP((2, 3), "gelu"), "gelu"),
        (lambda: MLP((2,)), r"sizes \[2\]: expected those of input"),
        (lambda: MLP((2, 0, 1)), r"sizes \[2, 0, 1\]: expected"),
        (
            lambda: GaussianPolicy(2, 1, (4,), init_std=0.1, min_std=0.2),
            "min_std 0.2 and init_std 0.1",
        ),
        (
            lambda: GaussianPolicy(2, 2, (4,), unit=torch.tensor([0.1, 0.0])),
            "unit is .*: expected positive numbers",
        ),
        (
            lambda: affine(torch.zeros(2, 7, 3), torch.zeros(4, 5, 3), torch.zeros(4, 5)),
            r"4 tasks .* got \(2, 7, 3\)",
        ),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises((ValueError, WrongType), match=message):
        call()
