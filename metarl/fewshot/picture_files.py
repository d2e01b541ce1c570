"""Picture files, read from a folder or from an archive, as bytes of one size by class."""

import io
import tarfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from metarl.errors import UserError
from metarl.fewshot.images import ImageClasses

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")


class Files(Protocol):
    """A tree of files by name, `/` between folders."""

    def names(self) -> list[str]: ...

    def read(self, name: str) -> bytes: ...


class _Folder:
    def __init__(self, root: Path) -> None:
        self._root = root

    def names(self) -> list[str]:
        return sorted(path.relative_to(self._root).as_posix() for path in self._root.rglob("*") if path.is_file())

    def read(self, name: str) -> bytes:
        return (self._root / name).read_bytes()


class _Zip:
    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive

    def names(self) -> list[str]:
        return sorted(name for name in self._archive.namelist() if not name.endswith("/"))

    def read(self, name: str) -> bytes:
        return self._archive.read(name)


class _Tar:
    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive
        self._members = {member.name: member for member in archive.getmembers() if member.isfile()}
        assert archive.fileobj is not None, "it was opened for reading"
        archive.fileobj.seek(archive.offset)
        if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("it ends without the empty block that marks the end: a part is missing")
        while archive.fileobj.read(1 << 20):  # The checksum of a compressed stream is looked at only where it ends.
            pass

    def names(self) -> list[str]:
        return sorted(self._members)

    def read(self, name: str) -> bytes:
        file = self._archive.extractfile(self._members[name])
        assert file is not None, "names() lists regular files only"
        return file.read()


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
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                yield _Zip(archive)
        else:
            with tarfile.open(path) as tar:
                yield _Tar(tar)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError) as error:
        raise UserError(f"{path} is damaged, or no archive (.zip, .tar, .tar.gz): {error}") from error


def is_picture(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in SUFFIXES


def classes_of(files: Files, of_class: Mapping[str, Sequence[str]], image_size: int, *, grey: bool) -> ImageClasses:
    """The pictures of each class as [C, size, size] bytes: the middle square, resized.

    Args: of_class: class -> names of its files; grey: one channel instead of three.
    Raises: UserError for a file that is no picture, or no classes at all.
    """
    if not of_class:
        raise UserError("no class with pictures")
    pictures = [_picture(files, name, image_size, grey) for names in of_class.values() for name in names]
    return ImageClasses(
        pictures=torch.from_numpy(np.stack(pictures)),
        counts=torch.tensor([len(names) for names in of_class.values()]),
        names=tuple(of_class),
    )


def _picture(files: Files, name: str, image_size: int, grey: bool) -> np.ndarray:
    """[C, size, size] uint8."""
    try:
        picture = Image.open(io.BytesIO(files.read(name))).convert("L" if grey else "RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise UserError(f"{name} can't be read as a picture: {error}") from error
    side = min(picture.size)
    left, top = ((length - side) // 2 for length in picture.size)
    square = picture.crop((left, top, left + side, top + side)).resize((image_size,) * 2, Image.Resampling.BILINEAR)
    pixels = np.asarray(square)
    return pixels[None] if grey else pixels.transpose(2, 0, 1)
