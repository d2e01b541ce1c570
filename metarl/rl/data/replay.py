"""Replay: what off-policy learners have lived through, a preallocated ring of transitions for each
task.

A drawn batch has B rows, each of one task; its random numbers come from `Noise`, so that several
seeds may share a replay.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

import gymnasium
import torch
from torch import Tensor

from metarl.core import saved
from metarl.core.checks import check_counts
from metarl.errors import NothingLearnable, SettingError
from metarl.noise import Noise
from metarl.rl.data.rows import SHARD_BYTES, Rows
from metarl.rl.data.stretches import Stretch, Stretches
from metarl.rl.types import Trajectories
from metarl.struct import map_tensors, struct
from metarl.types import Reserve, Shard

Use = Literal["begins", "grows", "stays"]
"""What added steps do to the context of their task: it begins anew with them, grows by them, or
stays what it was."""
_USES: tuple[Use, ...] = ("stays", "grows", "begins")


@struct
class Steps:
    """What a replay gives, [B, n, ...]."""

    obs: Tensor  # [B, n, O]
    action: Tensor  # [B, n, A] float32, or [B, n] int64 for discrete actions
    reward: Tensor  # [B, n]
    next_obs: Tensor  # [B, n, O] the true successor
    terminated: Tensor  # [B, n] bool: the value after it is 0; a time limit doesn't count
    first: Tensor  # [B, n] bool: the first step of an episode
    mask: Tensor  # [B, n] bool: False on padding, which only sequences have; there all else is 0
    cost: Tensor | None = None
    """[B, n] what was measured of each step under the name `cost`, where that is kept."""

    def until_the_longest(self) -> "Steps":
        """Returns the steps up to the end of the longest trial, as views."""
        longest = int(self.mask.sum(1).max())
        return map_tensors(lambda leaf: leaf[:, :longest], self)


def step_leaves(episodes: Sequence[Trajectories]) -> dict[str, list[Tensor]]:
    """Returns by name what `Steps` hold of each episode [N, E, T_k, ...], without mask and cost."""
    return {
        "obs": [t.step_obs for t in episodes],
        "action": [t.action for t in episodes],
        "reward": [t.reward for t in episodes],
        "next_obs": [t.next_obs for t in episodes],
        "terminated": [t.terminated for t in episodes],
        "first": [t.first for t in episodes],
    }


class _Trial(NamedTuple):
    """An entry of the replay: consecutive steps of one task."""

    number: int
    task: int
    start: int
    """The position of its first step; a task's steps have the positions 0, 1, 2, ... in the order
    they came."""
    stop: int
    use: int
    """An index of `_USES`."""
    kept_from: int
    """The first position that was still there when it was saved; `start` of one that wasn't loaded
    from a file."""


class Replay:
    """Meets metarl.types.Experience; an entry is a trial. Each task keeps its last `capacity`
    steps.

    Successors are kept beside observations, so that a transition is one row wherever it lies.
    Memory is taken at once, when the first steps come. Steps that diverged aren't kept: nothing is
    to be learned from them.

    Args:
      num_tasks: rings, for instance one for each training task; a learner without a fixed training
        set has one ring.
      capacity: steps in each ring.
      has_cost: whether the measurement `cost` of the steps is kept, too.
    Raises: ValueError, naming it, for a size below 1.
    """

    def __init__(
        self,
        *,
        num_tasks: int,
        capacity: int,
        obs_size: int,
        action_space: gymnasium.spaces.Box | gymnasium.spaces.Discrete,
        device: torch.device,
        has_cost: bool = False,
    ) -> None:
        check_counts({"num_tasks": num_tasks, "replay_capacity": capacity})
        self._num_tasks = num_tasks
        self._capacity = capacity
        self._has_cost = has_cost

        def empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(0, *shape, dtype=dtype, device=device)

        is_discrete = isinstance(action_space, gymnasium.spaces.Discrete)
        self._rows = Rows(
            {
                "obs": empty(obs_size),
                "action": empty(dtype=torch.int64) if is_discrete else empty(*action_space.shape),  # type: ignore[misc]
                "reward": empty(),
                "next_obs": empty(obs_size),
                "terminated": empty(dtype=torch.bool),
                "first": empty(dtype=torch.bool),
                **({"cost": empty()} if has_cost else {}),
            }
        )
        self._trials: list[list[_Trial]] = [[] for _ in range(num_tasks)]
        self._totals = [0] * num_tasks
        """How many steps of each task have come so far."""
        self._next = 0
        """The number of the next trial."""
        self._marked = (0, list(self._totals))
        self._tables: dict[str | int, Stretches] = {}

    def add(
        self, task_ids: Tensor, *episodes: Trajectories, context: Use | Sequence[Use] = "grows"
    ) -> set[int]:
        """Adds one trial for each world: the k-th of `episodes`, [N, E, T_k, ...], holds the k-th
        episode of all trials.

        Args:
          task_ids: [N] int64 which ring each task's steps go into; several may go into the same.
          context: what becomes of the context of these tasks, of all or of each. Of several trials
            of a task "begins" means the first one with a step.
        Returns: the tasks that got a step; the others diverged at their first one.
        Raises: ValueError if a task isn't known; SettingError if one gets more steps than it can
          keep; FloatingPointError if a number is NaN or infinite. Nothing is added then.
        """
        num_tasks, num_trials = episodes[0].mask.shape[:2]
        self._check_ids(task_ids, num_tasks)
        keeps = torch.cat([t.learnable for t in episodes], dim=2)
        leaves = step_leaves(episodes)
        if self._has_cost:
            leaves["cost"] = [t.measured["cost"] for t in episodes]
        rows = {
            name: torch.cat(parts, dim=2)[keeps].to(self._rows[name])
            for name, parts in leaves.items()
        }
        self._rows.check(rows, len(rows["reward"]), "experience.replay")
        tasks, lengths = (
            task_ids.repeat_interleave(num_trials).tolist(),
            keeps.sum(-1).flatten().tolist(),
        )
        self._check_room(tasks, lengths)
        uses = [context] * num_tasks if isinstance(context, str) else context
        asked = [use for use in uses for _ in range(num_trials)]
        begun, trials, totals = set[int](), list[_Trial](), list(self._totals)
        for task, length, wanted in zip(tasks, lengths, asked, strict=True):
            if length == 0:  # It diverged at its first step.
                continue
            use: Use = "grows" if wanted == "begins" and task in begun else wanted
            begun.add(task)
            start, number = totals[task], self._next + len(trials)
            trials.append(_Trial(number, task, start, start + length, _USES.index(use), start))
            totals[task] += length
        self._append(trials, rows)
        return begun

    def transitions(self, ids: Tensor, num: int, noise: Noise) -> Steps:
        """Draws `num` steps of each of these tasks, ids [B] on the CPU, uniformly from all that are
        kept; with replacement.

        Raises: ValueError naming a task that has none; so do `context` and `sequences`. SettingError
          if what there was had to make room.
        """
        return self._take(ids, self._draw("all", ids, num, noise, "steps")[0])

    def context(self, ids: Tensor, num: int, noise: Noise) -> Steps:
        """Draws `num` steps of the present context of each of these tasks, uniformly and with
        replacement."""
        return self._take(ids, self._draw("context", ids, num, noise, "context")[0])

    def sequences(self, ids: Tensor, length: int, noise: Noise) -> Steps:
        """Draws `length` consecutive steps of a trial of each of these tasks, [B, length], padded
        at its end if it is shorter.

        All stretches that lie in a trial as a whole have the same chance, and so has a shorter
        trial. Of a trial whose beginning had to make room nothing is drawn.
        """
        first, stop = self._draw(length, ids, 1, noise, "whole trial")
        positions = first + torch.arange(length, device=first.device)
        mask = positions < stop
        steps = self._take(ids, positions.minimum(stop - 1))
        padded = {
            name: leaf.masked_fill(~mask.reshape(*mask.shape, *[1] * (leaf.ndim - 2)), 0)
            for name, leaf in vars(steps).items()
            if leaf is not None
        }
        return Steps(**padded | {"mask": mask})

    def counts(self) -> Tensor:
        """[tasks] how many steps of each task are kept."""
        return torch.tensor(
            [self._totals[task] - self._oldest(task) for task in range(self._num_tasks)]
        )

    def reserve(self) -> Reserve | None:
        if len(self._rows):
            return None
        num_rows, size = self._num_tasks * self._capacity, self._rows.row_bytes
        what = f"replay_capacity {self._capacity}: {self._num_tasks} tasks × {self._capacity} transitions of {size} bytes"
        return Reserve(num_bytes=num_rows * size, device=self._rows.device, what=what)

    def mark(self) -> int:
        self._rows.mark()
        for task, trials in enumerate(self._trials):
            gone = next(
                (i for i, trial in enumerate(trials) if trial.stop > self._oldest(task)),
                len(trials),
            )
            del trials[:gone]
        self._marked = (self._next, list(self._totals))
        return self._next

    def forget_since(self, mark: int) -> None:
        if mark != self._marked[0]:
            raise ValueError(f"mark {mark}: expected that of the last mark(), {self._marked[0]}")
        self._rows.put_back()
        for trials in self._trials:
            while trials and trials[-1].number >= mark:
                trials.pop()
        self._next = mark
        self._totals = list(self._marked[1])
        self._tables.clear()

    def kept(self) -> list[int]:
        return [trial.number for trial in self._held(0)]

    def shards(self, since: int) -> Iterator[Shard]:
        most = max(1, SHARD_BYTES // self._rows.row_bytes)
        piece, size = list[_Trial](), 0
        for trial in self._held(since):
            piece.append(trial)
            size += trial.stop - trial.kept_from
            if size >= most:
                yield self._shard(piece)
                piece, size = [], 0
        if piece:
            yield self._shard(piece)

    def load(self, shards: Iterable[Shard]) -> None:
        self._clear()
        for shard in shards:
            saved.check_names(shard.content, {"trials": None, "rows": None}, "replay")
            trials = self._checked(shard)
            rows, num = shard.content["rows"], sum(trial.stop - trial.kept_from for trial in trials)
            saved.check(rows, dict.fromkeys(self._rows.names), "replay.rows")
            try:
                self._rows.check(rows, num, "replay.rows")
            except FloatingPointError as error:
                raise ValueError(str(error)) from error
            self._append(trials, rows)
            self._next = shard.stop

    def _clear(self) -> None:
        self._trials = [[] for _ in range(self._num_tasks)]
        self._totals = [0] * self._num_tasks
        self._next = 0
        self._marked = (0, list(self._totals))
        self._rows.release()
        self._tables.clear()

    def _oldest(self, task: int) -> int:
        """The position of a task's oldest step that is there."""
        trials = self._trials[task]
        return (
            max(trials[0].kept_from, self._totals[task] - self._capacity)
            if trials
            else self._totals[task]
        )

    def _append(self, trials: Sequence[_Trial], rows: dict[str, Tensor]) -> None:
        """Takes in trials that follow those that are there, with the rows of their steps one after
        the other."""
        if not len(self._rows):
            self._rows.grow(self._num_tasks * self._capacity)
        oldest = [self._oldest(task) for task in range(self._num_tasks)]
        places, overwritten = list[Tensor](), list[Tensor]()
        for trial in trials:
            positions = torch.arange(trial.kept_from, trial.stop)
            at = trial.task * self._capacity + positions % self._capacity
            places.append(at)
            overwritten.append(at[positions - self._capacity >= oldest[trial.task]])
        if places:
            self._rows.write(torch.cat(places), rows, overwritten=torch.cat(overwritten))
        for trial in trials:
            self._trials[trial.task].append(trial)
            self._totals[trial.task] = trial.stop
        self._next += len(trials)
        self._tables.clear()

    def _take(self, ids: Tensor, positions: Tensor) -> Steps:
        """The steps at positions [B, n] of the tasks ids [B]."""
        first = ids.to(positions.device, non_blocking=True).unsqueeze(1) * self._capacity
        taken = self._rows.take(first + positions % self._capacity)
        return Steps(**taken, mask=torch.ones_like(taken["first"]))

    def _draw(
        self, of: str | int, ids: Tensor, num: int, noise: Noise, lacking: str
    ) -> tuple[Tensor, Tensor]:
        """Draws positions [B, num], and where the stretch of each ends. Args: of: see
        `_stretches`."""
        self._check_ids(ids, len(ids))
        if of not in self._tables:
            stretches = [self._stretches(of, task) for task in range(self._num_tasks)]
            self._tables[of] = Stretches.of(stretches, self._rows.device)
        table = self._tables[of]
        empty = next((task for task in ids.tolist() if table.totals[task] == 0), None)
        if empty is not None and self._oldest(empty) > 0:
            raise SettingError(
                f"replay_capacity {self._capacity}: task {empty} has no {lacking}, because later "
                "steps took its room; expected a larger capacity"
            )
        if empty is not None:
            raise NothingLearnable(
                f"task {empty} has no {lacking}: its episodes diverged at their first step, or it has "
                "none yet"
            )
        return table.draw(ids, num, noise)

    def _stretches(self, of: str | int, task: int) -> list[Stretch]:
        """What may be drawn of a task. Args: of: `all` or `context`, or how long sequences are."""
        oldest, trials = self._oldest(task), self._trials[task]
        if of == "all":
            return [Stretch(oldest, self._totals[task] - oldest, self._totals[task])]
        if isinstance(of, int):
            whole = [trial for trial in trials if trial.start >= oldest]
            return [
                Stretch(trial.start, max(1, trial.stop - trial.start - of + 1), trial.stop)
                for trial in whole
            ]
        begun = max(
            (i for i, trial in enumerate(trials) if _USES[trial.use] == "begins"), default=0
        )
        used = [
            trial for trial in trials[begun:] if _USES[trial.use] != "stays" and trial.stop > oldest
        ]
        starts = [max(oldest, trial.start) for trial in used]
        return [
            Stretch(start, trial.stop - start, trial.stop)
            for start, trial in zip(starts, used, strict=True)
        ]

    def _held(self, since: int) -> list[_Trial]:
        """The trials from a number on of which steps are there, in the order of their numbers, each
        with what is there of it."""
        found = list[_Trial]()
        for task, trials in enumerate(self._trials):
            oldest = self._oldest(task)
            for trial in reversed(trials):
                if trial.number < since or trial.stop <= oldest:
                    break
                found.append(trial._replace(kept_from=max(oldest, trial.kept_from)))
        return sorted(found)

    def _shard(self, trials: Sequence[_Trial]) -> Shard:
        positions = [
            trial.task * self._capacity + torch.arange(trial.kept_from, trial.stop) % self._capacity
            for trial in trials
        ]
        rows = self._rows.take(torch.cat(positions).to(self._rows.device))
        content = {"trials": torch.tensor(trials), "rows": rows}
        return Shard(first=trials[0].number, stop=trials[-1].number + 1, content=content)

    def _checked(self, shard: Shard) -> list[_Trial]:
        """The trials of a shard. Raises: ValueError naming one that can't follow those before
        it."""
        found = shard.content["trials"]
        num = len(found) if isinstance(found, Tensor) and found.ndim else 0
        saved.check_tensor(found, (num, len(_Trial._fields)), torch.int64, "replay.trials")
        trials = [_Trial(*row) for row in found.tolist()]
        totals, number = dict[int, int](), shard.first - 1
        for trial in trials:
            known = 0 <= trial.task < self._num_tasks and 0 <= trial.use < len(_USES)
            fits = (
                0 <= trial.start <= trial.kept_from < trial.stop
                and trial.stop - trial.kept_from <= self._capacity
            )
            if not (known and fits and number < trial.number < shard.stop):
                raise ValueError(
                    f"{trial} can't be a trial of {self._num_tasks} tasks that keep "
                    f"{self._capacity} steps"
                )
            before = totals.get(trial.task, self._totals[trial.task])
            if trial.start < before:
                raise ValueError(f"steps {trial.start} to {before} of task {trial.task} come twice")
            totals[trial.task], number = trial.stop, trial.number
        return trials

    def _check_ids(self, ids: Tensor, num: int) -> None:
        if ids.shape != (num,) or ids.dtype != torch.int64:
            raise ValueError(
                f"task ids are {ids.dtype} {tuple(ids.shape)}; expected torch.int64 {(num,)}"
            )
        wrong = next((task for task in ids.tolist() if not 0 <= task < self._num_tasks), None)
        if wrong is not None:
            raise ValueError(f"task {wrong}: expected 0 to {self._num_tasks - 1}")

    def _check_room(self, tasks: Sequence[int], lengths: Sequence[int]) -> None:
        coming: dict[int, int] = {}
        for task, length in zip(tasks, lengths, strict=True):
            coming[task] = coming.get(task, 0) + length
        for task, num in coming.items():
            if num > self._capacity:
                raise SettingError(
                    f"replay_capacity {self._capacity}: task {task} gets {num} steps at once; "
                    "expected a capacity of as many or more"
                )
