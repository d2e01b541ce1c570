"""What a run writes while it goes: metrics.jsonl, TensorBoard events, the progress bar. The one place of logging back-ends."""

import errno
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from metarl.errors import UserError
from metarl.files import write_text
from metarl.struct import struct


class MetricsLog:
    """Appends one JSON object an iteration to metrics.jsonl and the same numbers to TensorBoard."""

    def __init__(self, folder: Path, *, first_iteration: int) -> None:
        """Drops what a killed run had logged from `first_iteration` on, for those iterations are run again, and lines that
        are damaged. `num_damaged` says how many these were, the last one left out: a killed run leaves half of it.
        """
        self.path = folder / "metrics.jsonl"
        rows = _lines(self.path)
        self.num_damaged = sum(row is None for row in rows[:-1])
        kept = [row for row in rows if row is not None and row["iteration"] < first_iteration]
        try:
            write_text(self.path, "".join(json.dumps(row) + "\n" for row in kept))
            self._file = self.path.open("ab", buffering=0)
        except OSError as error:
            raise UserError(f"can't write {self.path}: {error.strerror or error}") from error
        self._tensorboard = SummaryWriter(str(folder), purge_step=first_iteration)

    def write(self, row: Mapping[str, float]) -> None:
        line = json.dumps(row).encode() + b"\n"
        try:
            if self._file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise UserError(f"can't write {self.path}: {error.strerror or error}") from error
        for name, value in row.items():
            if name != "iteration":
                self._tensorboard.add_scalar(name, value, row["iteration"])

    def close(self) -> None:
        self._file.close()
        self._tensorboard.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl. Lines that hold none are left out: what a killed run left half written, or a disk damaged."""
    return [row for row in _lines(path) if row is not None]


def _lines(path: Path) -> list[dict[str, Any] | None]:
    """Of each line its row; None if it is damaged. Raises: UserError if the file can't be read."""
    try:
        return [_row(line) for line in path.read_bytes().splitlines()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"can't read {path}: {error.strerror or error}") from error


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:  # not JSON, or not UTF-8
        return None
    return row if isinstance(row, dict) and isinstance(row.get("iteration"), int) else None


@struct
class Shown:
    """What the console line and the learning curve show of a learner's metrics."""

    quantity: str  # metrics `<quantity>_before` and `<quantity>_after`, or just `<quantity>`
    digits: int  # behind the point
    count: str  # the metric that is added up over the iterations
    unit: str  # what is counted, as a word

    def text(self, row: Mapping[str, float]) -> str:
        """For instance `return -12.3 -> 45.6`; of trials of one episode `return 45.6 (first tenth 3.1, last 5.2)`."""
        names = [name for name in (f"{self.quantity}_before", f"{self.quantity}_after") if name in row]
        values = [f"{row[name]:.{self.digits}f}" for name in names or [self.quantity]]
        text = f"{self.quantity} {' -> '.join(values)}"
        tenths = [f"{self.quantity}_{which}_tenth" for which in ("first", "last")]
        if not all(name in row for name in tenths):
            return text
        first, last = (f"{row[name]:.{self.digits}f}" for name in tenths)
        return f"{text} (first tenth {first}, last {last})"


RETURNS = Shown(quantity="return", digits=1, count="env_steps", unit="steps")


class Progress:
    """The console line of a training: bar, iteration, env steps (or tasks), how many a second, returns, time left."""

    def __init__(self, *, iterations: int, first_iteration: int, shown: Shown = RETURNS) -> None:
        self._shown = shown
        self._bar = tqdm(
            total=iterations,
            initial=first_iteration,
            unit="it",
            dynamic_ncols=True,
            file=sys.stderr,
            bar_format="{n_fmt}/{total_fmt} {bar:12} {postfix} | {elapsed} < {remaining}",
        )

    def update(self, row: Mapping[str, float], per_second: float, *, iterations: int = 1) -> None:
        """Args: per_second: of what is counted; iterations: how many have been done since the last call."""
        diverged = f" | {row['diverged_episodes']:.0f} episodes blew up" if row.get("diverged_episodes") else ""
        self._bar.set_postfix_str(
            f"{human(row[self._shown.count])} {self._shown.unit}, {human(per_second)}/s | "
            f"{self._shown.text(row)}{diverged}",
            refresh=False,
        )
        self._bar.update(iterations)

    def say(self, message: str) -> None:
        """Prints a line above the bar."""
        self._bar.write(message, file=sys.stderr)

    def close(self) -> None:
        self._bar.close()


@contextmanager
def counted(title: str, total: int) -> Iterator[Callable[..., None]]:
    """A plain progress bar for shorter work; yields what to call after each of the `total` parts."""
    with tqdm(total=total, desc=title, dynamic_ncols=True, file=sys.stderr, leave=False) as bar:
        yield lambda *_: bar.update() and None


def human(number: float) -> str:
    """1234567 -> 1.23M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(number) >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"
