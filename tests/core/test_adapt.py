"""Adaptation and its meta-gradient against finite differences and closed forms; back-ends against
the loop. float64."""

import threading

import pytest
import torch
from support.type_checks import WrongType  # raised in place of ours
from torch import nn
from torch.nn import functional

from metarl.core import params as P
from metarl.core.adapt import adapt, grad_over_tasks, over_tasks
from metarl.core.gradients import Implicit, reptile_direction
from metarl.core.rules import LearnedRates, Only, PerStepRates, Sgd
from metarl.nn.mlp import MLP
from metarl.threads import each_in_threads

NUM_TASKS = 5
RULES = {
    "sgd": Sgd(0.2),
    "sgd, other later rate": Sgd(0.2, later_lr=0.05),
    "learned rates": LearnedRates(0.15),
    "per-step rates": PerStepRates(0.2, 2),
    "only": Only(Sgd(0.2), ("layers.1",)),
    "only, learned rates": Only(LearnedRates(0.2), ("layers.1.weight",)),
}


def network():
    generator = torch.Generator().manual_seed(0)
    return MLP((2, 4, 1), "tanh", generator=generator).double()


NET = network()


def loss(params, batch):
    x, y = batch
    return ((P.call(NET, params, x) - y) ** 2).mean()


def tasks(seed, num_tasks=NUM_TASKS):
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        torch.randn(num_tasks, 6, size, generator=generator, dtype=torch.float64) for size in (2, 1)
    )


def one(batch, index):
    return tuple(leaf[index] for leaf in batch)


class Watched(torch.autograd.Function):
    """The identity, which counts how often it is differentiated."""

    count = 0

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        Watched.count += 1
        return gradient


@pytest.mark.parametrize(("prefix", "expected"), [("layers.0", 3), ("layers.1", 0)])
def test_what_a_rule_leaves_alone_is_not_differentiated(prefix, expected):
    def watching(params, batch):
        return loss({**params, "layers.0.weight": Watched.apply(params["layers.0.weight"])}, batch)

    Watched.count = 0
    with torch.no_grad():
        adapt(watching, P.of(NET), (one(tasks(0), 0),) * 3, Only(Sgd(0.2), (prefix,)))
    assert Watched.count == expected


def directional_difference(function, params, v, epsilon=1e-5):
    """(f(θ + εv) − f(θ − εv)) / 2ε: off by ε² f'''/6, some 1e-9 here, and by rounding, 1e-16 /
    1e-5."""
    return (function(P.add(params, v, epsilon)) - function(P.add(params, v, -epsilon))) / (
        2 * epsilon
    )


def direction(params, seed):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(leaf.shape, generator=generator, dtype=leaf.dtype)
        for name, leaf in params.items()
    }


@pytest.mark.parametrize("num_steps", [1, 2, 3])
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_meta_gradient_matches_finite_differences(rule, num_steps):
    params = P.of(NET)
    rule_params = rule.init(params)
    support, query = tuple(one(tasks(k), 0) for k in range(num_steps)), one(tasks(99), 0)

    def outer(everything):
        theta = {name: everything[name] for name in params}
        rates = {name: everything[f"rule {name}"] for name in rule_params}
        return loss(adapt(loss, theta, support, rule, rates), query)

    everything = {**params, **{f"rule {name}": leaf for name, leaf in rule_params.items()}}
    gradient = torch.func.grad(outer)(everything)
    for seed in range(3):
        v = direction(everything, seed)
        torch.testing.assert_close(
            P.dot(gradient, v), directional_difference(outer, everything, v), rtol=1e-7, atol=1e-9
        )


@pytest.mark.parametrize("num_steps", [1, 2, 3])
@pytest.mark.parametrize(
    "rule", [rule for rule in RULES.values() if isinstance(rule, Sgd)], ids=str
)
def test_first_order_gradient_is_the_query_gradient_at_the_adapted_parameters(rule, num_steps):
    params, support, query = (
        P.of(NET),
        tuple(one(tasks(k), 0) for k in range(num_steps)),
        one(tasks(99), 0),
    )
    gradient = torch.func.grad(
        lambda p: loss(adapt(loss, p, support, rule, mode="first_order"), query)
    )(params)
    expected = torch.func.grad(loss)(adapt(loss, params, support, rule), query)
    for name in params:
        torch.testing.assert_close(gradient[name], expected[name], rtol=1e-13, atol=1e-15)


def test_first_order_gradient_of_learned_rates_is_minus_inner_times_query_gradient():
    params, rule, support, query = (
        P.of(NET),
        LearnedRates(0.15),
        one(tasks(0), 0),
        one(tasks(99), 0),
    )
    rates = rule.init(params)
    outer = lambda r: loss(adapt(loss, params, (support,), rule, r, "first_order"), query)
    gradient = torch.func.grad(outer)(rates)
    inner = torch.func.grad(loss)(params, support)
    at_adapted = torch.func.grad(loss)(adapt(loss, params, (support,), rule, rates), query)
    for name in params:
        torch.testing.assert_close(
            gradient[name], -inner[name] * at_adapted[name], rtol=1e-13, atol=1e-15
        )


