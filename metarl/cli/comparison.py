"""What a sweep of trainings ends with: a table that sets its runs side by side, on the console and
in the sweep's folder.

Each run that is done leaves a file with its folder in the sweep's folder, for it may be in a
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
from metarl.cli.words import command_line, one_line
from metarl.errors import UserError
from metarl.files import make_folder, write_text
from metarl.report import fewshot
from metarl.report.evaluation import stage, tasks_in_words
from metarl.report.finished import Finished, all_runs, configs_below
from metarl.report.learners import learners, side_by_side
from metarl.report.learners_table import notes, what_intervals_are_over
from metarl.report.markdown import table
from metarl.report.run_places import DONE, noted
from metarl.report.summary import summaries
from metarl.report.summary_table import as_csv, latex, markdown


def note(folder: Path) -> None:
    """Called by a training that is done: if it is one of a sweep, the sweep will compare it."""
    config = HydraConfig.get()
    if config.mode == RunMode.MULTIRUN:
        run = {"number": config.job.num, "folder": str(folder.resolve()), "overrides": overrides()}
        keep(DONE, run)


def keep(kind: str, content: Mapping[str, Any]) -> None:
    """Writes the present run's file in a folder of the sweep's, where others have theirs."""
    place = place_in(kind)
    make_folder(place.parent)
    write_text(place, json.dumps(content))


def place_in(kind: str) -> Path:
    """Where the file of the present run is in a folder of the sweep's."""
    hydra = HydraConfig.get()
    began_in = hydra.runtime.cwd if hydra.job.chdir else ""  # Hydra has gone elsewhere.
    return Path(began_in, hydra.sweep.dir) / kind / f"{hydra.job.num}.json"


def overrides() -> list[str]:
    """What this run was called with."""
    return [word for word in HydraConfig.get().overrides.task if not word.startswith("run_dir=")]


def show(sweep: Path, failed: Mapping[str, str]) -> None:
    """Prints the table of all runs that were noted, in their order, and writes it to comparison.md.

    Args: failed: why each run failed that did, which the file tells, too.
    """
    listed = {run["folder"]: run for run in noted(sweep)}
    runs, reports = list[dict[str, Any]](), list[dict[str, Any]]()
    for run in sorted(listed.values(), key=lambda run: run["number"]):
        file = Path(run["folder"]) / "evaluation.json"
        try:
            reports.append(json.loads(file.read_text("utf-8")))
            runs.append(run)
        except (OSError, ValueError) as error:
            print(f"left out: {file} can't be read: {error}", file=sys.stderr)
    if not runs:
        return
    if "dataset" in reports[0]:
        texts, files = [fewshot.comparison(reports)], dict[str, str]()
    else:
        tables, files = of_learners([Path(run["folder"]) for run in runs])
        texts = [*tables, _runs(reports, runs)]
    text = "\n\n".join(texts)
    with console.shown_after(text):
        lost = "".join(f"- {name}: {one_line(error)}\n" for name, error in failed.items())
        write_text(sweep / "comparison.md", f"{text}\n" + (f"\nFailed:\n\n{lost}" if lost else ""))
        for name, content in files.items():
            write_text(sweep / name, content)
    print(f"written to {sweep / 'comparison.md'}", file=sys.stderr)
    if files or "dataset" in reports[0]:
        print(f"as a page: {command_line('report')} runs=[{sweep}]", file=sys.stderr)


def of_learners(folders: Sequence[Path]) -> tuple[list[str], dict[str, str]]:
    """Returns the table of the learners over their seeds for each environment of the runs, and the
    same as files: CSV and LaTeX. Where runs can't be set side by side a line says why."""
    by_env: dict[str, list[Finished]] = {}
    texts, files = list[str](), dict[str, str]()
    try:
        for run in all_runs(configs_below(folders))[0]:
            by_env.setdefault(run.report["env"], []).append(run)
        for env, runs in by_env.items():
            of = learners(runs)
            numbers = side_by_side(of)
            rows, against = summaries(numbers, of)
            over = what_intervals_are_over(numbers)
            tasks = tasks_in_words(numbers["num_tasks"], numbers["split"])
            caption = f"{env}, {tasks}: returns, with 95 % intervals {over}."
            caption += notes(numbers)
            end = f"_{env}".replace(":", "_") if len(by_env) > 1 else ""
            texts.append(f"{caption}\n\n{markdown(rows, against)}")
            files[f"table{end}.csv"] = as_csv(rows, against)
            files[f"table{end}.tex"] = latex(rows, against, caption)
    except UserError as error:
        print(f"no table of learners: {error}", file=sys.stderr)
    return texts, files


def _runs(reports: Sequence[Mapping[str, Any]], runs: Sequence[Mapping[str, Any]]) -> str:
    """A row for each run: what tells it from the others, its returns before the first update and
    after the last, and its folder."""
    overrides = [run["overrides"] for run in runs]
    words = [word for every in overrides for word in every]
    own = [
        " ".join(word for word in every if words.count(word) < len(overrides))
        for every in overrides
    ]
    rows = []
    for report, run, name in zip(reports, runs, own, strict=True):
        first, last = report["returns"][0], report["returns"][-1]
        after = stage(report["unit"], last["update"])
        returns = (_cell(first), _cell(last), after)
        rows.append((report["env"], name, str(report["seed"]), *returns, run["folder"]))
    head = ("env", "run", "seed", "before", "after", "", "folder")
    title = "The runs: IQM of the return, with its 95 % interval over tasks (bootstrap)"
    return f"{title}\n\n{table(head, rows)}"


def _cell(row: Mapping[str, float]) -> str:
    has_width = row["ci_low"] < row["ci_high"]  # One episode of one task has no interval.
    interval = f" [{row['ci_low']:.2f}, {row['ci_high']:.2f}]" if has_width else ""
    return f"{row['iqm']:.2f}{interval}"
