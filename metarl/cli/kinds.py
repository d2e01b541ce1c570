"""What a value on the command line may be: each kind knows whether a value is one of it, and says
in words what was expected."""

import importlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from hydra.utils import get_object

from metarl.cli.moved import present_name

MOST = 10**9
"""The largest count that any setting takes unless it says otherwise: beyond lie numbers that torch
can't even hold."""


class Kind(Protocol):
    @property
    def expected(self) -> str:
        """What a value of the kind is, to read behind the word "expected"."""
        ...

    def fits(self, value: Any) -> bool: ...


@dataclass(frozen=True)
class Integer:
    least: int | None = None
    most: int = MOST

    @property
    def expected(self) -> str:
        if self.least is None:
            return "an integer"
        return (
            f"an integer, {self.least} or more"
            if self.most == MOST
            else f"an integer from {self.least} to {self.most}"
        )

    def fits(self, value: Any) -> bool:
        is_integer = isinstance(value, int) and not isinstance(value, bool)
        return (
            is_integer and (-self.most if self.least is None else self.least) <= value <= self.most
        )


@dataclass(frozen=True)
class Number:
    """A finite number; an integer is one, too. The bounds `above` and `below` don't belong to the
    range, the others do."""

    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf
    below: float = math.inf

    @property
    def expected(self) -> str:
        words = {"above": self.above, "from": self.least, "to": self.most, "below": self.below}
        limits = " ".join(
            f"{word} {bound:g}" for word, bound in words.items() if math.isfinite(bound)
        )
        is_open = limits and math.isinf(min(self.most, self.below))
        return f"a {'finite ' if is_open else ''}number {limits}".rstrip()

    def fits(self, value: Any) -> bool:
        if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < 1e300:
            return False
        return self.least <= value <= self.most and self.above < value < self.below


@dataclass(frozen=True)
class Flag:
    expected = "true or false"

    def fits(self, value: Any) -> bool:
        return isinstance(value, bool)


@dataclass(frozen=True)
class Word:
    """Text that isn't empty. What Hydra reads as a number, a list or true is none unless it stands
    in quotes."""

    expected: str = "a word"

    def fits(self, value: Any) -> bool:
        return isinstance(value, str) and bool(value.strip())


@dataclass(frozen=True)
class Place(Word):
    """The name of a file or a folder; ~ and ~name at its beginning are home folders that exist."""

    def fits(self, value: Any) -> bool:
        try:
            return super().fits(value) and bool(Path(value).expanduser())
        except RuntimeError:  # There is no such home.
            return False


@dataclass(frozen=True)
class Pattern:
    """A word that a regular expression matches as a whole."""

    pattern: str
    expected: str

    def fits(self, value: Any) -> bool:
        return isinstance(value, str) and re.fullmatch(self.pattern, value) is not None


class OneOf:
    """One of a few words."""

    def __init__(self, *words: str) -> None:
        self.words = words

    @property
    def expected(self) -> str:
        *others, last = self.words
        return f"{', '.join(others)} or {last}" if others else last

    def fits(self, value: Any) -> bool:
        return isinstance(value, str) and value in self.words


class OneOfOrOwn:
    """One of a few words, or something of a user's own that is called: its `_target_`, and what it
    is called with beside it."""

    def __init__(self, *words: str, own: str) -> None:
        self._words, self._own = OneOf(*words), own

    @property
    def expected(self) -> str:
        return (
            f"{self._words.expected}, or {self._own} of your own ({{_target_: module.name, ...}})"
        )

    def fits(self, value: Any) -> bool:
        is_own = isinstance(value, Mapping) and isinstance(value.get("_target_"), str)
        return is_own or self._words.fits(value)


@dataclass(frozen=True)
class ListOf:
    entry: Kind
    least: int = 0  # entries

    @property
    def expected(self) -> str:
        return f"a list with {self.entry.expected} at each place" + (
            ", one place or more" if self.least else ""
        )

    def fits(self, value: Any) -> bool:
        return (
            isinstance(value, list)
            and len(value) >= self.least
            and all(map(self.entry.fits, value))
        )


@dataclass(frozen=True)
class Bounds:
    """A list of two numbers, the lower one first."""

    expected = "a lower and an upper bound, for instance [0,1]"

    def fits(self, value: Any) -> bool:
        return (
            isinstance(value, list)
            and len(value) == 2
            and all(map(Number().fits, value))
            and value[0] <= value[1]
        )


@dataclass(frozen=True)
class OrNull:
    kind: Kind

    @property
    def expected(self) -> str:
        return f"{self.kind.expected}{',' if ',' in self.kind.expected else ''} or null"

    def fits(self, value: Any) -> bool:
        return value is None or self.kind.fits(value)


@dataclass(frozen=True)
class Target:
    """The full name of a function or class that can be imported."""

    expected = "the full name of a function or class, for instance metarl.nn.recurrent.GRU"

    def fits(self, value: Any) -> bool:
        if not isinstance(value, str):
            return False
        try:
            return callable(get_object(present_name(value)))
        except (ImportError, ValueError):
            return False

    def problem(self, value: str) -> str:
        """Says why the name of a user's own can't be imported; empty where its form is to blame."""
        module = value.rpartition(".")[0]
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name and f"{module}.".startswith(f"{error.name}."):
                return (
                    f"there is no module {error.name} on Python's path; PYTHONPATH=<the folder that "
                    "it lies in> puts it there"
                )
            return f"{module} can't be imported: {error}"
        except (ValueError, TypeError):  # no module before the dot, or a dot before all
            return ""
        except Exception as error:  # The user's code may raise anything.
            return f"{module} can't be imported: {type(error).__name__}: {error}"
        return f"{module} has no {value.rpartition('.')[2]}"


@dataclass(frozen=True)
class Fixed:
    """A value that is a config's own matter: it stays as it is there."""

    value: Any

    @property
    def expected(self) -> str:
        return f"{str(self.value).lower()}, which stays as it is"

    def fits(self, value: Any) -> bool:
        return type(value) is type(self.value) and bool(value == self.value)


@dataclass(frozen=True)
class Keys:
    """The value of a key that has keys below it."""

    expected = "keys and values"

    def fits(self, value: Any) -> bool:
        return isinstance(value, dict)


@dataclass(frozen=True)
class Anything:
    expected = "anything"

    def fits(self, value: Any) -> bool:
        return True


def like(default: Any) -> Kind:
    """What a key may be of which nothing is known but its default. Below a list with entries, they
    tell the kind of all."""
    if isinstance(default, list):
        return ListOf(like(default[0]) if default else Anything())
    kinds: dict[type, Kind] = {
        bool: Flag(),
        int: Integer(most=2**63 - 1),
        float: Number(),
        str: Word(),
        dict: Keys(),
    }
    return kinds.get(type(default), Anything())
