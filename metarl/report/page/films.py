"""The videos that lie in the folders of runs, to be embedded in a page."""

import base64
from collections.abc import Iterator, Sequence
from pathlib import Path

from metarl.report.learners import Learner
from metarl.report.run_places import in_order
from metarl.report.summary_table import seeds_in_words
from metarl.struct import struct

MOST_BYTES = 30_000_000
"""The most that all videos of a page may take together."""


@struct
class Film:
    title: str
    source: str  # a data URI


def films(learners: Sequence[Learner], most: int) -> tuple[list[Film], list[str]]:
    """Returns up to `most` videos, learners in turn, and a line for each that is left out because
    the page would become too large."""
    found: list[Film] = []
    notes: list[str] = []
    size = 0
    for file, title in _in_turn([list(_of_learner(learner)) for learner in learners]):
        if len(found) == most:
            break
        if size + file.stat().st_size > MOST_BYTES:
            notes.append(f"left out: {file} makes the page larger than {MOST_BYTES / 1e6:.0f} MB")
            continue
        content = file.read_bytes()
        size += len(content)
        source = f"data:video/mp4;base64,{base64.b64encode(content).decode()}"
        found.append(Film(title=title, source=source))
    return found, notes


def _of_learner(learner: Learner) -> Iterator[tuple[Path, str]]:
    """Files and titles: in the folder of each run what its training filmed, then what `render` did;
    of its grid of all tasks none, because they stand there one by one."""
    folders = {run.place.parent.resolve(): run.place.parent for run in learner.runs}
    for real, folder in folders.items():
        seeds = [run.seed for run in learner.runs if run.place.parent.resolve() == real]
        files = [*in_order(folder.glob("*.mp4")), *in_order((folder / "videos").glob("*.mp4"))]
        of_seeds = f"seed{'s' if len(seeds) > 1 else ''} {seeds_in_words(seeds)}"
        for file in files:
            # A link out of the folder would show any file of the reader's.
            if not file.resolve().is_relative_to(real):
                continue
            if file.name == "grid.mp4" and len(files) > 1:
                continue
            words = file.stem.replace("_", " ")
            yield file, f"{learner.name}, {of_seeds}: {words}"


def _in_turn(several: list[list[tuple[Path, str]]]) -> Iterator[tuple[Path, str]]:
    """The first of each, the second of each, and so on."""
    for number in range(max(map(len, several), default=0)):
        yield from (own[number] for own in several if number < len(own))
