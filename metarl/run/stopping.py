"""Ctrl-C asks a training to stop after its present iteration, so that nothing is lost."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def stop_requests(say: Callable[[str], None], *, at_once: bool = True) -> Iterator[Any]:
    """While active, the first Ctrl-C or SIGTERM only asks to stop.

    Args: at_once: the second one raises KeyboardInterrupt; False for a process that gets both, one
      from the user and one from who started it.
    """
    requested = False

    def handle(number: int, frame: Any) -> None:
        nonlocal requested
        if requested and at_once:
            raise KeyboardInterrupt
        if not requested:
            again = " (again to stop at once)" if at_once else ""
            say(f"stopping after this iteration{again}")
        requested = True

    numbers = (signal.SIGINT, signal.SIGTERM)
    try:
        previous = [signal.signal(number, handle) for number in numbers]
    except ValueError:  # not in the main thread: whoever runs us there handles signals
        yield lambda: False
        return
    try:
        yield lambda: requested
    finally:
        for number, handler in zip(numbers, previous, strict=True):
            signal.signal(number, handler)
