"""Three ways for the meta-gradient to go back through adaptation: through it, to first order, or
implicitly at its fixed point."""

from dataclasses import dataclass
from typing import Literal

from metarl.core import params as P
from metarl.core.checks import check_counts, check_not_negative, check_positive
from metarl.core.rules import Only
from metarl.types import InnerRule, Params


@dataclass(frozen=True)
class Implicit:
    """iMAML (Rajeswaran et al. 2019, arXiv:1909.04630): adaptation is taken for the solution of the
    proximal problem

        φ = argmin ℓ(φ) + ½ λ ‖φ − θ‖²,     dφ/dθ = (I + ∇²ℓ(φ) / λ)⁻¹      (their eq. 3 and 6)

    The inner steps descend that objective, and conjugate gradient solves with the matrix. Exact
    only once the inner steps have converged; memory doesn't grow with their number. The rule's own
    parameters get no gradient: the minimum doesn't depend on the way there.
    """

    strength: float
    """λ > 0: how hard φ is held to θ. The matrix must be positive definite, so λ > −(least
    eigenvalue of ∇²ℓ)."""
    damping: float = 0.0
    """≥ 0, is added to λ where the matrix is solved for, and there alone: for losses that curve
    downwards by more than λ. The larger, the nearer to first order."""
    cg_iterations: int = 10
    cg_tolerance: float = 1e-10
    """Conjugate gradient stops where the squared norm of the residual is below this."""

    @property
    def curvature_weight(self) -> float:
        """The factor of ∇²ℓ in the matrix, 1 / λ without damping."""
        return 1.0 / (self.strength + self.damping)

    def __post_init__(self) -> None:
        check_positive({"strength": self.strength})
        check_not_negative({"damping": self.damping})
        check_counts({"cg_iterations": self.cg_iterations})


Mode = Literal["through", "first_order"] | Implicit
"""The way back through adaptation. through: all derivatives (MAML). first_order: inner gradients
count as constants (FOMAML). Implicit(...): iMAML."""


def check_mode(mode: Mode, rule: InnerRule) -> None:
    """Raises: ValueError unless `mode` is one and `rule` can be differentiated that way."""
    if not (isinstance(mode, Implicit) or mode in ("through", "first_order")):
        raise ValueError(f"mode {mode!r}: expected through, first_order or Implicit(...)")
    if isinstance(mode, Implicit) and isinstance(rule, Only):
        raise ValueError(f"the implicit mode needs a rule that adapts every parameter, got {rule}")


def inner_gradient(gradient: Params, adapted: Params, start: Params, mode: Mode) -> Params:
    """The gradient of what the inner steps descend: ∇ℓ(φ), and λ (φ − θ) besides in the implicit
    mode."""
    if not isinstance(mode, Implicit):
        return gradient
    return P.add(gradient, P.add(adapted, start, -1.0), mode.strength)


def reptile_direction(params: Params, adapted: Params) -> Params:
    """θ − mean over tasks of φ: what Reptile descends in place of a gradient (Nichol et al. 2018,
    arXiv:1803.02999, eq. 4).

    Args: params: leaves [...]; adapted: leaves [N, ...]. Gradients don't flow through it.
    """
    return {
        name: leaf - adapted[name].detach().mean(0) for name, leaf in P.detached(params).items()
    }
