"""Python threads over tasks, each with one torch thread: what keeps all cores busy where single operations are small.

Torch's own threads meet at the end of every operation (metarl/torch_threads.py); threads over chunks of tasks only at the end.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch

from metarl.core import params as P
from metarl.torch_threads import one_thread

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
