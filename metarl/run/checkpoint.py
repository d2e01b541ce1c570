"""Checkpoints that survive a crash at any moment and load without executing code: one archive for
each saved iteration, and one for the state that held-out tasks found best."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from metarl.choices import did_you_mean
from metarl.errors import UserError
from metarl.files import remove_leftovers
from metarl.run import archive

_KIND = "checkpoint"
_NAME = re.compile(r"iteration_(\d{8})\.pt")

BEST = "best.pt"
"""The file of the best checkpoint, which stays whatever comes later. As a place to load from it may be
called `<run folder>/best`."""


def save(folder: Path, content: Mapping[str, Any], *, keep: int) -> Path:
    """Writes `content` (tensors, numbers, strings and containers; it must hold `iteration`) and
    prunes other checkpoints.

    What is written is the newest one from then on: checkpoints of later iterations are of a branch
    that was abandoned by going on from an older one, and go. So do temporary files of a writer that
    was killed.

    Args: keep: how many of the newest checkpoints stay, at least 1.
    Raises: UserError if the folder can't be written to or the disk is full; the older checkpoints
    are then still whole.
    """
    path = path_of(folder, content["iteration"])
    archive.write(path, _KIND, archive.packed(content))
    remove_after(folder, content["iteration"])
    for old in list_checkpoints(folder)[:-keep]:
        old.unlink()
    remove_leftovers(folder)
    return path


def path_of(folder: Path, iteration: int) -> Path:
    """The file of the state after so many iterations."""
    return folder / f"iteration_{iteration:08d}.pt"


def save_best(folder: Path, content: Mapping[str, Any]) -> Path:
    """Writes the checkpoint that is the best one from now on. Raises: UserError as `save`."""
    path = folder / BEST
    archive.write(path, _KIND, archive.packed(content))
    return path


def later_than(folder: Path, iteration: int) -> list[Path]:
    """The checkpoints of later iterations than this one, oldest first."""
    return [path for path in list_checkpoints(folder) if path > path_of(folder, iteration)]


def remove_after(folder: Path, iteration: int) -> None:
    """Removes the checkpoints of later iterations than this one."""
    for path in later_than(folder, iteration):
        path.unlink()


def load(path: Path, map_location: torch.device | str = "cpu") -> dict[str, Any]:
    """The content of one checkpoint file.

    Raises: what `archive.read` does.
    """
    return archive.read(path, _KIND, map_location)


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoint files of a folder, oldest first. Temporary files of a killed writer don't
    count."""
    return sorted(path for path in folder.glob("iteration_*.pt") if _NAME.fullmatch(path.name))


def load_newest(
    folder: Path, map_location: torch.device | str = "cpu"
) -> tuple[Path, dict[str, Any], list[str]]:
    """The newest checkpoint of a folder that is whole, and a message for each newer one that is
    damaged.

    Raises: UserError if there is none, or if a newer one can't be read though it may be whole (the
    disk failed, another version wrote it): an older one in its place would be a step back that
    nobody asked for.
    """
    problems: list[str] = []
    for path in reversed(list_checkpoints(folder)):
        try:
            return path, load(path, map_location), problems
        except archive.DamagedFile as error:
            problems.append(str(error))
    raise UserError("; ".join([f"no usable checkpoint in {folder}", *problems]))


def named(location: Path) -> Path:
    """`<run folder>/best`, or best in its checkpoints folder -> the file, which may be missing; any
    other place stays as it is."""
    if location.name != Path(BEST).stem or location.exists() or not location.parent.is_dir():
        return location
    folder = location.parent / "checkpoints"
    return (folder if folder.is_dir() else location.parent) / BEST


def resolve(location: Path) -> Path:
    """A run folder, its checkpoints folder, a checkpoint file or `<run folder>/best` -> the folder
    of checkpoints or the file.

    Raises: UserError if there is nothing of the kind.
    """
    location = named(location)
    if location.is_file():
        return location
    if location.name == BEST:
        raise UserError(
            f"no best checkpoint at {location}: expected a run with eval_every, after its first "
            "evaluation"
        )
    for folder in (location / "checkpoints", location):
        if folder.is_dir() and list_checkpoints(folder):
            return folder
    places = (location.parent, location.parent / "checkpoints")
    hint = did_you_mean(location.name, [file.name for at in places for file in at.glob("*.pt")])
    raise UserError(
        f"no checkpoint at {location}: expected a run folder with checkpoints/, or a checkpoint "
        f"file{hint}"
    )
