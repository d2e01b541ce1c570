"""Where runs lie that a user names: folders, patterns of folders (`runs/*/seed?`), and the folders of
sweeps, which list their runs in a file; and the order in which what lies in folders is shown."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import yaml

from metarl.errors import UserError

SWEEP = "runs.jsonl"
"""What a sweep keeps in its folder: of each run that is done a line with its `folder`."""


def run_places(words: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Returns the folders that the words name, in their order, and a line for each run of a sweep
    that isn't where it was.

    Raises: UserError for a pattern that nothing matches, or a sweep none of whose runs is left.
    """
    places: list[Path] = []
    notes: list[str] = []
    for word in words:
        for folder in _named(word):
            if not (folder / SWEEP).is_file():
                places.append(folder)
                continue
            listed = list(_of_sweep(folder))
            there = [place for place in listed if place.is_dir()]
            if not there:
                raise UserError(
                    f"runs: none of the {len(listed)} runs that {folder / SWEEP} lists is there; "
                    "name their folders instead"
                )
            places += there
            notes += [
                f"left out: {place} is not there, where {folder / SWEEP} has it"
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
    return (folder / SWEEP).is_file() or next(folder.rglob("config.yaml"), None) is not None


def _of_sweep(folder: Path) -> Iterator[Path]:
    """The folders that a sweep lists. A damaged line is left out, as one of metrics.jsonl is."""
    for line in (folder / SWEEP).read_text("utf-8", errors="replace").splitlines():
        try:
            yield Path(json.loads(line)["folder"])
        except (ValueError, KeyError, TypeError):
            continue


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
