"""Work on N tasks, a few at a time: chunks bound the memory, threads keep the cores busy, and the
sums don't depend on either."""

from collections.abc import Callable, Sequence
from dataclasses import field
from typing import Any, TypeVar

import torch
from torch import Tensor

from metarl.core import params as P
from metarl.core.checks import check_counts
from metarl.struct import join_rows, map_tensors, struct
from metarl.threads import map_in_threads
from metarl.types import ALONE, Params, Ranks

T = TypeVar("T")


@struct
class ChunkSums:
    """What a function finds of the n tasks of a chunk."""

    gradient: Params = field(default_factory=dict)
    """Summed over the tasks."""
    numbers: dict[str, Tensor] = field(default_factory=dict)
    """[] or of a shape of their own, summed over the tasks."""
    each: Any = ()
    """A pytree with leaves [n, ...], each task's own."""


@struct
class TaskMeans:
    """What was found of all N tasks."""

    gradient: Params
    """The mean over the tasks."""
    numbers: dict[str, Tensor]
    """Means over the tasks, float64."""
    each: Any
    """A pytree with leaves [N, ...], each task's own."""


def over_chunks(
    function: Callable[[slice], T], num_tasks: int, size: int, device: torch.device | str = "cpu"
) -> list[T]:
    """[function(tasks) for chunks of at most `size` of N tasks], in that order; on a CPU in
    threads.

    Raises: ValueError for chunks of less than one task.
    """
    return map_in_threads(function, chunked(num_tasks, size), device)


def chunked(num_tasks: int, size: int) -> list[slice]:
    """Which of N tasks are in which chunk. Raises: ValueError for chunks of less than one task."""
    check_counts({"chunk": size})
    return [slice(start, min(start + size, num_tasks)) for start in range(0, num_tasks, size)]


def mean_over_chunks(
    function: Callable[[slice], ChunkSums],
    num_tasks: int,
    size: int,
    device: torch.device | str = "cpu",
    ranks: Ranks = ALONE,
) -> TaskMeans:
    """Calls `function` for chunks of at most `size` tasks and puts together what it finds: the
    means over all N tasks of what it has summed, and what belongs to each task one after the
    other.

    Args: ranks: with whom the means are taken, over the N tasks of each; what belongs to each task
      stays in its process.
    """
    return mean_of(over_chunks(function, num_tasks, size, device), num_tasks, ranks)


def mean_of(parts: Sequence[ChunkSums], num_tasks: int, ranks: Ranks = ALONE) -> TaskMeans:
    """Puts together what was found of all chunks of N tasks; see `mean_over_chunks`."""
    everywhere = num_tasks * ranks.num
    gradient = ranks.total(P.sum_all([part.gradient for part in parts]))
    numbers = {name: _total([part.numbers[name] for part in parts]) for name in parts[0].numbers}
    return TaskMeans(
        gradient=P.scaled(gradient, 1 / everywhere),
        numbers={name: x / everywhere for name, x in ranks.total(numbers).items()},
        each=join_rows([part.each for part in parts]),
    )


def take(batch: T, tasks: slice) -> T:
    """Returns some of the tasks of a batch, a pytree with leaves [N, ...]; views."""
    return map_tensors(lambda leaf: leaf[tasks], batch)


def _total(numbers: list[Tensor]) -> Tensor:
    """One after the other and in float64: many tasks' losses are added."""
    total = torch.zeros_like(numbers[0], dtype=torch.float64)
    for number in numbers:
        total = total + number
    return total
