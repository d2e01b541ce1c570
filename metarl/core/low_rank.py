"""Adaptation of linear layers without forming the adapted weights: exact, and fast where a task has
few support examples.

A gradient step on a layer a = W h + b moves its weights by −α Σ δ hᵀ, δ = ∂ℓ/∂a, a sum over the
support examples. Hence

    (W − α Σ δ hᵀ) x = W x − α Σ δ ⟨h, x⟩

costs the products of W, which all tasks share and one matrix product serves, and of (support
examples × steps) inner products.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from metarl.core import params as P
from metarl.core.gradients import Mode
from metarl.core.rules import Sgd
from metarl.types import Batch, LossFn, Params

Moves = dict[str, list[tuple[Tensor, Tensor]]]
"""The h [B, I] and α δ [B, O] of every step, by the name of the weight."""


@dataclass(frozen=True)
class LowRankParams:
    """One task's adapted parameters: `params` as they are, but the weights in `moves` further on by
    −Σ δᵀ h.

    Calls of the network count as adapted only inside `with adapted.installed(network):` and with
    `adapted.params`.
    """

    params: Params
    moves: Moves

    @contextmanager
    def installed(self, network: nn.Module) -> Iterator[None]:
        """Lets the linear layers of `network` add the moves. One thread at a time may do so."""
        with _Layers(self).of(network):
            yield


def adapt_low_rank(
    network: nn.Module,
    loss: LossFn,
    params: Params,
    support: tuple[Batch, ...],
    rule: Sgd,
    mode: Mode = "through",
) -> LowRankParams:
    """`adapt` for plain gradient steps. Every `nn.Linear` of `network` with a 2-d input finds its
    weights moved in low rank; all other parameters, biases among them, are updated as usual. Works
    under vmap.

    To keep one matrix product for all tasks, differentiate with `grad_over_tasks(...,
    backend="joint")`.

    Args: loss: calls `network` with the parameters it is given.
    Raises: ValueError for the implicit mode, or a weight that is used twice in one call: one move
    wouldn't do.
    """
    if mode not in ("through", "first_order"):
        raise ValueError(
            f"gradient mode {mode!r}: a low-rank adaptation knows through and first_order"
        )
    weights = _linear_weights(network, loss, params, support[0]) if support else {}
    adapted = LowRankParams(params=params, moves={name: [] for name in weights})
    for k, batch in enumerate(support):
        taps = {name: out.new_zeros(out.shape) for name, out in weights.items()}
        dense = {name: leaf for name, leaf in adapted.params.items() if name not in weights}
        (of_dense, deltas), inputs = torch.func.grad(
            _tapped(network, loss, adapted, batch), argnums=(0, 1), has_aux=True
        )(dense, taps)
        if mode == "first_order":
            of_dense, deltas, inputs = P.detached(of_dense), P.detached(deltas), P.detached(inputs)
        lr = rule.rate(k)
        moves = {
            name: [*adapted.moves[name], (inputs[name], lr * deltas[name])] for name in weights
        }
        updated = rule(dense, of_dense, {}, k)
        adapted = LowRankParams(
            params={name: updated.get(name, leaf) for name, leaf in params.items()}, moves=moves
        )
    return adapted


def low_rank_pays(params: Params, rank: int) -> bool:
    """Tells whether moves of this rank, examples of a support batch × steps, cost less than half
    the adapted weights would."""
    shapes = [leaf.shape for leaf in params.values() if leaf.dim() == 2]
    return bool(shapes) and 2 * rank * sum(o + i for o, i in shapes) < sum(o * i for o, i in shapes)


def _tapped(network: nn.Module, loss: LossFn, at: LowRankParams, batch: Batch) -> Any:
    """Returns a function of the parameters that aren't linear weights and of taps, which are added
    to the linear layers' outputs. It gives ℓ and the layers' inputs."""

    def tapped(dense: Params, taps: Params) -> tuple[Tensor, Params]:
        point = LowRankParams(params={**at.params, **dense}, moves=at.moves)
        with _Layers(point, taps).of(network) as layers:
            return loss(point.params, batch), layers.inputs

    return tapped


@torch.no_grad()
def _linear_weights(network: nn.Module, loss: LossFn, params: Params, batch: Batch) -> Params:
    """Returns, for each weight that meets a 2-d input in a linear layer, an output [B, O] of its
    layer, for the shape."""
    point = LowRankParams(params=P.detached(params), moves={})
    with _Layers(point).of(network) as layers:
        loss(point.params, batch)
    return layers.outputs


@dataclass
class _Layers:
    """Adds moves and taps to the outputs of linear layers, and keeps what goes in and out."""

    at: LowRankParams
    taps: Params = field(default_factory=dict)
    inputs: Params = field(default_factory=dict)
    outputs: Params = field(default_factory=dict)

    @contextmanager
    def of(self, network: nn.Module) -> Iterator["_Layers"]:
        hooks = [
            layer.register_forward_hook(partial(self._moved, f"{name}.weight".lstrip(".")))
            for name, layer in network.named_modules()
            if isinstance(layer, nn.Linear)
        ]
        try:
            yield self
        finally:
            for hook in hooks:
                hook.remove()

    def _moved(self, name: str, layer: nn.Module, args: tuple[Tensor], out: Tensor) -> Tensor:
        (x,) = args
        if x.dim() != 2:
            return out
        # A weight that two layers share has the first one's name alone.
        if name in self.inputs or name not in self.at.params:
            raise ValueError(
                f"{name} is used twice in one call: a low-rank adaptation takes it for one layer's"
            )
        self.inputs[name] = x
        for h, scaled_delta in self.at.moves.get(name, ()):
            out = out - (x @ h.mT) @ scaled_delta
        if name in self.taps:
            out = out + self.taps[name]
        self.outputs[name] = out
        return out
