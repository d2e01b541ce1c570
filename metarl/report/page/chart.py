"""A chart of a report's page, and the pieces that charts are made of: lines, bands, axes, numbers in
words."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from metarl.report.adaptation_plot import Look
from metarl.report.plots import FAINT, INK
from metarl.report.training_curve import training_curve, what_bands_are
from metarl.run.shown import human
from metarl.struct import struct

Runs = Sequence[Sequence[Mapping[str, float]]]

_GRID = "#E3E5E8"
_LEGEND = 2000  # px: a legend is never scrolled, the page gives the chart its height
_MOST_POINTS = 400  # of a line: more than a screen can show
SYMBOLS = {
    "o": "circle",
    "s": "square",
    "^": "triangle-up",
    "v": "triangle-down",
    "D": "diamond",
    "X": "x",
    "P": "cross",
    "h": "hexagon",
    "p": "pentagon",
    "<": "triangle-left",
    "*": "star",
}
_DASHES = {"-": "solid", "--": "dash", "-.": "dashdot", ":": "dot"}

BEFORE = "before adaptation (dotted)"
"""A row of legends for the dotted lines of all learners."""


@struct
class Chart:
    key: str  # what its files are called
    title: str
    note: str  # how to read it
    words: str  # what it shows, for who can't see it
    head: list[str]  # of the table of its numbers
    rows: list[list[str]]
    figure: dict[str, Any]  # data and layout, as Plotly takes them


def seed_line(x: Any, y: Any, name: str, seed: str, style: Look) -> Any:
    return go.Scatter(
        x=x,
        y=short(y),
        name=f"{name}, {seed}",
        legendgroup=name,
        showlegend=False,
        mode="lines",
        opacity=0.35,
        line={"color": style.color, "width": 1},
    )


def band(x: Any, low: Any, high: Any, group: str, style: Look) -> Any:
    return go.Scatter(
        x=[*x, *x[::-1]],
        y=[*low, *high[::-1]],
        fill="toself",
        fillcolor=style.color,
        opacity=0.16,
        mode="lines",
        line={"width": 0},
        legendgroup=group,
        showlegend=False,
        hoverinfo="skip",
    )


def adaptation_line(
    x: Any, means: Sequence[Mapping[str, Any]], name: str, style: Look, *, adapts: bool = True
) -> Any:
    """Means after some numbers of updates with their intervals, where they have any. Args: adapts: whether each is a
    point; else a line goes across."""
    ends = ("value", "ci_low", "ci_high")
    value, low, high = ([mean.get(end, math.nan) for mean in means] for end in ends)
    return go.Scatter(
        x=x,
        y=short(value),
        name=name,
        legendgroup=name,
        mode="lines+markers" if adapts else "lines",
        line={"color": style.color, "dash": dash_of(style), "width": 2.5},
        marker={"symbol": SYMBOLS[style.marker], "size": 9, "color": style.color},
        error_y={
            "type": "data",
            "array": short(b - v for v, b in zip(value, high, strict=True)),
            "arrayminus": short(v - a for v, a in zip(value, low, strict=True)),
            "thickness": 1.5,
            "width": 4,
            "color": style.color,
        },
        customdata=[[number(a), number(b)] for a, b in zip(low, high, strict=True)],
        hovertemplate="%{y:.2f} [%{customdata[0]}, %{customdata[1]}]",
    )


def learning_lines(
    name: str, of: Runs, seeds: Sequence[int], style: Look, key: str, count: str
) -> Iterator[Any]:
    """The number `key` of a learner over `count` while it was trained: the mean over its seeds, a
    band, and each of them."""
    curve = training_curve(of, key, count)
    for seed, own in zip(seeds, of, strict=True):
        if len(of) > 1:
            alone = training_curve([own], key, count)
            x, y = thinned(alone.x, alone.mean)
            yield seed_line(x, y, name, f"seed {seed}", style)
    if len(of) > 1:
        x, low = thinned(curve.x, curve.low)
        _, high = thinned(curve.x, curve.high)
        yield band(x, low, high, name, style)
    x, y = thinned(curve.x, curve.mean)
    line = {"color": style.color, "dash": dash_of(style), "width": 2.5}
    # A single point is no line.
    mode = "lines" if len(x) > 1 else "markers"
    marker = {"symbol": SYMBOLS[style.marker], "size": 9, "color": style.color}
    yield go.Scatter(x=x, y=y, name=name, legendgroup=name, mode=mode, line=line, marker=marker)


def learning_rows(name: str, of: Runs, key: str, count: str) -> list[list[str]]:
    """The curve at ten counts."""
    curve = training_curve(of, key, count)
    places = np.unique(np.linspace(0, len(curve.x) - 1, 10).round().astype(int))
    return [[name, human(float(curve.x[i])), number(float(curve.mean[i]))] for i in places]


def bands_in_words(num_seeds: Collection[int]) -> str:
    """A sentence on the bands of `learning_lines`, if any learner has one. Args: num_seeds: of each
    learner."""
    bands = what_bands_are(num_seeds)
    return f" Thin lines are seeds; the band is {bands}." if bands else ""


def figure_of(
    traces: Sequence[Any],
    xaxis: str,
    yaxis: str,
    *,
    x: Mapping[str, Any] | None = None,
    y: Mapping[str, Any] | None = None,
    height: int = 420,
) -> dict[str, Any]:
    axis = {"gridcolor": _GRID, "zeroline": False, "automargin": True, "linecolor": FAINT}
    size = {"size": 12.5}
    layout = go.Layout(
        template="none",
        height=height,
        margin={"l": 56, "r": 12, "t": 30, "b": 44},
        font={"family": "system-ui, sans-serif", "size": 12.5, "color": INK},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        hovermode="closest",
        hoverlabel={"namelength": -1},
        legend={
            "orientation": "h",
            "maxheight": _LEGEND,
            "yref": "container",
            "y": 0,
            "yanchor": "bottom",
            "x": 0,
        },
        xaxis={**axis, "title": {"text": xaxis, "standoff": 8, "font": size}, **(x or {})},
        yaxis={**axis, "title": {"text": yaxis, "standoff": 8, "font": size}, **(y or {})},
    )
    plain: dict[str, Any] = go.Figure(list(traces), layout).to_plotly_json()
    return plain


def thinned(x: np.ndarray, y: np.ndarray) -> tuple[list[Any], list[Any]]:
    """Every so manieth point, the last one among them, with five digits."""
    step = -(-len(x) // _MOST_POINTS)
    return short(x[::-1][::step][::-1].tolist()), short(y[::-1][::step][::-1].tolist())


def short(values: Any) -> list[Any]:
    """Numbers with five digits; None, a gap in a line, for those that aren't finite."""
    return [float(f"{value:.5g}") if math.isfinite(value) else None for value in values]


def number(value: float) -> str:
    if not math.isfinite(value):
        return "–"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def dash_of(style: Look) -> str:
    if isinstance(style.dashes, str):
        return _DASHES[style.dashes]
    return ",".join(f"{2 * length:g}px" for length in style.dashes[1])


def listed(names: Any) -> str:
    *others, last = list(names)
    return f"{', '.join(others)} and {last}" if others else last
