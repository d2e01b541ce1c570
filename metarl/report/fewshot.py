"""The evaluation of a few-shot learner as a user reads it: evaluation.json, a table, and the table
that compares runs."""

import json
import math
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metarl.errors import UserError
from metarl.fewshot.evaluate import (
    TASKS_AT_A_TIME,
    adaptation_measures,
    interval,
    interval_over_seeds_and_tasks,
)
from metarl.fewshot.losses import OBJECTIVES
from metarl.fewshot.types import FewShotAdapter, Split, TaskSize, TaskSource
from metarl.files import make_folder, write_text
from metarl.run.progress import counted


def evaluate(
    adapter: FewShotAdapter[Any],
    source: TaskSource,
    size: TaskSize,
    *,
    split: Split,
    num_tasks: int,
    num_updates: int | None,
    tasks: Callable[[], torch.Generator],
    device: torch.device,
    references: Mapping[str, FewShotAdapter[Any]] | None = None,
) -> dict[str, Any]:
    """What evaluation.json holds: accuracy (or squared error) after 0, 1, ..., K updates with its
    interval over tasks, and of each task the last one (`by_task`) and those before.

    Args:
      tasks: a new generator of the tasks, in the same state at each call.
      references: what to compare with, by name; measured on the same tasks, each after its own
        number of updates.
    Raises: UserError for zero tasks or a negative number of updates.
    """
    check_counts(num_tasks, num_updates)
    num_updates = adapter.num_updates if num_updates is None else num_updates
    references = references or {}
    chunks = -(-num_tasks // TASKS_AT_A_TIME) * (1 + len(references))
    with counted(f"evaluating on {num_tasks} tasks", chunks) as advance:

        def measured(one: FewShotAdapter[Any], updates: int) -> Tensor:
            return adaptation_measures(
                *(one, source, size),
                num_tasks=num_tasks,
                num_updates=updates,
                generator=tasks(),
                split=split,
                device=device,
                on_tasks=advance,
            )

        values = measured(adapter, num_updates)
        beside = {name: _rows(measured(one, one.num_updates)) for name, one in references.items()}
    return {
        "dataset": source.spec.name,
        "spec_hash": source.spec.spec_hash,
        "definition": source.spec.definition,
        "split": split,
        "ways": size.ways,
        "shots": size.shots,
        "queries": size.queries,
        "measure": OBJECTIVES[source.spec.kind].measure_name,
        "transductive": adapter.transductive,
        "num_updates": num_updates,
        "updates": _rows(values),
        "references": beside,
        "by_task": _by_task(values[:, -1]),
        "by_task_before": [_by_task(column) for column in values[:, :-1].unbind(1)],
    }


def _by_task(column: Tensor) -> list[float | None]:
    """The numbers of the tasks [N]; JSON knows no infinity."""
    return [value if math.isfinite(value) else None for value in column.tolist()]


def check_counts(num_tasks: int, num_updates: int | None) -> None:
    """Raises: UserError for zero tasks or a negative number of updates."""
    if num_tasks < 1:
        raise UserError(f"num_tasks={num_tasks}: expected 1 or more")
    if num_updates is not None and num_updates < 0:
        raise UserError(f"num_updates={num_updates}: expected 0 or more")


def instances(measures: Tensor) -> list[dict[str, Any]]:
    """Returns how well a learner answers that reads its examples one by one: accuracy (or squared
    error) where a class is met for the 1st, 2nd, ... time, with its interval over tasks. Args:
    measures: [N, instances]."""
    return _rows(measures, name="instance", first=1)


def _rows(values: Tensor, name: str = "update", first: int = 0) -> list[dict[str, Any]]:
    """Returns the mean and interval of each column of [N, K]; both are None where a task's value
    isn't finite, beside how many aren't."""
    rows = []
    for number, column in enumerate(values.unbind(1), start=first):
        bad = int((~column.isfinite()).sum())
        found = (
            asdict(interval(column))
            if bad == 0
            else {"mean": None, "half_width": None, "num_tasks": len(column)}
        )
        rows.append({name: number, **found, **({"diverged": bad} if bad else {})})
    return rows


def write(folder: Path, report: Mapping[str, Any]) -> None:
    """Writes evaluation.json. Raises: UserError if the folder can't be written to."""
    try:
        make_folder(folder)
        write_text(folder / "evaluation.json", json.dumps(report, indent=2))
    except OSError as error:
        raise UserError(
            f"can't write the evaluation to {folder}: {error.strerror or error}"
        ) from error


def table(report: Mapping[str, Any]) -> str:
    """The report as text for the console."""
    lines = [
        f"{report['dataset']} (spec {report['spec_hash']}), {task_of(report)}, "
        f"{report['updates'][0]['num_tasks']} {report['split']} tasks{_transductive(report)}",
        f"{report['measure'] + ' after':>16}  {'mean':>9}  95 % interval",
    ]
    lines += [f"{_updates(row)}  {_shown(report, row)}" for row in report["updates"]]
    for name, rows in report.get("references", {}).items():
        lines.append(f"{_updates(rows[-1])}  {_shown(report, rows[-1])}  {name}")
    if "instances" in report:
        lines.append("one example after the other, where a class is met for the")
        lines += [
            f"{row['instance']:>8}. time   {_shown(report, row)}" for row in report["instances"]
        ]
    return "\n".join(lines)


def _updates(row: Mapping[str, Any]) -> str:
    return f"{row['update']:>8} update{' ' if row['update'] == 1 else 's'}"


def comparison(reports: Sequence[Mapping[str, Any]]) -> str:
    """Runs of a sweep side by side, as a Markdown table: a row a run, and one over the seeds where
    there are several, with the interval of `metarl.fewshot.evaluate.interval_over_seeds_and_tasks`.

    Args: reports: what `evaluate` gives and with it `learner`, `seed`, and `overrides`, what the
    run was called with.
    """
    lines = [
        "| run | seed | tasks | measure | before | after | 95 % interval |",
        "|---|---|---|---|---|---|---|",
    ]
    shared = set.intersection(*(set(report["overrides"]) for report in reports))
    runs_of: dict[str, list[Mapping[str, Any]]] = {}
    for report in reports:
        runs_of.setdefault(_name(report, shared), []).append(report)
    for name, runs in runs_of.items():
        for report in runs:
            lines.append(_comparison_row(name, str(report["seed"]), report))
        if len(runs) > 1:
            lines.append(_comparison_row(name, f"all {len(runs)}", _over_seeds(runs)))
    return "\n".join(lines)


def _over_seeds(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One report of several that differ by their seed: means before and after, and the interval
    over seeds and tasks."""
    # A longer list of tasks starts with the shorter one.
    num_tasks = min(len(report["by_task"]) for report in runs)
    values = torch.tensor(
        [[math.inf if x is None else x for x in report["by_task"][:num_tasks]] for report in runs],
        dtype=torch.float64,
    )
    before = [report["updates"][0]["mean"] for report in runs]
    mean_before = None if None in before else sum(before) / len(before)
    finite = bool(values.isfinite().all())
    after = (
        asdict(interval_over_seeds_and_tasks(values))
        if finite
        else {"mean": None, "half_width": None}
    )
    return {**runs[0], "updates": [{"mean": mean_before}, after]}


def _name(report: Mapping[str, Any], shared: Set[str]) -> str:
    """The learner, and whatever else makes this run another than those beside it."""
    own = [word for word in report["overrides"] if word not in shared]
    return ", ".join(
        [report["learner"], *(word for word in own if not word.startswith(("learner=", "seed=")))]
    )


def _comparison_row(name: str, seed: str, report: Mapping[str, Any]) -> str:
    (scale, digits), row = scale_of(report), report["updates"][-1]
    shown = lambda value: "diverged" if value is None else f"{scale * value:z.{digits}f}"
    ends = (
        "" if row["mean"] is None else [row["mean"] + sign * row["half_width"] for sign in (-1, 1)]
    )
    cells = (
        *(
            name + _transductive(report),
            seed,
            f"{report['dataset']}, {task_of(report)}",
            report["measure"],
        ),
        *(
            shown(report["updates"][0]["mean"]),
            shown(row["mean"]),
            f"[{', '.join(map(shown, ends))}]",
        ),
    )
    return f"| {' | '.join(cells)} |"


def _shown(report: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    scale, digits = scale_of(report)
    if row["mean"] is None:
        return f"{row['diverged']} of {row['num_tasks']} tasks diverged"
    return f"{scale * row['mean']:z9.{digits}f}  ± {scale * row['half_width']:z.{digits}f}"


def scale_of(report: Mapping[str, Any]) -> tuple[float, int]:
    """The factor and the decimals that measures are shown with: accuracies in per cent."""
    return (100.0, 2) if report["measure"] == "accuracy" else (1.0, 4)


def task_of(report: Mapping[str, Any]) -> str:
    """The size of its tasks, in words."""
    return str(TaskSize(**{key: report[key] for key in ("ways", "shots", "queries")}))


def _transductive(report: Mapping[str, Any]) -> str:
    return " (transductive)" if report["transductive"] else ""
