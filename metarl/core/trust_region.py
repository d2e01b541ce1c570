"""One trust-region step: the natural-gradient direction, the longest step the constraint allows, and a line search.

It knows an objective, a constraint and a curvature; what they measure is the caller's business.
"""

import math
from collections.abc import Callable

from metarl.core import params as P
from metarl.core.linalg import conjugate_gradient
from metarl.struct import replace, struct
from metarl.types import Params


@struct
class TrustRegionInfo:
    accepted: bool
    step_fraction: float
    """Of the longest step that the quadratic model allows: 1, ratio, ratio², …; 0 if none was accepted."""
    objective_before: float
    objective: float
    """At the parameters returned."""
    constraint: float
    """At the parameters returned; 0 if none was accepted."""
    cg_residual: float
    """‖g − (F + damping) x‖ after conjugate gradient."""
    num_evaluations: int


def trust_region_step(
    params: Params,
    *,
    gradient: Params,
    curvature_product: Callable[[Params], Params],
    evaluate: Callable[[Params], tuple[float, float]],
    max_constraint: float,
    cg_iterations: int = 10,
    damping: float = 1e-5,
    backtrack_ratio: float = 0.8,
    max_backtracks: int = 15,
    objective_before: float | None = None,
) -> tuple[Params, TrustRegionInfo]:
    """Minimises an objective within `constraint` ≤ `max_constraint` (TRPO; Schulman et al. 2015, arXiv:1502.05477, app. C).

        x = (F + damping I)⁻¹ g,     θ' = θ − αᵗ √(2 max_constraint / xᵀ(F + damping I)x) x,     t = 0, 1, …

    takes the first θ' at which the objective is lower than at θ *and* the constraint holds; θ itself if none does.

    Args:
      gradient: g of the objective at `params`.
      curvature_product: v -> F v, F the Hessian of the constraint at `params`, positive semi-definite.
      evaluate: params -> (objective, constraint), both at those parameters. NaN there counts as not improved.
      objective_before: the objective at `params` if the caller has it; else it is evaluated.
    Returns: (parameters, what happened). The parameters given are never written to.
    Raises: ValueError for a setting out of range; FloatingPointError, naming the tensor, for a gradient or a curvature
      that isn't finite.
    """
    _check_settings(max_constraint, cg_iterations, damping, backtrack_ratio, max_backtracks)
    _check_finite("gradient", gradient)

    def damped(v: Params) -> Params:
        product = curvature_product(v)
        _check_finite("curvature product", product)
        return P.add(product, v, damping)

    if objective_before is None:
        objective_before, _ = evaluate(params)
    solved = conjugate_gradient(damped, gradient, num_iterations=cg_iterations)
    residual = float(solved.residual)
    unmoved = TrustRegionInfo(
        accepted=False,
        step_fraction=0.0,
        objective_before=objective_before,
        objective=objective_before,
        constraint=0.0,
        cg_residual=residual,
        num_evaluations=0,
    )
    direction = solved.solution
    # xᵀ A x = xᵀ (g − r), with x ⊥ r for conjugate gradient: no further product is needed.
    quadratic = float(P.dot(direction, gradient))
    if not quadratic > 0:  # A zero gradient, or a curvature so far from positive that the model has no minimum.
        return params, unmoved
    longest = math.sqrt(2 * max_constraint / quadratic)
    for t in range(max_backtracks + 1):
        fraction = backtrack_ratio**t
        candidate = P.add(params, direction, -fraction * longest)
        objective, constraint = evaluate(candidate)
        if objective < objective_before and constraint <= max_constraint:
            info = TrustRegionInfo(
                accepted=True,
                step_fraction=fraction,
                objective_before=objective_before,
                objective=objective,
                constraint=constraint,
                cg_residual=residual,
                num_evaluations=t + 1,
            )
            return candidate, info
    return params, replace(unmoved, num_evaluations=max_backtracks + 1)


def _check_finite(what: str, tensors: Params) -> None:
    name = P.first_non_finite(tensors)
    if name is not None:
        raise FloatingPointError(f"the {what} isn't finite in {name!r} of the trust-region step")


def _check_settings(
    max_constraint: float, cg_iterations: int, damping: float, backtrack_ratio: float, max_backtracks: int
) -> None:
    if not (math.isfinite(max_constraint) and max_constraint > 0):
        raise ValueError(f"max_constraint must be positive and finite, got {max_constraint}")
    if cg_iterations < 1:
        raise ValueError(f"cg_iterations must be at least 1, got {cg_iterations}")
    if not (math.isfinite(damping) and damping >= 0):
        raise ValueError(f"damping must be finite and at least 0, got {damping}")
    if not 0 < backtrack_ratio < 1:
        raise ValueError(f"backtrack_ratio must lie between 0 and 1, got {backtrack_ratio}")
    if max_backtracks < 0:
        raise ValueError(f"max_backtracks must be at least 0, got {max_backtracks}")
