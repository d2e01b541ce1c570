"""How our plots look, and the picture of how training went. PNG, readable in grey, too.

Colours are Okabe and Ito's (2008), told apart with every common colour blindness; line styles and
markers say the same twice.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, PercentFormatter
from numpy.typing import ArrayLike

from metarl.files import write_atomically
from metarl.rl.evaluation.several_runs import interval_over_seeds

Row = Mapping[str, float]

BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#5F6368"
SKY, YELLOW = "#56B4E9", "#E69F00"
INK, FAINT = "#1F2328", "#9AA0A6"

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


STEPS = ("env_steps", "environment steps")
"""What curves are drawn over unless told otherwise: a number of the rows, and its name."""

FEWEST_SEEDS = 3  # whose mean gets an interval

RETURNS = {"return_after": "after adaptation", "return_before": "before"}
EPISODES = {"return_after": "last episode of the trial", "return_before": "first episode"}
ONE_EPISODE = {"return": "the trial's only episode"}
SUCCESS = {
    "success_after": "after adaptation",
    "success_before": "before",
    "success": "the trial's only episode",
}
_STYLES = ((BLUE, "-"), (ORANGE, (0, (4, 1.5))), (GREEN, "-."), (PURPLE, ":"))


def return_curves(rows: Sequence[Row], unit: str) -> dict[str, str]:
    """Returns which numbers of a run's metrics are its returns, and what they are called.

    Args: unit: update or episode, see `metarl.rl.types.Sizes`. Trials of one episode have one
      return; in metrics of earlier versions it is there twice.
    """
    if "return" in rows[-1]:
        return ONE_EPISODE
    if all(row["return_after"] == row["return_before"] for row in rows):
        return {"return_after": ONE_EPISODE["return"]}
    return EPISODES if unit == "episode" else RETURNS


def learning_curve_png(
    path: Path, runs: Sequence[Sequence[Row]], *, title: str, **what: Any
) -> None:
    """Draws how training went, see `learning_figure`. Raises: ValueError if a run has no rows;
    OSError if `path` can't be written."""
    write_png(path, learning_figure(runs, title=title, **what))


def learning_figure(
    runs: Sequence[Sequence[Row]],
    *,
    title: str,
    ylabel: str = "mean return of training episodes",
    curves: Mapping[str, str] = RETURNS,
    count: tuple[str, str] = STEPS,
) -> Figure:
    """Draws how training went, smoothed, with the raw numbers faint behind: unless told otherwise,
    the returns before and after adaptation over environment steps. Beside it stands the same over
    the time that training took, where the rows tell it, and the rate of success, where the
    environment tells that.

    Of several seeds it is the mean, and as a band its 95 % interval, of two the lower to the
    higher; as far as all of them have come.

    Args:
      runs: one list of the rows of metrics.jsonl for each seed.
      curves: which of their numbers to draw, and what to call them; up to four.
      count: which of them they are drawn over, and its name.
    Raises: ValueError if a run has no rows.
    """
    if not runs or not all(runs):
        raise ValueError(
            f"got {len(runs)} runs with {[len(rows) for rows in runs]} rows; expected one row or "
            "more of each"
        )
    solved = {
        key: name
        for key, name in SUCCESS.items()
        if all(key in row for rows in runs for row in rows)
    }
    timed = tell_time(runs)
    panels = 1 + bool(timed) + bool(solved)
    with figure_of(panels=panels, title=title) as (figure, axes):
        window = _draw_runs(axes[0], runs, curves, count)
        _add_legend(axes[0], len(runs), window)
        axes[0].set_ylabel(ylabel)
        if timed:
            unit, size = unit_of_time(shortest_time(runs))
            _draw_runs(axes[1], in_time(runs, size), curves, ("time", f"{unit} of training"))
            axes[1].sharey(axes[0])
        if solved:
            window = _draw_runs(axes[-1], runs, solved, count)
            _add_legend(axes[-1], len(runs), window)
            axes[-1].set_ylabel("solved episodes")
            axes[-1].yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
            axes[-1].set_ylim(-0.03, 1.03)
    return figure


def _draw_runs(
    axes: Axes, runs: Sequence[Sequence[Row]], curves: Mapping[str, str], count: tuple[str, str]
) -> int:
    """Returns: of how many points each one drawn is the mean."""
    for (key, name), (color, dashes) in zip(curves.items(), _STYLES, strict=False):
        window = draw_curve(axes, runs, key, color=color, dashes=dashes, label=name, count=count)
    name_count(axes, count)
    return window


def _add_legend(axes: Axes, num_seeds: int, window: int) -> None:
    band = "95 % interval" if num_seeds >= FEWEST_SEEDS else "range"
    notes = [f"mean and {band} of {num_seeds} seeds"] if num_seeds > 1 else []
    notes += [f"running mean of {window} points"] if window > 1 else []
    axes.legend(
        loc="best",
        title=", ".join(notes) or None,
        alignment="left",
        title_fontproperties={"size": 9},
    )


