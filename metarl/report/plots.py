"""How our plots look, and the picture of how training went. PNG, readable in grey, too.

Colours are Okabe and Ito's (2008), told apart with every common colour blindness; line styles and
markers say the same twice.
"""

import io
import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, PercentFormatter
from numpy.typing import ArrayLike

from metarl.files import write_atomically
from metarl.report.training_curve import FEWEST_SEEDS, training_curve

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
    "legend.handlelength": 3.2,  # long enough for the longest dash and its gap
}


STEPS = ("env_steps", "environment steps")
"""What curves are drawn over unless told otherwise: a number of the rows, and its name."""

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
        _add_note(axes[0], len(runs), window)
        axes[0].set_ylabel(ylabel)
        if timed:
            unit, size = unit_of_time(shortest_time(runs))
            _draw_runs(axes[1], in_time(runs, size), curves, ("time", f"{unit} of training"))
            axes[1].sharey(axes[0])
        if solved:
            window = _draw_runs(axes[-1], runs, solved, count)
            _add_note(axes[-1], len(runs), window)
            axes[-1].set_ylabel("solved episodes")
            axes[-1].yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
            axes[-1].set_ylim(-0.03, 1.03)
        lines = named_in([axes[0], axes[-1]])
        legend_below(figure, list(lines.values()), list(lines))
    return figure


def _draw_runs(
    axes: Axes, runs: Sequence[Sequence[Row]], curves: Mapping[str, str], count: tuple[str, str]
) -> int:
    """Returns: of how many points each one drawn is the mean."""
    for (key, name), (color, dashes) in zip(curves.items(), _STYLES, strict=False):
        window = draw_curve(
            axes, runs, key, color=color, dashes=dashes, label=name, count=count, each_seed=True
        )
    name_count(axes, count)
    return window


def _add_note(axes: Axes, num_seeds: int, window: int) -> None:
    """Says below an axis what its lines are, where no curve can run across it."""
    band = "95 % interval" if num_seeds >= FEWEST_SEEDS else "range"
    each = " and each one" if num_seeds <= FEW_SEEDS else ""
    notes = [f"mean, {band}{each} of {num_seeds} seeds"] if num_seeds > 1 else []
    notes += [f"running mean of {window} points"] if window > 1 else []
    add_notes(axes, notes)


def add_notes(axes: Axes, notes: Sequence[str]) -> None:
    """Writes each below an axis, in lines that one panel beside another has room for."""
    lines = [line for note in notes for line in textwrap.wrap(note, _LETTERS_OF_A_PANEL)]
    axes.set_xlabel("\n".join([axes.get_xlabel(), *lines]))


_LETTERS_OF_A_PANEL = 50


SHARES = ("accuracy", "success")
"""How the names of numbers from 0 to 1 begin."""
FEW_SEEDS = 5
"""Seeds that are few enough for a line each."""
LONG_PAUSE = 20
"""Times the usual distance between two points."""


def draw_curve(
    axes: Axes,
    runs: Sequence[Sequence[Row]],
    key: str,
    *,
    color: str,
    dashes: Any,
    label: str,
    count: tuple[str, str] = STEPS,
    each_seed: bool = False,
) -> int:
    """Draws the number `key` of the runs of one setting over `count`, see `learning_figure`.

    Args: each_seed: draws a thin line for each, too, where they are few.
    Returns: of how many points each one drawn is the mean.
    """
    curve = training_curve(runs, key, count[0])
    if len(runs) == 1:
        axes.plot(curve.x, curve.raw[0], color=color, lw=0.8, alpha=0.35)
    else:
        low, high = curve.low, curve.high
        if key.startswith(SHARES):
            low, high = low.clip(0, 1), high.clip(0, 1)
        add_band(axes, curve.x, low, high, color)
    # One of them may have learnt what the others haven't.
    if each_seed and 1 < len(runs) <= FEW_SEEDS:
        axes.plot(curve.x, curve.smooth.T, color=color, lw=0.6, alpha=0.45)
    marker = "o" if len(curve.x) == 1 else None
    mean = curve.mean.copy()
    if count[0] == "time" and len(mean) > 2:  # A pause of all is no part of the training.
        apart = np.diff(curve.x)
        mean[1:][apart > LONG_PAUSE * np.median(apart)] = np.nan
    axes.plot(curve.x, mean, color=color, ls=dashes, label=label, marker=marker)
    return curve.window


