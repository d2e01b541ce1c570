"""What the evaluations of several seeds of one configuration say together, as a user reads it."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from metarl.errors import UserError
from metarl.report.evaluation import (
    diverged_lines,
    episodes_in_words,
    lines_apart,
    lines_beside,
    stage,
    table_row,
    tasks_in_words,
)
from metarl.rl.evaluation.several_runs import Estimate, across_runs, over, success_across_runs

_SAME = (
    *(
        "env",
        "family",
        "variant",
        "spec_hash",
        "made_by",
        "split",
        "algo",
        "num_tasks",
        "episodes_per_task",
    ),
    *("num_updates", "unit", "deterministic", "iteration"),
)
"""What the evaluations of all seeds have in common."""

_SUCCESS = {"value": "success_rate", "ci_low": "success_ci_low", "ci_high": "success_ci_high"}
"""What an evaluation's rows call the parts of an estimate."""


def together(
    reports: Sequence[Mapping[str, Any]], *, diverged: Sequence[int] = ()
) -> dict[str, Any]:
    """What evaluation.json holds above the folders of the seeds: its words, where it says the same.

    Args:
      reports: the evaluation.json of each seed, on the same tasks.
      diverged: seeds that have none because they diverged.
    Raises: UserError naming a seed that was evaluated otherwise than the first.
    """
    seeds, first = [report["seed"] for report in reports], reports[0]
    for report in reports:
        for key in ("num_tasks", "episodes_per_task", "num_updates"):
            if report.get(key) != first.get(key):
                raise UserError(
                    f"seed {report['seed']} was evaluated with {key}={report.get(key)}, seed "
                    f"{first['seed']} with {first.get(key)}; expected the same of all"
                )
    returns = torch.stack([_returns(report) for report in reports])  # [S, N, K + 1, E]
    generator = torch.Generator().manual_seed(seeds[0])
    rows = _of_updates(returns, generator)
    found = {
        **{
            key: first[key]
            for key in _SAME
            if key in first and all(report.get(key) == first[key] for report in reports)
        },
        "seed": ", ".join(map(str, seeds)),
        "seeds": seeds,
        **({"seeds_diverged": list(diverged)} if diverged else {}),
        "over": over(len(seeds), returns.shape[1]),
        "diverged_episodes": sum(report.get("diverged_episodes", 0) for report in reports),
        "returns": rows,
    }
    _add_success(rows, reports)
    if all("kind" in task for report in reports for task in report["tasks"]):
        found["returns_by_task"] = _by_kind(reports, generator)
    if all("random_initialisation" in report for report in reports):
        of_updates = zip(*(report["random_initialisation"] for report in reports), strict=False)
        found["random_initialisation"] = [
            {"update": of[0]["update"], **_mean_of(of)} for of in of_updates
        ]
    if all("stand_still" in report for report in reports):
        found["stand_still"] = _mean_of([report["stand_still"] for report in reports])
    if len(rows) > 1:
        # Episodes before and after are no pairs: tasks are.
        gains = returns[:, :, -1].mean(2) - returns[:, :, 0].mean(2)
        found["adaptation_gain_of_all_updates"] = _summary(gains, generator)
    return found


def table(report: Mapping[str, Any]) -> str:
    """The report as text for the console."""
    unit, rows = report["unit"], report["returns"]
    lines = [
        f"{report['env']}, {report['algo']}, seeds {report['seed']}: "
        f"{tasks_in_words(report['num_tasks'], report['split'])}; "
        f"{episodes_in_words(report['episodes_per_task'])} of each",
        f"{'return':>26}  {'mean':>9}  {'IQM':>9}  95 % interval of the IQM, {report['over']}",
        *(table_row(stage(unit, row["update"]), row) for row in rows),
        *lines_beside(report),
        *lines_apart(report),
    ]
    if len(rows) > 1:
        name = f"gain to {'the end' if unit == 'update' else stage(unit, rows[-1]['update'])}"
        lines.append(table_row(name, report["adaptation_gain_of_all_updates"]))
    if "iteration" not in report:
        lines.append("seeds of this table were trained for different numbers of iterations")
    if lost := report.get("seeds_diverged"):
        lines.append(
            f"seed{'s' if len(lost) > 1 else ''} {', '.join(map(str, lost))} diverged and "
            f"{'are' if len(lost) > 1 else 'is'} left out: the numbers are of those that didn't"
        )
    lines += diverged_lines(report)
    return "\n".join(lines)


def success(reports: Sequence[Mapping[str, Any]]) -> list[Estimate]:
    """The share of solved episodes after each update, over seeds and tasks; nothing where one of
    the seeds doesn't tell it. Several seeds of earlier versions, which kept the rates alone, have
    no interval."""
    tasks = [report["tasks"] for report in reports]
    if all("solved" in task for of in tasks for task in of):
        solved = torch.tensor([[task["solved"] for task in of] for of in tasks], dtype=torch.bool)
        return [success_across_runs(after) for after in solved.unbind(2)]
    of_seeds = [report.get("returns", ()) for report in reports]
    if not all(rows and all("success_rate" in row for row in rows) for rows in of_seeds):
        return []
    if len(of_seeds) == 1:
        return [
            {k: row[name] for k, name in _SUCCESS.items() if name in row} for row in of_seeds[0]
        ]
    rates = [[row["success_rate"] for row in rows] for rows in of_seeds]
    return [{"value": sum(of) / len(of)} for of in zip(*rates, strict=True)]


def _returns(report: Mapping[str, Any]) -> Tensor:
    """Returns the returns [N, K + 1, E] that a report holds."""
    return torch.tensor([task["episodes"] for task in report["tasks"]], dtype=torch.float64)


def _by_kind(
    reports: Sequence[Mapping[str, Any]], generator: torch.Generator
) -> dict[str, list[dict[str, float]]]:
    """The rows of each kind of task apart, as an evaluation of one seed has them."""
    found = {}
    for kind in sorted({task["kind"] for task in reports[0]["tasks"]}):
        of_kind = [
            {"tasks": [task for task in report["tasks"] if task["kind"] == kind]}
            for report in reports
        ]
        found[kind] = _of_updates(torch.stack([_returns(of) for of in of_kind]), generator)
        _add_success(found[kind], of_kind)
    return found


def _of_updates(returns: Tensor, generator: torch.Generator) -> list[dict[str, float]]:
    """[S, N, K + 1, E] -> a row after each update."""
    return [{"update": k, **_summary(of, generator)} for k, of in enumerate(returns.unbind(2))]


def _add_success(rows: list[dict[str, float]], reports: Sequence[Mapping[str, Any]]) -> None:
    for row, of in zip(rows, success(reports), strict=False):
        row |= {name: of[key] for key, name in _SUCCESS.items() if key in of}


def _summary(scores: Tensor, generator: torch.Generator) -> dict[str, float]:
    """Sums up scores [S, N, E] or [S, N] under the names of an evaluation of one seed; the interval
    is over seeds and tasks."""
    found: Any = across_runs(scores, generator)
    ends = {f"mean_{end}": found["mean"][end] for end in ("ci_low", "ci_high")}
    return {
        "mean": found["mean"]["value"],
        **ends,
        "iqm": found["iqm"]["value"],
        "ci_low": found["iqm"]["ci_low"],
        "ci_high": found["iqm"]["ci_high"],
        "median": found["median"]["value"],
    }


def _mean_of(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """What doesn't learn, as means over the seeds."""
    return {key: sum(row[key] for row in rows) / len(rows) for key in ("mean", "iqm")}
