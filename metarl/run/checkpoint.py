"""Checkpoints that survive a crash at any moment and load without executing code.

A file is one line, `metarl-checkpoint <SHA-256 of the rest>`, and a torch archive. It is written so that under its name it
is whole; the digest, checked before anything is unpacked, finds what happens to it later.
"""

import hashlib
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from metarl.errors import UserError
from metarl.files import remove_leftovers, write_atomically

VERSION = 1
_MAGIC = b"metarl-checkpoint "
_NAME = re.compile(r"iteration_(\d{8})\.pt")


def save(folder: Path, content: Mapping[str, Any], *, keep: int) -> Path:
    """Writes `content` (tensors, numbers, strings and containers; it must hold `iteration`) and prunes other checkpoints.

    What is written is the newest one from then on: checkpoints of later iterations are of a branch that was abandoned by
    going on from an older one, and go. So do temporary files of a writer that was killed.

    Args: keep: how many of the newest checkpoints stay, at least 1.
    Raises: UserError if the folder can't be written to or the disk is full; the older checkpoints are then still whole.
    """
    path = folder / f"iteration_{content['iteration']:08d}.pt"
    buffer = io.BytesIO()
    torch.save({"version": VERSION, **content}, buffer)
    payload = buffer.getbuffer()
    header = _MAGIC + hashlib.sha256(payload).hexdigest().encode() + b"\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: file.writelines((header, payload)))
    except OSError as error:
        raise UserError(f"can't write the checkpoint {path}: {error.strerror or error}") from error
    remove_after(folder, content["iteration"])
    for old in list_checkpoints(folder)[:-keep]:
        old.unlink()
    remove_leftovers(folder)
    return path


def remove_after(folder: Path, iteration: int) -> list[Path]:
    """Removes the checkpoints of later iterations than this one, and says which."""
    later = [path for path in list_checkpoints(folder) if int(path.stem.removeprefix("iteration_")) > iteration]
    for path in later:
        path.unlink()
    return later


def load(path: Path, map_location: torch.device | str = "cpu") -> dict[str, Any]:
    """The content of one checkpoint file.

    Raises: UserError, naming the file, if it is missing, truncated, tampered with, or of another format version.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"no checkpoint at {path}") from error
    except OSError as error:
        raise UserError(f"can't read the checkpoint {path}: {error.strerror or error}") from error
    header, _, payload = data.partition(b"\n")
    if not header.startswith(_MAGIC):
        raise UserError(f"the checkpoint {path} is damaged: it doesn't begin as a metarl checkpoint does")
    if hashlib.sha256(payload).hexdigest().encode() != header.removeprefix(_MAGIC):
        raise UserError(f"the checkpoint {path} is damaged: its content doesn't match its SHA-256")
    try:
        content = torch.load(io.BytesIO(payload), map_location=map_location, weights_only=True)
    except Exception as error:  # the digest fits, so somebody made it so: whatever the unpickler refuses, we refuse
        raise UserError(f"the checkpoint {path} is damaged: it holds more than tensors, numbers and strings") from error
    if not isinstance(content, dict):
        raise UserError(f"the checkpoint {path} is damaged: it holds a {type(content).__name__}; expected a dict")
    if content.get("version") != VERSION:
        raise UserError(
            f"the checkpoint {path} has format version {content.get('version')}, this metarl reads {VERSION}"
        )
    return content


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoint files of a folder, oldest first. Temporary files of a killed writer don't count."""
    return sorted(path for path in folder.glob("iteration_*.pt") if _NAME.fullmatch(path.name))


def load_newest(folder: Path, map_location: torch.device | str = "cpu") -> tuple[Path, dict[str, Any], list[str]]:
    """The newest checkpoint of a folder that is whole, and a message for each newer one that is not.

    Raises: UserError if there is none.
    """
    problems: list[str] = []
    for path in reversed(list_checkpoints(folder)):
        try:
            return path, load(path, map_location), problems
        except UserError as error:
            problems.append(str(error))
    raise UserError("; ".join([f"no usable checkpoint in {folder}", *problems]))


def resolve(location: Path) -> Path:
    """A run folder, its checkpoints folder or a checkpoint file -> the folder of checkpoints or the file.

    Raises: UserError if there is nothing of the kind.
    """
    if location.is_file():
        return location
    for folder in (location / "checkpoints", location):
        if folder.is_dir() and list_checkpoints(folder):
            return folder
    raise UserError(f"no checkpoint at {location}: expected a run folder with checkpoints/, or a checkpoint file")
