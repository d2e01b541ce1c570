"""Where runs lie that a user names: folders, patterns of folders (`runs/*/seed?`), and the folders of
sweeps, which list their runs in a file; and the order in which what lies in folders is shown."""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from metarl.errors import UserError

DONE = "done"
"""What a sweep keeps in its folder: a folder with a file for each run that is done, which holds its
`folder`. Several machines that append to one file may lose lines."""
BEGUN = "begun"
"""The same of each run that has a folder."""
_IN_LINES = "runs.jsonl"
"""DONE in sweeps of earlier versions: a line for each run."""


def run_places(words: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Returns the folders that the words name, in their order, and a line for each run of a sweep
    that isn't where it was.

    Of a sweep these are the runs that are done, and behind them those that failed or still go.

    Raises: UserError for a pattern that nothing matches, or a sweep none of whose runs is left.
    """
    places: list[Path] = []
    notes: list[str] = []
    for word in words:
        for folder in _named(word):
            runs = [*noted(folder), *begun(folder)]
            listed = [Path(place) for place in dict.fromkeys(run["folder"] for run in runs)]
            if not listed:
                places.append(folder)
                continue
            there = [place for place in listed if place.is_dir()]
            if not there:
                raise UserError(
                    f"runs: none of the {len(listed)} runs that the sweep {folder} lists is there; "
                    "name their folders instead"
                )
            places += there
            notes += [
                f"left out: {place} is not there, where the sweep {folder} has it"
                for place in listed
                if place not in there
            ]
    return places, notes


def _named(word: str) -> list[Path]:
    place = Path(word).expanduser()
    if place.exists() or not any(sign in word for sign in "*?["):
        return [place]
    start = Path(place.anchor)
    matches = in_order(start.glob(str(place.relative_to(start))))
    folders = [match for match in matches if match.is_dir() and _has_runs(match)]
    if not folders:
        raise UserError(f"runs: no folder with a run matches {word}")
    return folders


def _has_runs(folder: Path) -> bool:
    return (
        bool(noted(folder) or begun(folder)) or next(folder.rglob("config.yaml"), None) is not None
    )


def noted(sweep: Path) -> list[dict[str, Any]]:
    """What a sweep has noted of its runs that are done, each with its `folder`; none where it is no
    sweep's folder. What is damaged is left out, as lines of metrics.jsonl are."""
    return _runs_in([sweep / _IN_LINES, *in_order((sweep / DONE).glob("*.json"))])


def begun(sweep: Path) -> list[dict[str, Any]]:
    """The same of its runs that have a folder, done or not; none in sweeps of earlier versions."""
    return _runs_in(in_order((sweep / BEGUN).glob("*.json")))


def _runs_in(files: Sequence[Path]) -> list[dict[str, Any]]:
    lines = [
        line
        for file in files
        if file.is_file()
        for line in file.read_text("utf-8", errors="replace").splitlines()
    ]
    return [run for run in map(_run_of, lines) if run is not None]


def _run_of(line: str) -> dict[str, Any] | None:
    try:
        run = json.loads(line)
    except ValueError:
        return None
    return run if isinstance(run, dict) and isinstance(run.get("folder"), str) else None


def num_seeds_in(folder: Path) -> int:
    """How many seeds a folder holds the run folders of; 1 where it isn't such a folder."""
    try:
        config = yaml.safe_load((folder / "config.yaml").read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return 1
    found = config.get("num_seeds") if isinstance(config, dict) else None
    return found if isinstance(found, int) else 1


def in_order(places: Iterable[Path]) -> list[Path]:
    """Sorted by name as people count: seed2 comes before seed10."""
    return sorted(places, key=lambda place: [_counted(name) for name in place.parts])


def _counted(name: str) -> list[tuple[int, str]]:
    """The pieces of a name, which compare by the numbers in it where they have one."""
    pieces = re.split(r"([0-9]+)", name)
    return [(int(piece) if index % 2 else -1, piece) for index, piece in enumerate(pieces)]
