"""The implicit derivative of adaptation (iMAML) as one autograd node, for use inside differentiable
task functions."""

from typing import Any

import torch
import torch.utils._pytree as pytree
from torch import Tensor

from metarl.core import params as P
from metarl.core.gradients import Implicit
from metarl.core.linalg import conjugate_gradient, hvp
from metarl.types import Batch, LossFn, Params


def implicit_gradient(
    loss: LossFn, params: Params, adapted: Params, batch: Batch, mode: Implicit
) -> Params:
    """`adapted`, with (I + ∇²ℓ(adapted)/λ)⁻¹ for its derivative by `params`. Works under vmap and
    torch.func.grad."""
    leaves, spec = pytree.tree_flatten(batch)
    names = list(params)
    problem = _Problem(loss, mode, names, spec)
    out = _Implicit.apply(
        problem, *(params[name] for name in names), *(adapted[name] for name in names), *leaves
    )
    return dict(zip(names, out, strict=True))


class _Problem:
    """Holds what isn't a tensor. Tensors must be arguments of the autograd node themselves, or vmap
    wouldn't see them."""

    def __init__(self, loss: LossFn, mode: Implicit, names: list[str], spec: pytree.TreeSpec):
        self.loss = loss
        self.mode = mode
        self.names = names
        self.spec = spec

    def solve(
        self, cotangents: tuple[Tensor, ...], adapted: tuple[Tensor, ...], leaves: tuple[Any, ...]
    ) -> list[Tensor]:
        batch = pytree.tree_unflatten(leaves, self.spec)
        point = dict(zip(self.names, adapted, strict=True))
        solution = conjugate_gradient(
            lambda v: P.add(v, hvp(self.loss, point, batch, v), self.mode.curvature_weight),
            dict(zip(self.names, cotangents, strict=True)),
            num_iterations=self.mode.cg_iterations,
            tolerance=self.mode.cg_tolerance,
        ).solution
        return [solution[name] for name in self.names]


class _Implicit(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(problem: _Problem, *tensors: Tensor) -> tuple[Tensor, ...]:
        size = len(problem.names)
        return tuple(leaf.clone() for leaf in tensors[size : 2 * size])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.problem = inputs[0]
        ctx.save_for_backward(*inputs[1 + len(ctx.problem.names) :])

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        size = len(ctx.problem.names)
        adapted, leaves = ctx.saved_tensors[:size], ctx.saved_tensors[size:]
        solved = ctx.problem.solve(cotangents, adapted, leaves)
        return (None, *solved, *(None,) * (size + len(leaves)))
