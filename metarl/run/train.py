"""The one training loop: iterate, log, checkpoint, stop cleanly, go on bit for bit. It knows no algorithm."""

import math
import signal
import statistics
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from metarl.errors import UserError
from metarl.run import checkpoint
from metarl.run.lock import FolderLock
from metarl.run.logging import RETURNS, MetricsLog, Progress, Shown
from metarl.run.seeding import Generators
from metarl.run.timing import Stopwatch
from metarl.struct import map_tensors, struct
from metarl.torch_threads import one_thread
from metarl.types import MetaLearner, Metrics


class Diverged(UserError):
    """Training met a number that isn't finite; the message names iteration, tensor and the checkpoint from before."""


@struct
class Outcome:
    iteration: int  # how many iterations are done
    count: int  # how many env steps (or tasks, see `Shown.count`) they took
    interrupted: bool


def train(
    learner: MetaLearner,
    generators: Generators,
    *,
    iterations: int,
    run_folder: Path,
    provenance: Mapping[str, Any],
    checkpoint_every: int,
    keep_checkpoints: int = 3,
    log_every: int = 1,
    shown: Shown = RETURNS,
    resume_from: Mapping[str, Any] | None = None,
    lock: FolderLock | None = None,
) -> Outcome:
    """Runs `learner.step()` up to iteration number `iterations`, with a checkpoint at the start, every so often and at the end.

    Args:
      run_folder: gets metrics.jsonl, TensorBoard events and checkpoints/.
      provenance: what a checkpoint must hold besides the learner to be used again (config, env spec, versions).
      log_every: iterations in a row of metrics, which holds their means. A divisor of checkpoint_every.
      shown: what the metrics count and what the console shows of them.
      resume_from: the content of a checkpoint of this same learner; training goes on after its iteration, on the CPU
        with the same numbers, bit for bit, as if it had never stopped.
        Checkpoints and rows of metrics of later iterations are removed. If it has done `iterations` already, nothing is touched.
      lock: of the run folder; asked before each checkpoint whether it is still held.
    Returns: how far it came. Ctrl-C or SIGTERM ends after the present iteration with `interrupted`; a second one at once.
    Raises: Diverged if a metric or a parameter isn't finite; UserError if the learner's schedule is over before `iterations`,
      or the folder can't be written to; ValueError if rows of metrics would straddle checkpoints.
    """
    iteration, count, stopwatch = 0, 0, Stopwatch()
    if resume_from is not None:
        learner.load_state_dict(resume_from["learner"])
        generators.load_state_dict(resume_from["generators"])
        iteration, count = resume_from["iteration"], resume_from[shown.count]
        stopwatch = Stopwatch(resume_from.get("seconds", 0.0))
        if iteration >= iterations:
            return Outcome(iteration=iteration, count=count, interrupted=False)
    check(learner, iterations=iterations, checkpoint_every=checkpoint_every, log_every=log_every)
    folder = run_folder / "checkpoints"

    def save() -> Path:
        if lock is not None:
            lock.check()
        content = {
            **provenance,
            "iteration": iteration,
            shown.count: count,
            "seconds": stopwatch.seconds(),
            "learner": learner.state_dict(),
            "generators": generators.state_dict(),
        }
        return checkpoint.save(folder, content, keep=keep_checkpoints)

    # First the checkpoints: if the process is killed here, the newest one decides again which rows stay.
    abandoned = checkpoint.remove_after(folder, iteration)
    log = MetricsLog(run_folder, first_iteration=iteration)
    progress = Progress(iterations=iterations, first_iteration=iteration, shown=shown)
    if abandoned:
        progress.say(f"going on after iteration {iteration}: {', '.join(path.name for path in abandoned)} removed")
    if log.num_damaged:
        progress.say(f"{log.path}: {log.num_damaged} damaged lines left out")
    saved_iteration = iteration
    try:
        if resume_from is None:
            save()  # at once: a folder that can't be written to must not be found out after an hour
        with _stop_requests(progress) as stop_requested, one_thread():
            while iteration < iterations and not stop_requested():
                start = stopwatch.seconds()
                window: list[Metrics] = []
                # A row's iterations; a request to stop ends it early.
                while len(window) < log_every and iteration < iterations and not (window and stop_requested()):
                    before = _Before(learner, generators)
                    try:
                        window.append(learner.step())
                        _check_finite(window[-1], learner.state_dict())
                    except FloatingPointError as error:
                        before.restore()
                        raise Diverged(
                            f"training diverged in iteration {iteration}: {error}; the state before it is saved in {save()}"
                        ) from error
                    count += int(window[-1][shown.count])
                    iteration += 1
                counted = sum(metrics[shown.count] for metrics in window)
                timing = stopwatch.row(shown.count, counted, start)
                row = {"iteration": iteration - 1, **_mean(window), shown.count: count, **timing}
                log.write(row)
                progress.update(row, timing[f"{shown.count}_per_second"], iterations=len(window))
                if iteration % checkpoint_every == 0 or iteration == iterations:
                    save()
                    saved_iteration = iteration
            if saved_iteration != iteration:
                save()
    finally:
        log.close()
        progress.close()
    return Outcome(iteration=iteration, count=count, interrupted=iteration < iterations)


