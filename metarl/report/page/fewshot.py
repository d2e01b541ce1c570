"""What a report on few-shot learners says, and its page: the table, how they adapt, their training,
and the pictures that lie in the folders of the runs."""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from metarl.errors import UserError
from metarl.report.fewshot import scale_of, task_of
from metarl.report.fewshot_learners import (
    FewShotLearner,
    FewShotRun,
    after_each_update,
    few_shot_learners,
    references,
)
from metarl.report.learners import checked_names
from metarl.report.page import provenance
from metarl.report.page.fewshot_charts import charts
from metarl.report.page.fewshot_measures import cell, estimated, in_words
from metarl.report.page.films import Film
from metarl.report.page.html import Page
from metarl.report.page.provenance import Facts
from metarl.report.summary import compared_with
from metarl.report.summary_table import seeds_in_words
from metarl.rl.evaluation.several_runs import Estimate, probability_of_improvement
from metarl.run.shown import human

Cell = tuple[str, str] | None


@dataclass(frozen=True, kw_only=True)
class Content:
    """What is compared."""

    learners: list[FewShotLearner]
    against: str | None
    """The learner that the others are set against; None if it is alone."""
    command: str
    """What made the report."""


def gathered(
    runs: Sequence[FewShotRun],
    begun: Sequence[Path],
    *,
    names: Sequence[str] | None,
    against: str | None,
    command: str,
) -> tuple[Content, list[str]]:
    """Returns what the report shows, and a line for each run that is left out.

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
    return Content(learners=of, against=compared_with(called, against), command=command), notes


def title(content: Content) -> str:
    """Data and task size, which all have in common."""
    report = content.learners[0].runs[0].report
    return f"{report['dataset']}, {task_of(report)}"


INTERVALS = "In brackets: 95 % intervals over tasks, and of several seeds over these, too."


def page(content: Content) -> Page:
    """The page on these learners."""
    of = content.learners
    runs = [run for learner in of for run in learner.runs]
    columns, rows = columns_and_rows(content)
    return Page(
        title=title(content),
        lead=[_sentence(learner) for learner in of],
        problem=_problem(of),
        code=provenance.code(runs, [], "tasks"),
        columns=columns,
        table=rows,
        intervals=INTERVALS,
        charts=list(charts(of)),
        beside=list(_beside(of)),
        beside_note="On the same tasks. A learner is worth its training if it beats them.",
        beside_head=f"{in_words(runs[0].report)} after the last update",
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
        command=content.command,
    )


def columns_and_rows(
    content: Content,
) -> tuple[list[tuple[str, str]], list[tuple[str, str, list[Cell]]]]:
    """The columns of the table that say something, each with what it means, and of each learner its
    name, how it was measured, and its cells."""
    of, against = content.learners, content.against
    other = measured_against(content)
    measure = in_words(of[0].runs[0].report)
    rows = [_row(learner, other) for learner in of]
    shown = [place for place, _ in enumerate(_COLUMNS) if any(row[place] for row in rows)]
    heads = [(head.format(against), text.format(measure, against)) for head, text in _COLUMNS]
    return [heads[place] for place in shown], [
        (learner.name, _described(learner), [row[place] for place in shown])
        for learner, row in zip(of, rows, strict=True)
    ]


_COLUMNS = (
    ("before", "mean {0} before any update"),
    ("after", "mean {0} after the last update"),
    ("beats {0}", "probability that a new run has a better {0} than one of {1} on a new task"),
)


def _row(learner: FewShotLearner, other: FewShotLearner | None) -> list[Cell]:
    """The cells of `_COLUMNS`."""
    report, found = learner.runs[0].report, estimates(learner, other)
    before, better = found["before"], found["better"]
    return [
        None if before is None else cell(report, before),
        cell(report, found["after"]),
        None if better is None else estimated(better, 100.0, 0, " %"),
    ]


def estimates(learner: FewShotLearner, other: FewShotLearner | None) -> dict[str, Estimate | None]:
    """What the columns of the table say of a learner, as numbers: the mean `before` and `after` all
    updates, None where a task diverged, and the probability that it is `better` than the other one.
    """
    means = after_each_update(learner)
    found = {"before": means[0] if len(means) > 1 else None, "after": means[-1], "better": None}
    if other is not None and other is not learner:
        found["better"] = probability_of_improvement(*_scores(learner, other))
    return found


def measured_against(content: Content) -> FewShotLearner | None:
    """The learner that the others are set against."""
    return next((of for of in content.learners if of.name == content.against), None)


def _scores(*of: FewShotLearner) -> list[Tensor]:
    """[S, N] of each learner, for comparisons: more is better, and a task that diverged has less
    than any that didn't."""
    sign = 1.0 if of[0].runs[0].report["measure"] == "accuracy" else -1.0
    finite = [values[values.isfinite()] for values in (sign * learner.by_task for learner in of)]
    least = min((values.min().item() for values in finite if len(values)), default=0.0) - 1.0
    return [
        torch.where(learner.by_task.isfinite(), sign * learner.by_task, least) for learner in of
    ]


def _sentence(learner: FewShotLearner) -> str:
    """What a learner comes to, for who reads nothing else."""
    report, means = learner.runs[0].report, after_each_update(learner)
    end = " ".join(cell(report, means[-1])).strip()
    before = f"{cell(report, means[0])[0]} at first and " if len(means) > 1 else ""
    updates = len(means) - 1
    return (
        f"{learner.name} ({_seeds(learner)}): a mean {in_words(report)} of {before}{end} after "
        f"{updates} update{'' if updates == 1 else 's'}."
    )


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
        ("measure", in_words(report)),
    ]


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
