"""How many threads torch takes for an operation. Its own split every operation and wait, spinning, at the end of each: on cores
that a simulator's threads, other tasks or other processes need, that is worse than one thread."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside, or in a function decorated with `@one_thread()`, torch takes one thread an operation."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)
