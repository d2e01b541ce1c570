"""Shares work out among cores: Python threads over tasks, and one torch thread for an operation.

Torch's own threads meet at the end of every operation and spin while they wait. They steal cores
that a simulator's threads, other tasks or other processes need. Threads over chunks of tasks meet
at the end only.
"""

import functools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import torch

T = TypeVar("T")


def num_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


Args = ParamSpec("Args")

WORKERS = torch.get_num_threads()
"""How many threads torch may use, as it was found: OMP_NUM_THREADS if set, else one per core."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside, torch takes one thread an operation."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


def on_one_thread(function: Callable[Args, T]) -> Callable[Args, T]:
    """`function`, in which torch takes one thread an operation. Costs next to nothing where it does
    already."""

    @functools.wraps(function)
    def inner(*args: Args.args, **kwargs: Args.kwargs) -> T:
        if torch.get_num_threads() == 1:
            return function(*args, **kwargs)
        with one_thread():
            return function(*args, **kwargs)

    return inner


def map_in_threads(
    function: Callable[[Any], T],
    items: Sequence[Any],
    device: torch.device | str = "cpu",
    workers: int | None = None,
) -> list[T]:
    """[function(item) for item in items], in that order, hence with the same numbers, on `workers`
    threads.

    Args:
      device: where the work is done. On a GPU one thread keeps the queue full.
      workers: `WORKERS` if None.
    """
    return list(each_in_threads(function, items, device, workers))


def each_in_threads(
    function: Callable[[Any], T],
    items: Sequence[Any],
    device: torch.device | str = "cpu",
    workers: int | None = None,
) -> Iterator[T]:
    """The results of `map_in_threads` one by one, as soon as each is there: what one adds up
    needn't wait for the last. Results that wait lie scattered between the large blocks of work that
    goes on, and keep malloc from joining these.

    The caller, too, has one torch thread until the last result: a second one would spin beside the
    workers. Among workers there are no further ones: the cores are busy."""
    workers = min(workers or WORKERS, len(items)) if torch.device(device).type == "cpu" else 1
    if workers <= 1 or is_worker():
        yield from map(function, items)
        return
    grad_enabled = torch.is_grad_enabled()

    def run(item: Any) -> T:
        with torch.set_grad_enabled(grad_enabled):  # grad mode is each thread's own
            return function(item)

    with one_thread(), ThreadPoolExecutor(workers, initializer=_start_worker) as pool:
        yield from pool.map(run, items)


def is_worker() -> bool:
    """Tells whether this thread is one of `map_in_threads`, so that others use the same objects at
    the same time."""
    return getattr(_thread, "is_worker", False)


_thread = threading.local()


def _start_worker() -> None:
    torch.set_num_threads(1)
    _thread.is_worker = True
