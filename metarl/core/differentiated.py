"""A loss at one point, with its derivatives: what is asked of it, and how autograd gives it for any
network.

metarl/nn/mlp_derivatives.py gives the same for perceptrons, written out and several times as fast.
"""

from collections.abc import Callable
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from metarl.core import params as P
from metarl.types import Batch, Params

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
    return partial(_differentiated_by_autograd, module, loss, inputs)


def _differentiated_by_autograd(
    module: torch.nn.Module,
    loss: OutputLoss,
    inputs: Callable[[Batch], Tensor],
    params: Params,
    batch: Batch,
) -> DifferentiatedLoss:
    # A function of the module, so that what has adapted pickles.
    with torch.enable_grad():
        leaves = leaves_of(params)
        x = inputs(batch)
        each = [P.call(module, P.task(leaves, i), x[i]) for i in range(P.num_tasks(params))]
        outputs = {
            name: torch.stack([_padded(one[name], x.dim() - 1) for one in each]) for name in each[0]
        }
    return _AutogradLoss(outputs, leaves, loss, batch)


class _AutogradLoss:
    """`DifferentiatedLoss` by double backward, for any network and loss."""

    def __init__(self, outputs: Outputs, params: Params, loss: OutputLoss, batch: Batch):
        self._params = params
        self._graph = outputs
        self.outputs = {name: leaf.detach() for name, leaf in outputs.items()}
        with torch.enable_grad():
            self._loss = loss(outputs, batch)
            self._gradient = grads([self._loss.sum()], list(params.values()), create_graph=True)
            self._output_leaves = leaves_of(self.outputs)
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


def _padded(output: Tensor, num_dims: int) -> Tensor:
    """Adds leading dimensions of size 1: an output that doesn't depend on x, [A], must broadcast
    against [B, A] once it is stacked."""
    return output.reshape((1,) * (num_dims - output.dim()) + output.shape)


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


def leaves_of(params: Params) -> Params:
    """Returns the parameters as leaves of a new graph."""
    return {name: leaf.detach().requires_grad_() for name, leaf in params.items()}
