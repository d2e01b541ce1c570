"""First and second derivatives of losses of an MLP policy, written out with batched matrix
products.

Only what lies after the trunk's output z (the head, the loss: tensors of [n, B, A]) is left to
autograd. The products with the Hessian are Pearlmutter's R-operator (1994, "Fast exact
multiplication by the Hessian"): with h₀ = x, a_l = W_l h_{l−1} + b_l, h_l = φ(a_l), δ_l = ∂ℓ/∂a_l
and the direction V_l, c_l,

    R a_l = V_l h_{l−1} + W_l R h_{l−1} + c_l             R h_l = φ'(a_l) R a_l
    R e_l = W_{l+1}ᵀ R δ_{l+1} + V_{l+1}ᵀ δ_{l+1}         R δ_l = φ'(a_l) R e_l + φ''(a_l) e_l R a_l
    R ∂ℓ/∂W_l = R δ_l h_{l−1}ᵀ + δ_l (R h_{l−1})ᵀ         R ∂ℓ/∂b_l = R δ_l

The activations and the δ of a point are computed once and serve every product.
"""

from collections.abc import Callable
from functools import cached_property, partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from metarl.core.differentiated import (
    Differentiate,
    DifferentiatedLoss,
    OutputLoss,
    Outputs,
    differentiate_by_autograd,
    grads,
)
from metarl.core.whose import is_ours
from metarl.nn.beside import Beside, Tail, with_beside
from metarl.nn.mlp import IN_PLACE, MLP, Activation
from metarl.nn.parts import fills_vectors, is_aligned
from metarl.struct import map_tensors
from metarl.types import Batch, Params

Head = Callable[[Params, Tensor], Outputs]
"""The parameters that aren't the trunk's and the trunk's output -> the network's outputs."""


def differentiator(
    network: nn.Module, loss: OutputLoss, inputs: Callable[[Batch], Tensor] | None = None
) -> Differentiate:
    """The derivatives of `loss` of `network`'s outputs: written out for an MLP or a head on one,
    else by autograd, as where someone's own subclass computes its outputs in another way.

    Args:
      network: an MLP (its outputs are then {"output": ...}), a policy with `trunk`, `head` and
        `trunk_input`, or any module whose outputs are a dict.
      loss: (outputs, batch) -> [n].
      inputs: takes the network's inputs [n, ..., I] from a batch; `batch.obs` if None.
    Returns: (params [n, ...], batch) -> DifferentiatedLoss.
    """
    take = inputs or _obs
    mlp: nn.Module = network
    head: Head = _as_dict
    trunk_input: Callable[[Tensor], Tensor] = _as_it_is
    beside: Beside | None = getattr(network, "beside", None)
    prefix = ""
    if not isinstance(network, MLP):
        mlp = getattr(network, "trunk", network)
        head = getattr(network, "head", _as_dict)
        trunk_input = getattr(network, "trunk_input", _as_it_is)
        prefix = "trunk."
    if not isinstance(mlp, MLP) or not _computes_as_ours(network, mlp):
        return differentiate_by_autograd(network, loss, take)
    return partial(_differentiated, mlp, head, prefix, trunk_input, take, beside, loss)


def _computes_as_ours(network: nn.Module, mlp: nn.Module) -> bool:
    hooked = any(layer._forward_hooks or layer._forward_pre_hooks for layer in network.modules())
    return (
        not hooked
        and is_ours(type(network), "forward")
        and (network is mlp or is_ours(type(network), "with_params"))
        and is_ours(type(mlp), "forward", "weights")
    )


def rounds_tasks_alike(network: nn.Module, num_rows: int) -> bool:
    """Whether the derivatives of a task with so many rows are the same, to the last bit, whichever
    tasks stand before and behind it; see metarl/nn/parts.py. Of other networks than perceptrons it
    is always so, because they see one task at a time."""
    trunk = getattr(network, "trunk", network)
    if not isinstance(trunk, MLP):
        return True
    layers = [cast(nn.Linear, layer) for layer in trunk.layers]
    products = (num_rows, *(layer.weight.numel() for layer in layers))
    return all(is_aligned(size) for size in products) and all(
        fills_vectors(num_rows * layer.out_features) for layer in layers[:-1]
    )


