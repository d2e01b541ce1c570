"""A chart of a report's page, and the pieces that charts are made of: lines, bands, axes, numbers in
words."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from metarl.report.adaptation_plot import Look
from metarl.report.plots import FAINT, INK
from metarl.struct import struct

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
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def dash_of(style: Look) -> str:
    if isinstance(style.dashes, str):
        return _DASHES[style.dashes]
    return ",".join(f"{2 * length:g}px" for length in style.dashes[1])


def listed(names: Any) -> str:
    *others, last = list(names)
    return f"{', '.join(others)} and {last}" if others else last
