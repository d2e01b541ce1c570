"""The files of an experience beside the checkpoints of its run. Each entry is written once; a
checkpoint only names files.

They lie in checkpoints/experience/, named by the numbers of their entries and the beginning of
their digest. What a checkpoint names is on the disk before the checkpoint is, and stays as long as
it.
"""

import re
from bisect import bisect_left
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metarl.errors import UserError
from metarl.files import remove_leftovers
from metarl.run import archive, checkpoint
from metarl.run.archive import DamagedFile
from metarl.struct import struct
from metarl.types import Experience, Shard

FOLDER = "experience"
"""The folder of the files, in the folder of checkpoints."""
KEY = "experience"
"""The key of a checkpoint under which it names the files that it needs, in the order of their
entries."""

_KIND = "experience"
_NAME = re.compile(r"(\d{10})-(\d{10})-([0-9a-f]{12})\.pt")
_DIGITS = 12  # of the digest


@struct
class _File:
    name: str
    first: int
    stop: int
    digest: str
    """The beginning of its SHA-256."""


class Shards:
    """Writes what is new in an experience, and removes what no checkpoint needs. One process at a
    time writes in a folder.

    Args: checkpoints: the folder of the run's checkpoints.
    """

    def __init__(self, checkpoints: Path) -> None:
        self._checkpoints = checkpoints
        self._folder = checkpoints / FOLDER
        self._written: list[_File] = []
        self._needed: dict[str, list[str]] = {}
        """The files that each checkpoint needs, as far as they have been read."""

    def write(self, experience: Experience) -> list[str]:
        """Writes the entries that aren't on the disk yet. Returns the names of the files with what
        is still held.

        Raises: UserError if a file can't be written.
        """
        held = experience.kept()
        for shard in experience.shards(self._written[-1].stop if self._written else 0):
            content = archive.packed(
                {"first": shard.first, "stop": shard.stop, "entries": shard.content}
            )
            file = _file(f"{shard.first:010d}-{shard.stop:010d}-{content.digest[:_DIGITS]}.pt")
            archive.write(self._folder / file.name, _KIND, content)
            self._written.append(file)
        needed = [file for file in self._written if _holds(held, file)]
        # The last one stays in the list, because it tells what has been written.
        self._written = (
            needed if needed[-1:] == self._written[-1:] else [*needed, *self._written[-1:]]
        )
        return [file.name for file in needed]

    def tidy(self, path: Path, names: list[str]) -> None:
        """Removes the files that none of the folder's checkpoints needs, once the checkpoint
        `path`, which needs `names`, is there."""
        files = [
            *checkpoint.list_checkpoints(self._checkpoints),
            self._checkpoints / checkpoint.BEST,
        ]
        present = {file.name: file for file in files if file.exists()}
        self._needed.pop(checkpoint.BEST, None)  # It may be another one by now.
        self._needed = {
            name: needed for name, needed in self._needed.items() if name in present
        } | {path.name: names}
        try:
            for name in present.keys() - self._needed.keys():
                self._needed[name] = _named_in(present[name])
        except UserError:  # Nobody knows what that one needs; the next time may tell.
            return
        needed = {name for names in self._needed.values() for name in names}
        for file in self._folder.glob("*.pt"):
            if _NAME.fullmatch(file.name) and file.name not in needed:
                file.unlink(missing_ok=True)
        remove_leftovers(self._folder)

    def load(self, experience: Experience, content: Mapping[str, Any]) -> None:
        """Gives an experience what a checkpoint's content names. A checkpoint of an older version
        has its experience in the learner's state, and names nothing.

        Raises: UserError naming the file that is missing, damaged or doesn't fit.
        """
        if KEY not in content:
            return
        names = content[KEY]
        if not isinstance(names, list) or not all(
            isinstance(name, str) and _NAME.fullmatch(name) for name in names
        ):
            raise UserError(
                f"the checkpoint's {KEY} is {str(names)[:60]!r}; expected names of files of "
                f"{FOLDER}/"
            )
        folder = self._where(names)
        files = [_file(name) for name in names]
        try:
            experience.load(_read(folder / file.name, file) for file in files)
        except ValueError as error:
            raise UserError(f"the experience in {folder} doesn't fit: {error}") from error
        self._written = files if folder == self._folder else []

    def _where(self, names: list[str]) -> Path:
        """The folder of the files: in that of the checkpoints, or above it, for a checkpoint that
        lay beside its config."""
        above = self._checkpoints.parent / FOLDER
        missing = [name for name in names if not (self._folder / name).is_file()]
        if not missing:
            return self._folder
        if all((above / name).is_file() for name in names):
            return above
        raise UserError(
            f"{self._folder / missing[0]} is missing, which the checkpoint needs to go on; "
            "expected it there, or an older checkpoint (resume=<file>)"
        )


def _holds(held: Any, file: _File) -> bool:
    """Tells whether an entry of the file is among the numbers `held`, which ascend."""
    place = bisect_left(held, file.first)
    return place < len(held) and held[place] < file.stop


def _named_in(path: Path) -> list[str]:
    """What a checkpoint of an earlier process needs; one that is damaged is of no use, and needs
    nothing. Raises: UserError for one that can't be read, but may be whole."""
    try:
        names = checkpoint.load(path).get(KEY, [])
    except DamagedFile:
        return []
    return names if isinstance(names, list) else []


def _file(name: str) -> _File:
    first, stop, digest = name.removesuffix(".pt").split("-")
    return _File(name=name, first=int(first), stop=int(stop), digest=digest)


def _read(path: Path, file: _File) -> Shard:
    content = archive.read(path, _KIND, digest=file.digest)
    if (content.get("first"), content.get("stop")) != (file.first, file.stop):
        raise DamagedFile(f"the experience {path} is damaged: it isn't what its name says")
    entries = content.get("entries")
    if not isinstance(entries, dict):
        raise DamagedFile(f"the experience {path} is damaged: it has no entries")
    return Shard(first=file.first, stop=file.stop, content=entries)
