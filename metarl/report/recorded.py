"""Numbers that others recorded, to be drawn beside ours: a CSV file with lines of comment above it.

    # source: where the numbers come from
    # label: what to call them in a picture
    # env: the environment of ours that is the same problem
    env_steps,return_before,return_after        a curve of training, or
    target,after_0,after_1,after_2              the returns on each task after 0, 1, 2 updates

Columns of other names are for the reader.
"""

import csv
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from metarl.errors import UserError

_NOTES = ("source", "label", "env")
_CURVE = ("env_steps", "return_before", "return_after")


@dataclass(frozen=True, kw_only=True)
class Recorded:
    label: str
    source: str
    env: str
    rows: list[dict[str, float]]
    """Rows like those of metrics.jsonl: env_steps, return_before, return_after; none for a table by
    task."""
    returns: Tensor | None
    """[N, K + 1] float64 of N tasks after 0, 1, ..., K updates; None of a curve."""
    targets: Tensor | None
    """[N] the number that makes the task, in order; None of a curve."""

    @property
    def num_updates(self) -> int:
        """K of a table by task."""
        return 0 if self.returns is None else self.returns.shape[1] - 1

    def differs_from(self, targets: Sequence[float] | None) -> str:
        """How the targets of a table by task differ from these, in words; "" if they are the same
        to a hundredth, in whatever order, or where either has none."""
        if targets is None or self.targets is None:
            return ""
        theirs, ours = self.targets.sort().values, torch.tensor(sorted(targets)).to(self.targets)
        if theirs.shape == ours.shape and (theirs - ours).abs().max() < 0.01:
            return ""
        return (
            f"its {len(theirs)} targets have a mean of {theirs.mean():.2f}, the {len(ours)} of the "
            f"runs one of {ours.mean():.2f}"
        )


def read_recorded(file: Path) -> Recorded:
    """Raises: UserError naming the file and what is missing or isn't a number."""
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise UserError(f"recorded: {file} can't be read: {error}") from error
    notes = dict(re.findall(r"^# (\w+): (.+)$", "\n".join(lines), re.MULTILINE))
    if missing := [name for name in _NOTES if name not in notes]:
        raise UserError(
            f"recorded: {file} doesn't say its {missing[0]}; expected `# {missing[0]}: ...`"
        )
    rows = [
        _numbers(row, file) for row in csv.DictReader(line for line in lines if line[:1] != "#")
    ]
    updates = [name for name in (rows[0] if rows else {}) if re.fullmatch(r"after_\d+", name)]
    if updates != [f"after_{k}" for k in range(len(updates))]:
        raise UserError(
            f"recorded: {file} has the columns {', '.join(updates)}; expected after_0, after_1, ..., "
            "in this order"
        )
    is_curve = bool(rows) and all(name in rows[0] for name in _CURVE)
    if not is_curve and not (rows and "target" in rows[0] and updates):
        raise UserError(
            f"recorded: {file} has neither the columns {', '.join(_CURVE)} nor target, after_0, ..."
        )
    table = [[row[name] for name in updates] for row in rows]
    return Recorded(
        **{name: notes[name] for name in _NOTES},
        rows=rows if is_curve else [],
        returns=None if is_curve else torch.tensor(table, dtype=torch.float64),
        targets=None
        if is_curve
        else torch.tensor([r["target"] for r in rows], dtype=torch.float64),
    )


def _numbers(row: Mapping[str | None, str | None], file: Path) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, text in row.items():
        if name is None:
            raise UserError(f"recorded: {file}: a row has more numbers than there are columns")
        try:
            found[name] = float(text or "")
        except ValueError:
            found[name] = math.nan
        if not math.isfinite(found[name]):
            raise UserError(f"recorded: {file}: {name} is {text!r}; expected a number")
    return found
