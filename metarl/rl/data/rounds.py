"""Gathers what one meta-update of a gradient learner consumes: K support batches, each by the
policy adapted so far, and a query."""

from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor

from metarl.rl.data.collect import Streams, collect
from metarl.rl.types import BatchedEnv, RLAdapter, Trajectories
from metarl.struct import struct

State = TypeVar("State")


@struct
class Rollouts:
    support: tuple[Trajectories, ...]  # K, the k-th by the policy after k updates
    query: Trajectories  # by the policy after K updates
    oracle: Tensor | None = (
        # [N] the expected return of who knows the task, for trials of one episode, where it is
        # known
        None
    )

    @property
    def num_steps(self) -> int:
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
) -> Iterator[tuple[State, Trajectories]]:
    """Alternates collecting and updating: E episodes of each task before every one of the K updates
    and after the last.

    Args:
      env: num_tasks * E worlds; tasks: leaves [num_tasks, ...].
      deterministic: see `collect`; what is held for an episode is then the most likely, too.
    Yields: K + 1 times the adapter's state before the episodes, and the episodes.
    """
    episodes_per_task = env.num_worlds // num_tasks
    noise = None if deterministic else streams.policy
    state = adapter.begin(num_tasks, episodes_per_task, noise)
    for update in range(num_updates + 1):
        trajectories, after = collect(
            *(env, adapter, state, tasks, streams),
            episodes_per_task=episodes_per_task,
            device=device,
            deterministic=deterministic,
        )
        yield state, trajectories
        if update < num_updates:
            state = adapter.update(after, trajectories, noise)


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
    """The episodes of `rounds` as one meta-update takes them."""
    of = rounds(
        env, adapter, tasks, streams, num_tasks=num_tasks, num_updates=num_updates, device=device
    )
    *support, query = (trajectories for _, trajectories in of)
    return Rollouts(support=tuple(support), query=query)
