"""Where a command writes its result, tried before its work begins: what takes minutes to compute
mustn't find out at its end that there is no place for it."""

from pathlib import Path

from metarl.errors import UserError
from metarl.files import check_writable


def folder(word: str | Path, key: str = "output") -> Path:
    """The folder that `key` names, which may be made. Raises: UserError if nothing can be written
    there."""
    place = Path(word).expanduser()
    _try(place, place, key)
    return place


def file(word: str | Path, endings: tuple[str, ...], key: str = "output") -> Path:
    """The file that `key` names, to be written or written over.

    Args: endings: of names that may be written over. A file of another kind was meant for nobody.
    Raises: UserError for a folder or a file of another kind, or if it can't be written.
    """
    place = Path(word).expanduser()
    if place.is_dir() or str(word).endswith("/"):
        raise UserError(f"{key}: {word} is a folder; expected the name of a file, as x{endings[0]}")
    is_own = Path("/dev") in place.parents  # whatever the console is
    if place.is_file() and place.suffix.lower() not in endings and not is_own:
        raise UserError(
            f"{key}: {word} is there already, and would be written over; expected a name that ends "
            f"in {' or '.join(endings)}"
        )
    if place.is_file() or not place.exists():  # A device or a pipe is written to as it is.
        _try(place, place.resolve().parent, key)
    return place


def file_to_append_to(word: str | Path, key: str = "output") -> Path:
    """The file that `key` names. Raises: UserError if nothing can be appended to it, or it can't be
    made."""
    place = Path(word).expanduser()
    try:
        if place.exists():
            place.open("a").close()
        else:
            check_writable(place.parent)
    except OSError as error:
        raise UserError(f"{key}: can't write {place}: {error.strerror or error}") from error
    return place


def _try(place: Path, folder: Path, key: str) -> None:
    try:
        check_writable(folder)
    except OSError as error:
        raise UserError(f"{key}: can't write {place}: {error.strerror or error}") from error
