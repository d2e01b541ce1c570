"""The charts of a report that look at tasks: how returns are distributed over them, and what
adapting brings on each."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from metarl.report.adaptation_plot import Look
from metarl.report.evaluation import stage
from metarl.report.learners import Learner
from metarl.report.page.chart import (
    BEFORE,
    Chart,
    band,
    dash_of,
    figure_of,
    listed,
    number,
    short,
)
from metarl.report.page.measures import (
    TaskAxis,
    ends_of_tasks,
    profiles,
    reach_over_tasks,
    task_axis,
    thresholds,
)


def profile_chart(learners: Sequence[Learner], look: Mapping[str, Look]) -> Chart:
    """Performance profiles before adapting and in the end."""
    at = thresholds(learners)
    traces: list[Any] = []
    rows: list[list[str]] = []
    for learner in learners:
        style = look[learner.name]
        for update, estimates in profiles(learner, at).items():
            name = f"{learner.name}, {stage(learner.unit, update)}"
            value, low, high = (
                short(estimate[end] for estimate in estimates)
                for end in ("value", "ci_low", "ci_high")
            )
            is_last = update == learner.returns.shape[2] - 1
            if is_last:
                traces.append(band(short(at), low, high, name, style))
            group = name if is_last else BEFORE
            known = any(trace.legendgroup == group and trace.showlegend for trace in traces)
            dash, width = (dash_of(style), 2.5) if is_last else ("dot", 1.8)
            traces.append(
                go.Scatter(
                    x=short(at),
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
                rows.append([name, number(at[place]), share, ends])
    return Chart(
        key="profiles",
        title="How returns are distributed over tasks",
        note="Performance profiles: the share of tasks, over all seeds, whose mean return is above "
        "each value. A curve that is above another everywhere is the better one. Bands are 95 % "
        "intervals.",
        words=f"Falling curves of the share of tasks above a return, for {listed(look)}, before "
        "adapting (dotted) and in the end.",
        head=["row", "return", "share above", "95 % interval"],
        rows=rows,
        figure=figure_of(
            traces,
            "mean return of a task",
            "share of tasks",
            y={"tickformat": ".0%", "range": [-0.02, 1.02]},
        ),
    )


def task_charts(learners: Sequence[Learner], look: Mapping[str, Look]) -> Iterator[Chart]:
    """One chart for each learner, all with the same axes."""
    reach = list(reach_over_tasks(learners))
    for place, learner in enumerate(learners):
        axis, ends = task_axis(learner.runs[0]), ends_of_tasks(learner)
        yield _tasks_of(learner, ends, axis, look[learner.name], reach, place)


def _tasks_of(
    learner: Learner, ends: Any, axis: TaskAxis, style: Look, reach: list[float], place: int
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
                y=short(before),
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
            y=short(after),
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
    told += " by that mean" if told and len(learner.runs) > 1 else ""
    names = axis.names
    ticks = {} if names is None else {"tickvals": list(range(len(names))), "ticktext": names}
    head = ["task", stage(learner.unit, 0), last] if adapts else ["task", last]
    rows = [[w, number(a), number(b)] for w, a, b in zip(words, before, after, strict=True)]
    seeds = f", mean of {len(learner.runs)} seeds" if len(learner.runs) > 1 else ""
    return Chart(
        key=f"tasks_{place + 1}",
        title=f"Task by task: {learner.name}",
        note=f"Each task before (hollow) and in the end (filled){seeds}{told}."
        if adapts
        else f"Each task{seeds}.",
        words=f"Scatter of the return of each task over {axis.label}, for {learner.name}{told}.",
        head=head,
        rows=rows if adapts else [[row[0], row[2]] for row in rows],
        figure=figure_of(
            traces, axis.label, "mean return", x=ticks, y={"range": reach}, height=360
        ),
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
