"""The authors' archives of Omniglot: downloaded, checked against their SHA-256, and converted once
to one compact file.

Whatever goes wrong, nothing half-written stays: an archive that fails its check is deleted, the
compact file is written under another name first.
"""

import hashlib
import os
from collections import defaultdict
from pathlib import Path, PurePosixPath

import numpy as np

from metarl.errors import UserError
from metarl.fewshot.picture_files import is_hidden, opened, read
from metarl.fewshot.picture_pixels import shown
from metarl.files import make_folder, write_atomically

DRAWERS, SIDE = 20, 105  # drawings of a character, pixels
FILE_NAME = "omniglot.npz"

URL = "https://github.com/brendenlake/omniglot/raw/master/python/"
SHA256 = {
    "images_background.zip": "ad41ab679c8b5d90b271ef46be6987cc81211774a695c29dcc5367b2b26ee640",
    "images_evaluation.zip": "1f61a8f3366785b057fc117d9228e78a16e3d976c8953b2a10fcc74cf0609cee",
}


def cache_folder() -> Path:
    """Returns the folder where downloads stay: $METARL_CACHE, or metarl/ in the user's cache
    folder."""
    base = os.environ.get("METARL_CACHE")
    if base:
        return Path(base).expanduser() / "omniglot"
    return (
        Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser()
        / "metarl"
        / "omniglot"
    )


def converted(folder: Path, *, download: bool = True) -> Path:
    """Makes the compact file in `folder` from the archives there, or from a download, and returns
    its path.

    Raises: UserError if an archive is missing, damaged or can't be downloaded, or the folder can't
    be written to.
    """
    try:
        if download:  # A folder that the user named is there, or is a mistake.
            make_folder(folder)
        archives = [_archive(folder, name, download) for name in SHA256]
        arrays: dict[str, np.ndarray] = {}
        for path in archives:
            arrays.update(_read(path))
        return _write(folder / FILE_NAME, arrays)
    except OSError as error:
        raise UserError(
            f"can't write Omniglot to {folder}: {error.strerror or error}; METARL_CACHE=<folder> "
            "chooses another cache, "
            "dataset.data_dir=<folder> one that has the data"
        ) from error


def _archive(folder: Path, name: str, download: bool) -> Path:
    """Returns the archive, checked: as it lies in the folder, else downloaded to it."""
    path = folder / name
    if path.exists():
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest == SHA256[name]:
            return path
        if not download:
            raise UserError(f"{path} is damaged: its SHA-256 is {digest}, expected {SHA256[name]}")
        path.unlink()  # Our own cache: half a download is of no use.
    elif not download:
        raise UserError(
            f"no Omniglot in {folder}: expected {FILE_NAME}, or {' and '.join(SHA256)} from {URL}; "
            "without dataset.data_dir they are downloaded"
        )
    return _download(folder, name)


def _download(folder: Path, name: str) -> Path:
    import pooch  # Here, because it is slow to import and needed once.

    try:
        return Path(
            pooch.retrieve(URL + name, f"sha256:{SHA256[name]}", name, folder, progressbar=True)
        )
    # pooch's, and its requests', for a checksum that doesn't fit; it keeps no such file.
    except ValueError as error:
        raise UserError(
            f"the download of {URL}{name} is damaged and wasn't kept: {error}"
        ) from error
    except OSError as error:
        if isinstance(error, PermissionError) or error.errno is not None:
            raise
        raise UserError(
            f"can't download {URL}{name} ({type(error).__name__}); put {' and '.join(SHA256)} into "
            "a folder by hand "
            "and say dataset.data_dir=<folder>"
        ) from error


def _read(path: Path) -> dict[str, np.ndarray]:
    """One archive, images_<part>/<alphabet>/<character>/<number>_<drawer>.png, as arrays of the
    compact file.

    Raises: UserError if it isn't complete.
    """
    part = path.stem.removeprefix("images_")
    drawings: dict[tuple[str, str], dict[int, np.ndarray]] = defaultdict(dict)
    with opened(path) as files:
        for name in files.names():
            entry = PurePosixPath(name)
            if entry.suffix != ".png" or is_hidden(name):
                continue
            try:
                drawer = int(entry.stem.split("_")[1])
                drawings[entry.parts[-3], entry.parts[-2]][drawer] = _bits(read(files, name))
            except (IndexError, ValueError) as error:
                raise UserError(f"{path} isn't an archive of Omniglot: {name}: {error}") from error
    characters = sorted(drawings)
    for character in characters:
        if sorted(drawings[character]) != list(range(1, DRAWERS + 1)):
            raise UserError(
                f"{path}: {'/'.join(character)} has {len(drawings[character])} drawings, expected "
                f"{DRAWERS}"
            )
    rows = [
        drawings[character][drawer] for character in characters for drawer in range(1, DRAWERS + 1)
    ]
    return {
        f"images_{part}": np.stack(rows),
        f"alphabet_{part}": np.array([alphabet for alphabet, _ in characters]),
        f"character_{part}": np.array([name for _, name in characters]),
    }


def _bits(png: bytes) -> np.ndarray:
    """A picture, ink black on white, as packed bits with ink 1.

    Raises: ValueError if it can't be read, or isn't of Omniglot's size.
    """
    pixels = np.asarray(shown(png, grey=True)[0])
    if pixels.shape != (SIDE, SIDE):
        raise ValueError(
            f"it has {pixels.shape[1]} x {pixels.shape[0]} pixels, expected {SIDE} x {SIDE}"
        )
    return np.packbits(pixels.reshape(-1) < 128)


def _write(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    # Numpy's annotations take every keyword for a bool.
    write_atomically(path, lambda file: np.savez_compressed(file, **arrays))  # type: ignore[arg-type]
    return path
