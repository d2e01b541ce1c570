"""What a model-based learner has lived through: trials of several episodes on one task each, on
tensors, oldest dropped first."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    what it holds. A step that diverged isn't kept, nor a trial without any other: nothing is to be
    learned from them.
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
                [t.learnable.sum(-1, dtype=torch.int32) for t in episodes], dim=2
            ),
        }
        rows = {name: leaf.flatten(0, 1) for name, leaf in joined.items()}
        kept = rows["length"].any(-1)
        self._append({name: leaf[kept].to(self._rows[name]) for name, leaf in rows.items()})

    def transitions(self) -> Transitions:
        """Returns the transitions of all B trials; leaves [B, E * T, ...] in the order they
        happened, where an episode that ended early leaves masked ones behind it."""
        data = self._all()
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

        A stretch may go across the boundary of two episodes of a trial: the task stays the same. A
        trial of fewer steps comes whole at the end of its stretch, behind masked ones.
        """
        num_steps = self._num_episodes * self._horizon
        if length > num_steps:
            raise ValueError(f"a window of {length} steps doesn't fit into a trial of {num_steps}")
        like: dict[str, Any] = {"generator": generator, "device": generator.device}
        trial = self._places(torch.randint(len(self), (num,), **like))
        share = torch.rand(num, dtype=torch.float64, **like).to(trial.device)
        spare = self._rows["length"].sum(-1)[trial] - length
        first = (share * (spare + 1).clamp(min=1)).long() + spare.clamp(max=0)
        return self._in_a_row(trial, first.unsqueeze(1) + torch.arange(length, device=first.device))

    def whole(self, trials: Tensor) -> Transitions:
        """Returns the transitions of the trials with these numbers [B], 0 for the oldest, each
        without gaps from its first step to its last; leaves [B, L, ...], L the steps of the longest
        one, masked behind the last step of the others."""
        places = self._places(trials)
        longest = int(self._rows["length"].sum(-1)[places].max())
        at = torch.arange(longest, device=places.device)
        return self._in_a_row(places, at.expand(len(places), -1))

    def _in_a_row(self, trial: Tensor, at: Tensor) -> Transitions:
        """The steps `at` [B, L] of the trials in these rows [B], counted from 0 over the steps that
        each has, through all of its episodes; masked where it has none."""
        length = self._rows["length"][trial]  # [B, E]
        ends = length.cumsum(-1)
        inside = (at >= 0) & (at < ends[:, -1:])
        at = torch.where(inside, at, 0)
        episode = torch.searchsorted(ends, at, right=True)
        step = at - (ends - length).gather(1, episode)
        place = (trial.unsqueeze(1), episode, step)
        return Transitions(
            obs=self._rows["obs"][place],
            action=self._rows["action"][place],
            next_obs=self._rows["obs"][*place[:2], step + 1],
            reward=self._rows["reward"][place],
            mask=inside,
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

    def kept(self) -> range:
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
