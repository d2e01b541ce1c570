"""A row of a benchmark: one step of ours beside a reference, each in a process of its own, held to
bars for time and memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from metarl.cli.benchmarks.interleaved import Factory, measure, speedup
from metarl.errors import UserError

Variant = tuple[Factory, Sequence[Any]]


@dataclass(frozen=True)
class Row:
    name: str
    plain: Variant
    ours: Variant
    speed_bar: float
    """How many times faster than the plain loop the row must be at least."""
    memory_bar: float | None = None
    """The largest share of the plain loop's added memory that the row may take."""
    num_threads: int = 2


def run_rows(
    table: Mapping[str, Row], keys: Sequence[str], rounds: int, *, num_threads: int | None = None
) -> list[dict[str, Any]]:
    """Measures some rows of a table, prints a line each, and returns them as JSON-able dicts.

    Args: num_threads: torch threads of both variants, the row's own number if None. On a machine
      that is busy with other things 1 gives steadier ratios: threads that wait for each other lose
        most of their time there.
    """
    print(f"{'':56}{'faster':>9}{'bar':>8}{'memory':>9}{'bar':>8}")
    results = []
    for key in keys:
        results.append(_measured(key, table[key], rounds, num_threads or table[key].num_threads))
        print(_line(results[-1]), flush=True)
    return results


def check_keys(keys: Sequence[str], known: Sequence[str]) -> None:
    """Raises: UserError, naming them, for rows that there aren't."""
    unknown = [key for key in keys if key not in known]
    if unknown:
        raise UserError(f"rows={', '.join(unknown)}: expected some of {', '.join(known)}")


def _measured(key: str, row: Row, rounds: int, num_threads: int) -> dict[str, Any]:
    both = measure(
        {"plain": row.plain, "ours": row.ours}, num_rounds=rounds, num_threads=num_threads
    )
    plain, ours = both["plain"], both["ours"]
    result: dict[str, Any] = {
        "row": key,
        "name": row.name,
        "plain_s": plain.median,
        "ours_s": ours.median,
        "speedup": speedup(ours, plain),
        "speedup_bar": row.speed_bar,
        "plain_mib": plain.peak_mib,
        "ours_mib": ours.peak_mib,
        "memory_share": ours.peak_mib / max(plain.peak_mib, 1.0),
        "memory_bar": row.memory_bar,
        "rounds": rounds,
        "threads": num_threads,
    }
    fits = row.memory_bar is None or result["memory_share"] <= row.memory_bar
    return result | {"reached": result["speedup"] >= row.speed_bar and fits}


def _line(result: Mapping[str, Any]) -> str:
    bar = "" if result["memory_bar"] is None else f"{result['memory_bar']:.2f}"
    met = "met" if result["reached"] else "not met"
    numbers = (
        f"{result['speedup']:9.2f}{result['speedup_bar']:8.2f}{result['memory_share']:9.2f}{bar:>8}"
    )
    return f"{result['name']:56}{numbers}  {met}"
