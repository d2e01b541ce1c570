"""Rows of numbers as a run writes them: one JSON object a line, each on the disk at once.

What a killed run wrote after its last checkpoint is dropped when the run goes on, so that the file
becomes what that of an uninterrupted run is.
"""

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metarl.errors import UserError
from metarl.files import flush, write_text


class RowsFile:
    """Appends rows to a file of them.

    Args: stop: rows of this iteration and of later ones are dropped, because they come again. So
      are lines that are damaged.
    Raises: UserError if the file can't be written.
    """

    def __init__(self, path: Path, *, stop: int) -> None:
        self.path = path
        found = _lines(path)
        self.num_damaged = sum(row is None for row in found[:-1])
        """Damaged lines, the last one left out: a killed run leaves half of it."""
        self.kept = [row for row in found if row is not None and row["iteration"] < stop]
        """The rows that were there and stay."""
        try:
            write_text(path, "".join(json.dumps(row) + "\n" for row in self.kept))
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise UserError(f"can't write {path}: {error.strerror or error}") from error

    def write(self, row: Mapping[str, float]) -> None:
        """Raises: UserError if there is no room for the row."""
        append(self._file, self.path, json.dumps(row) + "\n")

    def flush(self) -> None:
        """Waits until all rows are on the disk. Raises: UserError if it can't take them."""
        try:
            flush(self.path)
        except OSError as error:
            raise UserError(f"can't write {self.path}: {error.strerror or error}") from error

    def close(self) -> None:
        self._file.close()


def append(file: Any, path: Path, line: str) -> None:
    """Writes a line to an unbuffered file. Raises: UserError if it isn't on the disk as a whole."""
    data = line.encode()
    try:
        if file.write(data) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        raise UserError(f"can't write {path}: {error.strerror or error}") from error


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file, none if there is no file. Lines that hold none are left out: what a
    killed run left half written, or a disk damaged.

    Raises: UserError if it can't be read.
    """
    return [row for row in _lines(path) if row is not None]


def _lines(path: Path) -> list[dict[str, Any] | None]:
    """Returns the row of each line; None if the line is damaged. Raises: UserError if the file
    can't be read."""
    try:
        return [_row(line) for line in path.read_bytes().splitlines()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"can't read {path}: {error.strerror or error}") from error


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):  # not JSON, or not UTF-8
        return None
    return row if isinstance(row, dict) and isinstance(row.get("iteration"), int) else None
