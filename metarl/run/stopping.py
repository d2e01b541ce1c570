"""Ctrl-C asks a training to stop after its present iteration, so that nothing is lost; so do the
signals of a cluster that a job's time is over, and of a terminal that it is gone."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

_ASKING = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGXCPU")
    if hasattr(signal, name)
]


@contextmanager
def as_interrupts() -> Iterator[None]:
    """Inside, the other signals that ask a process to stop do what Ctrl-C does: nothing that says
    how to go on is left out. Those that someone handles, or ignores as `nohup` does, stay."""

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    previous = dict[int, Any]()
    try:
        for number in _ASKING:
            if signal.getsignal(number) == signal.SIG_DFL:
                previous[number] = signal.signal(number, interrupt)
    except ValueError:  # not in the main thread
        pass
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def stop_requests(say: Callable[[str], None], *, at_once: bool = True) -> Iterator[Any]:
    """While active, the first Ctrl-C, SIGTERM, SIGHUP or SIGXCPU only asks to stop.

    In a job of submitit so does the signal that Slurm sends some time before the job's time is over
    or another job takes its place. In the end submitit gets it, which has the job started again, or
    raises its error, and doesn't return.

    A program's own handlers are told of all but Ctrl-C, too.

    Args: at_once: the second one raises KeyboardInterrupt; False for a process that gets both, one
      from the user and one from who started it.
    """
    requested = False
    kept = set[int]()

    def handle(number: int, frame: Any) -> None:
        nonlocal requested
        if number in submitits:
            kept.add(number)
        elif requested and at_once:
            raise KeyboardInterrupt
        if not requested:
            requested = True
            again = " (again to stop at once)" if at_once and number not in submitits else ""
            with suppress(OSError):  # Ctrl-C ends who reads a pipe (`| tee log`), too.
                say(f"stopping after this iteration{again}")
        theirs = before[number]
        if number not in (signal.SIGINT, *submitits) and callable(theirs) and _is_theirs(theirs):
            theirs(number, frame)

    submitits = _submitits_signals()
    # A script's shell ignores Ctrl-C for what it starts in the background; who asks such a run by
    # its number means it.
    always = (signal.SIGINT, signal.SIGTERM)
    asking = [n for n in _ASKING if n in always or signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.getsignal(number) for number in (*asking, *submitits)}
    # A program that has Python in it may handle some itself, and couldn't be given them back.
    before = {number: handler for number, handler in before.items() if handler is not None}
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False  # Whoever runs us there handles signals.
        return
    for number in before:
        signal.signal(number, handle)
    stopped = True
    try:
        yield lambda: requested
    except Exception:
        stopped = False  # A job that failed isn't started again.
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if stopped:
            for number in kept:
                signal.raise_signal(number)


def _is_theirs(handler: Callable[..., Any]) -> bool:
    return getattr(handler, "__module__", "") != __name__


def _submitits_signals() -> list[int]:
    """The signals that submitit handles by having its job started again; a user may choose which."""
    return [
        number
        for number in (signal.SIGUSR1, signal.SIGUSR2)
        if type(getattr(signal.getsignal(number), "__self__", None)).__module__.startswith(
            "submitit"
        )
    ]
