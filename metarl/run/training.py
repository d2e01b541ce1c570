"""A run on its way: where it goes on, which rows, checkpoints and evaluations it writes into its
folder, and when. What drives it is a loop, of one run or of several (`train`, `together`)."""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from metarl.errors import SettingError, UserError
from metarl.run import checkpoint
from metarl.run.held_out import Best, HeldOut
from metarl.run.iteration import RunState
from metarl.run.lock import FolderLock
from metarl.run.log import EVALUATIONS, METRICS, RunLog
from metarl.run.loggers.opening import Tracking
from metarl.run.loggers.sent import take_another_name
from metarl.run.memory import check_fits
from metarl.run.progress import Progress
from metarl.run.rows import read_rows
from metarl.run.saver import Saver
from metarl.run.seeding import Generators
from metarl.run.shown import RETURNS, Shown
from metarl.struct import struct
from metarl.types import MetaLearner, Metrics


class Diverged(UserError):
    """Training met a number that isn't finite; the message names iteration, tensor and the
    checkpoint from before."""


@struct
class Outcome:
    iteration: int  # how many iterations are done
    count: int  # how many env steps (or tasks, see `Shown.count`) they took
    interrupted: bool


class Training:
    """A run on its way to iteration number `iterations`, with what it writes into its folder.

    Args: see `metarl.run.train.train`.
    """

    def __init__(
        self,
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
    ) -> None:
        self.run = RunState(learner, generators, shown)
        self.iterations = iterations
        self.folder = run_folder
        self._every = {"checkpoint_every": checkpoint_every, "log_every": log_every}
        self._eval_every = None if held_out is None else held_out.every
        self._held_out = held_out
        self.tracking = tracking
        self.config: Mapping[str, Any] = provenance.get("config", {})
        self._resume_from = resume_from
        self._saver = Saver(
            run_folder / "checkpoints", provenance=provenance, keep=keep_checkpoints, lock=lock
        )
        self._notes = [] if resume_from is None else self.run.load(resume_from)

    @property
    def is_over(self) -> bool:
        return self.run.iteration >= self.iterations

    @property
    def needs_nothing(self) -> bool:
        """Whether it was over before it went on, evaluations included; then its folder stays as it
        is. So does that of a run whose older state is looked at again."""
        if self._resume_from is None or not self.is_over:
            return False
        rows, done = read_rows(self.folder / METRICS), self.run.iteration
        if self._held_out is None or done == 0 or any(row["iteration"] >= done for row in rows):
            return True
        return any(row["iteration"] == done for row in read_rows(self.folder / EVALUATIONS))

    def outcome(self) -> Outcome:
        return Outcome(
            iteration=self.run.iteration, count=self.run.count, interrupted=not self.is_over
        )

    @contextmanager
    def opened(self) -> Iterator[list[str]]:
        """Inside, its folder is ready to be written to. Yields what there is to say of it.

        Raises: what `check` does; UserError if it can't be written to, or files are missing.
        """
        run, notes = self.run, list(self._notes)
        memory = check(
            run.learner,
            iterations=self.iterations,
            **self._every,
            eval_every=self._eval_every,
        )
        if memory is not None:
            notes.append(memory)
        if self._resume_from is not None:
            self._saver.load_experience(run, self._resume_from)
        # First the checkpoints: if the process is killed here, the newest one decides again which
        # rows stay.
        later = checkpoint.later_than(self._saver.folder, run.iteration)
        before = self._resume_from
        if before is not None and (
            before.get("config", {}) != self.config or not self._saver.has_present(run)
        ):
            # It goes on to another end, or from the best one or a copy: so it does if it is killed
            # at once.
            self._saver.write(run)
        if later:
            take_another_name(self.folder)
        checkpoint.remove_after(self._saver.folder, run.iteration)
        abandoned = [path.name for path in later]
        asked = self._held_out
        by, settings = ("score", "") if asked is None else (asked.compared_by, asked.settings)
        self._best = Best(self._saver.folder, run.iteration, by, settings)
        if asked is not None and self._best.is_outdated:
            how = "is measured anew"
            try:
                self._best.measure_anew(asked.measure)
            except FloatingPointError as error:
                how = f"has no score that way ({error}), so the next one takes its place"
            notes.append(f"eval_every: evaluates otherwise now; the best checkpoint {how}")
        if self._best.removed:
            abandoned.append(checkpoint.BEST)
        if abandoned:
            names = ", ".join(abandoned)
            notes.append(f"going on after iteration {run.iteration}: {names} removed")
        self._log = RunLog(
            self.folder,
            first_iteration=run.iteration,
            count=run.shown.count,
            tracking=self.tracking,
            config=self.config,
        )
        notes += self._log.notes
        try:
            if self._resume_from is None:
                # At once: a folder that can't be written to must not be found out after an hour.
                self._saver.write(run)
            yield notes
        finally:
            self._log.close()

    def row(self, stop_requested: Callable[[], bool]) -> tuple[Metrics, int]:
        """Does up to `log_every` iterations, which a request to stop ends early, and logs them.

        Returns: their metrics, with means and timing, and how many they were.
        Raises: Diverged, once what was before the iteration is saved.
        """
        run, start, window = self.run, self.run.stopwatch.seconds(), list[Metrics]()
        every = self._every["log_every"]
        # Up to the next multiple, also where Ctrl-C has ended a row early: checkpoints and
        # evaluations come after multiples.
        most = min(every - run.iteration % every, self.iterations - run.iteration)
        while len(window) < most and not (window and stop_requested()):
            try:
                window.append(run.iterate())
            except FloatingPointError as error:
                if window:  # What the state is saved after has its row.
                    self.log(window, start)
                raise self.diverged(error) from error
        return self.log(window, start), len(window)

    def log(self, window: Sequence[Metrics], start: float, seeds_together: int = 1) -> Metrics:
        """Writes the row of the iterations that were just done, which began `start` seconds after
        the run did, and returns it. Args: seeds_together: how many runs did one at once."""
        run = self.run
        counted = sum(metrics[run.shown.count] for metrics in window)
        timing = run.stopwatch.row(run.shown.count, counted, start)
        means = _mean(window)
        row = {"iteration": run.iteration - 1, **means, run.shown.count: run.count, **timing}
        if seeds_together > 1:
            row["seeds_together"] = seeds_together
        self._log.write(row)
        return row

    def diverged(self, error: FloatingPointError) -> Diverged:
        """What to raise when an iteration has failed, once what was before it is saved."""
        self._log.flush()
        return Diverged(
            f"training diverged in iteration {self.run.iteration}: {error}; the state before it is "
            f"saved in {self._saver.write(self.run)}"
        )

    def evaluate_if_due(self, say: Callable[[str], None]) -> Metrics | None:
        """Returns the row of an evaluation on held-out tasks, if it is time for one that isn't
        there yet.

        The state that it is made of is saved before: a run that is killed goes on from there, and
        finds the evaluation missing. The best checkpoint comes before the row that tells of it.
        """
        run, held_out = self.run, self._held_out
        if held_out is None or run.iteration == 0 or run.iteration in self._log.evaluated:
            return None
        if run.iteration % held_out.every and not self.is_over:
            return None
        self.write_checkpoint()
        try:
            found = held_out.measure(run.learner)
        except FloatingPointError as error:
            say(f"no evaluation after iteration {run.iteration}: {error}")
            return None
        row = {"iteration": run.iteration, run.shown.count: run.count, **found}
        is_best = self._best.keep_if_better(self._saver.content(run), row)
        self._log.write_evaluation(row)
        said = f"{row['score']:.{run.shown.digits}f}{', the best so far' if is_best else ''}"
        say(f"held-out tasks after iteration {run.iteration}: {said}")
        return row

    def save_if_due(self) -> None:
        if self.run.iteration % self._every["checkpoint_every"] == 0 or self.is_over:
            self.write_checkpoint()

    def write_checkpoint(self) -> None:
        """Makes sure that the present iteration is on the disk."""
        if self._saver.saved != self.run.iteration:
            self._log.flush()
            self._saver.write(self.run)


