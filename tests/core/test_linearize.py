"""The written-out derivatives and the linearised adaptation against autograd through everything, in
float64."""

import pytest
import torch
from torch import Tensor, nn

from metarl.core import params as P
from metarl.core.adapt import adapt
from metarl.core.differentiated import differentiate_by_autograd
from metarl.core.gradients import Implicit
from metarl.core.linearize import adapt_tasks, linearize_adaptation
from metarl.core.rules import LearnedRates, Only, PerStepRates, Sgd
from metarl.nn.heads import CategoricalPolicy, GaussianPolicy
from metarl.nn.mlp import MLP
from metarl.nn.mlp_derivatives import differentiator
from metarl.noise import Noise
from metarl.struct import map_tensors, struct

NUM_TASKS, ROWS, OBS, ACTIONS = 3, 7, 4, 2
# Sums of a few hundred products in float64: two ways of adding them up differ by some 1e-15 of the
# result.
TIGHT = {"rtol": 1e-12, "atol": 1e-14}

RULES = {
    "sgd": Sgd(0.3),
    "sgd, other later rate": Sgd(0.3, later_lr=0.1),
    "learned rates": LearnedRates(0.2),
    "per-step rates": PerStepRates(0.25, 2),
    "only the last layer": Only(Sgd(0.3), ("trunk.layers.2",)),
    "only the last layer, learned rates": Only(LearnedRates(0.3), ("trunk.layers.2", "log_std")),
}


@struct
class Data:
    obs: Tensor
    action: Tensor
    advantage: Tensor


def gaussian(activation="tanh"):
    generator = torch.Generator().manual_seed(3)
    policy = GaussianPolicy(
        OBS, ACTIONS, (6, 5), activation=activation, init_std=0.7, generator=generator
    )
    return perturbed(policy.double(), generator)


def with_context(activation="tanh"):
    generator = torch.Generator().manual_seed(3)
    policy = CategoricalPolicy(
        OBS, ACTIONS, (6, 5), activation=activation, context_size=2, generator=generator
    )
    return perturbed(policy.double(), generator)


def with_noise(activation="tanh"):
    """And a context. The last two observations are the noise."""
    generator = torch.Generator().manual_seed(3)
    policy = GaussianPolicy(
        OBS - 2,
        ACTIONS,
        (6, 5),
        activation=activation,
        noise_size=2,
        context_size=3,
        generator=generator,
    )
    return perturbed(policy.double(), generator)


def linear_with_noise(activation="tanh"):
    """Without hidden layers."""
    generator = torch.Generator().manual_seed(3)
    policy = GaussianPolicy(OBS - 2, ACTIONS, (), noise_size=2, generator=generator)
    return perturbed(policy.double(), generator)


def categorical(activation="tanh"):
    generator = torch.Generator().manual_seed(4)
    policy = CategoricalPolicy(OBS, ACTIONS, (6, 5), activation=activation, generator=generator)
    return perturbed(policy.double(), generator)


def perturbed(policy, generator):
    """With biases and log-stds that aren't all alike."""
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter += 0.1 * torch.randn(
                parameter.shape, generator=generator, dtype=torch.float64
            )
    return policy


def data_for(policy, seed, num_tasks=NUM_TASKS):
    generator = torch.Generator().manual_seed(seed)
    obs = torch.randn(num_tasks, ROWS, OBS, generator=generator, dtype=torch.float64)
    stacked = P.expand(P.of(policy), num_tasks)
    action, _ = policy.act(policy.with_params(stacked, obs), Noise(generator))
    return Data(
        obs=obs,
        action=action,
        advantage=torch.randn(num_tasks, ROWS, generator=generator, dtype=torch.float64),
    )


def surrogate(policy):
    """A loss that bends: ratio times advantage plus entropy, [n]. Small, so that λ = 2 keeps I +
    ∇²ℓ/λ positive."""

    def loss(outputs, batch):
        log_prob = policy.log_prob(outputs, batch.action)
        ratio = (log_prob - log_prob.detach().mean(-1, keepdim=True)).exp()
        return 0.1 * (-ratio * batch.advantage).mean(-1) - 0.01 * policy.entropy(outputs).mean(-1)

    return loss


def one_task(policy, loss):
    """The same loss as (params, one task's batch) -> [], by plain functional calls."""

    def of_one(params, batch):
        batch = map_tensors(lambda leaf: leaf.unsqueeze(0), batch)
        return loss(policy_outputs(policy, params, batch.obs), batch)[0]

    return of_one


def policy_outputs(policy, params, obs):
    return {
        k: v if v.dim() == 3 else v.reshape(1, 1, -1)
        for k, v in P.call(policy, params, obs).items()
    }


def random_like(params, seed):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(leaf.shape, generator=generator, dtype=leaf.dtype)
        for name, leaf in params.items()
    }


def assert_same(a, b, **tolerances):
    assert list(a) == list(b)
    for name in a:
        torch.testing.assert_close(
            a[name], b[name], msg=lambda text, name=name: f"{name}: {text}", **(tolerances or TIGHT)
        )


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize(
    "make", [gaussian, categorical, with_context, with_noise, linear_with_noise]
)
def test_written_out_derivatives_equal_double_backward(make, activation):
    policy = make(activation)
    batch = data_for(policy, 1)
    params = P.add(
        P.expand(P.of(policy), NUM_TASKS), random_like(P.expand(P.of(policy), NUM_TASKS), 5), 0.1
    )
    loss = surrogate(policy)
    fast = differentiator(policy, loss)(params, batch)
    slow = differentiate_by_autograd(policy, loss, lambda batch: batch.obs)(params, batch)
    v = random_like(params, 6)
    torch.testing.assert_close(fast.value, slow.value, **TIGHT)
    assert_same(fast.gradient, slow.gradient)
    assert_same(fast.hessian_product(v), slow.hessian_product(v))
    assert_same(fast.gauss_newton_product(v), slow.gauss_newton_product(v))
    pushed = slow.jvp(v)
    for name, leaf in fast.jvp(v).items():
        torch.testing.assert_close(
            leaf.expand_as(fast.outputs[name]), pushed[name].reshape(leaf.shape), **TIGHT
        )