def test_implicit_gradient_of_a_quadratic_is_the_closed_form():
    # ℓ(φ) = ½ φᵀAφ − bᵀφ: the proximal minimum is (A + λI)⁻¹(b + λθ), its derivative λ(A + λI)⁻¹.
    a = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
    b, theta = (
        torch.tensor([1.0, -2.0], dtype=torch.float64),
        torch.tensor([0.3, 0.7], dtype=torch.float64),
    )
    strength = 1.5
    quadratic = lambda p, batch: 0.5 * p["x"] @ batch[0] @ p["x"] - batch[1] @ p["x"]
    u = torch.tensor([0.4, -1.1], dtype=torch.float64)

    def outer(params):
        # Each step contracts the error by max |1 − .3 (eigenvalue + λ)| = .34: 40 of them reach
        # 1e-16.
        adapted = adapt(
            quadratic, params, ((a, b),) * 40, Sgd(0.3), mode=Implicit(strength, cg_tolerance=0.0)
        )
        return u @ adapted["x"], adapted

    gradient, (_, adapted) = torch.func.grad_and_value(outer, has_aux=True)({"x": theta})
    matrix = a + strength * torch.eye(2, dtype=torch.float64)
    torch.testing.assert_close(
        adapted["x"], torch.linalg.solve(matrix, b + strength * theta), rtol=1e-12, atol=0
    )
    torch.testing.assert_close(
        gradient["x"], strength * torch.linalg.solve(matrix, u), rtol=1e-12, atol=0
    )


def test_implicit_gradient_matches_finite_differences_of_the_converged_adaptation():
    params, support, query = P.of(NET), one(tasks(0), 0), one(tasks(99), 0)
    # 400 steps of rate .2 against λ = 1: the error falls by 1 − .2 (1 + least eigenvalue) a step,
    # to rounding.
    mode = Implicit(1.0, cg_iterations=40, cg_tolerance=0.0)
    outer = lambda p: loss(adapt(loss, p, (support,) * 400, Sgd(0.2), mode=mode), query)
    gradient = torch.func.grad(outer)(params)
    v = direction(params, 0)
    torch.testing.assert_close(
        P.dot(gradient, v), directional_difference(outer, params, v), rtol=1e-7, atol=1e-9
    )


@pytest.mark.parametrize("mode", ["through", "first_order", Implicit(2.0)], ids=str)
@pytest.mark.parametrize(
    "backend", [("vmap", None), ("vmap", 2), ("threads", None), ("auto", None)], ids=str
)
def test_every_back_end_gives_the_loops_numbers(backend, mode):
    name, chunk = backend
    params, rule = P.of(NET), LearnedRates(0.1)
    learned = {"params": params, "rule": rule.init(params)}

    def task(learned, support, query):
        return loss(
            adapt(loss, learned["params"], (support, support), rule, learned["rule"], mode), query
        )

    data = (tasks(0), tasks(1))
    values, gradient = grad_over_tasks(task, learned, *data, backend="loop")
    same_values, same_gradient = grad_over_tasks(
        task, learned, *data, backend=name, chunk=chunk, workers=2
    )
    # Implicit stops conjugate gradient on a residual of 1e-5, after the same number of steps:
    # rounding only, too.
    torch.testing.assert_close(same_values, values, rtol=1e-12, atol=1e-15)
    for group in learned:
        for leaf in params:
            torch.testing.assert_close(
                same_gradient[group][leaf], gradient[group][leaf], rtol=1e-12, atol=1e-15
            )
    forward = over_tasks(
        lambda s, q: task(learned, s, q), *data, backend=name, chunk=chunk, workers=2
    )
    torch.testing.assert_close(forward, values, rtol=1e-12, atol=1e-15)


def test_gradient_over_tasks_is_the_mean_of_each_tasks_own():
    params, rule, data = P.of(NET), Sgd(0.1), (tasks(0), tasks(1))
    task = lambda p, support, query: (
        loss(adapt(loss, p, (support,), rule), query),
        {"first": query[1][0]},
    )
    values, gradient, aux = grad_over_tasks(task, params, *data, has_aux=True)
    leaves = {name: leaf.clone().requires_grad_() for name, leaf in params.items()}
    each = torch.stack(
        [task(leaves, one(data[0], i), one(data[1], i))[0] for i in range(NUM_TASKS)]
    )
    expected = torch.autograd.grad(each.mean(), list(leaves.values()))
    torch.testing.assert_close(values, each.detach(), rtol=1e-12, atol=0)
    torch.testing.assert_close(aux["first"], data[1][1][:, 0])
    for got, wanted in zip(gradient.values(), expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-15)


