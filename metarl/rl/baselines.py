"""The linear feature baseline: a value function in closed form, fitted anew to every task's batch.

Source: Duan et al. 2016 (arXiv:1604.06778, rllab), as used by MAML (Finn et al. 2017) and ProMP
(Rothfuss et al. 2019).
"""

import torch
from torch import Tensor

from metarl.threads import WORKERS, map_in_threads

RIDGE = 1e-5
_MAX_TRIES = 5
_NOT_FINITE = "returns: not finite, the linear feature baseline can't be fitted"
_UNSOLVED = "baseline: ΦᵀΦ of tasks {} isn't positive definite"


def linear_features(obs: Tensor) -> Tensor:
    """The baseline's features [clip(o, ±10), clip(o, ±10)², τ, τ², τ³, 1] with τ = t / 100.

    Args: obs [..., T, O]; t counts from 0 along T.
    Returns: [..., T, 2 O + 4] in float64, since the normal equations square the condition number;
      the steps of a feature lie side by side in memory, as the products of the fit read them.
    """
    return _write_obs(_features_of_time(obs), obs).movedim(0, -1)


def linear_feature_baseline(obs: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
    """Fits V(s, t) = w · features to each task's returns by ridge regression, and evaluates it on
    the same steps.

        w = (ΦᵀΦ + ρ I)⁻¹ Φᵀ R,     ρ = 1e-5

    For tasks whose system isn't positive definite ρ is taken times 10, at most 4 times.
    It estimates the return up to the time limit, so its value beyond the limit is 0 by definition.

    Args:
      obs: [N, E, T, O]; returns: [N, E, T] discounted; mask: [N, E, T] bool, False for padding,
        which is left out.
    Returns: [N, E, T] values in the dtype of `returns`, 0 on padding.
    Raises: FloatingPointError if the returns aren't finite or no ridge makes a task's system
    solvable.
    """
    if obs.device.type != "cpu":
        return _all_at_once(obs, returns, mask)
    # One sum takes a twentieth of the time, and what isn't finite makes it so.
    if not torch.isfinite(returns.sum()) and not torch.isfinite(returns).all():
        raise FloatingPointError(_NOT_FINITE)
    share = -(-len(obs) // WORKERS)
    shares = list(zip(obs.split(share), returns.split(share), mask.split(share), strict=True))
    fitted = [value for values in map_in_threads(_fitted, shares, obs.device) for value in values]
    unsolved = [i for i, value in enumerate(fitted) if value is None]
    if unsolved:
        raise FloatingPointError(_UNSOLVED.format(unsolved))
    return torch.stack([value for value in fitted if value is not None]).to(returns.dtype)


def _fitted(tasks: tuple[Tensor, Tensor, Tensor]) -> list[Tensor | None]:
    """Values [E, T] of each of n tasks (obs [n, E, T, O], returns and mask [n, E, T]), None where
    no ridge helps.

    One by one in the same memory: a task's features fit into the cache, those of forty don't.
    """
    features, values = _features_of_time(tasks[0][0]), []
    for obs, returns, mask in zip(*tasks, strict=True):
        phi = _write_obs(features, obs).flatten(1)  # [F, E T]
        value = _ridge_regression(
            phi if mask.all() else phi * mask.flatten(), returns.double().flatten()
        )
        values.append(None if value is None else value.reshape(returns.shape))
    return values


def _ridge_regression(features: Tensor, target: Tensor) -> Tensor | None:
    """The fit [n] to target [n] by features [F, n]; None if no ridge makes the system solvable."""
    gram, moment = features @ features.T, features @ target
    for tries in range(_MAX_TRIES):
        system = gram.clone()
        system.diagonal().add_(RIDGE * 10**tries)
        factor, failed = torch.linalg.cholesky_ex(system)
        if not failed:
            return torch.cholesky_solve(moment[:, None], factor)[:, 0] @ features
    return None


def _all_at_once(obs: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
    """`linear_feature_baseline` of all N tasks in the same few operations, as a GPU wants it. It
    waits once, to know whether all went well: every ridge is tried, and the first one that helps a
    task is taken.
    """
    num_tasks, target = len(obs), returns.double().flatten(1)[:, None]  # [N, 1, E T]
    phi = _write_obs(_features_of_time(obs), obs).movedim(1, 0).flatten(2)  # [N, F, E T]
    phi = phi * mask.flatten(1)[:, None]
    gram, moment = phi @ phi.mT, phi @ target.mT
    identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    weights, solved = torch.zeros_like(moment), torch.zeros_like(mask[:, 0, 0])
    for tries in range(_MAX_TRIES):
        factor, failed = torch.linalg.cholesky_ex(gram + RIDGE * 10**tries * identity)
        found = torch.cholesky_solve(moment, factor)
        helps = (failed == 0) & ~solved
        weights = torch.where(helps[:, None, None], found, weights)
        solved = solved | helps
    finite, *each = torch.cat([torch.isfinite(returns).all()[None], solved]).tolist()
    if not finite:
        raise FloatingPointError(_NOT_FINITE)
    if not all(each):
        raise FloatingPointError(_UNSOLVED.format([i for i in range(num_tasks) if not each[i]]))
    return (weights.mT @ phi)[:, 0].reshape(returns.shape).to(returns.dtype)


def _features_of_time(obs: Tensor) -> Tensor:
    """Memory [2 O + 4, ..., T] for the features of observations [..., T, O], with those of time,
    which all tasks share."""
    *leading, num_steps, size = obs.shape
    features = obs.new_empty(2 * size + 4, *leading, num_steps, dtype=torch.float64)
    time = torch.arange(num_steps, dtype=torch.float64, device=obs.device) / 100
    for power, row in zip((1, 2, 3, 0), features[2 * size :], strict=True):
        row.copy_(time**power)
    return features


def _write_obs(features: Tensor, obs: Tensor) -> Tensor:
    """The features of obs [..., T, O], written into `features` [2 O + 4, ..., T]."""
    size = obs.shape[-1]
    features[:size].copy_(obs.movedim(-1, 0)).clamp_(-10, 10)
    torch.square(features[:size], out=features[size : 2 * size])
    return features
