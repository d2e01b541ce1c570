"""One trust-region step: the natural-gradient direction, the longest step the constraint allows,
and a line search.

It knows an objective, a constraint and a curvature; what they measure is the caller's business.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from metarl.core import params as P
from metarl.core.checks import (
    check_between_zero_and_one,
    check_counts,
    check_not_negative,
    check_positive,
)
from metarl.core.linalg import conjugate_gradient
from metarl.struct import struct
from metarl.types import Params


@struct
class TrustRegionInfo:
    """What happened, [] each, or [S] of S systems side by side; float64."""

    accepted: Tensor
    """bool: a step was taken."""
    step_fraction: Tensor
    """The share of the longest step that the quadratic model allows: 1, ratio, ratio², …; 0 if none
    was accepted."""
    objective_before: Tensor
    objective: Tensor
    """The objective at the parameters returned."""
    constraint: Tensor
    """The constraint at the parameters returned; 0 if no step was accepted."""
    cg_residual: Tensor
    """‖g − (F + damping) x‖ after conjugate gradient."""
    num_evaluations: int
    """How often the line search evaluated the objective, for all systems at once."""


def trust_region_step(
    params: Params,
    *,
    gradient: Params,
    curvature_product: Callable[[Params], Params],
    evaluate: Callable[[Params], tuple[Tensor | float, Tensor | float]],
    max_constraint: float,
    cg_iterations: int = 10,
    damping: float = 1e-5,
    backtrack_ratio: float = 0.8,
    max_backtracks: int = 15,
    objective_before: Tensor | float | None = None,
    num_batch_dims: int = 0,
) -> tuple[Params, TrustRegionInfo]:
    """Minimises an objective within `constraint` ≤ `max_constraint` (TRPO; Schulman et al. 2015,
    arXiv:1502.05477, app. C).

        x = (F + damping I)⁻¹ g
        θ' = θ − αᵗ √(2 max_constraint / xᵀ(F + damping I)x) x,     t = 0, 1, …

    takes the first θ' at which the objective is lower than at θ *and* the constraint holds; θ
    itself if none does.

    Args:
      gradient: g of the objective at `params`.
      curvature_product: v -> F v, F the Hessian of the constraint at `params`, positive
        semi-definite.
      evaluate: params -> (objective, constraint), both at those parameters. NaN there counts as not
        improved.
      objective_before: the objective at `params` if the caller has it; else it is evaluated.
      num_batch_dims: 1 if all leaves are [S, ...] of S independent systems, and what `evaluate`
        gives is [S]: each takes its own step. They share the calls of `evaluate`, which is asked
        until all have found theirs.
    Returns: (parameters, what happened). The parameters given are never written to.
    Raises: ValueError for a setting out of range; FloatingPointError, naming the tensor, for a
      gradient or a curvature that isn't finite.
    """
    _check_settings(max_constraint, cg_iterations, damping, backtrack_ratio, max_backtracks)
    _check_finite("gradient", gradient)
    # On a GPU each look is a wait: there the last product is looked at instead of each, by what
    # came of it.
    waits = next(iter(gradient.values())).device.type != "cpu"

    def damped(v: Params) -> Params:
        product = curvature_product(v)
        if not waits:
            _check_finite("curvature product", product)
        return P.add(product, v, damping)

    before = _float64(evaluate(params)[0] if objective_before is None else objective_before)
    solved = conjugate_gradient(
        damped, gradient, num_iterations=cg_iterations, num_batch_dims=num_batch_dims
    )
    direction = solved.solution
    if waits:
        _check_finite("curvature product", direction)
    # xᵀ A x = xᵀ (g − r), with x ⊥ r for conjugate gradient: no further product is needed.
    quadratic = P.dots(direction, gradient, num_batch_dims).double()
    # Else a zero gradient, or a curvature so far from positive that the model has no minimum.
    searching = quadratic > 0
    longest = (2 * max_constraint / quadratic).sqrt()
    accepted, fraction = torch.zeros_like(searching), torch.zeros_like(quadratic)
    objective, constraint = before.expand_as(quadratic), torch.zeros_like(quadratic)
    found, num_evaluations = params, 0
    while num_evaluations <= max_backtracks and searching.any():
        share = backtrack_ratio**num_evaluations
        candidate = P.add_scaled(params, direction, -share * longest)
        here, there = (_float64(value) for value in evaluate(candidate))
        num_evaluations += 1
        better = searching & (here < before) & (there <= max_constraint)
        if not better.any():
            continue
        found = P.choose(better, candidate, found)
        accepted, searching = accepted | better, searching & ~better
        fraction = fraction.where(~better, share)
        objective, constraint = here.where(better, objective), there.where(better, constraint)
    info = TrustRegionInfo(
        accepted=accepted,
        step_fraction=fraction,
        objective_before=before,
        objective=objective,
        constraint=constraint,
        cg_residual=solved.residual.double(),
        num_evaluations=num_evaluations,
    )
    return found, info


def _float64(value: Tensor | float) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float64)


def _check_finite(what: str, tensors: Params) -> None:
    name = P.first_non_finite(tensors)
    if name is not None:
        raise FloatingPointError(f"the {what} isn't finite in {name!r} of the trust-region step")


def _check_settings(
    max_constraint: float,
    cg_iterations: int,
    damping: float,
    backtrack_ratio: float,
    max_backtracks: int,
) -> None:
    check_positive({"max_constraint": max_constraint})
    check_counts({"cg_iterations": cg_iterations})
    check_not_negative({"damping": damping, "max_backtracks": max_backtracks})
    check_between_zero_and_one({"backtrack_ratio": backtrack_ratio})
