"""The linear feature baseline: a value function in closed form, fitted anew to every task's batch.

Source: Duan et al. 2016 (arXiv:1604.06778, rllab), as used by MAML (Finn et al. 2017) and ProMP
(Rothfuss et al. 2019).
"""

import torch
from torch import Tensor

from metarl.threads import WORKERS, map_in_threads

RIDGE = 1e-5
LEAST_STEPS = 2
"""Steps for each feature below which a task is fitted by time alone."""
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


def linear_feature_baseline(
    obs: Tensor, returns: Tensor, mask: Tensor, whole: Tensor | None = None
) -> Tensor:
    """Fits V(s, t) = w · features to each task's returns by ridge regression, and evaluates it on
    the same steps.

        w = (ΦᵀΦ + ρ I)⁻¹ Φᵀ R,     ρ = 1e-5

    For tasks whose system isn't positive definite ρ is taken times 10, at most 4 times.
    It estimates the return up to the time limit, so its value beyond the limit is 0 by definition.

    Returns of episodes that broke off say nothing of what would have come. A task that has such is
    fitted to its others, and its values are kept within what those had at the same time: the states
    before a break may be like no other.

    A task with fewer steps than `LEAST_STEPS` for each feature is fitted by the features of time
    alone: by all of them it would be fitted so closely that hardly anything of what its actions
    earned remained as advantage (humanoid: 518 features; of 200 steps' returns a millionth remains).

    Args:
      obs: [N, E, T, O]; returns: [N, E, T] discounted; mask: [N, E, T] bool, False for padding,
        which is left out.
      whole: [N, E] bool, False for episodes that broke off; None: none did. A task all of whose
        episodes did is fitted to them.
    Returns: [N, E, T] values in the dtype of `returns`, 0 on padding.
    Raises: FloatingPointError if the returns aren't finite or no ridge makes a task's system
    solvable.
    """
    if obs.device.type != "cpu":
        return _all_at_once(obs, returns, mask, whole)
    whole = _to_fit(mask, whole)
    # One sum takes a twentieth of the time, and what isn't finite makes it so.
    if not torch.isfinite(returns.sum()) and not torch.isfinite(returns).all():
        raise FloatingPointError(_NOT_FINITE)
    share = -(-len(obs) // WORKERS)
    shares = list(zip(*(leaf.split(share) for leaf in (obs, returns, mask, whole)), strict=True))
    fitted = [value for values in map_in_threads(_fitted, shares, obs.device) for value in values]
    unsolved = [i for i, value in enumerate(fitted) if value is None]
    if unsolved:
        raise FloatingPointError(_UNSOLVED.format(unsolved))
    return torch.stack([value for value in fitted if value is not None]).to(returns.dtype)


def _fitted(tasks: tuple[Tensor, Tensor, Tensor, Tensor]) -> list[Tensor | None]:
    """Values [E, T] of each of n tasks (obs [n, E, T, O], returns and mask [n, E, T], whole [n,
    E]), None where no ridge helps.

    One by one in the same memory: a task's features fit into the cache, those of forty don't.
    """
    features, values = _features_of_time(tasks[0][0]), list[Tensor | None]()
    for obs, returns, mask, whole in zip(*tasks, strict=True):
        phi = _write_obs(features, obs).flatten(1)  # [F, E T]
        phi = phi if mask.all() else phi * mask.flatten()
        counts = mask & whole[:, None]
        if _too_few(counts.sum(), len(phi)):
            phi = phi[2 * obs.shape[-1] :]
        target, all_whole = returns.double(), bool(whole.all())
        fitted_to = phi if all_whole else phi * counts.flatten()
        weights = _ridge_regression(fitted_to, target.flatten())
        if weights is None:
            values.append(None)
            continue
        value = (weights @ phi).reshape(returns.shape)
        values.append(value if all_whole else _as_others(value, target, mask, whole))
    return values


def _to_fit(mask: Tensor, whole: Tensor | None) -> Tensor:
    """[N, E] bool: the episodes that a task is fitted to."""
    if whole is None:
        return torch.ones_like(mask[..., 0])
    return whole | ~whole.any(-1, keepdim=True)


def _too_few(num_steps: Tensor, num_features: int) -> Tensor:
    return num_steps < LEAST_STEPS * num_features


def _as_others(value: Tensor, returns: Tensor, mask: Tensor, whole: Tensor) -> Tensor:
    """Values [..., E, T] within the returns that whole episodes have at the same time, or at any
    where none goes on as long; 0 on padding."""
    counts = mask & whole[..., None]
    least, most = returns.masked_fill(~counts, torch.inf), returns.masked_fill(~counts, -torch.inf)
    at_time, ever = (-2,), (-2, -1)
    is_known = counts.any(-2, keepdim=True)
    low = torch.where(is_known, least.amin(at_time, True), least.amin(ever, True))
    high = torch.where(is_known, most.amax(at_time, True), most.amax(ever, True))
    return value.clamp(low, high) * mask


def _ridge_regression(features: Tensor, target: Tensor) -> Tensor | None:
    """The weights [F] of the fit to target [n] by features [F, n]; None if no ridge makes the
    system solvable."""
    gram, moment = features @ features.T, features @ target
    for tries in range(_MAX_TRIES):
        system = gram.clone()
        system.diagonal().add_(RIDGE * 10**tries)
        factor, failed = torch.linalg.cholesky_ex(system)
        if not failed:
            return torch.cholesky_solve(moment[:, None], factor)[:, 0]
    return None


def _all_at_once(obs: Tensor, returns: Tensor, mask: Tensor, whole: Tensor | None = None) -> Tensor:
    """`linear_feature_baseline` of all N tasks in the same few operations, as a GPU wants it. It
    waits once, to know whether all went well: every ridge is tried, and the first one that helps a
    task is taken.
    """
    num_tasks, target = len(obs), returns.double().flatten(1)[:, None]  # [N, 1, E T]
    phi = _write_obs(_features_of_time(obs), obs).movedim(1, 0).flatten(2)  # [N, F, E T]
    phi = phi * mask.flatten(1)[:, None]
    whole = _to_fit(mask, whole)
    counts = mask & whole[..., None]
    by_time_alone = _too_few(counts.sum((1, 2)), phi.shape[1])
    phi[:, : 2 * obs.shape[-1]] *= ~by_time_alone[:, None, None]  # The ridge makes their weights 0.
    fitted_to = phi * counts.flatten(1)[:, None]
    gram, moment = fitted_to @ fitted_to.mT, fitted_to @ target.mT
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
    value = (weights.mT @ phi)[:, 0].reshape(returns.shape)
    limited = _as_others(value, returns.double(), mask, whole)
    return torch.where(whole.all(-1)[:, None, None], value, limited).to(returns.dtype)


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