@contextmanager
def progress_of(trainings: Sequence[Training]) -> Iterator[Progress]:
    """The console line of trainings that go hand in hand, from where the last of them is."""
    progress = Progress(
        iterations=max(training.iterations for training in trainings),
        first_iteration=min(training.run.iteration for training in trainings),
        shown=trainings[0].run.shown,
    )
    try:
        yield progress
    finally:
        progress.close()


def check(
    learner: MetaLearner,
    *,
    iterations: int,
    checkpoint_every: int,
    log_every: int = 1,
    eval_every: int | None = None,
) -> str | None:
    """What a training finds wrong with its settings, for who wants to know before a run folder is
    made.

    Returns: what memory the learner's experience will take at once, in a line; None if it takes
    none.
    Raises: ValueError if rows of metrics would straddle checkpoints or evaluations, or the learner
      can't learn here; UserError if its rate would be 0 in some of so many iterations, or if there
      isn't memory enough for its experience.
    """
    if log_every < 1 or checkpoint_every % log_every != 0:
        raise SettingError(
            f"log_every={log_every}: expected a divisor of checkpoint_every={checkpoint_every}"
        )
    if eval_every is not None and eval_every % log_every != 0:
        raise SettingError(f"log_every={log_every}: expected a divisor of eval_every={eval_every}")
    learner.check_trainable()
    end = learner.schedule_end
    if end is not None and end < iterations:
        raise UserError(
            f"iterations={iterations}: the learner's schedule ends after {end}, and its rate is 0 "
            "from there on; "
            f"expected at most {end}, or a longer schedule"
        )
    return check_fits(learner.experience)


def _mean(rows: Sequence[Metrics]) -> Metrics:
    """Returns the mean of each number over the rows that have it; a single row stays what it is."""
    if len(rows) == 1:
        return rows[0]
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: statistics.fmean(row[name] for row in rows if name in row) for name in names}
