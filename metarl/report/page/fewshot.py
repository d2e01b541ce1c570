"""The page on few-shot learners: the table, how they adapt, their training, and the pictures that
lie in the folders of the runs."""

import base64
import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from metarl.errors import UserError
from metarl.report.adaptation_plot import Look
from metarl.report.fewshot import scale_of, task_of
from metarl.report.fewshot_learners import (
    FewShotLearner,
    FewShotRun,
    after_each_update,
    few_shot_learners,
    references,
)
from metarl.report.learners import checked_names
from metarl.report.learners_plot import looks_of
from metarl.report.markdown import table
from metarl.report.page import provenance
from metarl.report.page.chart import (
    Chart,
    adaptation_line,
    figure_of,
    learning_lines,
    learning_rows,
    listed,
    seed_line,
    what_bands_are,
)
from metarl.report.page.films import Film
from metarl.report.page.html import Page
from metarl.report.page.provenance import Facts
from metarl.report.plots import GREY
from metarl.report.summary import compared_with
from metarl.report.summary_table import seeds_in_words
from metarl.rl.evaluation.several_runs import Estimate, probability_of_improvement
from metarl.run.logging import human

Cell = tuple[str, str] | None


def gathered(
    runs: Sequence[FewShotRun],
    begun: Sequence[Path],
    *,
    names: Sequence[str] | None,
    against: str | None,
    command: str,
) -> tuple[Page, list[str]]:
    """Returns the page, and a line for each run that is left out.

    Args:
      begun: the folders of runs that have no evaluation.
      names: of the learners in their order, None for those that their settings give them.
      against: the name of a learner, None for the first one.
    Raises: UserError for runs that don't belong together, or none with an evaluation.
    """
    notes = [f"left out: {place} has no evaluation yet" for place in begun]
    if not runs:
        raise UserError(f"runs: none of the {len(begun)} few-shot runs has an evaluation yet")
    found = few_shot_learners(runs)
    called = checked_names(names, [learner.name for learner in found])
    of = [replace(learner, name=name) for learner, name in zip(found, called, strict=True)]
    against = compared_with(called, against)
    other = next((learner for learner in of if learner.name == against), None)
    first, measure = runs[0].report, _in_words(runs[0].report)
    rows = [_row(learner, other) for learner in of]
    shown = [place for place, _ in enumerate(_COLUMNS) if any(row[place] for row in rows)]
    heads = [(head.format(against), text.format(measure, against)) for head, text in _COLUMNS]
    return Page(
        title=f"{first['dataset']}, {task_of(first)}",
        lead=[_sentence(learner) for learner in of],
        problem=_problem(of),
        code=provenance.code(runs, [], "tasks"),
        columns=[heads[place] for place in shown],
        table=[
            (learner.name, _described(learner), [row[place] for place in shown])
            for learner, row in zip(of, rows, strict=True)
        ],
        intervals="In brackets: 95 % intervals over tasks, and of several seeds over these, too.",
        charts=list(_charts(of, looks_of([learner.name for learner in of]))),
        beside=list(_beside(of)),
        beside_note="On the same tasks. A learner is worth its training if it beats them.",
        beside_head=f"{measure} after the last update",
        films=[],
        pictures=list(_pictures(of)),
        going=[],
        run_head=["learner", "seed", "tasks", "training", "memory", "commit", "evaluation"],
        run_rows=[
            provenance.run_row(learner.name, run, run.report.get("trained_tasks"))
            for learner in of
            for run in learner.runs
        ],
        commands=[
            (of.name, provenance.commands(of.runs), provenance.settings(of.runs)) for of in of
        ],
        command=command,
    ), notes


def files(page: Page) -> dict[str, bytes]:
    """The table as Markdown and CSV, by the names of their files."""
    heads = ["learner", "measured", *(head for head, _ in page.columns)]
    rows = [
        [name, words, *(" ".join(cell or ()).strip() for cell in cells)]
        for name, words, cells in page.table
    ]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([heads, *rows])
    shown = f"{page.title}. {page.intervals}\n\n{table(heads, rows)}\n"
    return {"table.md": shown.encode(), "table.csv": text.getvalue().encode()}


_COLUMNS = (
    ("before", "mean {0} before any update"),
    ("after", "mean {0} after the last update"),
    ("beats {0}", "probability that a new run has a better {0} than one of {1} on a new task"),
)


def _row(learner: FewShotLearner, other: FewShotLearner | None) -> list[Cell]:
    """The cells of `_COLUMNS`."""
    report, means = learner.runs[0].report, after_each_update(learner)
    better: Cell = None
    if other is not None and other is not learner:
        sign = 1.0 if report["measure"] == "accuracy" else -1.0
        ours, theirs = (sign * of.by_task.unsqueeze(2) for of in (learner, other))
        better = _shown(probability_of_improvement(ours, theirs), 100.0, 0, " %")
    before = means[0] if len(means) > 1 else None
    return [None if before is None else _cell(report, before), _cell(report, means[-1]), better]


def _cell(report: Mapping[str, Any], estimate: Estimate | None) -> tuple[str, str]:
    scale, digits = scale_of(report)
    unit = " %" if report["measure"] == "accuracy" else ""
    return ("diverged", "") if estimate is None else _shown(estimate, scale, digits, unit)


def _shown(estimate: Estimate, scale: float, digits: int, unit: str) -> tuple[str, str]:
    value, low, high = (
        f"{scale * estimate[end]:.{digits}f}" for end in ("value", "ci_low", "ci_high")
    )
    return f"{value}{unit}", f"[{low}, {high}]"


