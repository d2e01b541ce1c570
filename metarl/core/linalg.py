"""Linear algebra on parameters, by products with a matrix that is never formed."""

from collections.abc import Callable

import torch
from torch import Tensor

from metarl.core import params as P
from metarl.struct import struct
from metarl.types import Batch, LossFn, Params


@struct
class Solution:
    solution: Params
    residual: Tensor
    """‖b − A x‖ [] (or [N], for stacked systems) after the last iteration."""


def hvp(loss: LossFn, params: Params, batch: Batch, v: Params) -> Params:
    """∇²ℓ(params) v by double backward; differentiable, and composes with vmap."""
    gradient = torch.func.grad(loss)
    pullback = torch.func.vjp(lambda p: gradient(p, batch), params)[1]
    (product,) = pullback(v)  # The Hessian is symmetric: its transpose's product is its own.
    return product


def conjugate_gradient(
    matvec: Callable[[Params], Params],
    b: Params,
    *,
    num_iterations: int = 10,
    tolerance: float = 1e-10,
    num_batch_dims: int = 0,
) -> Solution:
    """Solves A x = b for symmetric positive definite A (Hestenes & Stiefel 1952; Nocedal & Wright
    2006, alg. 5.2).

    Starts at x = 0 and stops moving once ‖b − A x‖² ≤ tolerance. There are no branches on values,
    so it works under vmap; the loop itself ends early only where values can be read (never under
    vmap or torch.compile).

    Args:
      b: leaves [...]; with `num_batch_dims=1` leaves [N, ...], N independent systems solved side by
        side.
      tolerance: on the squared norm of the residual, 0 to do all iterations.
    """
    x, r = P.zeros_like(b), b
    p, rr = r, P.dots(r, r, num_batch_dims)
    for _ in range(num_iterations):
        if _is_readable(rr) and bool((rr <= tolerance).all()):
            break
        going = rr > tolerance
        a_p = matvec(p)
        alpha = _ratio(rr, P.dots(p, a_p, num_batch_dims), going)
        x = P.add_scaled(x, p, alpha)
        r = P.add_scaled(r, a_p, -alpha)
        rr_next = P.dots(r, r, num_batch_dims)
        p = P.add_scaled(r, p, _ratio(rr_next, rr, going))
        rr = rr_next
    return Solution(solution=x, residual=rr.sqrt())


def _ratio(numerator: Tensor, denominator: Tensor, going: Tensor) -> Tensor:
    # A system that is solved has 0 / 0 here: it must stand still, not turn into NaN.
    return torch.where(going, numerator / torch.where(going, denominator, 1.0), 0.0)


def _is_readable(x: Tensor) -> bool:
    """Tells whether a number can be read without a wait, as it can on a CPU. On a GPU the solving
    goes on: what is solved stands still."""
    return (
        x.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and not torch._C._functorch.is_functorch_wrapped_tensor(x)
    )
