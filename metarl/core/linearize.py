"""The inner adaptation as a linear map between tangents, for many tasks at once and without an
autograd graph of the network.

A loss at a point knows its gradient and its Hessian products (metarl/core/differentiated.py); K
inner steps chain them into the Jacobian of θ ↦ φ and its transpose. Meta-gradient = pullback(query
gradient).
The Gauss–Newton matrix of a loss of the adapted parameters, which for a KL divergence at its
minimum is the Fisher information, is
v ↦ pullback(point.gauss_newton_product(pushforward(v))).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.utils._pytree as pytree
from torch import Tensor

from metarl.core import params as P
from metarl.core.differentiated import Differentiate, DifferentiatedLoss, grads, leaves_of
from metarl.core.gradients import Implicit, Mode, check_mode, inner_gradient
from metarl.core.linalg import conjugate_gradient
from metarl.types import Batch, InnerRule, Params


@dataclass(frozen=True)
class LinearizedAdaptation:
    """φ = adapt(θ) for n tasks and its derivative. θ and the rule's parameters are shared, φ has
    leaves [n, ...].

    S learners may stand side by side, each with its own θ: φ has leaves [S n, ...] then, and block s
    of the tasks is learner s's.
    """

    adapted: Params
    steps: tuple[tuple["_Step", ...], ...]
    """K, each of S learners."""
    points: tuple[DifferentiatedLoss, ...]
    """The loss of each step where it began, φ₀ = θ, ..., φ_{K−1}: for other losses of the network
    there, without another forward pass."""
    curved: bool = True
    """Whether the gradient of a step counts as a function of where it began."""
    implicit: "_ImplicitStep | None" = None

    def pullback(
        self, cotangent: Params, earlier: Mapping[int, Params] | None = None
    ) -> tuple[Params, Params]:
        """Jᵀ u, summed over the tasks: (for θ, for the rule's parameters).

        Args:
          cotangent: leaves [n, ...], for instance the query loss's gradient at `adapted`.
          earlier: k -> the same at φ_k, for losses of what was visited on the way. Not with the
            implicit mode.
        """
        (alone,) = self.pullbacks(cotangent, earlier)
        return alone

    def pullbacks(
        self, cotangent: Params, earlier: Mapping[int, Params] | None = None
    ) -> list[tuple[Params, Params]]:
        """`pullback` of each of S learners, summed over its own tasks. The network's part is done
        for all at once, the rule's and the sums learner by learner, as it would be alone."""
        earlier, num = earlier or {}, len(self.steps[0])
        totals = [P.zeros_like(step.rule_params) for step in self.steps[0]]
        if self.implicit is not None:
            solved = P.parts(self.implicit.solve(cotangent), num)
            return [(P.sum_tasks(own), total) for own, total in zip(solved, totals, strict=True)]
        for k, steps in reversed(list(enumerate(self.steps))):
            own = zip(steps, P.parts(cotangent, num), strict=True)
            of_params, of_gradient, of_rule = zip(*(step.vjp(u) for step, u in own), strict=True)
            cotangent = P.one_after_the_other(of_params)
            if self.curved:
                bent = self.points[k].hessian_product(P.one_after_the_other(of_gradient))
                cotangent = P.add(cotangent, bent)
            totals = [P.add(*both) for both in zip(totals, of_rule, strict=True)]
            if k in earlier:
                cotangent = P.add(cotangent, earlier[k])
        each = zip(P.parts(cotangent, num), totals, strict=True)
        return [(P.sum_tasks(of_params), total) for of_params, total in each]

    def pushforward(self, tangent: Params, rule_tangent: Params | None = None) -> Params:
        """J v: how each task's φ [n, ...] moves as θ moves along `tangent`, and the rule's
        parameters along theirs. Of a single learner."""
        if self.implicit is not None:
            return self.implicit.solve(P.expand(tangent, P.num_tasks(self.adapted)))
        return self.pushed_path(tangent, rule_tangent)[-1]

    def pushed_path(self, tangent: Params, rule_tangent: Params | None = None) -> list[Params]:
        """J v of every point passed: how each task's φ₀, ..., φ_K move as θ moves along `tangent`,
        and the rule's parameters along theirs. Of a single learner; not with the implicit mode."""
        path = [P.expand(tangent, P.num_tasks(self.adapted))]
        for k, (step,) in enumerate(self.steps):
            v = path[-1]
            bent = self.points[k].hessian_product(v) if self.curved else P.zeros_like(v)
            path.append(step.jvp(v, bent, rule_tangent))
        return path


def linearize_adaptation(
    differentiate: Differentiate,
    params: Params,
    support: tuple[Batch, ...],
    rule: InnerRule,
    rule_params: Params | None = None,
    mode: Mode = "through",
) -> LinearizedAdaptation:
    """K = len(support) inner steps of n tasks from shared `params`, ready to differentiate.

    Keeps what `differentiate` caches for each step (for an MLP its activations and deltas): use
    chunks of a few tasks.

    Args:
      params, rule_params: leaves [...], shared by the tasks.
      support: one batch per inner step, leaves [n, ...].
      mode: through keeps the curvature of every step; first_order drops it; Implicit(...) takes
        `adapted` for the minimum of the proximal problem.
    Raises: ValueError for an empty support or an unknown mode.
    """
    return linearize_adaptations(differentiate, [params], support, rule, [rule_params or {}], mode)


def linearize_adaptations(
    differentiate: Differentiate,
    params: Sequence[Params],
    support: tuple[Batch, ...],
    rule: InnerRule,
    rule_params: Sequence[Params],
    mode: Mode = "through",
) -> LinearizedAdaptation:
    """`linearize_adaptation` of S learners side by side, which the network sees at once.

    Args:
      params, rule_params: those of each learner, leaves [...].
      support: leaves [S n, ...]; block s of the tasks is learner s's.
    """
    check_mode(mode, rule)
    num = len(params)
    each = [P.expand(P.detached(own), _num_tasks(support) // num) for own in params]
    start = adapted = P.one_after_the_other(each)
    of_rule = [P.detached(own) for own in rule_params]
    points, steps = [], []
    for k, batch in enumerate(support):
        points.append(differentiate(adapted, batch))
        gradient = inner_gradient(points[k].gradient, adapted, start, mode)
        own = zip(each, P.parts(gradient, num), of_rule, strict=True)
        steps.append(tuple(_Step(rule, *at, k) for at in own))
        each = [step.updated for step in steps[k]]
        adapted = P.one_after_the_other(each)
    implicit = None
    if isinstance(mode, Implicit):
        end = differentiate(adapted, support[-1])
        end.gradient  # noqa: B018  # Cached now, as the Hessian products need what it computes.
        implicit = _ImplicitStep(end.hessian_product, mode)
    curved = mode == "through"
    return LinearizedAdaptation(adapted, tuple(steps), tuple(points), curved, implicit)


def adapt_tasks(
    differentiate: Differentiate,
    params: Params,
    support: tuple[Batch, ...],
    rule: InnerRule,
    rule_params: Params | None = None,
    mode: Mode = "through",
) -> Params:
    """`linearize_adaptation(...).adapted` [n, ...] alone: nothing is kept for derivatives. For
    acting, and wherever nobody asks how φ depends on θ."""
    return path_of_tasks(differentiate, params, support, rule, rule_params, mode)[-1]


def path_of_tasks(
    differentiate: Differentiate,
    params: Params,
    support: tuple[Batch, ...],
    rule: InnerRule,
    rule_params: Params | None = None,
    mode: Mode = "through",
) -> list[Params]:
    """Adapts n tasks and returns all that was passed, φ₀, ..., φ_K [n, ...]: nothing is kept for
    derivatives."""
    start = P.expand(P.detached(params), _num_tasks(support))
    path = [start]
    for k, batch in enumerate(support):
        path.append(
            inner_step(
                differentiate, path[-1], batch, rule, rule_params or {}, k, start=start, mode=mode
            )
        )
    return path


def inner_step(
    differentiate: Differentiate,
    params: Params,
    batch: Batch,
    rule: InnerRule,
    rule_params: Params,
    step: int,
    *,
    start: Params | None = None,
    mode: Mode = "through",
) -> Params:
    """Inner step number `step` of n tasks from `params` [n, ...], which aren't differentiated.

    Args: start: θ [n, ...], from which the first step began; only the implicit mode asks for it.
    None: `params`.
    """
    with torch.no_grad():
        gradient = differentiate(params, batch).gradient
        return rule(
            params, inner_gradient(gradient, params, start or params, mode), rule_params, step
        )


class _Step:
    """φ' = rule(φ, g, α) with both its derivatives, by autograd on tensors of the parameters'
    size."""

    def __init__(
        self, rule: InnerRule, params: Params, gradient: Params, rule_params: Params, k: int
    ):
        self.rule_params = rule_params
        with torch.enable_grad():
            self._inputs = (leaves_of(params), leaves_of(gradient), leaves_of(rule_params))
            updated = rule(*self._inputs, k)
            self._flat = [leaf for group in self._inputs for leaf in group.values()]
            self._updated = list(updated.values())
        self.updated = {name: leaf.detach() for name, leaf in updated.items()}

    def vjp(self, cotangent: Params) -> tuple[Params, Params, Params]:
        """Returns the cotangents of φ and g [n, ...] and of the rule's shared parameters."""
        flat = grads(self._updated, self._flat, [cotangent[name] for name in self.updated])
        of_params, of_gradient, of_rule = self._grouped(flat)
        return of_params, of_gradient, of_rule

    def jvp(self, tangent: Params, of_gradient: Params, rule_tangent: Params | None) -> Params:
        """Returns how φ' moves as φ, g and the rule's parameters move along these."""
        of_rule = P.zeros_like(self.rule_params) if rule_tangent is None else rule_tangent
        groups = zip(self._inputs, (tangent, of_gradient, of_rule), strict=True)
        flat = [values[name] for group, values in groups for name in group]
        duals, pulled = self._transpose
        return dict(zip(self.updated, grads(pulled, duals, flat), strict=True))

    @cached_property
    def _transpose(self) -> tuple[list[Tensor], list[Tensor]]:
        """Duals of φ' and the rule's vjp, linear in them: its derivative by the duals is the rule's
        jvp."""
        with torch.enable_grad():
            duals = [torch.zeros_like(leaf, requires_grad=True) for leaf in self._updated]
            return duals, grads(self._updated, self._flat, duals, create_graph=True)

    def _grouped(self, flat: list[Tensor]) -> list[Params]:
        remaining = iter(flat)
        return [{name: next(remaining) for name in group} for group in self._inputs]


class _ImplicitStep:
    """φ = argmin ℓ(φ) + ½ λ ‖φ − θ‖²: dφ/dθ = (I + ∇²ℓ(φ)/λ)⁻¹, symmetric, so it is its own
    transpose."""

    def __init__(self, curvature: Callable[[Params], Params], mode: Implicit):
        self._curvature = curvature
        self._mode = mode

    def solve(self, b: Params) -> Params:
        mode = self._mode
        matvec = lambda v: P.add(v, self._curvature(v), mode.curvature_weight)
        return conjugate_gradient(
            matvec,
            b,
            num_iterations=mode.cg_iterations,
            tolerance=mode.cg_tolerance,
            num_batch_dims=1,
        ).solution


def _num_tasks(support: tuple[Batch, ...]) -> int:
    if not support:
        raise ValueError(
            "support is empty: adaptation needs one batch per inner step, at least one"
        )
    leaf = next(leaf for leaf in pytree.tree_leaves(support[0]) if isinstance(leaf, Tensor))
    return leaf.shape[0]
