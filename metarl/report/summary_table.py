"""The table of a report: a row for each learner, as Markdown, CSV and LaTeX.

All of them say the same. CSV has the ends of intervals in columns of their own and numbers in full;
LaTeX needs the package booktabs.
"""

from collections.abc import Iterable, Sequence

from metarl.report import csv_table
from metarl.report.latex import escaped, estimate
from metarl.report.latex import table as as_latex
from metarl.report.markdown import table
from metarl.report.summary import Summary
from metarl.rl.evaluation.several_runs import Estimate
from metarl.run.shown import human
from metarl.struct import struct


@struct
class Column:
    key: str  # the field of Summary
    head: str
    meaning: str
    is_share: bool = False


def columns(rows: Sequence[Summary], against: str | None) -> list[Column]:
    """The columns of estimates that any of the learners has."""
    other = against or ""
    known = [
        Column(key="before", head="before", meaning="mean return before adapting"),
        Column(key="mean", head="mean", meaning="mean return in the end"),
        Column(key="iqm", head="IQM", meaning="mean of the middle half of all episodes"),
        Column(
            key="solved",
            head="solved",
            meaning="share of episodes that solve their task in the end",
            is_share=True,
        ),
        Column(key="gain", head="gain", meaning="mean gain from adapting, on the same task"),
        Column(
            key="made_worse",
            head="made worse",
            meaning="share of tasks with a lower mean return than before adapting",
            is_share=True,
        ),
        Column(
            key="normalised", head="score", meaning="0 for standing still, 1 for the best known"
        ),
        Column(key="gap", head="missing", meaning="return missing to the best known, on average"),
        Column(
            key="better",
            head=f"beats {other}",
            meaning=f"probability that a new run beats one of {other} on a new task",
            is_share=True,
        ),
        Column(
            key="difference",
            head=f"minus {other}",
            meaning=f"mean return less that of {other} on the same tasks",
        ),
    ]
    return [column for column in known if any(getattr(row, column.key) for row in rows)]


def described(row: Summary) -> list[str]:
    """Who a row is of: its name, seeds, steps of a seed, and the state that was measured."""
    steps = "" if row.env_steps is None else human(row.env_steps)
    return [row.name, seeds_in_words(row.seeds), steps, row.stage]


def in_words(row: Summary) -> str:
    """What was measured of whom, below the name of a row."""
    _, seeds, steps, stage = described(row)
    return f"{stage}; seed{'' if seeds.isdecimal() else 's'} {seeds}" + (
        f"; {steps} steps" if steps else ""
    )


HEAD = ["learner", "seeds", "steps", "measured"]
"""What the cells of `described` are called."""


def seeds_in_words(seeds: Sequence[int]) -> str:
    """0, 1, 2, 3 -> 0–3."""
    whole = len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1))
    return f"{seeds[0]}–{seeds[-1]}" if whole else ", ".join(map(str, seeds))


def cell(row: Summary, column: Column, decimals: int) -> tuple[str, str] | None:
    """The estimate and its interval, to be read: "-56.9" and "[-65.6, -48.1]", which is "" of one
    that has none; None for no estimate."""
    found: Estimate | None = getattr(row, column.key)
    if found is None:
        return None
    of_kind = 2 if column.key == "normalised" else decimals
    shown = {
        end: f"{100 * x:.0f}" if column.is_share else f"{x:z.{of_kind}f}"
        for end, x in found.items()
    }
    interval = f"[{shown['ci_low']}, {shown['ci_high']}]" if "ci_low" in shown else ""
    return f"{shown['value']}{' %' if column.is_share else ''}", interval


def decimals(rows: Sequence[Summary]) -> int:
    """How many decimals the returns of these learners need."""
    return decimals_of([row.mean["value"] for row in rows])


def decimals_of(returns: Iterable[float]) -> int:
    """How many decimals returns of this size need."""
    return 1 if max(map(abs, returns)) >= 10 else 2


def markdown(rows: Sequence[Summary], against: str | None) -> str:
    """The table, without a line break at its end."""
    shown, digits = columns(rows, against), decimals(rows)
    cells = [
        [*described(row), *(" ".join(cell(row, column, digits) or ()).rstrip() for column in shown)]
        for row in rows
    ]
    return table([*HEAD, *(column.head for column in shown)], cells)


def as_csv(rows: Sequence[Summary], against: str | None) -> str:
    keys = [column.key for column in columns(rows, against)]
    head = ["learner", "seeds", "num_seeds", "env_steps", "seconds", "measured", "against"]
    return csv_table.table(
        head,
        keys,
        (
            (
                [
                    *(row.name, " ".join(map(str, row.seeds)), len(row.seeds)),
                    *(row.env_steps, row.seconds, row.stage, against),
                ],
                {key: getattr(row, key) for key in keys},
            )
            for row in rows
        ),
    )


def latex(rows: Sequence[Summary], against: str | None, caption: str) -> str:
    """A table for a paper."""
    shown, digits = columns(rows, against), decimals(rows)
    lines = []
    for row in rows:
        cells = [escaped(text) for text in described(row)[:3]]
        found = [cell(row, column, digits) for column in shown]
        lines.append([*cells, *("" if of is None else estimate(*of) for of in found)])
    head = ["learner", "seeds", "steps", *(column.head for column in shown)]
    return as_latex(caption, head, lines, num_words=2)
