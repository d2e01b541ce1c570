"""Python threads over tasks, each with one torch thread: what keeps all cores busy where single operations are small.

Torch's own threads split every operation and wait, spinning, at the end of each; on a machine with other work that wait is
worse than no parallelism. Threads over chunks of tasks meet only at the end.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

from metarl.core import params as P

T = TypeVar("T")

WORKERS = torch.get_num_threads()
"""How many threads torch may use, as it was found: OMP_NUM_THREADS if set, else one per core."""


def map_in_threads(
    function: Callable[[Any], T],
    items: Sequence[Any],
    device: torch.device | str = "cpu",
    workers: int | None = None,
) -> list[T]:
    """[function(item) for item in items], in that order, hence with the same numbers, on `workers` threads.

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
    """The results of `map_in_threads` one by one, as soon as each is there: what one adds up needn't wait for the last.
    Results that wait lie scattered between the large blocks of work that goes on, and keep malloc from joining these.

    The caller, too, has one torch thread until the last result: a second one would spin beside the workers."""
    workers = min(workers or WORKERS, len(items)) if torch.device(device).type == "cpu" else 1
    if workers <= 1:
        yield from map(function, items)
        return
    grad_enabled = torch.is_grad_enabled()

    def run(item: Any) -> T:
        with torch.set_grad_enabled(grad_enabled):  # grad mode is each thread's own
            return function(item)

    with one_thread(), ThreadPoolExecutor(workers, initializer=_start_worker) as pool:
        yield from pool.map(run, items)


def _start_worker() -> None:
    torch.set_num_threads(1)
    P.use_replicas()


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside, torch takes one thread an operation: where tasks are shared out by `map_in_threads`, or where many small
    operations run beside another thread pool, such as a simulator's."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)