def check(learner: MetaLearner, *, iterations: int, checkpoint_every: int, log_every: int = 1) -> None:
    """What `train` finds wrong with its settings, for who wants to know before a run folder is made.

    Raises: ValueError if rows of metrics would straddle checkpoints; UserError if the learner's rate would be 0 in some of so
      many iterations: one with a schedule says in `schedule_end` after how many.
    """
    if log_every < 1 or checkpoint_every % log_every != 0:
        raise ValueError(f"log_every={log_every}: expected a divisor of checkpoint_every={checkpoint_every}")
    end = getattr(learner, "schedule_end", None)
    if end is not None and end < iterations:
        raise UserError(
            f"iterations={iterations}: the learner's schedule ends after {end}, and its rate is 0 from there on; "
            f"expected at most {end}, or a longer schedule"
        )


def _mean(rows: list[Metrics]) -> Metrics:
    """Of each number over the rows that have it; a single row stays what it is."""
    if len(rows) == 1:
        return rows[0]
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: statistics.fmean(row[name] for row in rows if name in row) for name in names}


class _Before:
    """The learner and the random streams as they were, to go back to if an iteration goes wrong."""

    def __init__(self, learner: MetaLearner, generators: Generators) -> None:
        self._learner, self._generators = learner, generators
        self._state, self._streams = (
            map_tensors(lambda leaf: leaf.detach().clone(), learner.state_dict()),
            generators.state_dict(),
        )

    def restore(self) -> None:
        self._learner.load_state_dict(self._state)
        self._generators.load_state_dict(self._streams)


def _check_finite(metrics: Metrics, state: Mapping[str, Any]) -> None:
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise FloatingPointError(f"metric {name} is {value}")
    for name, tensor in _tensors(state):
        if not tensor.isfinite().all():
            raise FloatingPointError(f"tensor {name} holds NaN or infinity")


def _tensors(tree: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    if isinstance(tree, Tensor):
        yield prefix, tree
    elif isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from _tensors(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(tree, list | tuple):
        for index, value in enumerate(tree):
            yield from _tensors(value, f"{prefix}[{index}]")


@contextmanager
def _stop_requests(progress: Progress) -> Iterator[Any]:
    """While active, the first Ctrl-C or SIGTERM only asks to stop; the second one raises KeyboardInterrupt."""
    requested = False

    def handle(number: int, frame: Any) -> None:
        nonlocal requested
        if requested:
            raise KeyboardInterrupt
        requested = True
        progress.say("stopping after this iteration (again to stop at once)")

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
