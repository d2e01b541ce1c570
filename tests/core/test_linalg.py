"""Products with matrices that aren't formed, against the matrices. float64."""

import pytest
import torch

from metarl.core import params as P
from metarl.core.linalg import conjugate_gradient, hvp
from metarl.core.trust_region import trust_region_step

SHAPES = {"a": (2, 3), "b": (), "c": (4,)}  # 11 entries, a scalar among them
LIKE = {name: torch.zeros(shape, dtype=torch.float64) for name, shape in SHAPES.items()}


def positive_matrix(seed, size=11):
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(size, size, generator=generator, dtype=torch.float64)
    return a @ a.T + torch.eye(size, dtype=torch.float64)


def vector(seed, *shape):
    return torch.randn(
        *shape, 11, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def product(matrix):
    return lambda v: P.unflatten(matrix @ P.flatten(v), LIKE)


def test_flatten_and_unflatten_are_inverse():
    for x, batch_dims in ((vector(0), 0), (vector(0, 3), 1)):
        params = P.unflatten(x, LIKE)
        assert params["b"].shape == x.shape[:-1]
        assert torch.equal(P.flatten(params, batch_dims), x)
    with pytest.raises(ValueError, match="12 entries doesn't fit parameters of 11"):
        P.unflatten(torch.zeros(12), LIKE)


def test_stacked_tasks_are_those_that_were_stacked():
    each = [P.unflatten(vector(seed), LIKE) for seed in range(3)]
    for i, wanted in enumerate(each):
        got = P.task(P.stack(each), i)
        assert all(torch.equal(got[name], wanted[name]) for name in LIKE)
    with pytest.raises(ValueError, match="at least one task"):
        P.stack([])


def test_conjugate_gradient_agrees_with_a_dense_solve():
    matrix, b = positive_matrix(0), vector(1)
    solved = conjugate_gradient(
        product(matrix), P.unflatten(b, LIKE), num_iterations=30, tolerance=0.0
    )
    # Condition number some 1e2: rounding of 1e-16 grows to 1e-13 or so.
    torch.testing.assert_close(
        P.flatten(solved.solution), torch.linalg.solve(matrix, b), rtol=1e-10, atol=1e-12
    )
    assert solved.residual < 1e-10


def test_conjugate_gradient_solves_stacked_systems_side_by_side():
    matrices = torch.stack(
        [positive_matrix(0), torch.eye(11, dtype=torch.float64), positive_matrix(2)]
    )
    b = vector(1, 3)
    # The identity is solved after one step: it must then stand still while the others go on.
    matvec = lambda v: P.unflatten((matrices @ P.flatten(v, 1).unsqueeze(-1)).squeeze(-1), LIKE)
    solved = conjugate_gradient(
        matvec, P.unflatten(b, LIKE), num_iterations=30, tolerance=1e-24, num_batch_dims=1
    )
    torch.testing.assert_close(
        P.flatten(solved.solution, 1), torch.linalg.solve(matrices, b), rtol=1e-10, atol=1e-10
    )


def test_conjugate_gradient_of_zero_is_zero():
    solved = conjugate_gradient(product(positive_matrix(0)), LIKE, tolerance=0.0)
    assert not P.flatten(solved.solution).any()


def test_hessian_product_agrees_with_the_hessian():
    quartic = lambda p, batch: (
        (batch @ torch.tanh(P.flatten(p))) ** 2 + p["b"] * P.flatten(p).exp().sum()
    )
    at, v, batch = P.unflatten(0.3 * vector(0), LIKE), vector(1), vector(2)
    hessian = torch.autograd.functional.hessian(
        lambda x: quartic(P.unflatten(x, LIKE), batch), P.flatten(at)
    )
    got = P.flatten(hvp(quartic, at, batch, P.unflatten(v, LIKE)))
    torch.testing.assert_close(got, hessian @ v, rtol=1e-12, atol=1e-12)


def quadratic_step(**changes):
    """min gᵀθ within ½ θᵀFθ ≤ .02, from θ = 0."""
    matrix, g = positive_matrix(0), vector(1)
    settings = {
        "gradient": P.unflatten(g, LIKE),
        "curvature_product": product(matrix),
        "evaluate": lambda p: (
            float(g @ P.flatten(p)),
            float(0.5 * P.flatten(p) @ matrix @ P.flatten(p)),
        ),
        "max_constraint": 0.02,
        "cg_iterations": 30,
        "damping": 0.0,
    }
    return matrix, g, trust_region_step(LIKE, **(settings | changes))


def test_trust_region_step_of_a_quadratic_is_the_constrained_minimum():
    # Lagrange: θ = −√(2 δ / gᵀF⁻¹g) F⁻¹g. A tenth of a percent more room, as the boundary itself is
    # a matter of rounding.
    matrix, g, (params, info) = quadratic_step(evaluate=quadratic_evaluate(slack=1e-3))
    x = torch.linalg.solve(matrix, g)
    torch.testing.assert_close(
        P.flatten(params), -torch.sqrt(2 * 0.02 / (g @ x)) * x, rtol=1e-9, atol=1e-12
    )
    assert info.accepted
    assert info.step_fraction == 1.0
    assert info.num_evaluations == 1
    assert info.constraint == pytest.approx(0.02 * (1 - 1e-3))
    assert info.objective == pytest.approx(float(g @ P.flatten(params)))
    assert info.objective_before == 0.0


def quadratic_evaluate(slack=0.0, worse_until=0):
    matrix, g, calls = positive_matrix(0), vector(1), []

    def evaluate(params):
        calls.append(1)
        x = P.flatten(params)
        # The first call is at θ itself.
        objective = float(g @ x) + (10.0 if 1 < len(calls) <= 1 + worse_until else 0.0)
        return objective, float(0.5 * x @ matrix @ x) * (1 - slack)

    return evaluate


def test_line_search_goes_back_until_the_objective_is_lower():
    _, _, (_, info) = quadratic_step(evaluate=quadratic_evaluate(slack=1e-3, worse_until=2))
    assert info.step_fraction == pytest.approx(0.8**2)
    assert info.num_evaluations == 3


def test_line_search_goes_back_until_the_constraint_holds():
    # A constraint four times the model's: ½ · 4 · f² δ ≤ δ needs f ≤ ½, and .8³ = .512 > ½ ≥ .8⁴.
    evaluate = quadratic_evaluate(slack=-3.0)
    _, _, (_, info) = quadratic_step(evaluate=evaluate)
    assert info.step_fraction == pytest.approx(0.8**4)
    assert info.constraint <= 0.02


@pytest.mark.parametrize(
    "value", [(1.0, 0.0), (0.0, 0.0), (-1.0, 1.0), (float("nan"), 0.0), (-1.0, float("nan"))]
)
def test_without_an_acceptable_step_the_parameters_stay(value):
    answers = iter([(0.0, 0.0)])
    _, _, (params, info) = quadratic_step(evaluate=lambda p: next(answers, value), max_backtracks=4)
    assert params is LIKE
    assert not info.accepted
    assert (info.step_fraction, info.objective, info.constraint) == (0.0, 0.0, 0.0)
    assert info.num_evaluations == 5


def test_a_zero_gradient_moves_nothing():
    _, _, (params, info) = quadratic_step(gradient=LIKE)
    assert params is LIKE
    assert not info.accepted


def test_what_is_not_finite_is_named():
    broken = P.unflatten(vector(1), LIKE) | {"b": torch.tensor(float("nan"), dtype=torch.float64)}
    with pytest.raises(FloatingPointError, match="gradient isn't finite in 'b'"):
        quadratic_step(gradient=broken)
    with pytest.raises(FloatingPointError, match="curvature product isn't finite in 'b'"):
        quadratic_step(curvature_product=lambda v: broken)


@pytest.mark.parametrize(
    "changes",
    [
        {"max_constraint": -0.1},
        {"damping": -0.1},
        {"backtrack_ratio": 1.5},
        {"max_backtracks": -1},
        {"cg_iterations": 0},
    ],
)
def test_settings_out_of_range_are_refused(changes):
    ((name, value),) = changes.items()
    with pytest.raises(ValueError, match=f"{name} {value}: expected "):
        quadratic_step(**changes)


def test_systems_side_by_side_take_the_steps_that_each_would_take_alone():
    """Three quadratics, the second with a constraint four times the model's, the third without a
    gradient."""
    matrices, g = (
        torch.stack([positive_matrix(seed) for seed in range(3)]),
        torch.stack([vector(s) for s in range(3)]),
    )
    g[2] = 0.0
    slack = torch.tensor([1.001, 4.0, 1.0], dtype=torch.float64).reciprocal()

    def step(rows):
        dims = 1 if isinstance(rows, slice) else 0
        a, b, room = matrices[rows], g[rows], slack[rows]
        times = lambda x: (a @ x.unsqueeze(-1)).squeeze(-1)

        def evaluate(p):
            x = P.flatten(p, dims)
            return (b * x).sum(-1), 0.5 * (x * times(x)).sum(-1) / room

        start = P.unflatten(torch.zeros_like(b), LIKE)
        return trust_region_step(
            start,
            gradient=P.unflatten(b, LIKE),
            curvature_product=lambda v: P.unflatten(times(P.flatten(v, dims)), LIKE),
            evaluate=evaluate,
            max_constraint=0.02,
            cg_iterations=30,
            damping=0.0,
            num_batch_dims=dims,
        )

    params, info = step(slice(None))
    assert info.accepted.tolist() == [True, True, False]
    for i in range(3):
        alone_params, alone = step(i)
        torch.testing.assert_close(P.task(params, i), alone_params, rtol=1e-9, atol=1e-12)
        for name in ("step_fraction", "objective_before", "objective", "constraint"):
            torch.testing.assert_close(
                getattr(info, name)[i], getattr(alone, name), rtol=1e-9, atol=1e-12
            )


def test_damping_shortens_the_step_where_there_is_little_curvature():
    gradient, curvature = torch.tensor([[1.0, 2.0], [4.0, 1.0]], dtype=torch.float64)
    found, _ = trust_region_step(
        {"x": torch.zeros_like(gradient)},
        gradient={"x": gradient},
        curvature_product=lambda v: {"x": curvature * v["x"]},
        evaluate=lambda params: ((params["x"] @ gradient).item(), 0.0),
        max_constraint=0.01,
        damping=3.0,
    )
    x = gradient / (curvature + 3.0)
    torch.testing.assert_close(found["x"], -(0.02 / (gradient @ x)).sqrt() * x)
