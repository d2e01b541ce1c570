"""How far a run is: the progress bar, or lines in a log file."""

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from metarl.run.shown import RETURNS, Shown, human


class Progress:
    """The console line of a training: bar, iteration, env steps (or tasks), how many a second,
    returns, time left.

    Where stderr is neither a terminal nor a notebook, as in a log file, a line every half minute
    takes the bar's place. Episodes that broke off are counted from the start of the process.
    """

    def __init__(self, *, iterations: int, first_iteration: int, shown: Shown = RETURNS) -> None:
        self._shown = shown
        self._num_diverged = 0.0
        self.is_unread = False
        """Whether the console is a pipe whose reader has gone. A training stops then as if it had
        been asked to, so that nothing is lost."""
        kind = _Bar if shows_bars() else _Lines
        self._bar = kind(total=iterations, initial=first_iteration)

    def update(self, row: Mapping[str, float], per_second: float, *, iterations: int = 1) -> None:
        """Args: per_second: of what is counted; iterations: how many have been done since the last
        call."""
        # Of all rows so far, for most rows are never seen; a row holds the mean of its iterations.
        self._num_diverged += iterations * row.get("diverged_episodes", 0.0)
        num = round(self._num_diverged)
        diverged = f" | {num} episode{'s' * (num > 1)} broke off" if num else ""
        self._bar.text = (
            f"{human(row[self._shown.count])} {self._shown.unit}, {human(per_second)}/s | "
            f"{self._shown.text(row)}{diverged}"
        )
        with self._noticing():
            self._bar.update(iterations)

    def say(self, message: str) -> None:
        """Prints a line above the bar."""
        with self._noticing():
            tqdm.write(message, file=sys.stderr)

    def close(self) -> None:
        with self._noticing():
            self._bar.close()

    @contextmanager
    def _noticing(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            self.is_unread = True


class _Bar(tqdm):
    """A bar with a text between it and the times; tqdm's own place for text puts a comma before
    it."""

    text = ""

    def __init__(self, *, total: int, initial: int) -> None:
        line = "{n_fmt}/{total_fmt} {bar:12} {text} | {elapsed} < {remaining}"
        super().__init__(
            total=total, initial=initial, dynamic_ncols=True, file=sys.stderr, bar_format=line
        )

    @property
    def format_dict(self) -> dict[str, Any]:
        return {**super().format_dict, "text": self.text}


class _Lines:
    """Shows progress without a bar: a line for the first iteration done, then every half minute,
    and for the last."""

    INTERVAL = 30.0  # s

    def __init__(self, *, total: int, initial: int) -> None:
        self.text = ""
        self._total = total
        self._initial = initial
        self._done = initial
        self._start = time.monotonic()
        self._last_shown = -math.inf
        self._shown = initial

    def update(self, iterations: int) -> None:
        self._done += iterations
        if time.monotonic() - self._last_shown >= self.INTERVAL:
            self._show()

    def close(self) -> None:
        if self._shown != self._done:
            self._show()

    def _show(self) -> None:
        self._last_shown = time.monotonic()
        self._shown = self._done
        elapsed = self._last_shown - self._start
        remaining = elapsed * (self._total - self._done) / (self._done - self._initial)
        times = f"{tqdm.format_interval(elapsed)} < {tqdm.format_interval(remaining)}"
        print(f"{self._done}/{self._total} {self.text} | {times}", file=sys.stderr, flush=True)


@contextmanager
def counted(title: str, total: int) -> Iterator[Callable[..., None]]:
    """A plain progress bar for shorter work, or where there can be none a line that says that it
    has begun; yields what to call after each of the `total` parts."""
    hidden = not shows_bars()
    if hidden:
        print(f"{title} ...", file=sys.stderr, flush=True)
    with tqdm(
        total=total, desc=title, dynamic_ncols=True, file=sys.stderr, leave=False, disable=hidden
    ) as bar:
        yield lambda *_: bar.update() and None


def shows_bars() -> bool:
    """Tells whether a line on stderr can be written over: on a terminal, and in a notebook, which
    shows no terminal to Python."""
    if sys.stderr.isatty():
        return True
    # Jupyter has imported IPython long before us; nobody else is to pay for that import.
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell"
