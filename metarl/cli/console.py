"""What a console may be without harm: one that can't show every sign, and a pipe whose reader has
gone."""

import logging
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_STOPPED_BY_PIPE = 141  # As a shell tells of a program that SIGPIPE ended.


@contextmanager
def tolerant() -> Iterator[None]:
    """Inside, signs that stdout or stderr can't show become `?`. If nobody reads them any more (`|
    head`), the process ends without a word: Python's own message would come after the output that
    was wanted."""
    _replace_closed()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    logging.raiseExceptions = False  # A message that nobody can read is no reason to print another.
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError as error:
        if not is_closed_pipe(error):
            raise
        for stream in filter(_has_no_reader, (sys.stdout, sys.stderr)):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        raise SystemExit(_STOPPED_BY_PIPE) from None


class Notices(logging.StreamHandler[Any]):
    """Writes to what stderr is at the time; what listens to it comes and goes."""

    @property
    def stream(self) -> Any:
        return sys.stderr

    @stream.setter
    def stream(self, _: Any) -> None: ...


@contextmanager
def shown_after(results: str) -> Iterator[None]:
    """Prints the results when the block, which writes the same ones, is done or has failed: neither
    a disk that is full nor a console that is gone costs them."""
    try:
        yield
    finally:
        try:
            print(results, flush=True)
        except OSError as error:
            if error.filename is not None or is_closed_pipe(error):
                raise
            raise OSError(error.errno, error.strerror, "stdout") from error


def _replace_closed() -> None:
    """What is said to a console that was closed at the start (`>&-`) goes nowhere; no file that is
    opened later gets its number, and what is said."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is not None:
            continue
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.fstat(number)
        except OSError:  # nobody has it
            os.dup2(nowhere, number)
        setattr(sys, name, os.fdopen(nowhere, "w"))


def is_closed_pipe(error: Exception) -> bool:
    """Tells whether the error comes from a console that nobody reads, and not from another pipe, as
    that to a video encoder."""
    return isinstance(error, BrokenPipeError) and any(map(_has_no_reader, (sys.stdout, sys.stderr)))


def _has_no_reader(stream: Any) -> bool:
    try:
        poll = select.poll()
        poll.register(stream.fileno(), select.POLLOUT)
        return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))
    except (OSError, ValueError):  # No file behind it, or a closed one.
        return False
