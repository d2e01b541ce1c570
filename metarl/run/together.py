"""Several runs of one process go on hand in hand, each in its own folder as if it were alone.

Their learners ask for data at the same time, so that it can be gathered for all of them at once.
What they have in common is written above their folders: means over the runs, with intervals.
"""

import statistics
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from metarl.run.iteration import RunState
from metarl.run.log import EVALUATIONS, METRICS, RunLog
from metarl.run.rows import read_rows
from metarl.run.shown import HIGH, LOW, Shown
from metarl.run.stopping import stop_requests
from metarl.run.timing import TIMING
from metarl.run.training import Diverged, Outcome, Training, progress_of
from metarl.threads import one_thread
from metarl.types import Metrics

Gather = Callable[[Mapping[int, Any]], Mapping[int, Any]]
"""What the runs with these numbers ask for -> what each gets, or the FloatingPointError that is
raised where it asked."""

Interval = Callable[[Sequence[float]], tuple[float, float]]
"""The values of two runs or more -> where the mean of all such runs lies."""

_SUMS = frozenset({"diverged_episodes", "env_steps_per_second", "tasks_per_second"})


def train_together(
    trainings: Sequence[Training], gather: Gather, *, folder: Path, interval: Interval
) -> list[Outcome | Diverged]:
    """Brings all runs to their last iteration. Those that are behind, as after a crash, catch up.

    Args: folder: gets metrics.jsonl, evaluations.jsonl and what loggers write, of all runs, while
      they go.
    Returns: of each run how far it came, or the error that ended it; the others go on without it.
      Ctrl-C or SIGTERM ends all after the present iteration; a second one at once.
    Raises: UserError as `metarl.run.train.train` does.
    """
    all_of_them = dict(enumerate(trainings))
    going = {n: training for n, training in all_of_them.items() if not training.needs_nothing}
    failed: dict[int, Diverged] = {}
    if going or _is_behind(folder, trainings):
        with ExitStack() as stack:
            opened = [stack.enter_context(training.opened()) for training in going.values()]
            summary = stack.enter_context(Summary(folder, trainings, interval))
            progress = stack.enter_context(progress_of(list((going or all_of_them).values())))
            for note in dict.fromkeys(note for notes in opened for note in notes):
                progress.say(note)
            stop_requested = stack.enter_context(stop_requests(progress.say))
            stack.enter_context(one_thread())
            summary.evaluate(going, progress.say)
            while (behind := _furthest_behind(going)) and not (
                stop_requested() or progress.is_unread
            ):
                rows, errors = _iterated(behind, gather)
                for number, error in errors.items():
                    failed[number] = going.pop(number).diverged(error)
                    progress.say(str(failed[number]))
                summary.add(rows, list(errors))
                if rows:
                    row = over_runs(list(rows.values()), summary.shown, interval)
                    progress.update(row, row[f"{summary.shown.count}_per_second"])
                summary.evaluate({number: going[number] for number in rows}, progress.say)
                for number in rows:
                    going[number].save_if_due()
            for training in going.values():
                training.write_checkpoint()
    return [failed.get(n) or training.outcome() for n, training in enumerate(trainings)]


def iterate_together(
    runs: Mapping[int, RunState], gather: Gather
) -> dict[int, Metrics | FloatingPointError]:
    """Does one iteration of each run, and gathers for all that ask for data at the same time.

    Returns: of each run its metrics, or why it failed; such a one is as before the iteration.
    """
    iterations = {number: run.asking() for number, run in runs.items()}
    found: dict[int, Metrics | FloatingPointError] = {}
    answers: Mapping[int, Any] = dict.fromkeys(iterations)
    while len(found) < len(runs):
        asked = {}
        for number, answer in answers.items():
            try:
                asked[number] = _next_question(iterations[number], answer)
            except StopIteration as end:
                found[number] = end.value
            except FloatingPointError as error:
                found[number] = error
        answers = gather(asked) if asked else {}
    return found


def over_runs(rows: Sequence[Metrics], shown: Shown, interval: Interval) -> Metrics:
    """What rows of the same iteration of several runs say together: means, with intervals of what
    is shown; speeds and episodes that blew up are sums, time and memory those of the process."""
    return _over(rows, shown.names(rows[0]), interval)


def evaluations_over_runs(rows: Sequence[Metrics], interval: Interval) -> Metrics:
    """What evaluations of several runs after the same iteration say together: means, with
    intervals over the runs of what has one over tasks in each."""
    ends = (LOW, HIGH)
    means = [{n: v for n, v in row.items() if not n.endswith(ends)} for row in rows]
    return _over(means, [name for name in means[0] if name + LOW in rows[0]], interval)


def _over(rows: Sequence[Metrics], bounded: Sequence[str], interval: Interval) -> Metrics:
    """Args: bounded: what gets an interval."""
    names = [name for name in rows[0] if all(name in row for row in rows)]
    found: Metrics = {"iteration": rows[0]["iteration"], "num_seeds": len(rows)}
    for name in names:
        of = sum if name in _SUMS else max if name in TIMING | {"iteration"} else statistics.fmean
        found[name] = of(row[name] for row in rows)
    if len(rows) > 1:
        for name in bounded:
            found[name + LOW], found[name + HIGH] = interval([row[name] for row in rows])
    return found