def name_count(axes: Axes, count: tuple[str, str]) -> None:
    """Says what the curves of `draw_curve` are drawn over."""
    if count[0] != "time":
        axes.xaxis.set_major_formatter(EngFormatter(sep=" "))
    axes.set_xlabel(count[1])


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
def figure_of(*, panels: int = 1, title: str) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure with so many axes, which stand in rows of two, so that its letters can still be read
    where it is as wide as a page; of an odd number the first has a row of its own."""
    rows = (panels + 1) // 2
    size = (7.6, 4.3) if panels == 1 else (9.0, 4.3 + 3.5 * (rows - 1))
    with _empty_figure(size) as figure:
        grid = figure.add_gridspec(rows, 1 if panels == 1 else 2)
        alone = panels % 2
        found = [figure.add_subplot(grid[0, :])] if alone else []
        found += [
            figure.add_subplot(grid[row, column]) for row in range(alone, rows) for column in (0, 1)
        ]
        if panels == 1:
            # It begins where the axis does.
            room = int(_LETTERS_PER_INCH_OF_A_TITLE * (size[0] - 1))
            found[0].set_title(textwrap.fill(title, room), pad=10)
        else:
            _name_figure(figure, title)
        yield figure, found


@contextmanager
def grid_of(
    rows: int, columns: int, *, size: tuple[float, float], title: str
) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure with a grid of axes, row by row. Args: size: width and height in inches."""
    with _empty_figure(size) as figure:
        _name_figure(figure, title)
        yield figure, list(figure.subplots(rows, columns, squeeze=False).flatten())


@contextmanager
def _empty_figure(size: tuple[float, float]) -> Iterator[Figure]:
    """A figure of our looks, not through pyplot: no global state, no window, no back-end to choose.

    Args: size: width and height in inches.
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=size, dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure


_LETTERS_PER_INCH_OF_A_TITLE = 10


def _name_figure(figure: Figure, title: str) -> None:
    """Writes the title of a figure of several panels above them."""
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")


def named_in(axes: Iterable[Axes]) -> dict[str, Any]:
    """What is named in several axes, by its name; of those of one name the first."""
    found: dict[str, Any] = {}
    for place in axes:
        for handle, name in zip(*place.get_legend_handles_labels(), strict=True):
            found.setdefault(name, handle)
    return found


def legend_below(figure: Figure, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """Names what is in a figure below it, in as many columns as its width holds. Many rows make the
    figure higher: they would take the place of what they name."""
    letters = int(_LETTERS_PER_INCH * figure.get_figwidth())
    columns = max(1, min(len(labels), letters // (_LETTERS_OF_A_LINE + max(map(len, labels)))))
    more = max(0, math.ceil(len(labels) / columns) - _ROWS_OF_A_LEGEND)
    figure.set_figheight(figure.get_figheight() + _HEIGHT_OF_A_ROW * more)
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)


_ROWS_OF_A_LEGEND, _HEIGHT_OF_A_ROW = 4, 0.22  # rows that a figure has room for; inches
_LETTERS_PER_INCH, _LETTERS_OF_A_LINE = 13.2, 12  # of a legend, and what its dashes and gaps take


def write_png(path: Path, figure: Figure) -> None:
    """Raises: OSError if `path` can't be written."""
    content = drawn(figure, "png")
    write_atomically(path, lambda file: file.write(content))


def drawn(figure: Figure, kind: str) -> bytes:
    """The figure as a file of that kind, png or pdf. Its letters stay letters, which journals ask
    of PDF, and no date is in it, so that the same figure is the same file."""
    with matplotlib.rc_context(_STYLE | {"pdf.fonttype": 42}):
        file = io.BytesIO()
        dates: dict[str, Any] = {"CreationDate": None} if kind == "pdf" else {}
        figure.savefig(file, format=kind, metadata=dates)
        return file.getvalue()


def add_band(axes: Axes, x: ArrayLike, low: ArrayLike, high: ArrayLike, color: str) -> None:
    axes.fill_between(x, low, high, color=color, alpha=0.16, lw=0)
    if np.size(x) == 1:  # A band over a single point has no width to be seen.
        axes.vlines(x, low, high, color=color, alpha=0.5, lw=4)
