"""Gathers what one meta-update of a gradient learner consumes: K support batches, each by the
policy adapted so far, and a query."""

from collections.abc import Iterator
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from metarl.rl.adapters.own_adapter import ValueTrial, check_state
from metarl.rl.adapters.together import one_of
from metarl.rl.data.collect import Streams, collect
from metarl.rl.types import BatchedEnv, RLAdapter, Trajectories
from metarl.struct import struct

State = TypeVar("State")


@struct
class Round(Generic[State]):
    """One turn of an adaptation."""

    state: State
    """The adapter's before the episodes."""
    episodes: Trajectories
    steps: Tensor
    """[N] environment steps in each task since the round before, these episodes among them."""
    trace: Any = None
    """What the update before these episodes worked out, see `RLAdapter.traced_update`; None before
    the first."""

    @property
    def num_steps(self) -> int:
        return int(self.steps.sum())


@struct
class Rollouts:
    """What N tasks have gathered for one meta-update."""

    support: tuple[Trajectories, ...]  # K, the k-th by the policy after k updates
    query: Trajectories  # by the policy after K updates
    traces: tuple[Any, ...] = ()  # K, what update k worked out, see `RLAdapter.traced_update`
    oracle: Tensor | None = None
    """[N] the expected return of who knows the task, for trials of one episode; None where it isn't
    known."""
    steps: Tensor | None = None
    """[N] environment steps in each task, where an update takes more rounds than these show; None:
    as many as these episodes have."""

    @property
    def num_steps(self) -> int:
        if self.steps is not None:
            return int(self.steps.sum())
        return sum(t.num_steps for t in (*self.support, self.query))


def rounds(
    env: BatchedEnv,
    adapter: RLAdapter[State],
    tasks: Any,
    streams: Streams,
    *,
    num_tasks: int,
    num_updates: int,
    device: torch.device | str = "cpu",
    deterministic: bool = False,
) -> Iterator[Round[State]]:
    """Alternates collecting and updating: E episodes of each task before every one of the K updates
    and after the last. An adapter whose updates take more data collects and updates further times
    in between.

    Args:
      env: num_tasks * E worlds; tasks: leaves [num_tasks, ...].
      deterministic: see `collect`; what is held for an episode is then the most likely, too.
    Yields: K + 1 rounds.
    """
    episodes_per_task = env.num_worlds // num_tasks
    noise = None if deterministic else streams.policy
    state = adapter.begin(num_tasks, episodes_per_task, noise)
    steps: Tensor | int = 0
    trace: Any = None
    trial = ValueTrial(adapter, state, env, device, whose=one_of(adapter))
    each = max(1, adapter.rounds_per_update)
    for number in range(num_updates * each + 1):
        trajectories, after = collect(
            *(env, adapter, state, tasks, streams),
            episodes_per_task=episodes_per_task,
            device=device,
            deterministic=deterministic,
        )
        if number == 0:
            trial.check("after an episode")
        steps = steps + trajectories.mask.sum((1, 2))
        if number % each == 0:
            yield Round(state=state, episodes=trajectories, steps=steps, trace=trace)
            steps = 0
        if number < num_updates * each:
            state, trace = adapter.traced_update(after, trajectories, noise)
            check_state(adapter, "update", state, after)
            if number == 0:
                trial.check("after an update")


def gather(
    env: BatchedEnv,
    adapter: RLAdapter[Any],
    tasks: Any,
    streams: Streams,
    *,
    num_tasks: int,
    num_updates: int,
    device: torch.device | str,
) -> Rollouts:
    """The episodes of `rounds`, and the traces of its updates, as one meta-update takes them."""
    of = rounds(
        env, adapter, tasks, streams, num_tasks=num_tasks, num_updates=num_updates, device=device
    )
    played = tuple((one.episodes, one.trace, one.steps) for one in of)
    episodes, traces, steps = zip(*played, strict=True)
    all_steps = sum(steps) if adapter.rounds_per_update > 1 else None
    return Rollouts(support=episodes[:-1], query=episodes[-1], traces=traces[1:], steps=all_steps)
