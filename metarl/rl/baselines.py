"""The linear feature baseline: a value function in closed form, fitted anew to every task's batch.

Source: Duan et al. 2016 (arXiv:1604.06778, rllab), as used by MAML (Finn et al. 2017) and ProMP (Rothfuss et al. 2019).
"""

import torch
from torch import Tensor

RIDGE = 1e-5
_MAX_TRIES = 5


def linear_features(obs: Tensor) -> Tensor:
    """The baseline's features [clip(o, ±10), clip(o, ±10)², τ, τ², τ³, 1] with τ = t / 100.

    Args: obs [..., T, O]; t counts from 0 along T.
    Returns: [..., T, 2 O + 4] in float64: the normal equations square the condition number.
    """
    clipped = obs.double().clamp(-10, 10)
    time = torch.arange(obs.shape[-2], dtype=torch.float64, device=obs.device)[:, None] / 100
    polynomial = torch.cat([time, time**2, time**3, torch.ones_like(time)], dim=-1)
    return torch.cat([clipped, clipped**2, polynomial.expand(*obs.shape[:-2], -1, -1)], dim=-1)


def linear_feature_baseline(obs: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
    """Fits V(s, t) = w · features to each task's returns by ridge regression, and evaluates it on the same steps.

        w = (ΦᵀΦ + ρ I)⁻¹ Φᵀ R,     ρ = 1e-5, times 10 (at most 5 times) for tasks whose system isn't positive definite

    It estimates the return up to the time limit, so its value beyond the limit is 0 by definition.

    Args:
      obs: [N, E, T, O]; returns: [N, E, T] discounted; mask: [N, E, T] bool, False for padding, which is left out.
    Returns: [N, E, T] values in the dtype of `returns`, 0 on padding.
    Raises: FloatingPointError if the returns aren't finite or no ridge makes a task's system solvable.
    """
    if not torch.isfinite(returns).all():
        raise FloatingPointError("returns: not finite, the linear feature baseline can't be fitted")
    features = (linear_features(obs) * mask[..., None]).flatten(1, 2)  # [N, E T, F]
    target = (returns.double() * mask).flatten(1)[..., None]
    gram = features.mT @ features
    moment = features.mT @ target
    identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    ridge = torch.full((len(gram), 1, 1), RIDGE, dtype=gram.dtype, device=gram.device)
    for _ in range(_MAX_TRIES):
        factor, failed = torch.linalg.cholesky_ex(gram + ridge * identity)
        if not failed.any():
            break
        ridge = torch.where((failed > 0)[:, None, None], ridge * 10, ridge)
    else:
        raise FloatingPointError(
            f"baseline: ΦᵀΦ of tasks {failed.nonzero().flatten().tolist()} isn't positive definite"
        )
    weights = torch.cholesky_solve(moment, factor)
    return (features @ weights).reshape(returns.shape).to(returns.dtype)
