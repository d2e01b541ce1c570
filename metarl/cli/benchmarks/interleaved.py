"""Fair timing on a noisy machine: every variant in a process of its own, rounds taken in turn,
ratios within a round."""

import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch

Factory = Callable[..., Callable[[], Any]]
"""Makes the data and returns the step to time. Must be importable by name: each runs in a fresh
process."""


@dataclass(frozen=True)
class Measurement:
    seconds: list[float]
    """One number a round."""
    peak_mib: float
    """Memory that the steps added to what the process held before the first one, at its peak."""

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def measure(
    variants: Mapping[str, tuple[Factory, Sequence[Any]]],
    *,
    num_rounds: int,
    num_threads: int,
    num_warmups: int = 1,
) -> dict[str, Measurement]:
    """Times `factory(*args)()` of every variant, one after the other in each round."""
    context = multiprocessing.get_context("spawn")
    workers = {}
    for name, (factory, args) in variants.items():
        ours, theirs = context.Pipe()
        process = context.Process(
            target=_work, args=(theirs, factory, args, num_threads, num_warmups), daemon=True
        )
        process.start()
        theirs.close()
        workers[name] = (process, ours)
        _receive(name, ours)  # Set up one after the other, too.
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(num_rounds):
        for name, (_, pipe) in workers.items():
            pipe.send("go")
            seconds[name].append(_receive(name, pipe))
    peaks = {}
    for name, (process, pipe) in workers.items():
        pipe.send("end")
        peaks[name] = _receive(name, pipe)
        process.join()
    return {name: Measurement(seconds[name], peaks[name]) for name in variants}


def speedup(of: Measurement, over: Measurement) -> float:
    """Returns how many times faster `of` is than `over`: the median over rounds of the ratio within
    a round."""
    return statistics.median(
        slow / fast for slow, fast in zip(over.seconds, of.seconds, strict=True)
    )


def _work(
    pipe: Connection, factory: Factory, args: Sequence[Any], num_threads: int, num_warmups: int
) -> None:
    try:
        torch.set_num_threads(num_threads)
        step = factory(*args)
        before = _peak_mib()
        for _ in range(num_warmups):
            step()
        pipe.send(0.0)
        while pipe.recv() == "go":
            start = time.perf_counter()
            step()
            pipe.send(time.perf_counter() - start)
        pipe.send(_peak_mib() - before)
    except Exception as error:
        pipe.send(error)
        raise


def _receive(name: str, pipe: Connection) -> float:
    try:
        answer = pipe.recv()
    except EOFError:
        answer = RuntimeError("its process ended without a word")
    if isinstance(answer, Exception):
        raise RuntimeError(f"the benchmark's variant {name!r} failed: {answer}") from answer
    return answer


def _peak_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # bytes there, KiB elsewhere
