"""What a run writes into its folder while it goes, and gives to its loggers: a row of metrics.jsonl
for what it trained, a row of evaluations.jsonl for what it can do with held-out tasks."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metarl.run.loggers.logger import Begun, Results
from metarl.run.loggers.opening import Loggers, Tracking
from metarl.run.rows import RowsFile, read_rows

METRICS, EVALUATIONS = "metrics.jsonl", "evaluations.jsonl"


class RunLog:
    """Writes rows of numbers to the run's own files first, then to its loggers.

    Args:
      first_iteration: what a killed run had logged from this iteration on is dropped, because those
        iterations are run again.
      count: what rows count: env_steps or tasks.
      tracking: the loggers; config: what they tell of the settings.
    Raises: UserError if a file can't be written, or a logger can't begin.
    """

    def __init__(
        self,
        folder: Path,
        *,
        first_iteration: int,
        count: str = "env_steps",
        tracking: Tracking | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self._folder = folder
        self._metrics = RowsFile(folder / METRICS, stop=first_iteration)
        # Evaluations come after so many iterations; one before the next iteration stays.
        self._stop = first_iteration + 1
        self._evaluations: RowsFile | None = None
        if (folder / EVALUATIONS).exists():
            self._evaluations = RowsFile(folder / EVALUATIONS, stop=self._stop)
        begun = Begun(
            folder=folder,
            config=dict(config or {}),
            count=count,
            first_iteration=first_iteration,
            metrics=self._metrics.kept,
            evaluations=[] if self._evaluations is None else self._evaluations.kept,
        )
        self.evaluated = {int(row["iteration"]) for row in begun.evaluations}
        """The iterations after which there are evaluations."""
        self.notes = [
            f"{file.path}: {file.num_damaged} damaged lines left out"
            for file in (self._metrics, self._evaluations)
            if file is not None and file.num_damaged
        ]
        """What there is to say of the files."""
        last = max((row["iteration"] for row in begun.metrics), default=-1)
        if last < first_iteration - 1:
            self.notes.append(
                f"{self._metrics.path}: the rows from iteration {last + 1} to "
                f"{first_iteration - 1} are gone"
            )
        self._loggers = Loggers(tracking or Tracking(), begun)

    def write(self, row: Mapping[str, float]) -> None:
        self._metrics.write(row)
        self._loggers.metrics(dict(row))

    def write_evaluation(self, row: Mapping[str, float]) -> None:
        if self._evaluations is None:
            self._evaluations = RowsFile(self._folder / EVALUATIONS, stop=self._stop)
        self._evaluations.write(row)
        self.evaluated.add(int(row["iteration"]))
        self._loggers.evaluation(dict(row))

    def flush(self) -> None:
        """Comes before each checkpoint: no row of before it may be lost, for they don't come
        again."""
        for file in (self._metrics, self._evaluations):
            if file is not None:
                file.flush()
        self._loggers.flush()

    def close(self) -> None:
        self._metrics.close()
        if self._evaluations is not None:
            self._evaluations.close()
        self._loggers.close()


def give_results(
    folder: Path,
    results: Results,
    *,
    count: str,
    tracking: Tracking,
    config: Mapping[str, Any],
) -> None:
    """Gives the loggers what a run ends with. The run's own files stay as they are.

    Raises: UserError if a logger can't begin.
    """
    metrics = read_rows(folder / METRICS)
    begun = Begun(
        folder=folder,
        config=dict(config),
        count=count,
        first_iteration=max([results.iteration, *(row["iteration"] + 1 for row in metrics)]),
        metrics=metrics,
        evaluations=read_rows(folder / EVALUATIONS),
    )
    loggers = Loggers(tracking, begun)
    try:
        loggers.results(results)
    finally:
        loggers.close()
