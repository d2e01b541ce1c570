"""Sets finished runs side by side: a table of learners over their seeds, and a picture.

Runs of one setting that differ in their seeds are one learner. Intervals are over seeds and the
held-out tasks that all share. Beside the learners stand what doesn't adapt (standing still, fixed
speeds, random initialisations) and, if you like, numbers that others recorded.

Examples:
  python scripts/compare.py runs=[runs/half_cheetah_vel]
  python scripts/compare.py runs=[runs/half_cheetah_vel/maml_ppo,results/mine] output=side_by_side
  python scripts/compare.py runs=[<run folder>] recorded=[results/reference/<table>.csv] output=both
"""

import json
import sys
from pathlib import Path

from omegaconf import DictConfig

from metarl.cli import console, outputs
from metarl.cli.main import run_command
from metarl.errors import UserError
from metarl.files import make_folder, write_text
from metarl.report.finished import finished_runs
from metarl.report.learners import learners, side_by_side
from metarl.report.learners_plot import learners_png
from metarl.report.learners_table import tables
from metarl.report.recorded import read_recorded
from metarl.report.run_places import run_places


def run(config: DictConfig) -> None:
    folder = None if config.output is None else outputs.folder(config.output)
    folders, moved = run_places(config.runs)
    runs, unfinished = finished_runs(folders)
    for note in moved:
        print(note, file=sys.stderr)
    for place in unfinished:
        print(f"left out: {place} has no evaluation yet", file=sys.stderr)
    recorded = [read_recorded(Path(file).expanduser()) for file in config.recorded]
    of = learners(runs)
    found = side_by_side(of)
    for file, other in zip(config.recorded, recorded, strict=True):
        if other.env != found["env"]:
            raise UserError(
                f"recorded: {file} is of {other.env}; expected {found['env']}, as the runs"
            )
        if difference := other.differs_from(of[0].runs[0].numbers):
            print(
                f"recorded: {file}: {difference}; drawn task by task, not as a mean",
                file=sys.stderr,
            )
    text = tables(found)
    with console.shown_after(text.rstrip("\n")):
        if folder is not None:
            make_folder(folder)
            write_text(folder / "side_by_side.md", text)
            write_text(folder / "side_by_side.json", json.dumps(found, indent=2) + "\n")
            learners_png(folder / "side_by_side.png", found, of, recorded)
    if folder is not None:
        print(f"written to {folder}", file=sys.stderr)


def main() -> None:
    run_command("compare", run)


if __name__ == "__main__":
    main()
