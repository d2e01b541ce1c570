"""The part of pickle that data need: numbers, text, bytes, lists, tuples, dicts, and what a few
given functions make of them.

A pickle is a program for a machine with a stack. Python's own machine has it call what it names and
set what comes of that to anything: a program that is allowed numpy's arrays reaches all of the memory
by them. This machine knows the opcodes at the end of this file alone. It looks up no attribute, calls
nothing but the functions that it is given, and changes only lists and dicts that it made itself.
"""

import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from metarl.fewshot.pickle_values import VALUES, Stream

Allowed = Mapping[tuple[str, str], Callable[..., Any] | str]
"""(module, name) -> the function that makes what is called so, or a text that stands for what may be
named and isn't called."""


@dataclass(eq=False)
class Unfilled:
    """What a function makes whose content follows. Args: fill: makes the value of that."""

    fill: Callable[[Any], Any]
    places: list[int] = field(default_factory=list)  # where it is remembered


@dataclass(frozen=True, eq=False)
class _Named:
    """A function that the pickle has named."""

    function: Callable[..., Any]


def value_of(stream: Stream, allowed: Allowed) -> Any:
    """What a pickle holds. Bytes and text of Python 2 are text in latin-1, and an OrderedDict is a
    dict. A list may be there many times, or be in itself: who goes through all there is needs a
    limit.

    Raises: UnpicklingError for what isn't allowed; for a damaged one any error.
    """
    machine = _Machine(stream, allowed)
    while (code := stream.take(1)) != pickle.STOP:
        if code not in _OPCODES:
            raise pickle.UnpicklingError(f"it asks for opcode {code.hex()}, which no data need")
        try:
            _OPCODES[code](machine)
        except LookupError as error:
            raise pickle.UnpicklingError("it takes a value that isn't there") from error
    return machine.value()


class _Machine:
    def __init__(self, stream: Stream, allowed: Allowed) -> None:
        self.stream = stream
        self._allowed = allowed
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._remembered: dict[int, Any] = {}
        self._num_made = 0

    def push(self, value: Any) -> None:
        self._stack.append(value)

    def value(self) -> Any:
        """Takes the top of the stack, which has to be complete."""
        value = self._stack.pop()
        if isinstance(value, Unfilled | _Named):
            raise pickle.UnpicklingError("what is made of a function and its values isn't complete")
        return value

    def values(self, num: int) -> list[Any]:
        return [self.value() for _ in range(num)][::-1]

    def marked(self) -> list[Any]:
        """Takes all above the last mark."""
        return self.values(len(self._stack) - self._marks.pop())

    def mark(self) -> None:
        self._marks.append(len(self._stack))

    def extend(self, values: list[Any]) -> None:
        self._top(list).extend(values)

    def enter(self, entries: list[Any]) -> None:
        enter(self._top(dict), entries[::2], entries[1::2])

    def _top(self, kind: type) -> Any:
        if type(self._stack[-1]) is not kind:
            raise pickle.UnpicklingError(f"entries of what is no {kind.__name__}")
        return self._stack[-1]

    def remember(self, place: int) -> None:
        self._remembered[place] = self._stack[-1]
        if isinstance(self._stack[-1], Unfilled):
            self._stack[-1].places.append(place)

    def memoize(self) -> None:
        self.remember(len(self._remembered))

    def recall(self, place: int) -> None:
        self.push(self._remembered[place])

    def name(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise pickle.UnpicklingError("it asks for what has no name")
        if (stands := self._allowed.get((module, name))) is None:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which could run code")
        self.push(stands if isinstance(stands, str) else _Named(stands))

    def call(self) -> None:
        values, named = self.value(), self._stack.pop()
        if not isinstance(named, _Named) or type(values) is not tuple:
            raise pickle.UnpicklingError("it calls what is no function")
        self.push(self._counted(named.function(*values)))

    def fill(self) -> None:
        state, unfilled = self.value(), self._stack.pop()
        if not isinstance(unfilled, Unfilled):
            raise pickle.UnpicklingError("it fills what isn't made to be filled")
        self.push(self._counted(unfilled.fill(state)))
        while unfilled.places:
            self._remembered[unfilled.places.pop()] = self._stack[-1]

    def _counted(self, made: Any) -> Any:
        """Bytes are made of text, and arrays of either, at most once each. Otherwise a small file
        could ask for the same ones again and again until the memory is full."""
        self._num_made += made.nbytes if isinstance(made, np.ndarray) else _length(made)
        if self._num_made > 2 * self.stream.num_taken():
            raise pickle.UnpicklingError("it makes more of its bytes than there are")
        return made


def _length(value: Any) -> int:
    return len(value) if isinstance(value, bytes | dict) else 0


def enter(target: dict, keys: Sequence[Any], values: Sequence[Any]) -> None:
    """Adds to a dict. Raises: UnpicklingError for a key that is no text, bytes or number of 64 bits:
    to hash tuples in tuples takes time without end, or more stack than there is."""
    for key, value in zip(keys, values, strict=True):
        if not isinstance(key, str | bytes) and not (
            isinstance(key, int) and key.bit_length() <= 64
        ):
            raise pickle.UnpicklingError(f"a {type(key).__name__} as the key of a dict")
        target[key] = value


def _dict(machine: _Machine) -> None:
    entries = machine.marked()
    machine.push({})
    machine.enter(entries)


def _global(machine: _Machine) -> None:
    machine.name(machine.stream.line().decode(), machine.stream.line().decode())


def _pushing(read: Callable[[Stream], Any], machine: _Machine) -> None:
    machine.push(read(machine.stream))


_OPCODES: dict[bytes, Callable[[_Machine], None]] = {
    **{code: partial(_pushing, read) for code, read in VALUES.items()},
    pickle.PROTO: lambda machine: machine.stream.number("<B"),
    pickle.FRAME: lambda machine: machine.stream.number("<Q"),
    pickle.MARK: _Machine.mark,
    pickle.LIST: lambda machine: machine.push(machine.marked()),
    pickle.TUPLE: lambda machine: machine.push(tuple(machine.marked())),
    pickle.TUPLE1: lambda machine: machine.push(tuple(machine.values(1))),
    pickle.TUPLE2: lambda machine: machine.push(tuple(machine.values(2))),
    pickle.TUPLE3: lambda machine: machine.push(tuple(machine.values(3))),
    pickle.DICT: _dict,
    pickle.APPEND: lambda machine: machine.extend(machine.values(1)),
    pickle.APPENDS: lambda machine: machine.extend(machine.marked()),
    pickle.SETITEM: lambda machine: machine.enter(machine.values(2)),
    pickle.SETITEMS: lambda machine: machine.enter(machine.marked()),
    pickle.PUT: lambda machine: machine.remember(int(machine.stream.line())),
    pickle.BINPUT: lambda machine: machine.remember(machine.stream.number("<B")),
    pickle.LONG_BINPUT: lambda machine: machine.remember(machine.stream.number("<I")),
    pickle.MEMOIZE: _Machine.memoize,
    pickle.GET: lambda machine: machine.recall(int(machine.stream.line())),
    pickle.BINGET: lambda machine: machine.recall(machine.stream.number("<B")),
    pickle.LONG_BINGET: lambda machine: machine.recall(machine.stream.number("<I")),
    pickle.GLOBAL: _global,
    pickle.STACK_GLOBAL: lambda machine: machine.name(*machine.values(2)),
    pickle.REDUCE: _Machine.call,
    pickle.BUILD: _Machine.fill,
}