def _differentiated(
    mlp: MLP,
    head: Head,
    prefix: str,
    trunk_input: Callable[[Tensor], Tensor],
    take: Callable[[Batch], Tensor],
    beside: Beside | None,
    loss: OutputLoss,
    params: Params,
    batch: Batch,
) -> DifferentiatedLoss:
    # A function of the module, so that what has adapted pickles.
    trunk = _Trunk(mlp, head, prefix, params, trunk_input(take(batch)), beside)
    return _MLPLoss(trunk, loss, batch)


def _as_dict(params: Params, output: Tensor) -> Outputs:
    return {"output": output}


def _obs(batch: Any) -> Tensor:
    return batch.obs


def _as_it_is(x: Tensor) -> Tensor:
    return x


class _Trunk:
    """The forward pass of n tasks at one point, and its linear maps. Rows B are all dimensions
    between task and feature.

    What a policy sees beside the observation depends on parameters, too (metarl/nn/beside.py): it
    is the last part of the input, h₀.
    """

    def __init__(
        self,
        mlp: MLP,
        head: Head,
        prefix: str,
        params: Params,
        obs: Tensor,
        beside: Beside | None = None,
    ):
        self.head = head
        self.names = [f"{prefix}layers.{i}." for i in range(len(mlp.layers))]
        self.head_params = {
            name: leaf for name, leaf in params.items() if not name.startswith(f"{prefix}layers.")
        }
        self.param_names = list(params)
        self.activation: Activation = mlp.activation
        self.weights = [params[name + "weight"] for name in self.names]
        self.shape = obs.shape[:-1]
        self.tail = Tail.of(beside, self.head_params, obs.detach())
        with torch.no_grad():
            seen = None if self.tail is None else self.tail.value
            x = with_beside(obs.detach(), seen, self.weights[0].shape[-1])
            self.hidden = [x.reshape(x.shape[0], -1, x.shape[-1])]  # h₀ … h_{L−1}, [n, B, ·] each
            for name, weight in zip(self.names[:-1], self.weights[:-1], strict=True):
                a = _product(self.hidden[-1], weight, bias=params[name + "bias"])
                self.hidden.append(IN_PLACE[self.activation](a))
            z = _product_rows_last(
                self.hidden[-1], self.weights[-1], bias=params[self.names[-1] + "bias"]
            )
        self.output = self._as_output(z)

    @torch.no_grad()
    def push(self, v: Params) -> tuple[Tensor, list[tuple[Tensor, Tensor]], Tensor | None]:
        """R z of the output [n, ..., A], (R a_l, R h_l) of the hidden layers, and R of the tail."""
        moved: list[tuple[Tensor, Tensor]] = []
        r_tail = None
        if self.tail is not None:
            r_tail = self.tail.jvp([v[name] for name in self.head_params])
        for layer, name in enumerate(self.names[:-1]):
            r_a = _product(self.hidden[layer], v[name + "weight"], bias=v[name + "bias"])
            if layer > 0:
                r_a.baddbmm_(moved[-1][1], self.weights[layer].transpose(1, 2))
            elif r_tail is not None:
                r_a.baddbmm_(r_tail, self._of_tail(self.weights[0]).transpose(1, 2))
            moved.append((r_a, _slope_times(r_a, self.hidden[layer + 1], self.activation)))
        last = self.names[-1]
        r_z = _product_rows_last(self.hidden[-1], v[last + "weight"], bias=v[last + "bias"])
        if moved:
            r_z.baddbmm_(self.weights[-1], moved[-1][1].transpose(1, 2))
        elif r_tail is not None:
            r_z.baddbmm_(self._of_tail(self.weights[0]), r_tail.transpose(1, 2))
        return self._as_output(r_z), moved, r_tail

    @torch.no_grad()
    def pull(self, u: Tensor) -> tuple[Params, list[Tensor]]:
        """The transpose of `push`: from ∂ℓ/∂z to the gradient of weights and biases, and the δ of
        all layers."""
        delta = u.reshape(u.shape[0], -1, u.shape[-1])
        deltas, gradient = [delta], {}
        for layer in reversed(range(len(self.names))):
            gradient[self.names[layer] + "weight"] = torch.bmm(
                delta.transpose(1, 2), self.hidden[layer]
            )
            gradient[self.names[layer] + "bias"] = delta.sum(1)
            if layer > 0:
                e = torch.bmm(delta, self.weights[layer])
                delta = _slope_times(e, self.hidden[layer], self.activation, out=e)
                deltas.insert(0, delta)
        return gradient, deltas

    @torch.no_grad()
    def pull_moved(
        self,
        v: Params,
        r_u: Tensor,
        moved: list[tuple[Tensor, Tensor]],
        r_tail: Tensor | None,
        deltas: list[Tensor],
    ) -> tuple[Params, list[Tensor] | None]:
        """R of `pull` and of `pull_tail`: how their gradients move along v, given R ∂ℓ/∂z, what
        `push` moved and the δ of `pull`."""
        r_delta = r_u.reshape(r_u.shape[0], -1, r_u.shape[-1])
        product = {}
        for layer in reversed(range(len(self.names))):
            of_weight = torch.bmm(r_delta.transpose(1, 2), self.hidden[layer])
            product[self.names[layer] + "bias"] = r_delta.sum(1)
            if layer > 0:
                h, (r_a, r_h) = self.hidden[layer], moved[layer - 1]
                of_weight.baddbmm_(deltas[layer].transpose(1, 2), r_h)
                r_e = torch.bmm(r_delta, self.weights[layer])
                r_e.baddbmm_(deltas[layer], v[self.names[layer] + "weight"])
                r_delta = _slope_times(r_e, h, self.activation, out=r_e)
                _add_bend(r_delta, h, deltas[layer - 1], r_a, self.activation)
            elif r_tail is not None:
                self._of_tail(of_weight).baddbmm_(deltas[0].transpose(1, 2), r_tail)
            product[self.names[layer] + "weight"] = of_weight
        if self.tail is None:
            return product, None
        r_e = torch.bmm(r_delta, self._of_tail(self.weights[0]))
        r_e.baddbmm_(deltas[0], self._of_tail(v[self.names[0] + "weight"]))
        e = torch.bmm(deltas[0], self._of_tail(self.weights[0]))
        bent = self.tail.bend(e, [v[name] for name in self.head_params])
        return product, [a + b for a, b in zip(self.tail.vjp(r_e), bent, strict=True)]

    @torch.no_grad()
    def pull_tail(self, deltas: list[Tensor]) -> list[Tensor] | None:
        """What comes back through the tail to the parameters of the head, from the δ of `pull`."""
        if self.tail is None:
            return None
        return self.tail.vjp(torch.bmm(deltas[0], self._of_tail(self.weights[0])))

    def _of_tail(self, weight: Tensor) -> Tensor:
        """The columns of the first layer's weights [n, o, I] that the tail meets, a view."""
        assert self.tail is not None
        return weight[:, :, -self.tail.size :]

    def _as_output(self, z: Tensor) -> Tensor:
        """[n, A, B] -> [n, ..., A], without moving memory."""
        return z.reshape(z.shape[0], z.shape[1], *self.shape[1:]).movedim(1, -1)


