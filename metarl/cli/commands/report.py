"""Writes a report on runs: one HTML page that opens without a network, for a reviewer to read.

It has the table of the learners over their seeds, learning and adaptation curves, performance
profiles, returns task by task, videos, and what was compared by which commands. Runs of one setting
that differ in their seeds are one learner. Runs that still go are shown as far as they have come.
Few-shot runs have a page of their own: table, adaptation, training, and the pictures of tasks.

Examples:
  python scripts/report.py runs=[runs/half_cheetah_vel]
  python scripts/report.py 'runs=[runs/*/maml_ppo,results/mine]' against=rl2_ppo output=both.html
  python scripts/report.py runs=[runs/sweeps/<date>] figures=paper
  python scripts/report.py runs=[runs/omniglot] output=omniglot.html
  python scripts/report.py 'runs=[runs/a,runs/b]' 'names=[with memory,without]'
"""

import importlib
import sys
from operator import methodcaller
from typing import Any

from omegaconf import DictConfig

from metarl.cli import outputs
from metarl.cli.main import run_command
from metarl.cli.words import called
from metarl.errors import UserError
from metarl.files import make_folder, write_atomically, write_text
from metarl.report.fewshot_learners import few_shot_runs
from metarl.report.finished import ConfigsBelow, all_runs, configs_below
from metarl.report.run_places import run_places


def run(config: DictConfig) -> None:
    out = outputs.file(config.output, (".html", ".htm"))
    figures = None if config.figures is None else outputs.folder(config.figures, "figures")
    if figures is not None and figures.resolve() == out.resolve():
        raise UserError(f"figures: {config.figures} is the page's name; expected a folder")
    folders, moved = run_places(config.runs)
    below = configs_below(folders)
    kinds = {"dataset" in found for configs in below.values() for found in configs.values()}
    asked = {"names": config.names, "against": config.against, "command": called()}
    if kinds == {True}:
        text, notes, drawn = _few_shot(config, below, asked)
    else:
        text, notes, drawn = _reinforcement(config, below, asked)
    if kinds == {True, False}:
        notes.append("left out: few-shot runs; they have a page of their own")
    for note in moved + notes:
        print(note, file=sys.stderr)
    if figures is not None:
        make_folder(figures)
        for name, content in drawn.items():
            write_atomically(figures / name, methodcaller("write", content))
        print(f"figures and tables in {figures}", file=sys.stderr)
    make_folder(out.parent)
    write_text(out, text)
    print(f"written to {out}", file=sys.stderr)


def _reinforcement(
    config: DictConfig, below: ConfigsBelow, asked: dict[str, Any]
) -> tuple[str, list[str], dict[str, bytes]]:
    """The page on runs of reinforcement learning, a line for each that is left out, and the files
    of its figures, where these are asked for."""
    content, html, figures = (_of_page(name) for name in ("content", "html", "figures"))
    found, notes = content.gathered(*all_runs(below), **asked, num_videos=config.num_videos)
    return html.page(found), notes, {} if config.figures is None else figures.files(found)


def _few_shot(
    config: DictConfig, below: ConfigsBelow, asked: dict[str, Any]
) -> tuple[str, list[str], dict[str, bytes]]:
    """The page of few-shot runs: its HTML, notes for the console, and the files of its figures,
    where these are asked for."""
    fewshot, html, figures = (_of_page(name) for name in ("fewshot", "html", "fewshot_figures"))
    found, notes = fewshot.gathered(*few_shot_runs(below), **asked)
    text = html.written(fewshot.page(found))
    return text, notes, {} if config.figures is None else figures.files(found)


def _of_page(name: str) -> Any:
    """A module of metarl.report.page, which needs libraries that only reports need. Raises:
    UserError if they aren't installed."""
    try:
        return importlib.import_module(f"metarl.report.page.{name}")
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library in ("plotly", "jinja2"):
            raise UserError(f"a report needs {library}: pip install 'metarl[report]'") from error
        raise


def main() -> None:
    run_command("report", run)


if __name__ == "__main__":
    main()
