"""What a model-based learner has lived through: trials of several episodes on one task each, on tensors, oldest dropped first."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from metarl.core import saved
from metarl.nn.dynamics import Transitions
from metarl.rl.types import Trajectories
from metarl.struct import map_tensors


class TrialBuffer:
    """At most `capacity` trials of E episodes of T steps. Observations are kept once: [E, T + 1], the successor of a step is the next row.

    Grows with what it holds, and saves no more than that. A step that diverged isn't kept: nothing is to be learned from it.
    """

    def __init__(
        self, *, capacity: int, num_episodes: int, horizon: int, obs_size: int, action_size: int, device: torch.device
    ) -> None:
        """Raises: ValueError for a capacity below 1."""
        if capacity < 1:
            raise ValueError(f"buffer_trials {capacity}: expected 1 or more")
        self._capacity = capacity

        def empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(0, num_episodes, *shape, dtype=dtype, device=device)

        self._data = {
            "obs": empty(horizon + 1, obs_size),
            "action": empty(horizon, action_size),
            "reward": empty(horizon),
            "length": empty(dtype=torch.int32),
        }

    def __len__(self) -> int:
        return len(self._data["obs"])

    def add(self, episodes: Sequence[Trajectories]) -> None:
        """One trial for each world, from its episodes one after the other, [N, E, T] each: N * E trials."""
        joined = {
            "obs": torch.stack([t.obs for t in episodes], dim=2),
            "action": torch.stack([t.action for t in episodes], dim=2),
            "reward": torch.stack([t.reward for t in episodes], dim=2),
            "length": torch.stack([(t.mask & ~t.diverged).sum(-1, dtype=torch.int32) for t in episodes], dim=2),
        }
        for name, leaf in joined.items():
            rows = leaf.flatten(0, 1).to(self._data[name])
            if rows.shape[1:] != self._data[name].shape[1:]:
                raise ValueError(
                    f"{name} of a trial is {tuple(rows.shape[1:])}; expected {tuple(self._data[name].shape[1:])}"
                )
            self._data[name] = torch.cat([self._data[name], rows])[-self._capacity :]

    def transitions(self, trials: Tensor | None = None) -> Transitions:
        """Of all trials or of those with these numbers [B]; leaves [B, E * T, ...] in the order they happened."""
        data = self._data if trials is None else {name: leaf[trials] for name, leaf in self._data.items()}
        obs, length = data["obs"], data["length"]
        step = torch.arange(data["reward"].shape[-1], device=obs.device)
        separate = Transitions(
            obs=obs[:, :, :-1],
            action=data["action"],
            next_obs=obs[:, :, 1:],
            reward=data["reward"],
            mask=step < length.unsqueeze(-1),
        )
        return map_tensors(lambda leaf: leaf.flatten(1, 2), separate)

    def windows(self, num: int, length: int, generator: torch.Generator) -> Transitions:
        """Draws `num` stretches of `length` consecutive steps, each from a trial chosen at random; leaves [num, length, ...].

        A stretch may go across the boundary of two episodes of a trial: the task stays the same.
        """
        num_steps = self._data["reward"].shape[1] * self._data["reward"].shape[2]
        if length > num_steps:
            raise ValueError(f"a window of {length} steps doesn't fit into a trial of {num_steps}")
        obs, horizon = self._data["obs"], self._data["reward"].shape[-1]
        drawn = partial(torch.randint, size=(num, 1), generator=generator, device=generator.device)
        trial, first = drawn(len(self)).to(obs.device), drawn(num_steps - length + 1).to(obs.device)
        steps = first + torch.arange(length, device=obs.device)
        episode, step = steps // horizon, steps % horizon
        return Transitions(
            obs=obs[trial, episode, step],
            action=self._data["action"][trial, episode, step],
            next_obs=obs[trial, episode, step + 1],
            reward=self._data["reward"][trial, episode, step],
            mask=step < self._data["length"][trial, episode],
        )

    def state_dict(self) -> dict[str, Any]:
        return dict(self._data)

    def load_state_dict(self, state: Any, name: str = "trials") -> None:
        """Raises: ValueError if the trials are of another kind."""
        saved.check(state, dict.fromkeys(self._data), name)
        num_trials = len(state["obs"]) if isinstance(state["obs"], Tensor) and state["obs"].ndim else 0
        for key, mine in self._data.items():
            saved.check_tensor(state[key], (num_trials, *mine.shape[1:]), mine.dtype, f"{name}.{key}")
        self._data = {key: state[key].to(mine) for key, mine in self._data.items()}