def _sentence(learner: FewShotLearner) -> str:
    """What a learner comes to, for who reads nothing else."""
    report, means = learner.runs[0].report, after_each_update(learner)
    end = " ".join(_cell(report, means[-1])).strip()
    before = f"{_cell(report, means[0])[0]} at first and " if len(means) > 1 else ""
    updates = len(means) - 1
    return (
        f"{learner.name} ({_seeds(learner)}): a mean {_in_words(report)} of {before}{end} after "
        f"{updates} update{'' if updates == 1 else 's'}."
    )


def _in_words(report: Mapping[str, Any]) -> str:
    return {"mse": "squared error"}.get(report["measure"], str(report["measure"]))


def _seeds(learner: FewShotLearner) -> str:
    seeds = [run.seed for run in learner.runs]
    return f"seed{'s' if len(seeds) > 1 else ''} {seeds_in_words(seeds)}"


def _described(learner: FewShotLearner) -> str:
    updates = len(after_each_update(learner)) - 1
    tasks = [int(run.report.get("trained_tasks") or 0) for run in learner.runs]
    trained = f"; {human(sum(tasks) // len(tasks))} training tasks" if all(tasks) else ""
    return f"after {updates} update{'' if updates == 1 else 's'}; {_seeds(learner)}{trained}"


def _problem(of: Sequence[FewShotLearner]) -> Facts:
    report = of[0].runs[0].report
    return [
        ("data", str(report["dataset"])),
        ("spec hash", str(report["spec_hash"])),
        ("task", task_of(report)),
        (
            "questions",
            f"{report['queries']} of each class" if report["ways"] > 1 else str(report["queries"]),
        ),
        ("tasks", f"{len(report['by_task'])}, of the {report['split']} split"),
        ("measure", _in_words(report)),
    ]


def _charts(of: Sequence[FewShotLearner], look: Mapping[str, Look]) -> Iterator[Chart]:
    yield _adaptation(of, look)
    measure = of[0].runs[0].report["measure"]
    trained = [
        learner
        for learner in of
        if all(run.metrics for run in learner.runs)
        and all({measure, "tasks"} <= row.keys() for run in learner.runs for row in run.metrics)
    ]
    if trained:
        yield _training(trained, look, without=[of.name for of in of if of not in trained])


def _adaptation(of: Sequence[FewShotLearner], look: Mapping[str, Look]) -> Chart:
    report = of[0].runs[0].report
    (scale, _), words = scale_of(report), _in_words(report)
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
        scaled = [{end: scale * value for end, value in mean.items()} for _, mean in there]
        traces.append(adaptation_line(x, scaled, name, look[name]))
        rows += [[name, str(k), *_cell(report, mean)] for k, mean in enumerate(means)]
    shown = set[str]()
    for learner in of:
        for name, numbers in references(learner).items():
            finite = [None if value is None else scale * value for value in numbers]
            traces.append(_dotted(f"{name}, {learner.name}", name, finite, name not in shown))
            shown.add(name)
    unit = " in %" if report["measure"] == "accuracy" else ""
    return Chart(
        key="adaptation",
        title="How they adapt to held-out tasks",
        note=f"Mean {words} on the questions of a task after each update on its examples, with its "
        "95 % interval. Click a name to switch a row off, twice to see it alone.",
        words=f"Line chart of the mean {words} over updates, for {listed(look)}.",
        head=["row", "updates", words, "95 % interval"],
        rows=rows,
        figure=figure_of(
            traces, "updates on the task", words + unit, x={"range": [-0.3, last + 0.3]}
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
    key, words, (scale, _) = report["measure"], _in_words(report), scale_of(report)
    traces: list[Any] = []
    rows: list[list[str]] = []
    for learner in of:
        metrics = [[row | {key: scale * row[key]} for row in run.metrics] for run in learner.runs]
        seeds = [run.seed for run in learner.runs]
        traces += learning_lines(learner.name, metrics, seeds, look[learner.name], key, "tasks")
        rows += learning_rows(learner.name, metrics, key, "tasks")
    unit = " in %" if key == "accuracy" else ""
    bands = what_bands_are([len(learner.runs) for learner in of])
    missing = f" Not told by {listed(without)}." if without else ""
    return Chart(
        key="training_tasks",
        title="Training, over tasks",
        note=f"Mean {words} on the questions of training tasks, smoothed.{bands}{missing}",
        words=f"Line chart of the {words} in training over training tasks, for "
        f"{listed(learner.name for learner in of)}.",
        head=["row", "training tasks", words],
        rows=rows,
        figure=figure_of(traces, "training tasks", words + unit, x={"tickformat": "~s"}),
    )


def _beside(of: Sequence[FewShotLearner]) -> Iterator[tuple[str, str]]:
    for learner in of:
        report = learner.runs[0].report
        (scale, digits), unit = scale_of(report), " %" if report["measure"] == "accuracy" else ""
        for name, means in references(learner).items():
            last = means[-1]
            text = "diverged" if last is None else f"{scale * last:.{digits}f}{unit}"
            yield f"{learner.name}: {name}", text


def _pictures(of: Sequence[FewShotLearner]) -> Iterator[Film]:
    """What the first run of each learner drew of a few tasks."""
    for learner in of:
        run = learner.runs[0]
        for name in ("tasks.png", "curves.png"):
            file = run.place.with_name(name)
            if file.is_file() and (content := file.read_bytes()):
                source = f"data:image/png;base64,{base64.b64encode(content).decode()}"
                yield Film(title=f"{learner.name}, seed {run.seed}", source=source)
