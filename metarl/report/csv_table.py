"""Tables of estimates as CSV: numbers in full, the ends of intervals in columns of their own."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence

from metarl.rl.evaluation.several_runs import Estimate

Row = tuple[Sequence[object], Mapping[str, Estimate | None]]
"""The cells before the estimates, None for an empty one; and the estimates by their keys."""


def table(head: Sequence[str], keys: Sequence[str], rows: Iterable[Row]) -> str:
    """Args: head: of the cells before the estimates; keys: of the estimates, in their order."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*head, *(f"{key}{end}" for key in keys for end in _ENDS.values())])
    for cells, estimates in rows:
        numbers = ((estimates[key] or {}).get(end, "") for key in keys for end in _ENDS)
        writer.writerow([*map(_cell, cells), *numbers])
    return text.getvalue()


def _cell(cell: object) -> object:
    """A spreadsheet takes words that begin so for a formula."""
    is_formula = isinstance(cell, str) and cell.startswith(("=", "+", "-", "@"))
    return "" if cell is None else f"'{cell}" if is_formula else cell


_ENDS = {"value": "", "ci_low": "_ci_low", "ci_high": "_ci_high"}
