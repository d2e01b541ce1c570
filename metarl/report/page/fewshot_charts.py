"""The charts of the page on few-shot learners: how they adapt, and how their training went."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from metarl.report.adaptation_plot import Look
from metarl.report.fewshot import scale_of
from metarl.report.fewshot_learners import (
    FewShotLearner,
    after_each_update,
    references,
)
from metarl.report.learners_plot import looks_of
from metarl.report.page.chart import (
    Chart,
    adaptation_line,
    bands_in_words,
    figure_of,
    learning_lines,
    learning_rows,
    listed,
    seed_line,
)
from metarl.report.page.fewshot_measures import (
    cell,
    in_words,
    scaled_means,
    scaled_metrics,
    with_training,
    with_unit,
)
from metarl.report.plots import GREY


def charts(of: Sequence[FewShotLearner]) -> Iterator[Chart]:
    """The charts that the learners tell enough for."""
    look = looks_of([learner.name for learner in of])
    yield _adaptation(of, look)
    if trained := with_training(of):
        yield _training(trained, look, without=[of.name for of in of if of not in trained])


def _adaptation(of: Sequence[FewShotLearner], look: Mapping[str, Look]) -> Chart:
    report = of[0].runs[0].report
    (scale, _), words = scale_of(report), in_words(report)
    last = max(len(after_each_update(learner)) for learner in of) - 1
    traces: list[Any] = []
    rows: list[list[str]] = []
    for place, learner in enumerate(of):
        means, name = after_each_update(learner), learner.name
        there = [(k, mean) for k, mean in enumerate(means) if mean is not None]
        aside = 0.05 * (place - (len(of) - 1) / 2)
        x = [k + aside for k, _ in there]
        if len(learner.runs) > 1:
            for run in learner.runs:
                values = [scale * run.report["updates"][k]["mean"] for k, _ in there]
                traces.append(seed_line(x, values, name, f"seed {run.seed}", look[name]))
        scaled = [mean for mean in scaled_means(learner) if mean is not None]
        traces.append(adaptation_line(x, scaled, name, look[name]))
        rows += [[name, str(k), *cell(report, mean)] for k, mean in enumerate(means)]
    shown = set[str]()
    for learner in of:
        for name, numbers in references(learner).items():
            finite = [None if value is None else scale * value for value in numbers]
            traces.append(_dotted(f"{name}, {learner.name}", name, finite, name not in shown))
            shown.add(name)
    return Chart(
        key="adaptation",
        title="How they adapt to held-out tasks",
        note=f"Mean {words} on the questions of a task after each update on its examples, with its "
        "95 % interval. Click a name to switch a row off, twice to see it alone.",
        words=f"Line chart of the mean {words} over updates, for {listed(look)}.",
        head=["row", "updates", words, "95 % interval"],
        rows=rows,
        figure=figure_of(
            traces, "updates on the task", with_unit(report), x={"range": [-0.3, last + 0.3]}
        ),
    )


def _dotted(name: str, group: str, values: Sequence[float | None], is_first: bool) -> Any:
    return go.Scatter(
        x=list(range(len(values))),
        y=values,
        mode="lines+markers" if len(values) == 1 else "lines",
        name=group,
        legendgroup=group,
        showlegend=is_first,
        line={"color": GREY, "dash": "dot", "width": 1.5},
        hovertemplate=f"{name}: %{{y:.2f}}",
    )


def _training(
    of: Sequence[FewShotLearner], look: Mapping[str, Look], without: Sequence[str]
) -> Chart:
    report = of[0].runs[0].report
    key, words = report["measure"], in_words(report)
    traces: list[Any] = []
    rows: list[list[str]] = []
    for learner in of:
        metrics = scaled_metrics(learner)
        seeds = [run.seed for run in learner.runs]
        traces += learning_lines(learner.name, metrics, seeds, look[learner.name], key, "tasks")
        rows += learning_rows(learner.name, metrics, key, "tasks")
    bands = bands_in_words([len(learner.runs) for learner in of])
    missing = f" Not told by {listed(without)}." if without else ""
    return Chart(
        key="training_tasks",
        title="Training, over tasks",
        note=f"Mean {words} on the questions of training tasks, smoothed.{bands}{missing}",
        words=f"Line chart of the {words} in training over training tasks, for "
        f"{listed(learner.name for learner in of)}.",
        head=["row", "training tasks", words],
        rows=rows,
        figure=figure_of(traces, "training tasks", with_unit(report), x={"tickformat": "~s"}),
    )