class Summary:
    """Writes a row for every iteration that all runs have done, but for those that failed.

    Rows of before are kept, where the folder has them; what is missing is made from the rows of
    the runs, for some may be ahead.

    Args: trainings: whose folders are ready to be written to, or are over.
    """

    def __init__(self, folder: Path, trainings: Sequence[Training], interval: Interval) -> None:
        self.shown = trainings[0].run.shown
        self._interval = interval
        self._runs = {number: training.run for number, training in enumerate(trainings)}
        kept = {row["iteration"] for row in read_rows(folder / METRICS)}
        first = min(run.iteration for run in self._runs.values())
        self._next = next((k for k in range(first) if k not in kept), first)
        self._rows = {
            number: {
                row["iteration"]: row
                for row in read_rows(training.folder / METRICS)
                if row["iteration"] >= self._next
            }
            for number, training in enumerate(trainings)
        }
        self._asked = dict[int, int]()  # after which iteration a run was asked for one last
        self._evaluations = {
            number: {row["iteration"]: row for row in read_rows(training.folder / EVALUATIONS)}
            for number, training in enumerate(trainings)
        }
        first_run = trainings[0]
        self._log = RunLog(
            folder,
            first_iteration=self._next,
            count=self.shown.count,
            tracking=first_run.tracking,
            config={**first_run.config, "seed": None, "num_seeds": len(trainings)},
        )

    def add(self, rows: Mapping[int, Metrics], failed: Sequence[int] = ()) -> None:
        """Takes in the rows of some runs by their numbers, and leaves out those that failed."""
        for number in failed:
            del self._runs[number]
        for number, row in rows.items():
            self._rows[number][int(row["iteration"])] = row
        while self._runs and all(run.iteration > self._next for run in self._runs.values()):
            found = [self._rows[number].pop(self._next, None) for number in self._runs]
            if there := [row for row in found if row is not None]:
                self._log.write(over_runs(there, self.shown, self._interval))
            self._next += 1

    def evaluate(self, trainings: Mapping[int, Training], say: Callable[[str], None]) -> None:
        """Lets the trainings whose time it is look at held-out tasks, and writes a row for every
        iteration after which all have."""
        for number, training in trainings.items():
            name = training.folder.name
            row = training.evaluate_if_due(partial(_say_of, name, say))
            self._asked[number] = training.run.iteration
            if row is not None:
                self._evaluations[number][int(row["iteration"])] = row
        there = {k for rows in self._evaluations.values() for k in rows}
        for k in sorted(there - self._log.evaluated):
            found = {n: rows[k] for n, rows in self._evaluations.items() if k in rows}
            alive = {n: found[n] for n in self._runs if n in found}
            # One whose evaluation isn't finite has none.
            is_waiting = any(
                n not in found and run.iteration <= k and self._asked.get(n, -1) < k
                for n, run in self._runs.items()
            )
            if alive and not is_waiting:
                self._log.write_evaluation(
                    evaluations_over_runs(list(alive.values()), self._interval)
                )

    def __enter__(self) -> "Summary":
        return self

    def __exit__(self, *_: object) -> None:
        self._log.close()


def _is_behind(folder: Path, trainings: Sequence[Training]) -> bool:
    """Tells whether a crash has kept the folder of all from an evaluation that each run has."""
    of_each = [_evaluated(training.folder) for training in trainings]
    return not set.intersection(*of_each) <= _evaluated(folder)


def _evaluated(folder: Path) -> set[int]:
    return {row["iteration"] for row in read_rows(folder / EVALUATIONS)}


def _say_of(name: str, say: Callable[[str], None], text: str) -> None:
    say(f"{name}: {text}")


def _furthest_behind(going: Mapping[int, Training]) -> dict[int, Training]:
    """Returns the trainings whose turn it is."""
    left = {number: training for number, training in going.items() if not training.is_over}
    first = min((training.run.iteration for training in left.values()), default=0)
    return {number: own for number, own in left.items() if own.run.iteration == first}


def _iterated(
    trainings: Mapping[int, Training], gather: Gather
) -> tuple[dict[int, Metrics], dict[int, FloatingPointError]]:
    """Does an iteration of each. Returns the rows of those that succeeded, and the others'
    errors."""
    starts = {number: training.run.stopwatch.seconds() for number, training in trainings.items()}
    rows, errors = dict[int, Metrics](), dict[int, FloatingPointError]()
    found = iterate_together({n: training.run for n, training in trainings.items()}, gather)
    for number, metrics in found.items():
        if isinstance(metrics, FloatingPointError):
            errors[number] = metrics
        else:
            rows[number] = trainings[number].log([metrics], starts[number], len(trainings))
    return rows, errors


def _next_question(iteration: Generator[Any, Any, Metrics], answer: Any) -> Any:
    """Raises: StopIteration with the metrics when the iteration is done."""
    if isinstance(answer, FloatingPointError):
        return iteration.throw(answer)
    return iteration.send(answer)
