"""An expert of Stable-Baselines3 meets new tasks: a copy for each task goes on learning by its own
algorithm."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from metarl.core import params as P
from metarl.nn.heads import Outputs
from metarl.noise import Noise
from metarl.rl.data.replay import Replay
from metarl.rl.sb3.expert import Draw, Expert
from metarl.rl.types import Act, RLAdapter, Trajectories
from metarl.struct import map_tensors, struct
from metarl.types import Params


@struct
class Experts:
    """Where the experts of N tasks stand."""

    numbers: Params  # [N, ...]
    seen: tuple[Trajectories, ...] = ()
    """What they have learned from, [N, E, T] each, where they learn from it again."""


class FineTuningAdapter(RLAdapter[Experts]):
    """Update k is the algorithm's learning from the k-th episodes, each task's expert from its own.

    Args:
      start: how many tasks -> the numbers [N, ...] that their experts begin with.
      replay: makes the memory of one task's expert, for so many steps; None where it keeps none.
      rounds_per_update: how many times as much data an update takes. The episodes that are shown
        are the first of them; each further round is played by what the one before has made of the
        expert. 0: the experts stay as they are.
    """

    def __init__(
        self,
        expert: Expert,
        start: Callable[[int], Params],
        *,
        replay: Callable[[int], Replay] | None,
        rounds_per_update: int,
    ) -> None:
        self._expert = expert
        self._start = start
        self._replay = replay
        self.rounds_per_update = rounds_per_update

    def begin(
        self, num_tasks: int, episodes_per_task: int = 1, noise: Noise | None = None
    ) -> Experts:
        return Experts(numbers=self._start(num_tasks))

    @torch.no_grad()
    def act(self, state: Experts, obs: Tensor, noise: Noise | None) -> Act:
        action, log_prob = self._expert.act(self._outputs(state, obs), noise)
        return Act(
            action=action.flatten(0, 1), log_prob=None if log_prob is None else log_prob.flatten()
        )

    def update(self, state: Experts, data: Trajectories, noise: Noise | None = None) -> Experts:
        if self.rounds_per_update == 0:
            return state
        seen = (*state.seen, data) if self._expert.keeps_data else ()
        learned = [
            self._learned(
                P.task(state.numbers, task),
                [one_task(part, task) for part in (*seen, data)],
                noise,
            )
            for task in range(P.num_tasks(state.numbers))
        ]
        return Experts(numbers=P.stack(learned), seen=seen)

    @torch.no_grad()
    def log_prob(self, state: Experts, obs: Tensor, action: Tensor) -> Tensor | None:
        rows = action.unflatten(0, (P.num_tasks(state.numbers), -1))
        found = self._expert.log_prob(self._outputs(state, obs), rows)
        return None if found is None else found.flatten()

    def as_module(self, state: Experts, obs: Tensor) -> nn.Module:
        return self._expert.greedy(P.task(state.numbers, 0))

    def _outputs(self, state: Experts, obs: Tensor) -> Outputs:
        rows = obs.unflatten(0, (P.num_tasks(state.numbers), -1))
        return self._expert.outputs(state.numbers, rows)

    def _learned(
        self, numbers: Params, episodes: Sequence[Trajectories], noise: Noise | None
    ) -> Params:
        """Args: episodes: those of one task that were kept, and last the new ones."""
        *kept, new = episodes
        draw = None if self._replay is None else drawn(self._replay, kept, noise)
        return self._expert.learn(numbers, new, draw, noise)[0]


def one_task(data: Trajectories, task: int) -> Trajectories:
    """[N, E, T] -> [1, E, T] of the task with this number, views."""
    return map_tensors(lambda leaf: leaf[task : task + 1], data)


def drawn(
    replay: Callable[[int], Replay], episodes: Sequence[Trajectories], noise: Noise | None
) -> Draw:
    """Draws from the steps of one task's episodes, each with the same chance."""
    memory = replay(max(1, sum(part.num_steps for part in episodes)))
    for part in episodes:
        memory.add(torch.zeros(1, dtype=torch.int64), part)
    return of_task(memory, 0, noise)


def of_task(replay: Replay, task: int, noise: Noise | None) -> Draw:
    """Draws from what a replay keeps of a task."""
    own, ids = noise or Noise(torch.Generator().manual_seed(0)), torch.tensor([task])
    return lambda num: replay.transitions(ids, num, own)
