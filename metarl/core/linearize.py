"""The inner adaptation as a linear map between tangents, for many tasks at once and without an
autograd graph of the network.

A loss at a point knows its gradient and its Hessian products (`DifferentiatedLoss`); K inner steps
chain them into the Jacobian of θ ↦ φ and its transpose. Meta-gradient = pullback(query gradient).
The Gauss–Newton matrix of a loss of the adapted parameters, which for a KL divergence at its
minimum is the Fisher information, is
v ↦ pullback(point.gauss_newton_product(pushforward(v))).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
import torch.utils._pytree as pytree
from torch import Tensor

from metarl.core import params as P
from metarl.core.gradients import Implicit, Mode, check_mode, inner_gradient
from metarl.core.linalg import conjugate_gradient
from metarl.types import Batch, InnerRule, Params

Outputs = dict[str, Tensor]

OutputLoss = Callable[[Outputs, Batch], Tensor]
"""A network's outputs (leaves [n, ...]) and the batch -> the loss of each of n tasks [n]."""


class DifferentiatedLoss(Protocol):
    """A loss ℓ(f(φ, x), batch) at one point φ [n, ...] of n tasks at once, with exact derivatives.
    f gives `outputs`.

    Tangents and cotangents are Params with leaves [n, ...] or dicts like `outputs`. Nothing here
    carries a graph.
    """

    outputs: Outputs
    value: Tensor  # [n]

    @property
    def gradient(self) -> Params:
        """∇ℓ, leaves [n, ...]."""
        ...

    def hessian_product(self, v: Params) -> Params:
        """∇²ℓ v, each task's own."""
        ...

    def gauss_newton_product(self, v: Params) -> Params:
        """Jᵀ (∂²ℓ/∂f²) J v with J = ∂f/∂φ. Equals the Hessian product wherever ∂ℓ/∂f = 0."""
        ...

    def jvp(self, v: Params) -> Outputs:
        """Returns J v, how the outputs move as φ moves along v."""
        ...

    def vjp(self, u: Outputs) -> Params:
        """Returns Jᵀ u, leaves [n, ...]."""
        ...

    def of(self, loss: OutputLoss, batch: Batch) -> "DifferentiatedLoss":
        """Another loss of the same outputs; the forward pass is shared."""
        ...


Differentiate = Callable[[Params, Batch], DifferentiatedLoss]
"""Parameters [n, ...] and a batch [n, ...] -> the inner loss there, differentiated."""


@dataclass(frozen=True)
class LinearizedAdaptation:
    """φ = adapt(θ) for n tasks and its derivative. θ and the rule's parameters are shared, φ has
    leaves [n, ...]."""

    adapted: Params
    steps: tuple["_Step", ...]
    points: tuple[DifferentiatedLoss, ...]
    """The loss of each step where it began, φ₀ = θ, ..., φ_{K−1}: for other losses of the network
    there, without another forward pass."""
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
        earlier = earlier or {}
        if self.implicit is not None:
            return P.sum_tasks(self.implicit.solve(cotangent)), self._zero_rule_cotangent()
        total = self._zero_rule_cotangent()
        for k, step in reversed(list(enumerate(self.steps))):
            cotangent, of_rule = step.vjp(cotangent)
            total = P.add(total, of_rule)
            if k in earlier:
                cotangent = P.add(cotangent, earlier[k])
        return P.sum_tasks(cotangent), total

    def pushforward(self, tangent: Params, rule_tangent: Params | None = None) -> Params:
        """J v: how each task's φ [n, ...] moves as θ moves along `tangent`, and the rule's
        parameters along theirs."""
        if self.implicit is not None:
            return self.implicit.solve(P.expand(tangent, P.num_tasks(self.adapted)))
        return self.pushed_path(tangent, rule_tangent)[-1]

    def pushed_path(self, tangent: Params, rule_tangent: Params | None = None) -> list[Params]:
        """The same for every point passed, φ₀, ..., φ_K. Not with the implicit mode."""
        path = [P.expand(tangent, P.num_tasks(self.adapted))]
        for step in self.steps:
            path.append(step.jvp(path[-1], rule_tangent))
        return path

    def _zero_rule_cotangent(self) -> Params:
        return P.zeros_like(self.steps[0].rule_params)


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
    check_mode(mode, rule)
    start = P.expand(P.detached(params), _num_tasks(support))
    rule_params = P.detached(rule_params or {})
    adapted, points, steps = start, [], []
    for k, batch in enumerate(support):
        points.append(differentiate(adapted, batch))
        gradient = inner_gradient(points[k].gradient, adapted, start, mode)
        curvature = points[k].hessian_product if mode == "through" else None
        steps.append(_Step(rule, adapted, gradient, rule_params, k, curvature))
        adapted = steps[k].updated
    implicit = None
    if isinstance(mode, Implicit):
        end = differentiate(adapted, support[-1])
        end.gradient  # noqa: B018  # Cached now, as the Hessian products need what it computes.
        implicit = _ImplicitStep(end.hessian_product, mode)
    return LinearizedAdaptation(adapted, tuple(steps), tuple(points), implicit)


