"""Picture files, read from a folder or from an archive, as bytes of one size by class."""

import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from io import BufferedIOBase
from pathlib import Path, PurePosixPath
from typing import Protocol, cast

import numpy as np
import torch

from metarl.errors import UserError
from metarl.fewshot import picture_pixels
from metarl.fewshot.images import ImageClasses

# What Python's readers of archives raise for a damaged one.
_DAMAGE = (
    OSError,
    EOFError,
    KeyError,
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    RecursionError,  # links to one another
)
_LARGEST = 256 * 2**20  # bytes of a picture; a packed one may say that it is as large as memory


class Files(Protocol):
    """A tree of files by name, `/` between folders."""

    root: Path

    def names(self) -> list[str]: ...

    def open(self, name: str) -> BufferedIOBase: ...


class _Folder:
    """Follows links. A hidden folder is a name without what is in it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> list[str]:
        try:
            return sorted(
                path.relative_to(self.root).as_posix() for path in _walk(self.root, frozenset())
            )
        except OSError as error:
            raise UserError(
                f"{error.filename or self.root} can't be read: {error.strerror or error}"
            ) from error

    def open(self, name: str) -> BufferedIOBase:
        return (self.root / name).open("rb")


def _walk(folder: Path, above: frozenset[str]) -> Iterator[Path]:
    """Args: above: the folders that this one lies in, to which a link would lead in a circle."""
    above |= {os.path.realpath(folder)}
    for path in folder.iterdir():
        if path.is_dir() and not is_hidden(path.name):
            if os.path.realpath(path) not in above:
                yield from _walk(path, above)
        # The last: a link that leads nowhere.
        elif path.is_dir() or path.is_file() or not path.exists():
            yield path


class _Zip:
    def __init__(self, root: Path, archive: zipfile.ZipFile) -> None:
        self.root = root
        self._archive = archive
        # Some programs for Windows write `\` between folders.
        self._entries = {entry.filename.replace("\\", "/"): entry for entry in archive.infolist()}

    def names(self) -> list[str]:
        return sorted(name for name in self._entries if not name.endswith("/"))

    def open(self, name: str) -> BufferedIOBase:
        entry = self._entries[name]
        if entry.flag_bits & 1:
            raise UserError(
                f"{self.root}: {name} is encrypted; expected an archive without a password"
            )
        try:
            return cast(BufferedIOBase, self._archive.open(entry))
        except NotImplementedError as error:
            raise UserError(
                f"{self.root}: {name} is packed by method {entry.compress_type}, which Python "
                "can't unpack; expected deflate (8)"
            ) from error


class _Tar:
    def __init__(self, root: Path, archive: tarfile.TarFile) -> None:
        self.root = root
        self._archive = archive
        members = archive.getmembers()
        self._members = {m.name: m for m in members if m.isfile() or m.islnk() or m.issym()}
        assert archive.fileobj is not None, "it was opened for reading"
        archive.fileobj.seek(archive.offset)
        if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError(
                "it ends without the empty block that marks the end: a part is missing"
            )
        # The checksum of a compressed stream is looked at only where it ends.
        while archive.fileobj.read(1 << 20):
            pass

    def names(self) -> list[str]:
        return sorted(self._members)

    def open(self, name: str) -> BufferedIOBase:
        file = self._archive.extractfile(self._members[name])
        if file is None:
            raise OSError("a link to a folder")
        return cast(BufferedIOBase, file)


def given(root: str | Path | None, data: str, layout: str) -> str | Path:
    """Where the pictures of `data` lie. Raises: UserError with what is expected there, if that isn't
    said."""
    if root is None:
        raise UserError(f"dataset.root=null: {data} isn't downloaded; {layout}")
    return root


@contextmanager
def opened(root: str | Path) -> Iterator[Files]:
    """The files of a folder, a .zip or a .tar (also compressed).

    Raises: UserError if there is nothing at `root`, or the archive is damaged or of another kind.
    """
    path = Path(root).expanduser()
    if path.is_dir():
        yield _Folder(path)
        return
    if not path.exists():
        raise UserError(f"{path}: there is no such folder or archive")
    with ExitStack() as stack:
        files: Files
        try:
            if zipfile.is_zipfile(path):
                files = _Zip(path, stack.enter_context(zipfile.ZipFile(path)))
            else:
                files = _Tar(path, stack.enter_context(tarfile.open(path)))
        except NotImplementedError as error:
            raise UserError(f"{path} is of a newer kind than Python can unpack: {error}") from error
        except (*_DAMAGE, ValueError) as error:
            # The first line: tarfile goes on with all that it tried.
            reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(":")
            raise UserError(
                f"{path} is damaged, or no archive (.zip, .tar, .tar.gz): {reason}"
            ) from error
        yield files


def is_hidden(name: str) -> bool:
    """Tells whether a name, or a folder in it, begins with a dot, or is what a Mac adds to
    archives: not meant to be seen."""
    return any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts)


def places(files: Files) -> dict[str, list[str]]:
    """File name -> where files of that name lie, hidden ones left out."""
    found: dict[str, list[str]] = {}
    for place in files.names():
        if not is_hidden(place):
            found.setdefault(PurePosixPath(place).name, []).append(place)
    return found


def only(of_name: Sequence[str], root: str | Path) -> str:
    """Where the file of a name lies. Raises: UserError if two have that name."""
    if len(of_name) > 1:
        name = PurePosixPath(of_name[0]).name
        raise UserError(
            f"{root}: {name} is there twice, as {of_name[0]} and {of_name[1]}; which one is meant?"
        )
    return of_name[0]


def is_picture(files: Files, name: str) -> bool:
    """Tells whether a file is a picture: by its suffix, or if that says nothing by what is in
    it."""
    if PurePosixPath(name).suffix.lower() in picture_pixels.suffixes():
        return True
    try:
        with files.open(name) as file:
            return picture_pixels.is_picture(file)
    except _DAMAGE:  # Of a file that isn't called a picture.
        return False


def read(files: Files, name: str) -> bytes:
    """Raises: UserError that names the file."""
    try:
        with files.open(name) as file:
            content = file.read(_LARGEST + 1)
    except _DAMAGE as error:
        raise UserError(
            f"{files.root}: {name} can't be read: {getattr(error, 'strerror', None) or error}"
        ) from error
    if len(content) > _LARGEST:
        raise UserError(f"{files.root}: {name} has more than {_LARGEST >> 20} MiB; no picture has")
    return content


def classes_of(
    files: Files,
    of_class: Mapping[str, Sequence[str]],
    image_size: int,
    *,
    grey: bool,
    with_more_frames: list[str] | None = None,
) -> ImageClasses:
    """The pictures of each class as [C, size, size] bytes: the middle square, resized.

    Args:
      of_class: class -> names of its files.
      grey: one channel instead of three.
      with_more_frames: gets the names of the files with several frames, of which the first is
        taken.
    Raises: UserError for a file that can't be read as a picture, or no classes at all.
    """
    if not of_class:
        raise UserError("no class with pictures")
    pictures = []
    for name in (name for names in of_class.values() for name in names):
        content = read(files, name)
        try:
            picture, has_more = picture_pixels.pixels(content, image_size, grey=grey)
        except ValueError as error:
            raise UserError(f"{files.root}: {name} can't be read as a picture: {error}") from error
        pictures.append(picture)
        if has_more and with_more_frames is not None:
            with_more_frames.append(name)
    return ImageClasses(
        pictures=torch.from_numpy(np.stack(pictures)),
        counts=torch.tensor([len(names) for names in of_class.values()]),
        names=tuple(of_class),
    )
