"""The charts and the table of a report on few-shot learners as files for a paper: each chart as PDF
and PNG, the table as LaTeX, Markdown and CSV."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from metarl.report import csv_table
from metarl.report.adaptation_plot import Look
from metarl.report.fewshot import scale_of
from metarl.report.fewshot_learners import FewShotLearner, after_each_update, references
from metarl.report.latex import escaped, estimate
from metarl.report.latex import table as as_latex
from metarl.report.learners_plot import draw_means, looks_of
from metarl.report.markdown import table
from metarl.report.page.fewshot import (
    INTERVALS,
    Content,
    columns_and_rows,
    estimates,
    measured_against,
    title,
)
from metarl.report.page.fewshot_measures import (
    scaled_means,
    scaled_metrics,
    with_training,
    with_unit,
)
from metarl.report.page.figures import charts_as_files, figure_with_legend
from metarl.report.plots import GREY, draw_curve, name_count


def files(content: Content) -> dict[str, bytes]:
    """Names and contents of all files, charts under the names that the page has for them."""
    found = charts_as_files(figures(content))
    columns, learners = columns_and_rows(content)
    head = ["learner", "measured", *(head for head, _ in columns)]
    rows = [
        [name, words, *(" ".join(cell or ()).strip() for cell in cells)]
        for name, words, cells in learners
    ]
    of_latex = [
        [
            escaped(name),
            escaped(words),
            *("" if cell is None else estimate(*cell) for cell in cells),
        ]
        for name, words, cells in learners
    ]
    caption = f"{title(content)}. {INTERVALS}"
    texts = {
        "table.tex": as_latex(caption, head, of_latex, num_words=2),
        "table.md": f"{caption}\n\n{table(head, rows)}\n",
        "table.csv": _as_csv(content),
    }
    return found | {name: text.encode() for name, text in texts.items()}


def _as_csv(content: Content) -> str:
    """Accuracies go from 0 to 1."""
    of, other = content.learners, measured_against(content)
    found = [estimates(learner, other) for learner in of]
    keys = [key for key in found[0] if any(row[key] for row in found)]
    head = ["learner", "seeds", "num_seeds", "trained_tasks", "num_updates", "measure", "against"]
    rows = []
    for learner, row in zip(of, found, strict=True):
        seeds = [run.seed for run in learner.runs]
        tasks = [int(run.report.get("trained_tasks") or 0) for run in learner.runs]
        cells = [
            *(learner.name, " ".join(map(str, seeds)), len(seeds)),
            round(sum(tasks) / len(tasks)) if all(tasks) else None,
            len(after_each_update(learner)) - 1,
            *(learner.runs[0].report["measure"], content.against),
        ]
        rows.append((cells, row))
    return csv_table.table(head, keys, rows)


def figures(content: Content) -> dict[str, Figure]:
    """The charts of a report by their names."""
    of, name = content.learners, title(content)
    looks = looks_of([learner.name for learner in of])
    found = {"adaptation": figure_with_legend(name, lambda axes: _draw_adaptation(axes, of, looks))}
    if trained := with_training(of):
        found["training_tasks"] = figure_with_legend(
            name, lambda axes: _draw_training(axes, trained, looks)
        )
    return found


def _draw_adaptation(axes: Axes, of: Sequence[FewShotLearner], looks: Mapping[str, Look]) -> None:
    report = of[0].runs[0].report
    draw_means(axes, [(learner.name, scaled_means(learner), looks[learner.name]) for learner in of])
    named = set[str]()
    for learner in of:
        for name, numbers in references(learner).items():
            there = [(k, value) for k, value in enumerate(numbers) if value is not None]
            values = [scale_of(report)[0] * value for _, value in there]
            label = None if name in named else name
            named.add(name)
            if len(numbers) == 1 and values:
                axes.axhline(values[0], color=GREY, ls=":", lw=1.5, label=label)
            else:
                axes.plot([k for k, _ in there], values, color=GREY, ls=":", lw=1.5, label=label)
    axes.set_xlabel("updates on the task")
    axes.set_ylabel(f"{with_unit(report)} on {report['split']} tasks\nwith its 95 % interval")


def _draw_training(axes: Axes, of: Sequence[FewShotLearner], looks: Mapping[str, Look]) -> None:
    report, count = of[0].runs[0].report, ("tasks", "training tasks")
    for learner in of:
        look = looks[learner.name]
        draw_curve(
            *(axes, scaled_metrics(learner), report["measure"]),
            color=look.color,
            dashes=look.dashes,
            label=learner.name,
            count=count,
        )
    name_count(axes, count)
    axes.set_ylabel(f"{with_unit(report)} on training tasks")