class _MLPLoss:
    """`DifferentiatedLoss` of a head and a loss on a trunk's forward pass."""

    def __init__(self, trunk: _Trunk, loss: OutputLoss, batch: Batch):
        batch = _rows_last(batch, trunk.output.shape)
        self._trunk = trunk
        self._loss = loss
        self._batch = batch
        self._leaves = [
            leaf.detach().requires_grad_() for leaf in (trunk.output, *trunk.head_params.values())
        ]
        with torch.enable_grad():
            head_params = dict(zip(trunk.head_params, self._leaves[1:], strict=True))
            self._graph: Outputs = trunk.head(head_params, self._leaves[0])
            value = loss(self._graph, batch)
            self._slopes = grads([value.sum()], self._leaves, create_graph=True)
        self.value = value.detach()
        self.outputs = {name: leaf.detach() for name, leaf in self._graph.items()}
        self._deltas: list[Tensor] | None = None
        self._gradient: Params | None = None

    @property
    def gradient(self) -> Params:
        if self._gradient is None:
            slopes = [slope.detach() for slope in self._slopes]
            of_trunk, self._deltas = self._trunk.pull(slopes[0])
            of_head = _sum(slopes[1:], self._trunk.pull_tail(self._deltas))
            self._gradient = self._ordered(of_trunk, of_head)
        return self._gradient

    def hessian_product(self, v: Params) -> Params:
        _ = self.gradient
        assert self._deltas is not None
        r_z, moved, r_tail = self._trunk.push(v)
        curved = grads(self._slopes, self._leaves, [r_z, *self._head_values(v)])
        of_trunk, of_tail = self._trunk.pull_moved(v, curved[0], moved, r_tail, self._deltas)
        return self._ordered(of_trunk, _sum(curved[1:], of_tail))

    def gauss_newton_product(self, v: Params) -> Params:
        leaves, slopes = self._at_outputs
        u = grads(slopes, leaves, list(self.jvp(v).values()))
        return self.vjp(dict(zip(self.outputs, u, strict=True)))

    def jvp(self, v: Params) -> Outputs:
        r_z, _, _ = self._trunk.push(v)
        duals, pulled = self._head_transpose
        return dict(
            zip(self.outputs, grads(pulled, duals, [r_z, *self._head_values(v)]), strict=True)
        )

    def vjp(self, u: Outputs) -> Params:
        pulled = grads(list(self._graph.values()), self._leaves, [u[name] for name in self.outputs])
        of_trunk, deltas = self._trunk.pull(pulled[0])
        return self._ordered(of_trunk, _sum(pulled[1:], self._trunk.pull_tail(deltas)))

    def of(self, loss: OutputLoss, batch: Batch) -> DifferentiatedLoss:
        return _MLPLoss(self._trunk, loss, batch)

    @cached_property
    def _at_outputs(self) -> tuple[list[Tensor], list[Tensor]]:
        """Outputs f as leaves, and ∂ℓ/∂f as functions of them: apart from the head, whose bend
        isn't Gauss–Newton's."""
        with torch.enable_grad():
            leaves = {name: leaf.detach().requires_grad_() for name, leaf in self.outputs.items()}
            value = self._loss(leaves, self._batch).sum()
            return list(leaves.values()), grads([value], list(leaves.values()), create_graph=True)

    @cached_property
    def _head_transpose(self) -> tuple[list[Tensor], list[Tensor]]:
        """Duals of the outputs and the head's vjp, linear in them: its derivative by the duals is
        the head's jvp."""
        with torch.enable_grad():
            duals = [torch.zeros_like(leaf, requires_grad=True) for leaf in self._graph.values()]
            return duals, grads(list(self._graph.values()), self._leaves, duals, create_graph=True)

    def _head_values(self, v: Params) -> list[Tensor]:
        return [v[name] for name in self._trunk.head_params]

    def _ordered(self, of_trunk: Params, of_head: list[Tensor]) -> Params:
        merged = of_trunk | dict(zip(self._trunk.head_params, of_head, strict=True))
        return {name: merged[name] for name in self._trunk.param_names}