@pytest.mark.parametrize(
    "mode", ["through", "first_order", Implicit(2.0, cg_iterations=25, cg_tolerance=0.0)], ids=str
)
@pytest.mark.parametrize("num_steps", [1, 2, 3])
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_pullback_and_pushforward_equal_autograd_through_adapt(rule, num_steps, mode):
    if isinstance(mode, Implicit) and isinstance(rule, Only):
        pytest.skip("refused, see test_rules.py")
    policy = gaussian()
    params, loss = P.of(policy), surrogate(policy)
    rule_params = rule.init(params)
    support = tuple(data_for(policy, 10 + k) for k in range(num_steps))
    linear = linearize_adaptation(
        differentiator(policy, loss), params, support, rule, rule_params, mode
    )
    inner = one_task(policy, loss)

    def adapted_of(params, rule_params):
        each = [
            adapt(
                inner,
                params,
                map_tensors(lambda leaf, i=i: leaf[i], support),
                rule,
                rule_params,
                mode,
            )
            for i in range(NUM_TASKS)
        ]
        return P.stack(each)

    leaves = {name: leaf.clone().requires_grad_() for name, leaf in params.items()}
    rule_leaves = {name: leaf.clone().requires_grad_() for name, leaf in rule_params.items()}
    adapted = adapted_of(leaves, rule_leaves)
    assert_same(linear.adapted, P.detached(adapted))
    assert_same(
        adapt_tasks(differentiator(policy, loss), params, support, rule, rule_params, mode),
        linear.adapted,
    )

    u, v, rule_v = random_like(adapted, 1), random_like(params, 2), random_like(rule_params, 3)
    inputs = [*leaves.values(), *rule_leaves.values()]
    expected = torch.autograd.grad(P.dot(adapted, u), inputs, allow_unused=True)
    expected = [
        torch.zeros_like(x) if g is None else g for x, g in zip(inputs, expected, strict=True)
    ]
    pulled, rule_pulled = linear.pullback(u)
    # CG ends at a residual near 1e-15, twice (each way adds up in another order): 1e-10 is safely
    # above it.
    tolerances = {"rtol": 1e-10, "atol": 1e-12} if isinstance(mode, Implicit) else TIGHT
    assert_same(
        {**pulled, **{f"rule {k}": g for k, g in rule_pulled.items()}},
        dict(zip([*pulled, *(f"rule {k}" for k in rule_pulled)], expected, strict=True)),
        **tolerances,
    )

    pushed = linear.pushforward(v, rule_v)
    torch.testing.assert_close(
        P.dot(u, pushed), P.dot(pulled, v) + dot_or_zero(rule_pulled, rule_v), **tolerances
    )


def dot_or_zero(a, b):
    return P.dot(a, b) if a else torch.zeros((), dtype=torch.float64)


def test_a_bare_mlp_is_differentiated_as_by_double_backward():
    net = perturbed(MLP((OBS, 6, 5, 2), "tanh").double(), torch.Generator().manual_seed(1))
    as_dict = nn.Module()
    as_dict.layers = net.layers
    as_dict.forward = lambda x: {"output": MLP.forward(net, x)}
    params = P.add(
        P.expand(P.of(net), NUM_TASKS), random_like(P.expand(P.of(net), NUM_TASKS), 5), 0.1
    )
    x, y = torch.randn(NUM_TASKS, ROWS, OBS).double(), torch.randn(NUM_TASKS, ROWS, 2).double()
    loss = lambda outputs, batch: ((outputs["output"] - batch[1]) ** 2).mean((1, 2))
    fast = differentiator(net, loss, lambda batch: batch[0])(params, (x, y))
    slow = differentiate_by_autograd(as_dict, loss, lambda batch: batch[0])(params, (x, y))
    v = random_like(params, 6)
    assert_same(fast.gradient, slow.gradient)
    assert_same(fast.hessian_product(v), slow.hessian_product(v))
    assert_same(fast.gauss_newton_product(v), slow.gauss_newton_product(v))


class WithSkip(GaussianPolicy):
    """Someone's own: the mean has a linear part beside the trunk."""

    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        self.skip = nn.Parameter(torch.ones(ACTIONS, OBS))

    def forward(self, obs):
        outputs = super().forward(obs)
        return {**outputs, "mean": outputs["mean"] + obs @ self.skip.T}

    def with_params(self, params, obs, parts=1):
        outputs = super().with_params(params, obs, parts)
        return {**outputs, "mean": outputs["mean"] + obs @ params["skip"].mT}


def hooked():
    policy = gaussian()
    policy.trunk.register_forward_hook(lambda module, given, found: 2 * found)
    return policy


@pytest.mark.parametrize("make", [lambda: WithSkip(OBS, ACTIONS, (6,)).double(), hooked])
def test_a_policy_that_computes_otherwise_is_differentiated_as_it_is(make):
    policy = make()
    params, batch = P.expand(dict(policy.named_parameters()), NUM_TASKS), data_for(policy, 5)
    loss = surrogate(policy)
    found = differentiator(policy, loss)(params, batch)
    expected = differentiate_by_autograd(policy, loss, lambda batch: batch.obs)(params, batch)
    assert torch.equal(found.value, expected.value)
    assert_same(found.gradient, expected.gradient)
    assert all(leaf.any() for leaf in found.gradient.values())
