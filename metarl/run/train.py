"""The one training loop: iterate, log, checkpoint, stop cleanly, go on bit for bit. It knows no
algorithm."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from metarl.run.distributed import check_alike
from metarl.run.held_out import HeldOut
from metarl.run.iteration import RunState
from metarl.run.lock import FolderLock
from metarl.run.loggers.logger import HELD_OUT
from metarl.run.loggers.opening import Tracking
from metarl.run.seeding import Generators
from metarl.run.shards import Shards
from metarl.run.shown import RETURNS, Shown
from metarl.run.stopping import stop_requests
from metarl.run.training import Outcome, Training, progress_of
from metarl.threads import one_thread
from metarl.types import ALONE, MetaLearner, Ranks

LOOK_EVERY = 50
"""Iterations after which processes look again whether they have the same parameters, from the first
one on."""

OnRow = Callable[[dict[str, Any]], object]
"""Is told a row of metrics; True: it is enough."""


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
    held_out: HeldOut | None = None,
    tracking: Tracking | None = None,
    resume_from: Mapping[str, Any] | None = None,
    lock: FolderLock | None = None,
    ranks: Ranks = ALONE,
    on_row: OnRow | None = None,
) -> Outcome:
    """Runs `learner.step()` up to iteration number `iterations`, with a checkpoint at the start,
    every so often and at the end.

    Args:
      run_folder: gets metrics.jsonl, what loggers write, and checkpoints/, in which
        checkpoints/experience/ has what the learner's experience holds.
      provenance: what a checkpoint must hold besides the learner to be used again (config, env
        spec, versions).
      log_every: iterations in a row of metrics, which holds their means. A divisor of
        checkpoint_every.
      shown: what the metrics count and what the console shows of them.
      held_out: evaluations on the way, as rows of evaluations.jsonl; checkpoints/best.pt is the
        state that they found best.
      tracking: which loggers get the numbers; None: TensorBoard.
      resume_from: the content of a checkpoint of this same learner; training goes on after its
        iteration, on the CPU with the same numbers, bit for bit, as if it had never stopped.
        Checkpoints and rows of metrics of later iterations are removed. If it has done `iterations`
        already, nothing is touched.
      lock: of the run folder; asked before each checkpoint whether it is still held.
      ranks: the processes that share the run's work, of which this is number 0; the others
        `follow`, iteration by iteration, so that log_every must be 1.
      on_row: is told each row of metrics, with the numbers of an evaluation on the way, if there
        was one, as `held_out/<name>`. If it returns True, the run ends as by Ctrl-C; if it raises,
        the present iteration is saved first.
    Returns: how far it came. Ctrl-C or SIGTERM ends after the present iteration with `interrupted`;
      a second one at once.
    Raises: Diverged if a metric or a parameter isn't finite; UserError if the learner's schedule is
      over before `iterations`, the memory for its experience isn't there, files of that are
      missing, or the folder can't be written to; ValueError if rows of metrics would straddle
      checkpoints, or hold several iterations of several processes.
    """
    if ranks.num > 1 and log_every > 1:
        raise ValueError(
            f"log_every {log_every}: expected 1, for {ranks.num} processes share a run"
        )
    training = Training(
        learner,
        generators,
        iterations=iterations,
        run_folder=run_folder,
        provenance=provenance,
        checkpoint_every=checkpoint_every,
        keep_checkpoints=keep_checkpoints,
        log_every=log_every,
        shown=shown,
        held_out=held_out,
        tracking=tracking,
        resume_from=resume_from,
        lock=lock,
    )
    if training.needs_nothing:
        return training.outcome()
    with training.opened() as notes, progress_of([training]) as progress:
        for note in notes:
            progress.say(note)
        at_once = ranks.num == 1
        with stop_requests(progress.say, at_once=at_once) as stop_requested, one_thread():
            is_enough = False
            is_asked = lambda: is_enough or stop_requested() or progress.is_unread
            training.evaluate_if_due(progress.say)  # A crash may have kept it from that.
            while not training.is_over and not ranks.largest(int(is_asked())):
                row, num_iterations = training.row(is_asked)
                if training.run.iteration % LOOK_EVERY == 1:
                    check_alike(learner, ranks)
                progress.update(row, row[f"{shown.count}_per_second"], iterations=num_iterations)
                evaluation = training.evaluate_if_due(progress.say)
                training.save_if_due()
                if on_row is not None:
                    found = {f"{HELD_OUT}{name}": x for name, x in (evaluation or {}).items()}
                    try:
                        is_enough = on_row({**row, **found}) is True
                    except BaseException:
                        training.write_checkpoint()
                        raise
            training.write_checkpoint()
    return training.outcome()


def follow(
    learner: MetaLearner,
    generators: Generators,
    ranks: Ranks,
    *,
    iterations: int,
    run_folder: Path,
    resume_from: Mapping[str, Any] | None = None,
) -> None:
    """Does its part of `train` in a process that writes nothing. Args: as those of `train` in
    process 0, with a learner and streams in the same state.

    Raises: FloatingPointError where process 0 raises Diverged.
    """
    run = RunState(learner, generators, RETURNS)
    if resume_from is not None:
        run.load(resume_from)
        if run.iteration >= iterations:
            return
        if learner.experience is not None:
            Shards(run_folder / "checkpoints").load(learner.experience, resume_from)
    silent = lambda _: None  # Process 0 says it.
    with stop_requests(silent, at_once=False) as stop_requested, one_thread():
        while run.iteration < iterations and not ranks.largest(int(stop_requested())):
            run.iterate()
            if run.iteration % LOOK_EVERY == 1:
                check_alike(learner, ranks)
