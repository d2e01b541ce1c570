"""What a sweep of trainings ends with: a table that sets its runs side by side, on the console and
in the sweep's folder.

Each run that is done leaves a line with its folder in the sweep's folder, for it may be in a
process of its own.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from metarl.cli import console
from metarl.files import write_text
from metarl.report import fewshot
from metarl.report.evaluation import stage
from metarl.report.markdown import table

_RUNS = "runs.jsonl"


def note(folder: Path) -> None:
    """Called by a training that is done: if it is one of a sweep, the sweep will compare it."""
    config = HydraConfig.get()
    if config.mode == RunMode.MULTIRUN:
        line = {"number": config.job.num, "folder": str(folder.resolve()), "overrides": overrides()}
        with (Path(config.sweep.dir) / _RUNS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def overrides() -> list[str]:
    """What this run was called with."""
    return [word for word in HydraConfig.get().overrides.task if not word.startswith("run_dir=")]


def show(sweep: Path) -> None:
    """Prints the table of all runs that were noted, in their order, and writes it to
    comparison.md."""
    if not (sweep / _RUNS).exists():
        return
    runs = [json.loads(line) for line in (sweep / _RUNS).read_text("utf-8").splitlines()]
    runs.sort(key=lambda run: run["number"])
    reports = [
        json.loads((Path(run["folder"]) / "evaluation.json").read_text("utf-8")) for run in runs
    ]
    is_fewshot = "dataset" in reports[0]
    text = (
        fewshot.comparison(reports)
        if is_fewshot
        else _returns(reports, [run["overrides"] for run in runs])
    )
    with console.shown_after(text):
        write_text(sweep / "comparison.md", text + "\n")
    print(f"written to {sweep / 'comparison.md'}", file=sys.stderr)


def _returns(reports: Sequence[Mapping[str, Any]], overrides: Sequence[Sequence[str]]) -> str:
    """A row for each run: what tells it from the others, and its returns before the first update
    and after the last."""
    words = [word for every in overrides for word in every]
    own = [
        " ".join(word for word in every if words.count(word) < len(overrides))
        for every in overrides
    ]
    rows = []
    for report, name in zip(reports, own, strict=True):
        first, last = report["returns"][0], report["returns"][-1]
        after = stage(report["unit"], last["update"])
        rows.append((report["env"], name, str(report["seed"]), _cell(first), _cell(last), after))
    head = ("env", "run", "seed", "before", "after", "")
    title = "IQM of the return on held-out tasks, with its 95 % interval:"
    return f"{title}\n\n{table(head, rows)}"


def _cell(row: Mapping[str, float]) -> str:
    return f"{row['iqm']:.2f} [{row['ci_low']:.2f}, {row['ci_high']:.2f}]"