def adapt_tasks(
    differentiate: Differentiate,
    params: Params,
    support: tuple[Batch, ...],
    rule: InnerRule,
    rule_params: Params | None = None,
    mode: Mode = "through",
) -> Params:
    """`linearize_adaptation(...).adapted` [n, ...] alone: nothing is kept for derivatives. For line
    searches."""
    return path_of_tasks(differentiate, params, support, rule, rule_params, mode)[-1]


def path_of_tasks(
    differentiate: Differentiate,
    params: Params,
    support: tuple[Batch, ...],
    rule: InnerRule,
    rule_params: Params | None = None,
    mode: Mode = "through",
) -> list[Params]:
    """The same with all that was passed: φ₀, ..., φ_K [n, ...]."""
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
    """φ' = rule(φ, g(φ), α) with both its derivatives. The rule's part is autograd on tensors of
    the parameters' size."""

    def __init__(
        self,
        rule: InnerRule,
        params: Params,
        gradient: Params,
        rule_params: Params,
        k: int,
        curvature: Callable[[Params], Params] | None,
    ):
        self.curvature = curvature
        self.params = params
        self.rule_params = rule_params
        with torch.enable_grad():
            self._inputs = (_leaves(params), _leaves(gradient), _leaves(rule_params))
            updated = rule(*self._inputs, k)
            self._flat = [leaf for group in self._inputs for leaf in group.values()]
            self._updated = list(updated.values())
        self.updated = {name: leaf.detach() for name, leaf in updated.items()}

    def vjp(self, cotangent: Params) -> tuple[Params, Params]:
        """Returns the cotangents of φ [n, ...] and of the rule's shared parameters."""
        flat = grads(self._updated, self._flat, [cotangent[name] for name in self.updated])
        of_params, of_gradient, of_rule = self._grouped(flat)
        if self.curvature is not None:
            of_params = P.add(of_params, self.curvature(of_gradient))
        return of_params, of_rule

    def jvp(self, tangent: Params, rule_tangent: Params | None) -> Params:
        of_gradient = P.zeros_like(tangent) if self.curvature is None else self.curvature(tangent)
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
        matvec = lambda v: P.add(v, self._curvature(v), 1.0 / mode.strength)
        return conjugate_gradient(
            matvec,
            b,
            num_iterations=mode.cg_iterations,
            tolerance=mode.cg_tolerance,
            num_batch_dims=1,
        ).solution


