"""The charts of a report's page, drawn by Plotly in the reader's browser.

Each chart comes with what stands in its place for who can't see it: a sentence, and its numbers as
a table. Colours are those of plots.py; the page exchanges them for brighter ones on a dark ground.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from metarl.report.adaptation_plot import Look
from metarl.report.evaluation import stage
from metarl.report.learners import Learner
from metarl.report.learners_plot import (
    counted,
    looks_of,
    reference_look,
    return_key,
    tells_before,
    tells_success,
)
from metarl.report.page.chart import (
    BEFORE,
    Chart,
    Runs,
    adaptation_line,
    bands_in_words,
    dash_of,
    figure_of,
    learning_lines,
    learning_rows,
    listed,
    number,
    seed_line,
    short,
    thinned,
)
from metarl.report.page.task_charts import profile_chart, task_charts
from metarl.report.plots import FAINT, GREY, STEPS, in_time, tell_time, unit_of_time
from metarl.report.training_curve import training_curve
from metarl.rl.evaluation.several_runs import Estimate
from metarl.struct import struct

Numbers = Mapping[str, Any]


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
    if learners and tells_success(found):
        drawn.append(_success(found, look))
    drawn += _training(learners, going, look)
    if learners:
        drawn.append(profile_chart(learners, look))
        drawn += task_charts(learners, look)
    return drawn


def all_looks(learners: Sequence[Learner], going: Sequence[Going]) -> dict[str, Look]:
    """How each learner looks, and each run beside them that is none of theirs."""
    look = looks_of([learner.name for learner in learners])
    others = [run.name for run in going if run.learner is None]
    return look | looks_of(others, taken=look.values())


def _adaptation(found: Numbers, look: Mapping[str, Look]) -> Chart:
    of = found["learners"]
    last = max(len(learner["returns"]) for learner in of) - 1
    traces: list[Any] = []
    for place, learner in enumerate(of):
        aside = _ASIDE * (place - (len(of) - 1) / 2)
        traces += _adaptation_lines(learner, look[learner["name"]], aside, last)
    traces += _lines_beside(found["beside"], last)
    xaxis = counted(found) or "no updates"
    best = max(of, key=lambda learner: learner["returns"][-1]["mean"]["value"])
    return Chart(
        key="adaptation",
        title="How they adapt to held-out tasks" if found["split"] != "none" else "How they adapt",
        note="Mean return of an episode after each update, with its 95 % interval; thin lines are "
        "seeds. Click a name to switch a row off, twice to see it alone.",
        words=f"Line chart of the mean return over {xaxis}, for {listed(look)} and what stands "
        f"beside them. In the end {best['name']} has the highest, "
        f"{number(best['returns'][-1]['mean']['value'])}.",
        head=["row", "state", "mean return", "95 % interval"],
        rows=list(_adaptation_rows(found)),
        figure=figure_of(traces, xaxis, "mean return", x={"dtick": 1, "range": [-0.3, last + 0.3]}),
    )


_ASIDE = 0.05  # that learners' points stand from each other


def _success(found: Numbers, look: Mapping[str, Look]) -> Chart:
    of = [learner for learner in found["learners"] if "success" in learner["returns"][0]]
    last = max(len(learner["returns"]) for learner in found["learners"]) - 1
    traces: list[Any] = []
    rows: list[list[str]] = []
    for place, learner in enumerate(of):
        shares = [row["success"] for row in learner["returns"]]
        aside = _ASIDE * (place - (len(of) - 1) / 2)
        traces.append(_line_of(learner["name"], shares, look[learner["name"]], aside, last))
        for update, share in enumerate(shares):
            # Several seeds of earlier versions have no interval.
            value, low, high = (
                number(100 * share.get(end, math.nan)) for end in ("value", "ci_low", "ci_high")
            )
            state = stage(learner["unit"], update)
            rows.append([learner["name"], state, f"{value} %", f"[{low}, {high}]"])
    beside = found["beside"].get("success", {})
    for name, _, rates, _, _ in _beside(beside):
        for update, rate in enumerate(rates):
            rows.append(
                [name, "" if len(rates) == 1 else str(update), f"{number(100 * rate)} %", ""]
            )
    xaxis = counted(found) or "no updates"
    best = max(of, key=lambda learner: learner["returns"][-1]["success"]["value"])
    share = best["returns"][-1]["success"]["value"]
    return Chart(
        key="success",
        title="How often they solve the task",
        note="Share of episodes that solve their task in any of their steps, after each update, "
        "with its 95 % interval.",
        words=f"Line chart of the share of solved episodes over {xaxis}, for "
        f"{listed(learner['name'] for learner in of)} and what stands beside them. In the end "
        f"{best['name']} has the highest, {100 * share:.0f} %.",
        head=["row", "state", "solved episodes", "95 % interval"],
        rows=rows,
        figure=figure_of(
            [*traces, *_lines_beside(beside, last)],
            *(xaxis, "solved episodes"),
            x={"dtick": 1, "range": [-0.3, last + 0.3]},
            y={"tickformat": ".0%", "range": [-0.03, 1.03]},
        ),
    )


def _adaptation_lines(learner: Numbers, style: Look, aside: float, last: int) -> Iterator[Any]:
    """The mean of a learner after each update, and of each of its seeds; a line across of one that
    has no updates.

    Args: aside: how far its points stand from the others'; last: the last update of any learner.
    """
    name, means = learner["name"], [row["mean"] for row in learner["returns"]]
    x = [k + aside for k in range(len(means))]
    if len(means) > 1 and len(learner["seeds"]) > 1:
        for place, seed in enumerate(learner["seeds"]):
            values = [row["by_seed"][place] for row in learner["returns"]]
            yield seed_line(x, values, name, f"seed {seed}", style)
    yield _line_of(name, means, style, aside, last)


def _line_of(
    name: str, means: Sequence[Estimate], style: Look, aside: float, last: int
) -> go.Scatter:
    """Means after each update; a line across where there is one alone, beside others who adapt."""
    x = [k + aside for k in range(len(means))]
    adapts = len(means) > 1 or last == 0  # Where nobody adapts each is a point.
    if not adapts:
        x, means = [-0.2, last + 0.2], [*means, *means]
    return adaptation_line(x, means, name, style, adapts=adapts)


def _lines_beside(beside: Numbers, last: int) -> Iterator[Any]:
    shown = set[str]()
    for name, group, means, color, dash in _beside(beside):
        yield go.Scatter(
            x=list(range(len(means))) if len(means) > 1 else [-0.2, last + 0.2],
            y=short(means if len(means) > 1 else means * 2),
            mode="lines",
            name=group,
            legendgroup=group,
            line={"color": color, "dash": dash, "width": 1.5},
            showlegend=group not in shown,
            hovertemplate=f"{name}: %{{y:.2f}}",
        )
        shown.add(group)


def _adaptation_rows(found: Numbers) -> Iterator[list[str]]:
    for learner in found["learners"]:
        for row in learner["returns"]:
            value, low, high = (number(row["mean"][end]) for end in ("value", "ci_low", "ci_high"))
            state = stage(learner["unit"], row["update"])
            yield [learner["name"], state, value, f"[{low}, {high}]"]
    for name, _, means, _, _ in _beside(found["beside"]):
        for update, mean in enumerate(means):
            yield [name, "" if len(means) == 1 else str(update), number(mean), ""]


def _beside(beside: Numbers) -> Iterator[tuple[str, str, list[float], str, str]]:
    """What doesn't learn: names, the rows of the legend they belong to, means after each update or
    once for all, colours and dashes."""
    for learner, means in beside.get("random_initialisation", {}).items():
        name = f"random initialisation, adapted as {learner}"
        yield name, "random initialisations", means, GREY, "dot"
    if "stand_still" in beside:
        yield "standing still", "standing still", [beside["stand_still"]], FAINT, "dashdot"
    for name, means in beside.get("references", {}).items():
        words = name.replace("_", " ")
        look = reference_look(name)
        yield words, words, means, look.color, dash_of(look)
    speeds = beside.get("fixed_speeds", {})
    bounds, allowance = speeds.get("bounds", []), speeds.get("allowance", 0)
    less = f", less {allowance:g}" if allowance else ""
    group = f"the best of 1 to {len(bounds)} fixed speeds{less}"
    for bound in bounds:
        count = bound["num_speeds"]
        name = f"the best {f'{count} fixed speeds' if count > 1 else 'fixed speed'}{less}"
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
    without = [learner.name for learner in learners if learner.name not in runs]
    yield _training_over(runs, seeds, alone, look, STEPS, "steps", without)
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
            without=without + [name for name in runs if name not in timed],
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
        traces += learning_lines(name, of, seeds[name], look[name], return_key(of), count[0])
        if tells_before(of):
            is_first = not any(trace.legendgroup == BEFORE for trace in traces)
            line = _before_line(name, of, look[name], count[0])
            visible = True if shows_before else "legendonly"
            traces.append(line.update(showlegend=is_first, visible=visible))
        rows += learning_rows(name, of, return_key(of), count[0])
    for run, of in alone:
        style = look[run.learner or run.name]
        curve = training_curve(of, return_key(of), count[0])
        x, y = thinned(curve.x, curve.mean)
        line = {"color": style.color, "dash": "dot", "width": 1.8}
        traces.append(go.Scatter(x=x, y=y, name=run.name, mode="lines", line=line))
        rows += learning_rows(run.name, of, return_key(of), count[0])
    bands = {len(of) for of in runs.values()}
    note = f"Mean return of training episodes after adaptation, smoothed.{bands_in_words(bands)}"
    if without:
        note += f" Not told by {listed(without)}."
    over = "environment steps" if key == "steps" else "time"
    # SI prefixes suit counts: half an hour would read 500m.
    ticks = {"tickformat": "~s"} if key == "steps" else {}
    return Chart(
        key=f"training_{key}",
        title=f"Training, over {over}",
        note=note,
        words=f"Line chart of the return in training over {count[1]}, for "
        f"{listed([*runs, *(run.name for run, _ in alone)])}.",
        head=["row", count[1], "return after adaptation"],
        rows=rows,
        figure=figure_of(traces, count[1], "return in training", x=ticks),
    )


def _before_line(name: str, of: Runs, style: Look, count: str) -> Any:
    before = training_curve(of, "return_before", count)
    x, y = thinned(before.x, before.mean)
    return go.Scatter(
        x=x,
        y=y,
        name=BEFORE,
        legendgroup=BEFORE,
        mode="lines",
        line={"color": style.color, "dash": "dot", "width": 1.8},
        hovertemplate=f"{name}, before: %{{y:.2f}}",
    )
