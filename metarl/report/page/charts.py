"""The charts of a report's page, drawn by Plotly in the reader's browser.

Each chart comes with what stands in its place for who can't see it: a sentence, and its numbers as
a table. Colours are those of plots.py; the page exchanges them for brighter ones on a dark ground.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from metarl.report.adaptation_plot import Look
from metarl.report.evaluation import stage
from metarl.report.learners import Learner
from metarl.report.learners_plot import COUNTED, looks_of, return_key
from metarl.report.page.measures import TaskAxis, profiles, task_axis, thresholds
from metarl.report.plots import FAINT, GREY, INK, STEPS, in_time, tell_time, unit_of_time
from metarl.report.training_curve import FEWEST_SEEDS, training_curve
from metarl.run.logging import human
from metarl.struct import struct

Numbers = Mapping[str, Any]
Runs = Sequence[Sequence[Mapping[str, float]]]

_GRID = "#E3E5E8"
_LEGEND = 2000  # px: a legend is never scrolled, the page gives the chart its height
_MOST_POINTS = 400  # of a line: more than a screen can show
_SYMBOLS = {
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


@struct
class Chart:
    key: str  # what its files are called
    title: str
    note: str  # how to read it
    words: str  # what it shows, for who can't see it
    head: list[str]  # of the table of its numbers
    rows: list[list[str]]
    figure: dict[str, Any]  # data and layout, as Plotly takes them


@struct
class Going:
    """A run that has no evaluation yet, beside the learners."""

    name: str
    learner: str | None  # the name of the learner that it is a further seed of
    rows: list[dict[str, Any]]


def charts(found: Numbers, learners: Sequence[Learner], going: Sequence[Going]) -> list[Chart]:
    """All charts that there are numbers for, in the order of the page.

    Args: found: what `learners.side_by_side` says of the learners; of none at all it isn't read.
    """
    look = all_looks(learners, going)
    drawn = [_adaptation(found, look)] if learners else []
    drawn += _training(learners, going, look)
    if learners:
        drawn.append(_profiles(learners, look))
        drawn += _tasks(learners, look)
    return drawn


def all_looks(learners: Sequence[Learner], going: Sequence[Going]) -> dict[str, Look]:
    """How each learner looks, and each run beside them that is none of theirs."""
    look = looks_of([learner.name for learner in learners])
    others = [run.name for run in going if run.learner is None]
    return look | looks_of(others, taken=look.values())


def _adaptation(found: Numbers, look: Mapping[str, Look]) -> Chart:
    traces: list[Any] = []
    rows: list[list[str]] = []
    of = found["learners"]
    last = max(len(learner["returns"]) for learner in of) - 1
    for number, learner in enumerate(of):
        name, means = learner["name"], [row["mean"] for row in learner["returns"]]
        style = look[name]
        x = [k + 0.05 * (number - (len(of) - 1) / 2) for k in range(len(means))]
        for place, seed in enumerate(learner["seeds"]):
            if len(learner["seeds"]) > 1 and len(means) > 1:
                values = [row["by_seed"][place] for row in learner["returns"]]
                traces.append(_seed_line(x, values, name, f"seed {seed}", style))
        value, low, high = ([mean[end] for mean in means] for end in ("value", "ci_low", "ci_high"))
        if len(means) == 1:  # It has nothing to adapt.
            x, value, low, high = [-0.2, last + 0.2], value * 2, low * 2, high * 2
        traces.append(
            go.Scatter(
                x=x,
                y=_short(value),
                name=name,
                legendgroup=name,
                mode="lines+markers" if len(means) > 1 else "lines",
                line={"color": style.color, "dash": _dash(style), "width": 2.5},
                marker={"symbol": _SYMBOLS[style.marker], "size": 9, "color": style.color},
                error_y={
                    "type": "data",
                    "array": _short(b - v for v, b in zip(value, high, strict=True)),
                    "arrayminus": _short(v - a for v, a in zip(value, low, strict=True)),
                    "thickness": 1.5,
                    "width": 4,
                    "color": style.color,
                },
                customdata=[[_number(a), _number(b)] for a, b in zip(low, high, strict=True)],
                hovertemplate="%{y:.2f} [%{customdata[0]}, %{customdata[1]}]",
            )
        )
        for k, mean in enumerate(means):
            cells = [_number(mean[end]) for end in ("value", "ci_low", "ci_high")]
            rows.append([name, stage(learner["unit"], k), cells[0], f"[{cells[1]}, {cells[2]}]"])
    shown = set[str]()
    for name, group, means, color, dash in _beside(found):
        x = list(range(len(means))) if len(means) > 1 else [-0.2, last + 0.2]
        y = means if len(means) > 1 else means * 2
        traces.append(
            go.Scatter(
                x=x,
                y=_short(y),
                mode="lines",
                name=group,
                legendgroup=group,
                line={"color": color, "dash": dash, "width": 1.5},
                showlegend=group not in shown,
                hovertemplate=f"{name}: %{{y:.2f}}",
            )
        )
        shown.add(group)
        rows += [
            [name, "" if len(means) == 1 else str(k), _number(y), ""] for k, y in enumerate(means)
        ]
    units = {learner["unit"] for learner in of if len(learner["returns"]) > 1}
    xaxis = " or ".join(COUNTED[unit] for unit in sorted(units, reverse=True)) or "no updates"
    best = max(of, key=lambda learner: learner["returns"][-1]["mean"]["value"])
    end = best["returns"][-1]["mean"]["value"]
    return Chart(
        key="adaptation",
        title="How they adapt to held-out tasks" if found["split"] != "none" else "How they adapt",
        note="Mean return of an episode after each update, with its 95 % interval; thin lines are "
        "seeds. Click a name to switch a row off, twice to see it alone.",
        words=f"Line chart of the mean return over {xaxis}, for {_listed(look)} and what stands "
        f"beside them. In the end {best['name']} has the highest, {_number(end)}.",
        head=["row", "state", "mean return", "95 % interval"],
        rows=rows,
        figure=_figure(traces, xaxis, "mean return", x={"dtick": 1, "range": [-0.3, last + 0.3]}),
    )


def _beside(found: Numbers) -> Iterator[tuple[str, str, list[float], str, str]]:
    """What doesn't learn: names, the rows of the legend they belong to, means after each update or
    once for all, colours and dashes."""
    beside = found["beside"]
    for learner, means in beside["random_initialisation"].items():
        name = f"random initialisation, adapted as {learner}"
        yield name, "random initialisations", means, GREY, "dot"
    if "stand_still" in beside:
        yield "standing still", "standing still", [beside["stand_still"]], FAINT, "dashdot"
    for name, means in beside["references"].items():
        words = name.replace("_", " ")
        yield words, words, means, INK, "longdash"
    bounds = beside.get("fixed_speeds", {}).get("bounds", [])
    group = f"the best of 1 to {len(bounds)} fixed speeds"
    for bound in bounds:
        count = bound["num_speeds"]
        name = f"the best {f'{count} fixed speeds' if count > 1 else 'fixed speed'}"
        yield name, group, [bound["mean_with_allowance"]], FAINT, "dash"


def _training(
    learners: Sequence[Learner], going: Sequence[Going], look: Mapping[str, Look]
) -> Iterator[Chart]:
    """Yields a chart over steps, and one over time, of all whose rows tell it."""
    runs: dict[str, Runs] = {
        learner.name: [run.metrics for run in learner.runs]
        for learner in learners
        if all(run.metrics for run in learner.runs)
    }
    seeds = {learner.name: [run.seed for run in learner.runs] for learner in learners}
    alone: list[tuple[Going, Runs]] = [(run, [run.rows]) for run in going]
    if not runs and not alone:
        return
    yield _training_over(runs, seeds, alone, look, STEPS, "steps")
    timed = {name: of for name, of in runs.items() if tell_time(of)}
    timed_alone = [(run, of) for run, of in alone if tell_time(of)]
    every = [rows for of in (*timed.values(), *(of for _, of in timed_alone)) for rows in of]
    if every:
        unit, size = unit_of_time(max(rows[-1]["seconds"] for rows in every))
        yield _training_over(
            {name: in_time(of, size) for name, of in timed.items()},
            seeds,
            [(run, in_time(of, size)) for run, of in timed_alone],
            *(look, ("time", f"{unit} of training"), "time"),
            without=[name for name in runs if name not in timed],
        )


def _training_over(
    runs: Mapping[str, Runs],
    seeds: Mapping[str, Sequence[int]],
    alone: Sequence[tuple[Going, Runs]],
    look: Mapping[str, Look],
    count: tuple[str, str],
    key: str,
    without: Sequence[str] = (),
) -> Chart:
    traces: list[Any] = []
    rows: list[list[str]] = []
    shows_before = len(runs) + len(alone) == 1
    for name, of in runs.items():
        traces += _learning_lines(name, of, seeds[name], look[name], count[0])
        if "return_before" in of[0][-1]:
            is_first = not any(trace.legendgroup == BEFORE for trace in traces)
            line = _before_line(name, of, look[name], count[0])
            visible = True if shows_before else "legendonly"
            traces.append(line.update(showlegend=is_first, visible=visible))
        rows += _learning_rows(name, of, count[0])
    for run, of in alone:
        style = look[run.learner or run.name]
        curve = training_curve(of, return_key(of), count[0])
        x, y = _thinned(curve.x, curve.mean)
        line = {"color": style.color, "dash": "dot", "width": 1.8}
        traces.append(go.Scatter(x=x, y=y, name=run.name, mode="lines", line=line))
        rows += _learning_rows(run.name, of, count[0])
    bands = {len(of) for of in runs.values()}
    note = "Mean return of training episodes after adaptation, smoothed."
    if any(size > 1 for size in bands):
        note += " Thin lines are seeds; the band is " + (
            "the 95 % interval of their mean." if max(bands) >= FEWEST_SEEDS else "their range."
        )
    if without:
        note += f" Not told by {_listed(without)}."
    over = "environment steps" if key == "steps" else "time"
    return Chart(
        key=f"training_{key}",
        title=f"Training, over {over}",
        note=note,
        words=f"Line chart of the return in training over {count[1]}, for "
        f"{_listed([*runs, *(run.name for run, _ in alone)])}.",
        head=["row", count[1], "return after adaptation"],
        rows=rows,
        figure=_figure(traces, count[1], "return in training", x={"tickformat": "~s"}),
    )


def _learning_lines(
    name: str, of: Runs, seeds: Sequence[int], style: Look, count: str
) -> Iterator[Any]:
    curve = training_curve(of, return_key(of), count)
    for seed, own in zip(seeds, of, strict=True):
        if len(of) > 1:
            alone = training_curve([own], return_key(of), count)
            x, y = _thinned(alone.x, alone.mean)
            yield _seed_line(x, y, name, f"seed {seed}", style)
    if len(of) > 1:
        x, low = _thinned(curve.x, curve.low)
        _, high = _thinned(curve.x, curve.high)
        yield _band(x, low, high, name, style)
    x, y = _thinned(curve.x, curve.mean)
    line = {"color": style.color, "dash": _dash(style), "width": 2.5}
    yield go.Scatter(x=x, y=y, name=name, legendgroup=name, mode="lines", line=line)


BEFORE = "before adaptation (dotted)"
"""A row of legends for the dotted lines of all learners."""


def _before_line(name: str, of: Runs, style: Look, count: str) -> Any:
    before = training_curve(of, "return_before", count)
    x, y = _thinned(before.x, before.mean)
    return go.Scatter(
        x=x,
        y=y,
        name=BEFORE,
        legendgroup=BEFORE,
        mode="lines",
        line={"color": style.color, "dash": "dot", "width": 1.8},
        hovertemplate=f"{name}, before: %{{y:.2f}}",
    )


def _learning_rows(name: str, of: Runs, count: str) -> list[list[str]]:
    """The curve at ten counts."""
    curve = training_curve(of, return_key(of), count)
    places = np.unique(np.linspace(0, len(curve.x) - 1, 10).round().astype(int))
    return [[name, human(float(curve.x[i])), _number(float(curve.mean[i]))] for i in places]


def _profiles(learners: Sequence[Learner], look: Mapping[str, Look]) -> Chart:
    at = thresholds(learners)
    traces: list[Any] = []
    rows: list[list[str]] = []
    for learner in learners:
        style = look[learner.name]
        for update, estimates in profiles(learner, at).items():
            name = f"{learner.name}, {stage(learner.unit, update)}"
            value, low, high = (
                _short(estimate[end] for estimate in estimates)
                for end in ("value", "ci_low", "ci_high")
            )
            is_last = update == learner.returns.shape[2] - 1
            if is_last:
                traces.append(_band(_short(at), low, high, name, style))
            group = name if is_last else BEFORE
            known = any(trace.legendgroup == group and trace.showlegend for trace in traces)
            dash, width = (_dash(style), 2.5) if is_last else ("dot", 1.8)
            traces.append(
                go.Scatter(
                    x=_short(at),
                    y=value,
                    name=group,
                    legendgroup=group,
                    mode="lines",
                    showlegend=not known,
                    line={"color": style.color, "dash": dash, "width": width},
                    hovertemplate=f"{name}: %{{y:.0%}} of tasks above %{{x}}",
                )
            )
            for place in range(0, len(at), 10):
                ends = f"[{100 * low[place]:.0f}, {100 * high[place]:.0f}]"
                share = f"{100 * value[place]:.0f} %"
                rows.append([name, _number(at[place]), share, ends])
    return Chart(
        key="profiles",
        title="How returns are distributed over tasks",
        note="Performance profiles: the share of tasks, over all seeds, whose mean return is above "
        "each value. A curve that is above another everywhere is the better one. Bands are 95 % "
        "intervals.",
        words=f"Falling curves of the share of tasks above a return, for {_listed(look)}, before "
        "adapting (dotted) and in the end.",
        head=["row", "return", "share above", "95 % interval"],
        rows=rows,
        figure=_figure(
            traces,
            "mean return of a task",
            "share of tasks",
            y={"tickformat": ".0%", "range": [-0.02, 1.02]},
        ),
    )


def _tasks(learners: Sequence[Learner], look: Mapping[str, Look]) -> Iterator[Chart]:
    """One chart for each learner, all with the same axes."""
    ends = [learner.returns[:, :, [0, -1]].mean((0, 3)) for learner in learners]
    low, high = (min(e.min().item() for e in ends), max(e.max().item() for e in ends))
    margin = 0.05 * (high - low) or 1.0
    for number, (learner, of) in enumerate(zip(learners, ends, strict=True)):
        axis = task_axis(learner.runs[0])
        yield _tasks_of(
            learner, of, axis, look[learner.name], [low - margin, high + margin], number
        )


def _tasks_of(
    learner: Learner, ends: Any, axis: TaskAxis, style: Look, reach: list[float], number: int
) -> Chart:
    before, after = ends[:, 0].tolist(), ends[:, 1].tolist()
    words, adapts = learner.runs[0].tasks, learner.returns.shape[2] > 1
    last = stage(learner.unit, learner.returns.shape[2] - 1)
    x = axis.values if axis.names is None else _apart(axis.values)
    traces: list[Any] = []
    if adapts:
        lines_x = [place for value in x for place in (value, value, None)]
        lines_y = [y for pair in zip(before, after, strict=True) for y in (*pair, None)]
        traces.append(
            go.Scatter(
                x=lines_x,
                y=lines_y,
                mode="lines",
                hoverinfo="skip",
                showlegend=False,
                line={"color": style.color, "width": 1},
                opacity=0.5,
            )
        )
        hollow = {"symbol": "circle-open", "size": 8, "color": style.color, "line": {"width": 1.5}}
        traces.append(
            go.Scatter(
                x=x,
                y=_short(before),
                mode="markers",
                marker=hollow,
                name=stage(learner.unit, 0),
                customdata=words,
                hovertemplate="%{customdata}: %{y:.1f}",
            )
        )
    filled = {"symbol": "circle", "size": 9, "color": style.color}
    traces.append(
        go.Scatter(
            x=x,
            y=_short(after),
            mode="markers",
            marker=filled,
            name=last,
            customdata=words,
            showlegend=True,
            hovertemplate="%{customdata}: %{y:.1f}",
        )
    )
    worse = sum(b < a for a, b in zip(before, after, strict=True))
    told = f"; {worse} of {len(words)} tasks end lower than they began" if adapts else ""
    names = axis.names
    ticks = {} if names is None else {"tickvals": list(range(len(names))), "ticktext": names}
    head = ["task", stage(learner.unit, 0), last] if adapts else ["task", last]
    rows = [[w, _number(a), _number(b)] for w, a, b in zip(words, before, after, strict=True)]
    seeds = f", mean of {len(learner.runs)} seeds" if len(learner.runs) > 1 else ""
    return Chart(
        key=f"tasks_{number + 1}",
        title=f"Task by task: {learner.name}",
        note=f"Each held-out task before (hollow) and in the end (filled){seeds}{told}."
        if adapts
        else f"Each held-out task{seeds}.",
        words=f"Scatter of the return of each task over {axis.label}, for {learner.name}{told}.",
        head=head,
        rows=rows if adapts else [[row[0], row[2]] for row in rows],
        figure=_figure(traces, axis.label, "mean return", x=ticks, y={"range": reach}, height=360),
    )


def _apart(values: Sequence[float]) -> list[float]:
    """Spreads points of the same kind beside each other."""
    seen: dict[float, int] = {}
    total = {value: values.count(value) for value in set(values)}
    spread = []
    for value in values:
        place = seen[value] = seen.get(value, -1) + 1
        spread.append(value + 0.5 * ((place + 0.5) / total[value] - 0.5))
    return spread


def _seed_line(x: Any, y: Any, name: str, seed: str, style: Look) -> Any:
    return go.Scatter(
        x=x,
        y=_short(y),
        name=f"{name}, {seed}",
        legendgroup=name,
        showlegend=False,
        mode="lines",
        opacity=0.35,
        line={"color": style.color, "width": 1},
    )


def _band(x: Any, low: Any, high: Any, group: str, style: Look) -> Any:
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


def _figure(
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


def _thinned(x: np.ndarray, y: np.ndarray) -> tuple[list[Any], list[Any]]:
    """Every so manieth point, the last one among them, with five digits."""
    step = -(-len(x) // _MOST_POINTS)
    return _short(x[::-1][::step][::-1].tolist()), _short(y[::-1][::step][::-1].tolist())


def _short(values: Any) -> list[Any]:
    """Numbers with five digits; None, a gap in a line, for those that aren't finite."""
    return [float(f"{value:.5g}") if math.isfinite(value) else None for value in values]


def _number(value: float) -> str:
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _dash(style: Look) -> str:
    if isinstance(style.dashes, str):
        return _DASHES[style.dashes]
    return ",".join(f"{2 * length:g}px" for length in style.dashes[1])


def _listed(names: Any) -> str:
    *others, last = list(names)
    return f"{', '.join(others)} and {last}" if others else last
