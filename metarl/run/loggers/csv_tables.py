"""metrics.csv and evaluations.csv: the rows of a run as tables, for spreadsheets and R."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metarl.errors import UserError
from metarl.files import write_text
from metarl.run.loggers.logger import Begun, Results
from metarl.run.rows import append, read_rows
from metarl.types import Metrics


class CsvTables:
    """Writes a line for each row. A number that comes later than the first row gets a column of its
    own, which is empty above."""

    def __init__(self, begun: Begun, settings: Mapping[str, Any]) -> None:
        self._metrics = _Table(begun.folder / "metrics.csv", begun.metrics)
        self._evaluations: _Table | None = None
        self._folder = begun.folder
        if begun.evaluations or (begun.folder / "evaluations.csv").exists():
            self._evaluations = _Table(begun.folder / "evaluations.csv", begun.evaluations)

    def metrics(self, row: Metrics) -> None:
        self._metrics.add(row)

    def evaluation(self, row: Metrics) -> None:
        if self._evaluations is None:
            self._evaluations = _Table(self._folder / "evaluations.csv", [])
        self._evaluations.add(row)

    def results(self, results: Results) -> None:
        """They have a file of their own, evaluation.json."""

    def flush(self) -> None:
        """Each line is on its way as soon as it is written."""

    def close(self) -> None:
        self._metrics.close()
        if self._evaluations is not None:
            self._evaluations.close()


class _Table:
    def __init__(self, path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
        self._path = path
        self._begin(rows)

    def add(self, row: Mapping[str, Any]) -> None:
        if row.keys() <= self._columns.keys():
            append(self._file, self._path, _line([row.get(name, "") for name in self._columns]))
        else:
            self._file.close()
            # Its own rows stand in the file of the same name, this one included.
            self._begin(read_rows(self._path.with_suffix(".jsonl")))

    def _begin(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._columns = dict.fromkeys(name for row in rows for name in row)
        lines = [[row.get(name, "") for name in self._columns] for row in rows]
        head = [list(self._columns)] if self._columns else []
        try:
            write_text(self._path, "".join(map(_line, [*head, *lines])))
            self._file = self._path.open("ab", buffering=0)
        except OSError as error:
            raise UserError(f"can't write {self._path}: {error.strerror or error}") from error

    def close(self) -> None:
        self._file.close()


def _line(values: Sequence[Any]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(values)
    return buffer.getvalue()
