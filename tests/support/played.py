"""Episodes as a collection makes them, from random numbers: for tests of what keeps them."""

from collections.abc import Sequence

import torch

from metarl.rl.types import Trajectories


def trajectories(
    generator: torch.Generator,
    num_tasks: int,
    episodes: int,
    horizon: int,
    *,
    lengths: Sequence[Sequence[int]] | None = None,
    obs_size: int = 2,
    action_size: int = 2,
) -> Trajectories:
    """[N, E, T]; each number is another one. Args: lengths: [N, E] steps of each episode, after
    which all is zero; None: all T."""
    shape = (num_tasks, episodes, horizon)
    until = torch.full(shape[:2], horizon) if lengths is None else torch.tensor(lengths)
    mask = torch.arange(horizon) < until.unsqueeze(-1)
    rows = torch.arange(horizon + 1) <= until.unsqueeze(-1)
    is_last = torch.arange(horizon) == until.unsqueeze(-1) - 1
    return Trajectories(
        obs=torch.randn(*rows.shape, obs_size, generator=generator) * rows.unsqueeze(-1),
        action=torch.randn(*shape, action_size, generator=generator) * mask.unsqueeze(-1),
        reward=torch.randn(shape, generator=generator) * mask,
        log_prob=torch.zeros(shape),
        terminated=is_last & (until < horizon).unsqueeze(-1),
        truncated=is_last & (until == horizon).unsqueeze(-1),
        diverged=torch.zeros(shape, dtype=torch.bool),
        mask=mask,
    )
