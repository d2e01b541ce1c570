"""A GRU over a whole sequence on a CPU, its derivatives written out.

With h₀ the initial state, σ the logistic function and, as torch.nn.GRU has them (Cho et al. 2014,
arXiv:1406.1078), the gates

    r = σ(W_r x + b_r + U_r h + c_r)    z = σ(W_z x + b_z + U_z h + c_z)    a = U_n h + c_n
    n = tanh(W_n x + b_n + r a)         h' = (1 − z) n + z h

the gradient d of a loss in h' goes on to h as z d + Uᵀ(δ_r, δ_z, δ_a), with

    δ_n = (1 − z)(1 − n²) d     δ_a = r δ_n     δ_r = a r (1 − r) δ_n     δ_z = (h − n) z (1 − z) d

All that stands before d here is known beforehand, for all steps at once; so are the weights'
gradients afterwards. What is left for a Python loop are three operations a step, in place of the
thirty of autograd's, which cost more than their sums where rows are few.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def gru_sequence(x: Tensor, initial: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Inputs x [T, B, I], T ≥ 1, and the initial state [B, H] -> the T states after them [T, B, H].

    Gradients can be had once: derivatives of these are refused.

    Args: weights: W [3 H, I], U [3 H, H], b [3 H], c [3 H], the rows those of r, z, n.
    """
    return cast(Tensor, _Sequence.apply(x, initial, *weights))


class _Sequence(torch.autograd.Function):
    """A row of `gates` [T, B, 4 H] holds n, r, z, a: what x adds to are its first three, what h
    adds to its last three, so that each is a single product."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, initial: Tensor, *weights: Tensor) -> Tensor:
        of_x, of_h, bias_x, bias_h = weights
        size = initial.shape[-1]
        gates = x.new_empty(*x.shape[:2], 4 * size)
        bias = bias_x + torch.cat([bias_h[: 2 * size], bias_h.new_zeros(size)])
        entered = gates.flatten(0, 1)[:, : 3 * size]
        torch.addmm(bias.roll(size), x.flatten(0, 1), of_x.roll(size, 0).t(), out=entered)
        gates[..., 3 * size :] = bias_h[2 * size :]
        states = x.new_empty(len(x) + 1, *initial.shape)
        states[0] = initial
        new, reset, update, recalled = (gate.unbind(0) for gate in gates.split(size, -1))
        of_state, opened = gates[..., size:].unbind(0), gates[..., size : 3 * size].unbind(0)
        state, of_h = states.unbind(0), of_h.t()
        for t in range(len(x)):
            of_state[t].addmm_(state[t], of_h)
            opened[t].sigmoid_()
            new[t].addcmul_(reset[t], recalled[t]).tanh_()
            torch.lerp(new[t], state[t], update[t], out=state[t + 1])
        ctx.save_for_backward(x, gates, states, *weights[:2])
        return states[1:]

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grads: Tensor) -> tuple[Tensor | None, ...]:
        x, gates, states, of_x, of_h = ctx.saved_tensors
        size = states.shape[-1]
        grad, deltas = _back(gates, states, of_h, grads)
        rows = deltas.flatten(0, 1)
        of_new_reset_update, of_reset_update_recalled = rows[:, : 3 * size], rows[:, size:]
        summed = rows.sum(0)
        return (
            (deltas[..., : 3 * size] @ of_x.roll(size, 0)) if ctx.needs_input_grad[0] else None,
            grad,
            (of_new_reset_update.t() @ x.flatten(0, 1)).roll(-size, 0),
            of_reset_update_recalled.t() @ states[:-1].flatten(0, 1),
            summed[: 3 * size].roll(-size),
            summed[size:],
        )


def _back(gates: Tensor, states: Tensor, of_h: Tensor, grads: Tensor) -> tuple[Tensor, Tensor]:
    """Goes from the gradients in the states [T, B, H] back to that in the initial state [B, H] and
    what goes into the gates, δ_n, δ_r, δ_z, δ_a [T, B, 4 H]."""
    num_steps, _, size = grads.shape
    new, reset, update, recalled = gates.split(size, -1)
    deltas = torch.empty_like(gates)
    of_new, of_reset, of_update, of_recalled = deltas.split(size, -1)
    torch.mul(1 - update, 1 - new * new, out=of_new)
    torch.mul(of_new, reset, out=of_recalled)
    torch.mul(of_recalled, recalled * (1 - reset), out=of_reset)
    torch.mul(states[:-1] - new, update * (1 - update), out=of_update)

    delta = deltas.unflatten(-1, (4, size)).unbind(0)
    to_state, kept, given = deltas[..., size:].unbind(0), update.unbind(0), grads.unbind(0)
    grad = torch.zeros_like(states[0])
    for t in reversed(range(num_steps)):
        grad = grad + given[t]
        delta[t].mul_(grad.unsqueeze(1))
        grad = torch.addmm(grad * kept[t], to_state[t], of_h)
    return grad, deltas
