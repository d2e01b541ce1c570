"""Where the steps of a rollout are written down, row by row, until they are `Trajectories`."""

import torch
from torch import Tensor

from metarl.rl.types import Act, Step, Trajectories


class Record:
    """Buffers [T, W, ...]. obs has T + 1 rows: within an episode the successor of a step is the next
    row. What the first step decides (the type of actions, whether there is success) is allocated
    then.

    Args: horizon: T; obs: the first observations [W, O].
    """

    def __init__(self, horizon: int, obs: Tensor) -> None:
        self.obs = obs.new_zeros(horizon + 1, *obs.shape)
        self.obs[0] = obs
        flags = torch.zeros(horizon, len(obs), dtype=torch.bool, device=obs.device)
        self.terminated, self.truncated, self.diverged, self.mask = (
            flags.clone() for _ in range(4)
        )
        self.success: Tensor | None = None
        self.reward = obs.new_zeros(horizon, len(obs))
        self.log_prob = obs.new_zeros(horizon, len(obs))
        self.action: Tensor | None = None
        self.measured: dict[str, Tensor] = {}

    def add(
        self, t: int | Tensor, act: Act, step: Step, running: Tensor, measured: dict[str, Tensor]
    ) -> None:
        """Writes step t. Args: t: a number, or [1] int64 that nobody need wait for to know it."""
        if self.action is None:
            self.action = act.action.new_zeros(len(self.reward), *act.action.shape)
        _write(self.obs, t + 1, step.next_obs)
        _write(self.reward, t, step.reward)
        _write(self.action, t, act.action)
        if act.log_prob is not None:
            _write(self.log_prob, t, act.log_prob)
        _write(self.terminated, t, step.terminated)
        _write(self.truncated, t, step.truncated)
        _write(self.diverged, t, step.diverged)
        _write(self.mask, t, running)
        if "success" in step.terms:
            self.success = torch.zeros_like(self.mask) if self.success is None else self.success
            _write(self.success, t, step.terms["success"] > 0)
        for name, values in measured.items():
            if name not in self.measured:
                self.measured[name] = torch.zeros_like(self.reward)
            _write(self.measured[name], t, values)

    def trajectories(self, num_tasks: int, episodes_per_task: int) -> Trajectories:
        """What was written, in memory of its own: the buffers may be written anew."""
        assert self.action is not None

        def arrange(
            x: Tensor,
        ) -> Tensor:  # [T, W, ...] -> [N, E, T, ...], zero where the episode had ended
            x = _by_world(x, num_tasks, episodes_per_task)
            if some_ended:
                # Of observations the first row precedes all steps.
                x[:, :, x.shape[2] - ended.shape[2] :].masked_fill_(
                    ended.reshape(*ended.shape, *[1] * (x.ndim - 3)), 0
                )
            return x

        mask = _by_world(self.mask, num_tasks, episodes_per_task)
        ended = ~mask
        some_ended = bool(ended.any())
        return Trajectories(
            obs=arrange(self.obs),
            action=arrange(self.action),
            reward=arrange(self.reward),
            log_prob=arrange(self.log_prob),
            terminated=arrange(self.terminated),
            truncated=arrange(self.truncated),
            diverged=arrange(self.diverged),
            mask=mask,
            terms={} if self.success is None else {"success": arrange(self.success)},
            measured={name: arrange(values) for name, values in self.measured.items()},
        )


def _write(rows: Tensor, t: int | Tensor, value: Tensor) -> None:
    if isinstance(t, int):
        rows[t] = value
    else:
        rows.index_copy_(0, t, value[None].to(rows.dtype))


def _by_world(x: Tensor, num_tasks: int, episodes_per_task: int) -> Tensor:
    """[T, W, ...] -> [N, E, T, ...], a copy."""
    x = x.movedim(0, 1).unflatten(0, (num_tasks, episodes_per_task))
    return x.clone(memory_format=torch.contiguous_format)
