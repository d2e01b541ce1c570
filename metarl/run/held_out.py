"""Evaluations on held-out tasks while a run goes: what they measure is up to the caller, what
becomes of it is said here. The state that they find best is kept in a file of its own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from metarl.run import checkpoint
from metarl.run.archive import DamagedFile
from metarl.struct import struct
from metarl.types import Metrics

KEY = "held_out"
"""The key of the best checkpoint under which it says what its evaluation found."""
_SETTINGS = "held_out_settings"


class HasState(Protocol):
    """What an evaluation needs of a learner."""

    def state_dict(self) -> dict[str, Any]: ...


@struct
class HeldOut:
    """Asks for an evaluation every so many iterations, and after the last one."""

    every: int
    measure: Callable[[HasState], Metrics]
    """A learner's state -> numbers, among them `score`, of which more is better. It draws from random
    streams of its own, which begin anew each time, and leaves the learner as it is: training has
    the same numbers with it and without, and the same state is always worth the same."""
    compared_by: str = "score"
    """Which of the numbers the score is. A run that goes on may be compared by another one than
    before; the best checkpoint so far is, too, then."""
    settings: str = ""
    """What it is measured on, and how, in words. A run that goes on may change that; the best checkpoint
    so far is measured anew then, for its number says nothing beside the others."""


class Best:
    """The best checkpoint of a run so far.

    Args:
      folder: of its checkpoints.
      iteration: where the run goes on. A better state of later is of a branch that was left, and
        goes.
      compared_by, settings: see `HeldOut`.
    Raises: UserError for a best checkpoint that can't be read, but may be whole.
    """

    def __init__(
        self, folder: Path, iteration: int, compared_by: str = "score", settings: str = ""
    ) -> None:
        self._path = folder / checkpoint.BEST
        self._compared_by, self._settings = compared_by, settings
        self._score: float | None = None
        self._outdated: dict[str, Any] | None = None
        try:
            content = checkpoint.load(self._path) if self._path.exists() else {}
            if content and content["iteration"] <= iteration:
                self._score = float(content[KEY][compared_by])
                if content.get(_SETTINGS, settings) != settings:
                    self._outdated = content
        except (DamagedFile, KeyError, TypeError, ValueError):  # damaged, or not ours
            self._score = None
        self.removed = self._score is None and self._path.exists()
        """Whether there was one that is of no use."""
        if self.removed:
            self._path.unlink()

    @property
    def is_outdated(self) -> bool:
        """Whether it was measured otherwise than it is now."""
        return self._outdated is not None

    def measure_anew(self, measure: Callable[[HasState], Metrics]) -> None:
        """Gives the state the numbers that it has now. Raises: UserError if it can't be written."""
        assert self._outdated is not None
        content, self._outdated, self._score = self._outdated, None, None
        self.keep_if_better(content, measure(_Kept(content["learner"])))

    def keep_if_better(self, content: dict[str, Any], row: Metrics) -> bool:
        """Writes the state that an evaluation was made of, if none before was as good.

        Raises: UserError if it can't be written.
        """
        score = row[self._compared_by]
        if self._score is not None and score <= self._score:
            return False
        more = {KEY: dict(row), _SETTINGS: self._settings}
        checkpoint.save_best(self._path.parent, {**content, **more})
        self._score = score
        return True


class _Kept:
    """A state that a checkpoint holds."""

    def __init__(self, state: dict[str, Any]) -> None:
        self._state = state

    def state_dict(self) -> dict[str, Any]:
        return self._state
