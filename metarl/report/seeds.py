"""What the evaluations of several seeds of one configuration say together, as a user reads it."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from metarl.errors import UserError
from metarl.report.evaluation import diverged_lines, stage, tasks_in_words
from metarl.rl.evaluation.several_runs import across_runs, over

_SAME = (
    *("env", "family", "variant", "spec_hash", "split", "algo", "num_tasks", "episodes_per_task"),
    *("num_updates", "unit", "deterministic", "iteration"),
)
"""What the evaluations of all seeds have in common."""


def together(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What evaluation.json holds above the folders of the seeds: its words, where it says the same.

    Args: reports: the evaluation.json of each seed, on the same tasks.
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
    rows = [{"update": k, **_summary(returns[:, :, k], generator)} for k in range(returns.shape[2])]
    found = {
        **{
            key: first[key]
            for key in _SAME
            if key in first and all(report.get(key) == first[key] for report in reports)
        },
        "seed": ", ".join(map(str, seeds)),
        "seeds": seeds,
        "over": over(len(seeds), returns.shape[1]),
        "diverged_episodes": sum(report.get("diverged_episodes", 0) for report in reports),
        "returns": rows,
    }
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
        f"{report['episodes_per_task']} episodes of each",
        f"{'return':>26}  {'mean':>9}  {'IQM':>9}  95 % interval of the IQM, {report['over']}",
        *(_row(stage(unit, row["update"]), row) for row in rows),
    ]
    if len(rows) > 1:
        name = f"gain to {'the end' if unit == 'update' else stage(unit, rows[-1]['update'])}"
        lines.append(_row(name, report["adaptation_gain_of_all_updates"]))
    if "iteration" not in report:
        lines.append("seeds of this table were trained for different numbers of iterations")
    lines += diverged_lines(report)
    return "\n".join(lines)


def _returns(report: Mapping[str, Any]) -> Tensor:
    """Returns the returns [N, K + 1, E] that a report holds."""
    return torch.tensor([task["episodes"] for task in report["tasks"]], dtype=torch.float64)


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


def _row(name: str, row: Mapping[str, float]) -> str:
    interval = f"[{row['ci_low']:.2f}, {row['ci_high']:.2f}]"
    return f"{name:>26}  {row['mean']:9.2f}  {row['iqm']:9.2f}  {interval}"
