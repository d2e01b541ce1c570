"""Times the way from rewards to advantages for a meta-batch of 40 × 20 × 200 steps: ours, and a
plain loop over tasks and time."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from envs.sim.process import tune_process
from metarl.rl.baselines import RIDGE
from metarl.rl.data.batches import policy_batch
from metarl.rl.types import Trajectories

NUM_TASKS, NUM_EPISODES, NUM_STEPS = 40, 20, 200
OBS_SIZE, ACTION_SIZE = 17, 6
DISCOUNT, GAE_LAMBDA = 0.99, 1.0


def ours() -> Callable[[], Any]:
    trajectories = noise()
    return lambda: policy_batch(trajectories, discount=DISCOUNT, gae_lambda=GAE_LAMBDA)


def plain() -> Callable[[], Any]:
    """Computes advantages as pytorch-maml-rl (tristandeleu) does: task by task, backwards over the
    steps of its episodes, with the features made once for the fit and once for the values. It uses
    double precision where ours does."""
    t = noise()

    def step() -> list[Tensor]:
        return [plain_task(t.step_obs[i], t.reward[i], t.mask[i]) for i in range(NUM_TASKS)]

    return step


def plain_task(obs: Tensor, reward: Tensor, mask: Tensor) -> Tensor:
    """Normalised advantages [E, T] for obs [E, T, O], reward and mask [E, T]."""
    obs, reward, mask = (x.transpose(0, 1).contiguous() for x in (obs, reward, mask))  # time first
    returns = _discounted(reward * mask, DISCOUNT)
    value = (_features(obs, mask) @ _fitted(obs, returns, mask)).float() * mask
    next_value = torch.cat([value[1:], torch.zeros_like(value[:1])])
    advantage = _discounted((reward + DISCOUNT * next_value - value) * mask, DISCOUNT * GAE_LAMBDA)
    taken = advantage[mask]
    return ((advantage - taken.mean()) / (taken.std(correction=0) + 1e-8) * mask).T


def _fitted(obs: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
    """The baseline's weights [F]."""
    features = _features(obs, mask).flatten(0, 1)
    gram = features.T @ features + RIDGE * torch.eye(features.shape[1], dtype=features.dtype)
    return torch.linalg.solve(gram, features.T @ returns.double().flatten())


def _features(obs: Tensor, mask: Tensor) -> Tensor:
    """[T, E, O] -> [T, E, 2 O + 4], as one writes them down; 0 where no step was taken."""
    ones = mask.double()[..., None]
    obs = obs.double().clamp(-10, 10) * ones
    time = torch.arange(len(obs))[:, None, None] / 100 * ones
    return torch.cat([obs, obs**2, time, time**2, time**3, ones], dim=-1)


def _discounted(x: Tensor, factor: float) -> Tensor:
    """yₜ = xₜ + factor · yₜ₊₁ along the first dimension."""
    y, running = torch.zeros_like(x), torch.zeros_like(x[0])
    for step in reversed(range(len(x))):
        running = x[step] + factor * running
        y[step] = running
    return y


def noise(num_tasks: int = NUM_TASKS) -> Trajectories:
    tune_process()
    generator = torch.Generator().manual_seed(0)
    shape = (num_tasks, NUM_EPISODES, NUM_STEPS)
    no = torch.zeros(shape, dtype=torch.bool)
    truncated = no.clone()
    truncated[..., -1] = True
    return Trajectories(
        obs=torch.randn(num_tasks, NUM_EPISODES, NUM_STEPS + 1, OBS_SIZE, generator=generator),
        action=torch.randn(*shape, ACTION_SIZE, generator=generator),
        reward=torch.randn(*shape, generator=generator),
        log_prob=torch.zeros(shape),
        terminated=no,
        truncated=truncated,
        diverged=no,
        mask=~no,
    )
