"""The pictures of a run: what adaptation brings on held-out tasks, and how training went. PNG, readable in grey, too.

Colours are Okabe and Ito's (2008), told apart with every common colour blindness; line styles and markers say the same twice.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator
from numpy.typing import ArrayLike

from metarl.files import write_atomically

Row = Mapping[str, float]

BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#5F6368"
SKY, YELLOW = "#56B4E9", "#E69F00"

_STYLE: Any = {
    "font.size": 10.5,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E3E5E8",
    "axes.axisbelow": True,
    "lines.linewidth": 2.0,
    "legend.frameon": False,
}


def adaptation_curve_png(
    path: Path,
    rows: Sequence[Row],
    *,
    references: Mapping[str, Row | Sequence[Row]],
    title: str,
    unit: str = "update",
    ylabel: str = "return of an episode",
) -> None:
    """Draws the return over the number of updates, or over the episodes of a trial: IQM with its interval as a band, and
    the mean.

    Args:
      rows: for each update `update`, `mean`, `iqm`, `ci_low`, `ci_high` (the interval is the IQM's).
      unit: update or episode, see `metarl.rl.types.Sizes`.
      references: what to compare with, by name: rows like the above for something that adapts as well (a random
        initialisation), or one row for something that doesn't (standing still): a horizontal line.
    Raises: OSError if `path` can't be written.
    """
    with _figure(path, title) as axes:
        first, xlabel = (1, "episode of the trial") if unit == "episode" else (0, "updates on the task")
        updates = [first + row["update"] for row in rows]
        _band(axes, updates, [row["ci_low"] for row in rows], [row["ci_high"] for row in rows], BLUE)
        axes.plot(updates, [row["iqm"] for row in rows], color=BLUE, marker="o", label="IQM, 95 % interval", zorder=3)
        axes.plot(updates, [row["mean"] for row in rows], color=BLUE, marker="_", ls=":", lw=1.4, label="mean")
        for (name, reference), color, dashes in zip(references.items(), _colours(), _dashes(), strict=False):
            if isinstance(reference, Mapping):
                axes.axhline(reference["iqm"], color=color, ls=dashes, lw=1.6, label=f"{name}, IQM", zorder=1)
            else:
                x = [first + row["update"] for row in reference]
                _band(axes, x, [row["ci_low"] for row in reference], [row["ci_high"] for row in reference], color)
                axes.plot(
                    x, [row["iqm"] for row in reference], color=color, ls=dashes, marker="s", ms=4, label=f"{name}, IQM"
                )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        _legend_beside(axes)


RETURNS = {"return_after": "after adaptation", "return_before": "before"}


def learning_curve_png(
    path: Path,
    runs: Sequence[Sequence[Row]],
    *,
    title: str,
    ylabel: str = "return of an episode",
    curves: Mapping[str, str] = RETURNS,
    count: tuple[str, str] = ("env_steps", "environment steps"),
) -> None:
    """Draws how training went, smoothed, with the raw numbers faint behind; unless told otherwise it is the returns before and
    after adaptation over environment steps.

    Of several seeds it draws the mean, and as a band the lowest to the highest, as far as all of them have come.

    Args:
      runs: one list of the rows of metrics.jsonl for each seed.
      curves: which of their numbers to draw, and what to call them; up to four.
      count: which of them they are drawn over, and its name.
    Raises: ValueError if a run has no rows; OSError if `path` can't be written.
    """
    if not runs or not all(runs):
        raise ValueError(
            f"got {len(runs)} runs with {[len(rows) for rows in runs]} rows; expected one row or more of each"
        )
    steps = _common_steps([np.array([row[count[0]] for row in rows], dtype=float) for rows in runs])
    window = max(1, len(steps) // 50)
    with _figure(path, title) as axes:
        styles = ((BLUE, "-"), (ORANGE, (0, (4, 1.5))), (GREEN, "-."), (PURPLE, ":"))
        for (key, name), (color, dashes) in zip(curves.items(), styles, strict=False):
            values = np.stack([_values(rows, key, steps, count[0]) for rows in runs])
            if len(runs) == 1:
                axes.plot(steps, values[0], color=color, lw=0.8, alpha=0.35)
            smooth = np.stack([_running_mean(row, window) for row in values])
            if len(runs) > 1:
                _band(axes, steps, smooth.min(0), smooth.max(0), color)
            axes.plot(
                steps, smooth.mean(0), color=color, ls=dashes, label=name, marker="o" if len(steps) == 1 else None
            )
        axes.xaxis.set_major_formatter(EngFormatter(sep=" "))
        axes.set_xlabel(count[1])
        axes.set_ylabel(ylabel)
        notes = [f"mean and range of {len(runs)} seeds"] if len(runs) > 1 else []
        notes += [f"running mean of {window} points"] if window > 1 else []
        axes.legend(loc="best", title=", ".join(notes) or None, alignment="left", title_fontproperties={"size": 9})


@contextmanager
def _figure(path: Path, title: str) -> Iterator[Axes]:
    """Axes that are written to `path` at the end. Not through pyplot: no global state, no window, no back-end to choose."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(7.6, 4.3), dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        axes.set_title(title, pad=10)
        yield axes
        write_atomically(path, lambda file: figure.savefig(file, format="png"))


def _band(axes: Axes, x: ArrayLike, low: ArrayLike, high: ArrayLike, color: str) -> None:
    axes.fill_between(x, low, high, color=color, alpha=0.16, lw=0)
    if np.size(x) == 1:  # A band over a single point has no width to be seen.
        axes.vlines(x, low, high, color=color, alpha=0.5, lw=4)


def _legend_beside(axes: Axes) -> None:
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=2.6)


def _colours() -> Sequence[str]:
    return ORANGE, GREY, GREEN, PURPLE, SKY, YELLOW, *([GREY] * 8)


def _dashes() -> Sequence[object]:
    return "--", "-.", (0, (1, 1)), (0, (6, 2, 1, 2, 1, 2)), (0, (3, 1)), (0, (8, 2)), *([":"] * 8)


def _common_steps(steps: Sequence[np.ndarray]) -> np.ndarray:
    """The env steps of the shortest run, and within the range that all runs cover."""
    shortest = min(steps, key=lambda x: x[-1])
    inside = shortest[shortest >= max(x[0] for x in steps)]
    return inside if len(inside) else shortest[-1:]


def _values(rows: Sequence[Row], key: str, steps: np.ndarray, count: str) -> np.ndarray:
    """The numbers `key` of a run at `steps`; runs whose episodes end early have their rows at other steps."""
    return np.interp(steps, [row[count] for row in rows], [row[key] for row in rows])


def _running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """The mean of up to `window` values that end at each one: it never looks ahead."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)
