"""Writing a file so that it is whole or isn't there: the one way in which this suite writes files
that somebody may read.

A file is written under a temporary name beside its own, flushed to the disk and renamed. Whatever
happens in between, a full disk, Ctrl-C or the end of the process, under its own name lies the old
file or the new one.
"""

import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any, BinaryIO

_CANT_FLUSH = (
    errno.EINVAL,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.ENOSYS,
    errno.EBADF,
    errno.EACCES,
    errno.EPERM,
)
"""What a file system answers that doesn't know fsync, often of folders alone. A disk that is full
or broken says otherwise."""


def write_atomically(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Calls write(binary file); `path` is what it wrote, once all of it is on the disk.

    Raises: OSError if it can't be written; what was there before is then still there.
    """
    with replacing(path) as temporary, temporary.open("xb") as file:
        write(file)


def write_text(path: Path, text: str) -> None:
    """Writes a text in UTF-8, as `write_atomically` does; names of files that aren't UTF-8 stay the
    bytes they are."""
    write_atomically(path, lambda file: file.write(text.encode(errors="surrogateescape")))


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary path in the folder of `path`, for programs that open files by themselves;
    what they wrote there becomes `path` at the end. After an exception `path` is as it was. Where
    `path` is a link, so it stays. A device or a pipe is no file to replace, and gets it written.

    Raises: OSError with `path` in it, because nobody knows the temporary one.
    """
    place = path.resolve()
    if path.exists() and not (path.is_file() or path.is_dir()):
        with TemporaryDirectory() as folder:
            yield Path(folder) / "written"
            with path.open("wb") as sink, (Path(folder) / "written").open("rb") as written:
                shutil.copyfileobj(written, sink)
        return
    # Its own for each of several writers
    temporary = place.with_name(f".{place.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        flush(temporary)
        temporary.replace(place)
        flush(place.parent)  # the rename itself must reach the disk, too
    except BaseException as error:
        with suppress(OSError):  # NotADirectoryError where its folder is a file
            temporary.unlink(missing_ok=True)
        if (
            isinstance(error, OSError)
            and error.errno is not None
            and error.filename in (None, str(temporary))
        ):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def make_folder(folder: Path) -> None:
    """Makes the folder and those above it, where they aren't there.

    Raises: OSError naming what can't be made; where a file is in the way, it says that this is no
      folder.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        in_the_way = next(place for place in (folder, *folder.parents) if place.exists())
        raise NotADirectoryError(
            errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(in_the_way)
        ) from error


def check_writable(folder: Path) -> None:
    """Tries to write a file in the folder, which is made for that if need be, and leaves everything
    as it was.

    Raises: OSError if there can be no folder, or no file in it.
    """
    try:
        _try_writing(folder)
    except FileNotFoundError:  # Another that tried has just taken the folder away again.
        _try_writing(folder)


def _try_writing(folder: Path) -> None:
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        make_folder(folder)
        TemporaryFile(dir=folder).close()
    finally:
        for place in missing:
            with suppress(OSError):  # Not made, or somebody has begun to use it.
                place.rmdir()


def remove_leftovers(folder: Path, of: str = "*") -> None:
    """Removes the temporary files of writers that were killed, of those files that a pattern such as
    `metrics.*` names. Only where nobody else writes these now."""
    for temporary in folder.glob(f".{of}.tmp"):
        temporary.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk, where the file system can do
    that: a power cut takes nothing of it then."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _CANT_FLUSH:
            raise
