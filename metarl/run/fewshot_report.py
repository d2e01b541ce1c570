"""The evaluation of a few-shot learner as a user reads it: evaluation.json, a table, and the table that compares runs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from metarl.errors import UserError
from metarl.fewshot.evaluate import TASKS_AT_A_TIME, adaptation_measures, interval
from metarl.fewshot.losses import OBJECTIVES
from metarl.fewshot.types import FewShotAdapter, Split, TaskSize, TaskSource
from metarl.run.checkpoint import write_atomically
from metarl.run.logging import counted


def evaluate(
    adapter: FewShotAdapter[Any],
    source: TaskSource,
    size: TaskSize,
    *,
    split: Split,
    num_tasks: int,
    num_updates: int | None,
    generator: torch.Generator,
    device: torch.device,
) -> dict[str, Any]:
    """What evaluation.json holds: accuracy (or squared error) after 0, 1, ..., K updates with its interval over tasks.

    Raises: UserError for zero tasks or a negative number of updates.
    """
    num_updates = adapter.num_updates if num_updates is None else num_updates
    if num_tasks < 1 or num_updates < 0:
        raise UserError(f"num_tasks={num_tasks} num_updates={num_updates}: expected at least 1 and 0")
    with counted("evaluating", -(-num_tasks // TASKS_AT_A_TIME)) as advance:
        values = adaptation_measures(
            *(adapter, source, size),
            num_tasks=num_tasks,
            num_updates=num_updates,
            generator=generator,
            split=split,
            device=device,
            on_tasks=advance,
        )
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
        "updates": [{"update": k, **asdict(interval(values[:, k]))} for k in range(num_updates + 1)],
        "by_task": values[:, -1].tolist(),
    }


def write(folder: Path, report: Mapping[str, Any]) -> None:
    """Writes evaluation.json. Raises: UserError if the folder can't be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(report, indent=2)
        write_atomically(folder / "evaluation.json", lambda file: file.write(text.encode()))
    except OSError as error:
        raise UserError(f"can't write the evaluation to {folder}: {error.strerror or error}") from error


def table(report: Mapping[str, Any]) -> str:
    """The report as text for the console."""
    lines = [
        f"{report['dataset']} (spec {report['spec_hash']}), {_task(report)}, "
        f"{report['updates'][0]['num_tasks']} {report['split']} tasks{_transductive(report)}",
        f"{report['measure'] + ' after':>16}  {'mean':>9}  95 % interval",
    ]
    lines += [f"{row['update']:>8} updates  {_shown(report, row)}" for row in report["updates"]]
    return "\n".join(lines)


def comparison(reports: Sequence[Mapping[str, Any]]) -> str:
    """Runs of a sweep side by side, as a Markdown table: a row a run, and one over the seeds where there are several.

    Args: reports: with `name`, what the run was called with, and `seed` besides what `evaluate` gives.
    """
    lines = [
        "| run | seed | tasks | measure | before | after | 95 % interval |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(report["name"] for report in reports):
        runs = [report for report in reports if report["name"] == name]
        lines += [_comparison_row(report, str(report["seed"]), _last(report), report["updates"][0]) for report in runs]
        if len(runs) > 1:
            pooled = interval(torch.tensor([value for report in runs for value in report["by_task"]]))
            before = {"mean": sum(report["updates"][0]["mean"] for report in runs) / len(runs)}
            lines.append(_comparison_row(runs[0], f"all {len(runs)}", asdict(pooled), before))
    return "\n".join(lines)


def _comparison_row(report: Mapping[str, Any], seed: str, row: Mapping[str, Any], before: Mapping[str, Any]) -> str:
    scale, digits = _scale(report)
    low, high = (scale * (row["mean"] + sign * row["half_width"]) for sign in (-1, 1))
    cells = (
        *(report["name"] + _transductive(report), seed, _task(report), report["measure"]),
        *(f"{scale * before['mean']:.{digits}f}", f"{scale * row['mean']:.{digits}f}"),
        f"[{low:.{digits}f}, {high:.{digits}f}]",
    )
    return f"| {' | '.join(cells)} |"


def _shown(report: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    scale, digits = _scale(report)
    return f"{scale * row['mean']:9.{digits}f}  ± {scale * row['half_width']:.{digits}f}"


def _scale(report: Mapping[str, Any]) -> tuple[float, int]:
    """Accuracies are shown in per cent."""
    return (100.0, 2) if report["measure"] == "accuracy" else (1.0, 4)


def _last(report: Mapping[str, Any]) -> Mapping[str, Any]:
    return report["updates"][-1]


def _task(report: Mapping[str, Any]) -> str:
    return str(TaskSize(**{key: report[key] for key in ("ways", "shots", "queries")}))


def _transductive(report: Mapping[str, Any]) -> str:
    return " (transductive)" if report["transductive"] else ""