def _sum(of_head: list[Tensor], of_tail: list[Tensor] | None) -> list[Tensor]:
    """Both ways to the parameters that aren't the trunk's."""
    if of_tail is None:
        return of_head
    return [a + b for a, b in zip(of_head, of_tail, strict=True)]


def _product(h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """W h + b for every row: [n, B, i], [n, o, i], [n, o] -> [n, B, o]."""
    return torch.baddbmm(bias.unsqueeze(1), h, weight.transpose(1, 2))


def _product_rows_last(h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Computes `_product` as [n, o, B]: the few outputs o stand before the many rows."""
    return torch.baddbmm(bias.unsqueeze(2), weight, h.transpose(1, 2))


def _rows_last(batch: Batch, shape: torch.Size) -> Batch:
    """The batch with its tensors of the output's shape [n, ..., A] laid out in memory as the output
    is: [n, A, ...].

    Arithmetic between [n, B, A] and [n, B, 1] or [n, 1, A] has inner loops of B instead of A = 6: 3
    to 6 times faster.
    """
    layout = lambda leaf: (
        leaf.movedim(-1, 1).contiguous().movedim(1, -1) if leaf.shape == shape else leaf
    )
    return map_tensors(layout, batch)


def _slope_times(e: Tensor, h: Tensor, activation: Activation, out: Tensor | None = None) -> Tensor:
    """φ'(a) e, with φ' from h = φ(a): 1 − h² for tanh, [h > 0] for relu. One fused kernel each."""
    out = torch.empty_like(e) if out is None else out
    if activation == "tanh":
        return torch.ops.aten.tanh_backward.grad_input(e, h, grad_input=out)
    return torch.ops.aten.threshold_backward.grad_input(e, h, 0, grad_input=out)


def _add_bend(
    r_delta: Tensor, h: Tensor, delta: Tensor, r_a: Tensor, activation: Activation
) -> None:
    """Adds φ''(a) e R a in place; for tanh φ'' = −2 h φ' and δ = φ' e, so it is −2 h δ R a; for
    relu it is zero."""
    if activation == "tanh":
        r_delta.addcmul_(delta * h, r_a, value=-2)
