"""Files that hold tensors, numbers, strings and containers, are whole or aren't there, and load
without executing code.

A file is one line, `metarl-<kind> <SHA-256 of the rest>`, and a torch archive. It is written so
that under its name it is whole; the digest, checked before anything is unpacked, finds what happens
to it later.
"""

import hashlib
import io
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from metarl.errors import UserError
from metarl.files import make_folder, write_atomically
from metarl.run.memory import is_exhausted
from metarl.struct import named_leaves, struct

VERSION = 1


class DamagedFile(UserError):
    """A file isn't what was written; it is of no use, whatever is done. What can't be read at the
    moment, or only by another version, is no such file."""


@struct
class Packed:
    """A content as it will lie in a file."""

    payload: memoryview
    digest: str
    """The content's SHA-256."""


def packed(content: Mapping[str, Any]) -> Packed:
    """Makes an archive of the content and of the format's version.

    Raises: UserError naming an entry that no file holds which loads without executing code.
    """
    buffer, strange = io.BytesIO(), next(_strange(content), None)
    try:
        torch.save({"version": VERSION, **content}, buffer)
        if strange is not None:  # Torch may know it all the same.
            torch.load(io.BytesIO(buffer.getbuffer()), weights_only=True)
    except Exception as error:
        if strange is None:
            raise
        raise UserError(
            f"{strange} can't be saved; expected tensors, numbers, strings, None, and dicts, lists "
            "and tuples of them"
        ) from error
    payload = buffer.getbuffer()
    return Packed(payload=payload, digest=hashlib.sha256(payload).hexdigest())


_PLAIN = (type(None), bool, int, float, str, bytes)


def _strange(content: Mapping[str, Any]) -> Iterator[str]:
    """Yields, as `state.best is a float64`, what isn't of the types that every file may hold. Types,
    not kinds: numpy's float64 is a float, too."""
    for name, leaf in named_leaves(content):
        if not isinstance(leaf, torch.Tensor) and type(leaf) not in _PLAIN:
            kind = type(leaf)
            library = kind.__module__.partition(".")[0]
            of = "" if library == "builtins" else f" of {library}"
            yield f"{name} is a {kind.__name__}{of}, which"


def is_of(path: Path, kind: str) -> bool:
    """Whether a file says of itself that it is of this kind."""
    try:
        with path.open("rb") as file:
            return file.readline().startswith(f"metarl-{kind} ".encode())
    except OSError:
        return False


def write(path: Path, kind: str, content: Packed) -> None:
    """Writes the file, and its folder if there is none.

    Args: kind: what the file is, in one word: `checkpoint`.
    Raises: UserError if it can't be written or the disk is full; what was there before is then
    still whole.
    """
    header = f"metarl-{kind} {content.digest}\n".encode()
    try:
        make_folder(path.parent)
        write_atomically(path, lambda file: file.writelines((header, content.payload)))
    except OSError as error:
        raise UserError(f"can't write the {kind} {path}: {error.strerror or error}") from error


def read(
    path: Path, kind: str, map_location: torch.device | str = "cpu", digest: str = ""
) -> dict[str, Any]:
    """Returns the content of a file.

    Args: digest: what its SHA-256 must begin with.
    Raises: DamagedFile, naming it, if it is truncated, tampered with, or of another kind; UserError
    if it is missing, can't be read or has another format version; MemoryError, or torch's own, if it
    doesn't fit into memory.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"no {kind} at {path}") from error
    except OSError as error:
        raise UserError(f"can't read the {kind} {path}: {error.strerror or error}") from error
    header, _, payload = data.partition(b"\n")
    magic = f"metarl-{kind} ".encode()
    if not header.startswith(magic):
        raise DamagedFile(
            f"the {kind} {path} is damaged, or of another kind: it doesn't begin as a metarl {kind} "
            "does"
        )
    found = hashlib.sha256(payload).hexdigest()
    if found.encode() != header.removeprefix(magic) or not found.startswith(digest):
        raise DamagedFile(f"the {kind} {path} is damaged: its content doesn't match its SHA-256")
    if _is_packed(payload):
        raise DamagedFile(f"the {kind} {path} is damaged: it is packed, as no metarl does")
    try:
        content = torch.load(io.BytesIO(payload), map_location=map_location, weights_only=True)
    # the digest fits, so somebody made it so: whatever the unpickler refuses, we refuse
    except Exception as error:
        if is_exhausted(error):
            raise
        raise DamagedFile(
            f"the {kind} {path} is damaged: it holds more than tensors, numbers and strings"
        ) from error
    if not isinstance(content, dict):
        raise DamagedFile(
            f"the {kind} {path} is damaged: it holds a {type(content).__name__}; expected a dict"
        )
    if content.get("version") != VERSION:
        raise UserError(
            f"the {kind} {path} has format version {content.get('version')}, this metarl reads "
            f"{VERSION}"
        )
    return content


def _is_packed(payload: bytes) -> bool:
    """Whether an archive would grow when it is unpacked, for which the memory may not suffice."""
    try:
        with zipfile.ZipFile(io.BytesIO(payload)) as archive:
            return sum(entry.file_size for entry in archive.infolist()) > len(payload)
    except Exception:  # Whatever it is, torch says what is wrong with it.
        return False
