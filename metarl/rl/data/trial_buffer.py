"""What a model-based learner has lived through: trials of several episodes on one task each, on
tensors, oldest dropped first."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from metarl.core.checks import check_counts
from metarl.nn.dynamics import Transitions
from metarl.rl.data.rows import SHARD_BYTES, Rows
from metarl.rl.types import Trajectories
from metarl.struct import map_tensors
from metarl.types import Reserve, Shard


class TrialBuffer:
    """Meets metarl.types.Experience; an entry is a trial. At most `capacity` trials of E episodes
    of T steps are kept.

    Observations are kept once: [E, T + 1], the successor of a step is the next row. It grows with
    what it holds. A step that diverged isn't kept: nothing is to be learned from it.
    """

    def __init__(
        self,
        *,
        capacity: int,
        num_episodes: int,
        horizon: int,
        obs_size: int,
        action_size: int,
        device: torch.device,
    ) -> None:
        """Raises: ValueError for a capacity below 1."""
        check_counts({"buffer_trials": capacity})
        self._capacity = capacity
        self._num_episodes = num_episodes
        self._horizon = horizon

        def empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(0, num_episodes, *shape, dtype=dtype, device=device)

        self._rows = Rows(
            {
                "obs": empty(horizon + 1, obs_size),
                "action": empty(horizon, action_size),
                "reward": empty(horizon),
                "length": empty(dtype=torch.int32),
            }
        )
        self._first = 0
        self._next = 0
        """The numbers of the oldest trial and of the next one. Trial i lies in row i modulo the
        capacity."""
        self._marked = (0, 0)

    def __len__(self) -> int:
        return self._next - self._first

    def add(self, episodes: Sequence[Trajectories]) -> None:
        """One trial for each world, from its episodes one after the other, [N, E, T] each: N * E
        trials.

        Raises: FloatingPointError if they hold NaN or infinity.
        """
        joined = {
            "obs": torch.stack([t.obs for t in episodes], dim=2),
            "action": torch.stack([t.action for t in episodes], dim=2),
            "reward": torch.stack([t.reward for t in episodes], dim=2),
            "length": torch.stack(
                [(t.mask & ~t.diverged).sum(-1, dtype=torch.int32) for t in episodes], dim=2
            ),
        }
        self._append(
            {name: leaf.flatten(0, 1).to(self._rows[name]) for name, leaf in joined.items()}
        )

    def transitions(self, trials: Tensor | None = None) -> Transitions:
        """Returns the transitions of all trials, or of those with these numbers [B], 0 for the
        oldest; leaves [B, E * T, ...] in the order they happened."""
        data = self._all() if trials is None else self._rows.take(self._places(trials))
        obs, length = data["obs"], data["length"]
        step = torch.arange(self._horizon, device=obs.device)
        separate = Transitions(
            obs=obs[:, :, :-1],
            action=data["action"],
            next_obs=obs[:, :, 1:],
            reward=data["reward"],
            mask=step < length.unsqueeze(-1),
        )
        return map_tensors(lambda leaf: leaf.flatten(1, 2), separate)

    def windows(self, num: int, length: int, generator: torch.Generator) -> Transitions:
        """Draws `num` stretches of `length` consecutive steps, each from a trial chosen at random;
        leaves [num, length, ...].

        A stretch may go across the boundary of two episodes of a trial: the task stays the same.
        """
        num_steps = self._num_episodes * self._horizon
        if length > num_steps:
            raise ValueError(f"a window of {length} steps doesn't fit into a trial of {num_steps}")
        obs, device = self._rows["obs"], self._rows.device
        drawn = partial(torch.randint, size=(num, 1), generator=generator, device=generator.device)
        trial, first = self._places(drawn(len(self))), drawn(num_steps - length + 1).to(device)
        steps = first + torch.arange(length, device=device)
        episode, step = steps // self._horizon, steps % self._horizon
        return Transitions(
            obs=obs[trial, episode, step],
            action=self._rows["action"][trial, episode, step],
            next_obs=obs[trial, episode, step + 1],
            reward=self._rows["reward"][trial, episode, step],
            mask=step < self._rows["length"][trial, episode],
        )

    def reserve(self) -> Reserve | None:
        return None

    def mark(self) -> int:
        self._rows.mark()
        self._marked = (self._first, self._next)
        return self._next

    def forget_since(self, mark: int) -> None:
        if mark != self._marked[1]:
            raise ValueError(f"mark {mark}: expected that of the last mark(), {self._marked[1]}")
        self._rows.put_back()
        self._first, self._next = self._marked

    def held(self) -> range:
        return range(self._first, self._next)

    def shards(self, since: int) -> Iterator[Shard]:
        step = max(1, SHARD_BYTES // self._rows.row_bytes)
        for first in range(max(since, self._first), self._next, step):
            stop = min(first + step, self._next)
            numbers = torch.arange(first - self._first, stop - self._first)
            yield Shard(first=first, stop=stop, content=self._rows.take(self._places(numbers)))

    def load(self, shards: Iterable[Shard]) -> None:
        self._clear()
        for shard in shards:
            if len(self) == 0:
                self._first = self._next = shard.first
            if shard.first != self._next:
                raise ValueError(f"trials {self._next} to {shard.first} are missing")
            self._append_saved(shard.content, shard.stop - shard.first, "trials")

    def load_rows(self, rows: Any, name: str) -> None:
        """Takes the trials from a learner's state, in which checkpoints had them before they had
        files of their own.

        Raises: ValueError naming what doesn't fit.
        """
        found = rows.get("obs") if isinstance(rows, Mapping) else None
        self._clear()
        self._append_saved(
            rows, len(found) if isinstance(found, Tensor) and found.ndim else 0, name
        )

    def _clear(self) -> None:
        self._first = 0
        self._next = 0
        self._marked = (0, 0)
        self._rows.release()

    def _append_saved(self, rows: Any, num: int, name: str) -> None:
        try:
            self._rows.check(rows, num, name)
        except FloatingPointError as error:
            raise ValueError(str(error)) from error
        self._append(rows, name)

    def _append(self, rows: Mapping[str, Tensor], name: str = "experience.trials") -> None:
        num = len(rows["obs"])
        self._rows.check(rows, num, name)
        first = max(self._first, self._next + num - self._capacity)
        kept = min(num, self._capacity)
        needed = min(self._capacity, self._next + num)
        if needed > len(self._rows):
            self._rows.grow(min(self._capacity, max(needed, 2 * len(self._rows))))
        numbers = torch.arange(self._next + num - kept, self._next + num)
        gone = torch.arange(self._first, min(first, self._next))[-self._capacity :]
        self._rows.write(
            numbers % self._capacity,
            {key: leaf[num - kept :] for key, leaf in rows.items()},
            overwritten=gone % self._capacity,
        )
        self._first = first
        self._next = self._next + num

    def _all(self) -> dict[str, Tensor]:
        if self._first == 0:  # Nothing to copy: they lie as they came.
            return {name: self._rows[name][: self._next] for name in self._rows.names}
        return self._rows.take(self._places(torch.arange(len(self))))

    def _places(self, trials: Tensor) -> Tensor:
        """The rows of the trials with these numbers, 0 for the oldest."""
        return (self._first + trials.to(self._rows.device)) % self._capacity
