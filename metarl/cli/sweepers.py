"""Sweepers of Hydra that search for settings: those there are, and the score that each run returns
to them."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from metarl.cli.launchers import is_installed
from metarl.cli.sweep import BASIC
from metarl.errors import UserError
from metarl.fewshot.losses import OBJECTIVES
from metarl.report.finished import numbers_of
from metarl.run.log import EVALUATIONS, METRICS

NEEDS = {
    "optuna": ("--no-deps hydra-optuna-sweeper", "hydra_optuna_sweeper"),
    "ax": ("hydra-ax-sweeper", "hydra_ax_sweeper"),
    "nevergrad": ("hydra-nevergrad-sweeper", "hydra_nevergrad_sweeper"),
}
"""Which package has it, and its module in hydra_plugins."""

LAST = 0.1
"""The share of a training's rows that its own mean is over: the last ones."""

_SIGNS = {"return": 1} | {
    objective.measure_name: -1 if objective.best is min else 1 for objective in OBJECTIVES.values()
}


def check(name: str, *, multirun: bool) -> None:
    """Raises: UserError for a sweeper that isn't installed, or without a sweep. One that isn't known
    here is left to Hydra."""
    if name == BASIC:
        return
    if not multirun:
        raise UserError(f"hydra/sweeper={name}: sweepers choose the runs of a sweep; say -m, too")
    package, module = NEEDS.get(name, ("", ""))
    if package and not is_installed(f"hydra_plugins.{module}"):
        raise UserError(f"hydra/sweeper={name} isn't installed: pip install {package}")


def score(folder: Path) -> float | None:
    """The score of a run that is over: more is better. No task of the evaluation at its end counts,
    so that this stays a judgement.

    With eval_every it is that of the best checkpoint; otherwise the mean of the last tenth of the
    training's rows: the return after adaptation, accuracy, or the negative of an error. None if no
    row has one.
    """
    if found := _column(numbers_of(folder / EVALUATIONS), "score"):
        return max(found)
    rows = numbers_of(folder / METRICS)
    for name, sign in _SIGNS.items():
        if found := _column(rows, f"{name}_after") or _column(rows, name):
            return sign * fmean(found[-max(1, round(LAST * len(found))) :])
    return None


def _column(rows: Sequence[dict[str, Any]], name: str) -> list[Any]:
    return [row[name] for row in rows if name in row]
