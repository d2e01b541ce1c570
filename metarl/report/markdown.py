"""Tables as Markdown."""

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The lines of a table, without one at its end. A | in a cell is no end of it."""
    cells = ([cell.replace("|", r"\|") for cell in row] for row in (head, *rows))
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    lines.insert(1, "|" + " --- |" * len(head))
    return "\n".join(lines)
