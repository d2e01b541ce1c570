"""Evaluations on held-out tasks while a run goes: what they measure is up to the caller, what
becomes of it is said here. The state that they find best is kept in a file of its own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from metarl.errors import UserError
from metarl.run import checkpoint
from metarl.struct import struct
from metarl.types import MetaLearner, Metrics

KEY = "held_out"
"""The key of the best checkpoint under which it says what its evaluation found."""


@struct
class HeldOut:
    """Asks for an evaluation every so many iterations, and after the last one."""

    every: int
    measure: Callable[[MetaLearner], Metrics]
    """A learner -> numbers, among them `score`, of which more is better. It draws from random
    streams of its own, which begin anew each time, and leaves the learner as it is: training has
    the same numbers with it and without, and the same state is always worth the same."""
    compared_by: str = "score"
    """Which of the numbers the score is. A run that goes on may be compared by another one than
    before; the best state so far is, too, then."""


class Best:
    """The best state of a run so far.

    Args:
      folder: of its checkpoints.
      iteration: where the run goes on. A better state of later is of a branch that was left, and
        goes.
      compared_by: see `HeldOut`.
    """

    def __init__(self, folder: Path, iteration: int, compared_by: str = "score") -> None:
        self._path = folder / checkpoint.BEST
        self._compared_by = compared_by
        self._score: float | None = None
        try:
            content = checkpoint.load(self._path)
            if content["iteration"] <= iteration:
                self._score = float(content[KEY][compared_by])
        except (UserError, KeyError, TypeError, ValueError):  # missing, damaged, or not ours
            self._score = None
        self.removed = self._score is None and self._path.exists()
        """Whether there was one that is of no use."""
        if self.removed:
            self._path.unlink()

    def keep_if_better(self, content: dict[str, Any], row: Metrics) -> bool:
        """Writes the state that an evaluation was made of, if none before was as good.

        Raises: UserError if it can't be written.
        """
        score = row[self._compared_by]
        if self._score is not None and score <= self._score:
            return False
        checkpoint.save_best(self._path.parent, {**content, KEY: dict(row)})
        self._score = score
        return True
