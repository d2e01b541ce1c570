"""The linear feature baseline: a value function in closed form, fitted anew to every task's batch.

Source: Duan et al. 2016 (arXiv:1604.06778, rllab), as used by MAML (Finn et al. 2017) and ProMP (Rothfuss et al. 2019).
"""

import torch
from torch import Tensor

from metarl.core.threads import map_in_threads

RIDGE = 1e-5
_MAX_TRIES = 5


def linear_features(obs: Tensor) -> Tensor:
    """The baseline's features [clip(o, ±10), clip(o, ±10)², τ, τ², τ³, 1] with τ = t / 100.

    Args: obs [..., T, O]; t counts from 0 along T.
    Returns: [..., T, 2 O + 4] in float64, since the normal equations square the condition number; the steps of a feature
      lie side by side in memory, as the products of the fit read them.
    """
    *leading, num_steps, size = obs.shape
    features = obs.new_empty(2 * size + 4, *leading, num_steps, dtype=torch.float64)
    torch.clamp(obs.movedim(-1, 0).double(), -10, 10, out=features[:size])
    torch.square(features[:size], out=features[size : 2 * size])
    time = torch.arange(num_steps, dtype=torch.float64, device=obs.device) / 100
    for power, row in zip((1, 2, 3, 0), features[2 * size :], strict=True):
        row.copy_(time**power)
    return features.movedim(0, -1)


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
    each = range(len(obs))
    fitted = map_in_threads(lambda i: _fitted(obs[i], returns[i].double(), mask[i]), each, obs.device)
    unsolved = [i for i, value in zip(each, fitted, strict=True) if value is None]
    if unsolved:
        raise FloatingPointError(f"baseline: ΦᵀΦ of tasks {unsolved} isn't positive definite")
    return torch.stack([value for value in fitted if value is not None]).to(returns.dtype)


def _fitted(obs: Tensor, returns: Tensor, mask: Tensor) -> Tensor | None:
    """One task's values [E, T] from obs [E, T, O]; None if no ridge makes its system solvable. A task's features fit into the
    cache, those of forty don't: hence one by one."""
    features = linear_features(obs).flatten(0, 1)  # [E T, F]
    if not mask.all():
        features = features * mask.flatten()[:, None]
    gram = features.T @ features
    moment = features.T @ returns.flatten()
    for tries in range(_MAX_TRIES):
        ridge = RIDGE * 10**tries * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        factor, failed = torch.linalg.cholesky_ex(gram + ridge)
        if not failed:
            return (features @ torch.cholesky_solve(moment[:, None], factor)).reshape(returns.shape)
    return None
