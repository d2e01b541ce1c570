"""Which rows a server of metrics has, so that each is sent once, whatever became of the process
that sent the others."""

import json
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metarl.files import write_text
from metarl.run.loggers.logger import HELD_OUT, Begun

NAME = "tracking.json"
"""The file in a run folder that has the run's name for servers, and says which know it."""


class Identity:
    """The name of a run for servers, made once and kept in its folder, and who has heard of it."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / NAME
        found = _content(self._file)
        self.id: str = found.get("id") or secrets.token_hex(8)
        self._known_to: list[str] = found.get("known_to", [])

    def is_known_to(self, logger: str) -> bool:
        return logger in self._known_to

    def note(self, logger: str) -> None:
        """Says that the logger has a run of this name now."""
        self._known_to = sorted({*self._known_to, logger})
        content = {"id": self.id, "known_to": self._known_to}
        write_text(self._file, json.dumps(content) + "\n")


def take_another_name(folder: Path) -> None:
    """A run that went back is another one for servers: they keep the rows of the way it left, and
    take none of iterations that they have."""
    (folder / NAME).unlink(missing_ok=True)


class Sent:
    """How far a server is.

    Args:
      begun: the run, whose rows of before a server may lack.
      latest: the newest value of each number that the server knows.
      is_known: whether the run was there before. Where no server can be asked (offline), all rows
        of before count as sent.
    """

    def __init__(self, begun: Begun, latest: Mapping[str, Any], *, is_known: bool) -> None:
        cant_say = is_known and "iteration" not in latest
        last, last_evaluation = -1, 0
        if cant_say:
            last, last_evaluation = _last(begun.metrics, -1), _last(begun.evaluations, 0)
        self._next_metrics = int(latest.get("iteration", last)) + 1
        self._next_evaluation = int(latest.get(f"{HELD_OUT}iteration", last_evaluation)) + 1
        self.metrics = [row for row in begun.metrics if self.lacks_metrics(row)]
        """Rows of before that it lacks."""
        self.evaluations = [row for row in begun.evaluations if self.lacks_evaluation(row)]

    def lacks_metrics(self, row: Mapping[str, float]) -> bool:
        return row["iteration"] >= self._next_metrics

    def lacks_evaluation(self, row: Mapping[str, float]) -> bool:
        return row["iteration"] >= self._next_evaluation


def _last(rows: Sequence[Mapping[str, float]], otherwise: int) -> int:
    return int(rows[-1]["iteration"]) if rows else otherwise


def _content(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