class _AutogradLoss:
    """`DifferentiatedLoss` by double backward, for any network and loss."""

    def __init__(self, outputs: Outputs, params: Params, loss: OutputLoss, batch: Batch):
        self._params = params
        self._graph = outputs
        self.outputs = {name: leaf.detach() for name, leaf in outputs.items()}
        with torch.enable_grad():
            self._loss = loss(outputs, batch)
            self._gradient = grads([self._loss.sum()], list(params.values()), create_graph=True)
            self._output_leaves = _leaves(self.outputs)
            value = loss(self._output_leaves, batch).sum()
            self._output_gradient = grads(
                [value], list(self._output_leaves.values()), create_graph=True
            )
            self._dual = [torch.zeros_like(leaf, requires_grad=True) for leaf in outputs.values()]
            self._vjp = grads(
                list(outputs.values()), list(params.values()), self._dual, create_graph=True
            )
        self.value = self._loss.detach()

    @property
    def gradient(self) -> Params:
        return {
            name: leaf.detach() for name, leaf in zip(self._params, self._gradient, strict=True)
        }

    def hessian_product(self, v: Params) -> Params:
        products = grads(
            self._gradient, list(self._params.values()), [v[name] for name in self._params]
        )
        return dict(zip(self._params, products, strict=True))

    def gauss_newton_product(self, v: Params) -> Params:
        pushed = list(self.jvp(v).values())
        curved = grads(self._output_gradient, list(self._output_leaves.values()), pushed)
        return self.vjp(dict(zip(self.outputs, curved, strict=True)))

    def jvp(self, v: Params) -> Outputs:
        pushed = grads(self._vjp, self._dual, [v[name] for name in self._params])
        return dict(zip(self.outputs, pushed, strict=True))

    def vjp(self, u: Outputs) -> Params:
        pulled = grads(
            list(self._graph.values()),
            list(self._params.values()),
            [u[name] for name in self.outputs],
        )
        return dict(zip(self._params, pulled, strict=True))

    def of(self, loss: OutputLoss, batch: Batch) -> "_AutogradLoss":
        return _AutogradLoss(self._graph, self._params, loss, batch)


def differentiate_by_autograd(
    module: torch.nn.Module, loss: OutputLoss, inputs: Callable[[Batch], Tensor]
) -> Differentiate:
    """Derivatives by double backward through any module whose outputs are a dict. Correct
    everywhere, fast nowhere.

    Args:
      module: maps one task's inputs to a dict of outputs; called task by task, so that nothing in
        it must vmap.
      inputs: takes the network's input [n, ...] from a batch.
    """

    def differentiate(params: Params, batch: Batch) -> DifferentiatedLoss:
        with torch.enable_grad():
            leaves = _leaves(params)
            x = inputs(batch)
            each = [P.call(module, P.task(leaves, i), x[i]) for i in range(P.num_tasks(params))]
            outputs = {
                name: torch.stack([_padded(one[name], x.dim() - 1) for one in each])
                for name in each[0]
            }
        return _AutogradLoss(outputs, leaves, loss, batch)

    return differentiate


def grads(
    outputs: list[Tensor],
    inputs: list[Tensor],
    cotangents: list[Tensor] | None = None,
    create_graph: bool = False,
) -> list[Tensor]:
    """torch.autograd.grad that keeps the graph and gives zeros where an output doesn't depend on an
    input."""
    if cotangents is None:
        cotangents = [torch.ones_like(output) for output in outputs]
    pairs = [
        (output, u) for output, u in zip(outputs, cotangents, strict=True) if output.requires_grad
    ]
    if not pairs or not inputs:
        return [torch.zeros_like(leaf) for leaf in inputs]
    kept, weights = zip(*pairs, strict=True)
    found = torch.autograd.grad(
        kept, inputs, weights, create_graph=create_graph, retain_graph=True, allow_unused=True
    )
    return [
        torch.zeros_like(leaf) if grad is None else grad
        for leaf, grad in zip(inputs, found, strict=True)
    ]


def _padded(output: Tensor, num_dims: int) -> Tensor:
    """Adds leading dimensions of size 1: an output that doesn't depend on x, [A], must broadcast
    against [B, A] once it is stacked."""
    return output.reshape((1,) * (num_dims - output.dim()) + output.shape)


def _leaves(params: Params) -> Params:
    return {name: leaf.detach().requires_grad_() for name, leaf in params.items()}


def _num_tasks(support: tuple[Batch, ...]) -> int:
    if not support:
        raise ValueError(
            "support is empty: adaptation needs one batch per inner step, at least one"
        )
    leaf = next(leaf for leaf in pytree.tree_leaves(support[0]) if isinstance(leaf, Tensor))
    return leaf.shape[0]