def test_adapting_one_task_does_not_depend_on_the_others():
    params, rule, data = P.of(NET), Sgd(0.1), tasks(0)
    changed = tuple(torch.cat([leaf[:2], 3 * leaf[2:] + 1]) for leaf in data)
    adapted, other = (
        over_tasks(lambda *s: adapt(loss, params, (s,), rule), *batch) for batch in (data, changed)
    )
    for name in params:
        torch.testing.assert_close(adapted[name][:2], other[name][:2], rtol=0, atol=0)
        assert not torch.equal(adapted[name][2:], other[name][2:])


@pytest.mark.parametrize("backend", ["vmap", "loop", "threads"])
def test_batch_norm_meta_gradient_matches_finite_differences(backend):
    # grad(vmap(task)) is off by 4e-3 here: torch's double backward of batch norm is wrong under an
    # inner vmap.
    torch.manual_seed(0)
    normed = nn.Sequential(
        nn.Linear(2, 4), nn.BatchNorm1d(4, track_running_stats=False), nn.Tanh(), nn.Linear(4, 1)
    ).double()
    params = P.of(normed)

    def normed_loss(params, batch):
        return ((P.call(normed, params, batch[0]) - batch[1]) ** 2).mean()

    task = lambda p, s, q: normed_loss(adapt(normed_loss, p, (s, s), Sgd(0.2)), q)
    data = (tasks(0), tasks(1))
    _, gradient = grad_over_tasks(task, params, *data, backend=backend)
    mean = lambda p: torch.stack(
        [task(p, one(data[0], i), one(data[1], i)) for i in range(NUM_TASKS)]
    ).mean()
    v = direction(params, 0)
    torch.testing.assert_close(
        P.dot(gradient, v), directional_difference(mean, params, v), rtol=1e-7, atol=1e-9
    )


def test_threads_do_not_mix_up_the_parameters_of_a_shared_module():
    # Hundreds of short calls on two threads: on one module they meet within a few.
    wide = MLP((8, 64, 8), "tanh").double()
    x = torch.randn(200, 16, 8, dtype=torch.float64)
    scaled = lambda x, scale: P.call(wide, P.scaled(P.of(wide), scale), x)
    scale = torch.linspace(0.5, 2.0, 200, dtype=torch.float64)
    in_threads, alone = (
        over_tasks(scaled, x, scale, backend=name, workers=2) for name in ("threads", "loop")
    )
    assert torch.equal(in_threads, alone)


def test_threads_restore_torchs_number_of_threads_and_keep_grad_mode():
    before = torch.get_num_threads()
    with torch.no_grad():
        modes = over_tasks(
            lambda x: torch.tensor(float(torch.is_grad_enabled())),
            torch.zeros(4),
            backend="threads",
            workers=2,
        )
    assert modes.tolist() == [0, 0, 0, 0]
    assert torch.get_num_threads() == before


def test_threads_hand_over_a_result_before_the_last_is_there():
    received = threading.Event()
    results = each_in_threads(lambda i: received.wait(5) if i == 3 else True, range(4), workers=2)
    for in_time in results:
        received.set()
        assert in_time


def test_pictures_on_a_cpu_run_in_threads_and_all_else_under_vmap():
    seen = []

    def task(x):
        seen.append(torch._C._functorch.is_functorch_wrapped_tensor(x))
        return functional.relu(x).sum()

    over_tasks(task, torch.zeros(3, 2, 1, 4, 4), workers=2)
    over_tasks(task, torch.zeros(3, 2, 16))
    assert seen == [False, False, False, True]


def test_reptile_direction_points_from_the_tasks_mean_to_the_parameters():
    params, adapted = {"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([[0.0, 3.0], [1.0, 5.0]])}
    assert reptile_direction(params, adapted)["w"].tolist() == [0.5, -2.0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: adapt(loss, P.of(NET), (), Sgd(0.1), mode="second_order"), "second_order"),
        (
            lambda: adapt(loss, P.of(NET), (), Sgd(0.1), mode=Implicit(1.0)),
            "at least one support batch",
        ),
        (
            lambda: adapt(loss, P.of(NET), (), Only(Sgd(0.1), ("layers.1",)), mode=Implicit(1.0)),
            "every parameter",
        ),
        (lambda: over_tasks(torch.sum, torch.zeros(2), backend="pool"), "pool"),
        (lambda: over_tasks(torch.sum, torch.zeros(2), chunk=0), "chunk 0: expected 1 or more"),
        (lambda: over_tasks(torch.add, torch.zeros(2), torch.zeros(3)), r"\[2, 3\]"),
        (lambda: Implicit(-1.0), "-1.0"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises((ValueError, WrongType), match=message):
        call()