def draw_curve(
    axes: Axes,
    runs: Sequence[Sequence[Row]],
    key: str,
    *,
    color: str,
    dashes: Any,
    label: str,
    count: tuple[str, str] = STEPS,
) -> int:
    """Draws the number `key` of the runs of one setting over `count`, see `learning_figure`.

    Returns: of how many points each one drawn is the mean.
    """
    steps = _common_steps([np.array([row[count[0]] for row in rows], dtype=float) for rows in runs])
    window = max(1, len(steps) // 50)
    values = np.stack([_values(rows, key, steps, count[0]) for rows in runs])
    if len(runs) == 1:
        axes.plot(steps, values[0], color=color, lw=0.8, alpha=0.35)
    smooth = np.stack([_running_mean(row, window) for row in values])
    if len(runs) > 1:
        add_band(axes, steps, *_band(smooth), color)
    marker = "o" if len(steps) == 1 else None
    axes.plot(steps, smooth.mean(0), color=color, ls=dashes, label=label, marker=marker)
    return window


def name_count(axes: Axes, count: tuple[str, str]) -> None:
    """Says what the curves of `draw_curve` are drawn over."""
    if count[0] != "time":
        axes.xaxis.set_major_formatter(EngFormatter(sep=" "))
    axes.set_xlabel(count[1])


def _band(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[S, T] of S seeds -> the ends [T] of the band around their mean. The interval of two seeds
    would be twelve times as wide as they are apart: then it is from one to the other."""
    if len(values) < FEWEST_SEEDS:
        return values.min(0), values.max(0)
    low, high = interval_over_seeds(torch.from_numpy(values))
    return low.numpy(), high.numpy()


def tell_time(runs: Sequence[Sequence[Row]]) -> bool:
    """Whether all rows say how long the run has taken; those of earlier versions don't."""
    return all("seconds" in row for rows in runs for row in rows)


def shortest_time(runs: Sequence[Sequence[Row]]) -> float:
    """Returns the time in s as far as all runs have come."""
    return min(rows[-1]["seconds"] for rows in runs)


def unit_of_time(seconds: float) -> tuple[str, float]:
    """The unit in which so many seconds read well, and its length in s."""
    if seconds < 120:
        return "seconds", 1.0
    return ("minutes", 60.0) if seconds < 3 * 3600 else ("hours", 3600.0)


def in_time(runs: Sequence[Sequence[Row]], size: float) -> list[list[Row]]:
    """The runs with `time` in each row, in units of `size` seconds."""
    return [[{**row, "time": row["seconds"] / size} for row in rows] for rows in runs]


@contextmanager
def figure_of(
    *, panels: int = 1, title: str, rows: int = 1, size: tuple[float, float] | None = None
) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure with so many axes beside each other, perhaps in several rows, which come one after
    the other. Not through pyplot: no global state, no window, no back-end to choose.

    Args: size: width and height in inches; None: as one row of `panels` takes.
    """
    with matplotlib.rc_context(_STYLE):
        size = size or (7.6 if panels == 1 else 5.4 * panels, 4.3)
        figure = Figure(figsize=size, dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        found = figure.subplots(rows, panels, squeeze=False).flatten()
        if panels == 1:
            found[0].set_title(title, pad=10)
        else:
            figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
        yield figure, list(found)


def write_png(path: Path, figure: Figure) -> None:
    """Raises: OSError if `path` can't be written."""
    with matplotlib.rc_context(_STYLE):
        write_atomically(path, lambda file: figure.savefig(file, format="png"))


def add_band(axes: Axes, x: ArrayLike, low: ArrayLike, high: ArrayLike, color: str) -> None:
    axes.fill_between(x, low, high, color=color, alpha=0.16, lw=0)
    if np.size(x) == 1:  # A band over a single point has no width to be seen.
        axes.vlines(x, low, high, color=color, alpha=0.5, lw=4)


def _common_steps(steps: Sequence[np.ndarray]) -> np.ndarray:
    """The env steps of the shortest run, and within the range that all runs cover."""
    shortest = min(steps, key=lambda x: x[-1])
    inside = shortest[shortest >= max(x[0] for x in steps)]
    return inside if len(inside) else shortest[-1:]


def _values(rows: Sequence[Row], key: str, steps: np.ndarray, count: str) -> np.ndarray:
    """The numbers `key` of a run at `steps`; runs whose episodes end early have their rows at other
    steps."""
    rows = [row for row in rows if key in row]
    return np.interp(steps, [row[count] for row in rows], [row[key] for row in rows])


def _running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """The mean of up to `window` values that end at each one: it never looks ahead."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)
