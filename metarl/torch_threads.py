"""How many threads torch takes for an operation. Its own split every operation and wait, spinning, at the end of each: on cores
that a simulator's threads, other tasks or other processes need, that is worse than one thread."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside, torch takes one thread an operation."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


def on_one_thread(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, in which torch takes one thread an operation. Costs next to nothing where it does already."""

    @functools.wraps(function)
    def inner(*args: P.args, **kwargs: P.kwargs) -> R:
        if torch.get_num_threads() == 1:
            return function(*args, **kwargs)
        with one_thread():
            return function(*args, **kwargs)

    return inner
