"""From rewards to advantages for a meta-batch of 40 × 20 × 200 steps: ours, and the plain way, a loop over tasks and time."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from envs.process import tune_process
from metarl.rl.baselines import RIDGE
from metarl.rl.batches import policy_batch
from metarl.rl.types import Trajectories

NUM_TASKS, NUM_EPISODES, NUM_STEPS = 40, 20, 200
OBS_SIZE, ACTION_SIZE = 17, 6
DISCOUNT, GAE_LAMBDA = 0.99, 1.0


def ours() -> Callable[[], Any]:
    trajectories = _noise()
    return lambda: policy_batch(trajectories, discount=DISCOUNT, gae_lambda=GAE_LAMBDA)


def plain() -> Callable[[], Any]:
    """What one writes first: for every task, backwards over the steps of its episodes."""
    t = _noise()

    def step() -> list[Tensor]:
        return [_of_task(t.obs[i], t.reward[i]) for i in range(NUM_TASKS)]

    return step


def _of_task(obs: Tensor, reward: Tensor) -> Tensor:
    """Normalised advantages [E, T] for obs [E, T, O] and reward [E, T]."""
    returns = _discounted(reward, DISCOUNT)
    features = _features(obs.double())
    flat = features.flatten(0, 1)
    gram = flat.T @ flat + RIDGE * torch.eye(flat.shape[1], dtype=flat.dtype)
    weights = torch.linalg.solve(gram, flat.T @ returns.double().flatten())
    value = (features @ weights).float()
    next_value = torch.cat([value[:, 1:], torch.zeros(len(value), 1)], dim=1)
    advantage = _discounted(reward + DISCOUNT * next_value - value, DISCOUNT * GAE_LAMBDA)
    return (advantage - advantage.mean()) / (advantage.std() + 1e-8)


def _features(obs: Tensor) -> Tensor:
    """[..., T, O] -> [..., T, 2 O + 4], as one writes them down."""
    obs = obs.clamp(-10, 10)
    time = (torch.arange(obs.shape[-2], dtype=obs.dtype) / 100).expand(obs.shape[:-1])[..., None]
    return torch.cat([obs, obs**2, time, time**2, time**3, torch.ones_like(time)], dim=-1)


def _discounted(x: Tensor, factor: float) -> Tensor:
    """yₜ = xₜ + factor · yₜ₊₁ along the last dimension."""
    y, rows = torch.zeros(len(x)), []
    for column in reversed(x.unbind(1)):
        y = column + factor * y
        rows.append(y)
    return torch.stack(rows[::-1], dim=1)


def _noise() -> Trajectories:
    tune_process()
    generator = torch.Generator().manual_seed(0)
    shape = (NUM_TASKS, NUM_EPISODES, NUM_STEPS)
    obs = torch.randn(*shape, OBS_SIZE, generator=generator)
    no = torch.zeros(shape, dtype=torch.bool)
    truncated = no.clone()
    truncated[..., -1] = True
    return Trajectories(
        obs=obs,
        next_obs=obs,
        action=torch.randn(*shape, ACTION_SIZE, generator=generator),
        reward=torch.randn(*shape, generator=generator),
        log_prob=torch.zeros(shape),
        terminated=no,
        truncated=truncated,
        diverged=no,
        mask=~no,
    )
