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
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from metarl.core import params as P
from metarl.core.gradients import Mode
from metarl.core.rules import Sgd
from metarl.types import Batch, LossFn, Params


@dataclass(frozen=True)
class LowRankParams:
    """One task's adapted parameters: `params` as they are, but the weights in `moves` further on by
    −Σ δᵀ h.

    Calls of the network count as adapted only inside `with adapted.installed():` and with
    `adapted.params`.
    """

    params: Params
    moves: dict[str, list[tuple[Tensor, Tensor]]]
    """By weight: the h [B, I] and α δ [B, O] of every step."""

    @contextmanager
    def installed(self) -> Iterator[None]:
        with _Linears(self):
            yield


def adapt_low_rank(
    loss: LossFn,
    params: Params,
    support: tuple[Batch, ...],
    rule: Sgd,
    mode: Mode = "through",
) -> LowRankParams:
    """`adapt` for plain gradient steps. Every 2-d input of `torch.nn.functional.linear` finds its
    weights moved in low rank; all other parameters, biases among them, are updated as usual. Works
    under vmap.

    To keep one matrix product for all tasks, differentiate with `grad_over_tasks(...,
    backend="joint")`.

    Raises: ValueError for the implicit mode, or a weight that is used twice in one call: one move
    wouldn't do.
    """
    if mode not in ("through", "first_order"):
        raise ValueError(
            f"gradient mode {mode!r}: a low-rank adaptation knows through and first_order"
        )
    weights = _linear_weights(loss, params, support[0]) if support else {}
    adapted = LowRankParams(params=params, moves={name: [] for name in weights})
    for k, batch in enumerate(support):
        taps = {name: out.new_zeros(out.shape) for name, out in weights.items()}
        dense = {name: leaf for name, leaf in adapted.params.items() if name not in weights}
        (of_dense, deltas), inputs = torch.func.grad(
            _tapped(loss, adapted, batch), argnums=(0, 1), has_aux=True
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
    """Whether moves of this rank, examples of a support batch × steps, cost less than half the
    adapted weights would."""
    shapes = [leaf.shape for leaf in params.values() if leaf.dim() == 2]
    return bool(shapes) and 2 * rank * sum(o + i for o, i in shapes) < sum(o * i for o, i in shapes)


def _tapped(loss: LossFn, at: LowRankParams, batch: Batch) -> Any:
    """(the parameters that aren't linear weights, what is added to each linear layer's output) ->
    (ℓ, the layers' inputs)."""

    def tapped(dense: Params, taps: Params) -> tuple[Tensor, Params]:
        point = LowRankParams(params={**at.params, **dense}, moves=at.moves)
        with _Linears(point, taps) as linears:
            return loss(point.params, batch), linears.inputs

    return tapped


@torch.no_grad()
def _linear_weights(loss: LossFn, params: Params, batch: Batch) -> Params:
    """The weights that meet a 2-d input in a linear layer, each with an output [B, O] of its layer,
    for its shape."""
    point = LowRankParams(params=P.detached(params), moves={})
    with _Linears(point) as linears:
        loss(point.params, batch)
    return linears.outputs


@dataclass
class _Linears(TorchFunctionMode):
    """Adds moves and taps to linear layers, which it tells by their weight tensor."""

    of: LowRankParams
    taps: Params = field(default_factory=dict)
    inputs: Params = field(default_factory=dict)
    outputs: Params = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()
        self._names = {id(leaf): name for name, leaf in self.of.params.items()}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if func is not functional.linear:
            return out
        x, weight = args[0], args[1]
        name = self._names.get(id(weight))
        if name is None or x.dim() != 2:
            return out
        if name in self.inputs:
            raise ValueError(
                f"{name} is used twice in one call: a low-rank adaptation takes it for one layer's"
            )
        self.inputs[name] = x
        for h, scaled_delta in self.of.moves.get(name, ()):
            out = out - (x @ h.mT) @ scaled_delta
        if name in self.taps:
            out = out + self.taps[name]
        self.outputs[name] = out
        return out
