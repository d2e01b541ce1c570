"""Words for a name that isn't among those there are: what was expected, and the one that was meant."""

import difflib
from collections.abc import Iterable

from metarl.errors import SettingError

_FEW = 3


def check_choice(key: str, name: object, known: Iterable[str]) -> None:
    """Raises: SettingError if the setting `key` is none of the names that it can have."""
    if name not in (known := list(known)):
        raise SettingError(f"{key} {name!r}: {expected(name, known)}")


def expected(name: object, known: Iterable[str]) -> str:
    """Says "expected tanh or relu", and of many names also which was meant: "expected one of basic,
    joblib, submitit_local, submitit_slurm, ray; did you mean joblib?"."""
    known = list(known)
    if len(known) > _FEW:
        return f"expected one of {', '.join(known)}{did_you_mean(name, known)}"
    *others, last = known
    return f"expected {', '.join(others)}{' or ' if others else ''}{last}"


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """A question to end a message with: "; did you mean joblib?", or nothing."""
    close = closest(name, known)
    return "" if close is None else f"; did you mean {close}?"


def closest(name: object, known: Iterable[str]) -> str | None:
    """The known name that looks most like this one, if any looks like it."""
    by_letters = {each.lower(): each for each in known}
    found = difflib.get_close_matches(str(name).strip(" /").lower(), list(by_letters), 1, 0.5)
    return by_letters[found[0]] if found else None
