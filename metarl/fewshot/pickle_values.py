"""The numbers, text and bytes of a pickle, read from its file. No more memory is taken than there are
bytes, whatever lengths it states."""

import codecs
import pickle
import struct
from collections.abc import Callable
from io import BufferedIOBase
from typing import Any

_AT_ONCE = 1 << 20  # bytes


class Stream:
    """The bytes of a pickle, one after the other. Args: most: how many there may be."""

    def __init__(self, file: BufferedIOBase, most: float) -> None:
        self._file = file
        self._most = most
        self._buffer = b""
        self._next = 0
        self._read = 0

    def take(self, num: int) -> bytes:
        """The next `num` bytes. Raises: UnpicklingError if there are fewer."""
        end = self._next + num
        if num < 0 or end > len(self._buffer):
            return self._beyond(num)
        taken = self._buffer[self._next : end]
        self._next = end
        return taken

    def line(self) -> bytes:
        """The rest of the line, without its end."""
        parts = []
        while (end := self._buffer.find(b"\n", self._next)) < 0:
            parts.append(self._buffer[self._next :])
            self._refill()
        parts.append(self._buffer[self._next : end])
        self._next = end + 1
        return b"".join(parts)

    def number(self, kind: str) -> Any:
        return struct.unpack(kind, self.take(struct.calcsize(kind)))[0]

    def sized(self, kind: str) -> bytes:
        """Bytes after a number of this kind, which says how many they are."""
        return self.take(self.number(kind))

    def num_taken(self) -> int:
        return self._read - len(self._buffer) + self._next

    def _beyond(self, num: int) -> bytes:
        """The next `num` bytes, of which the buffer has only some."""
        if num < 0:
            raise pickle.UnpicklingError(f"a length of {num}")
        parts = [self._buffer[self._next :]]
        missing = num - len(parts[0])
        while missing > 0:
            self._refill()
            parts.append(self._buffer[:missing])
            missing -= len(parts[-1])
        self._next = len(parts[-1])
        return b"".join(parts)

    def _refill(self) -> None:
        self._buffer, self._next = self._file.read(_AT_ONCE), 0
        self._read += len(self._buffer)
        if not self._buffer:
            raise pickle.UnpicklingError(f"it ends after {self._read} bytes, in the middle")
        if self._read > self._most:
            raise pickle.UnpicklingError(
                f"it unpacks to more than {int(self._most)} bytes, many times its archive"
            )


def _integer(line: bytes) -> int | bool:
    return {b"00": False, b"01": True}.get(line, int(line.rstrip(b"L")))


def _quoted(line: bytes) -> str:
    """Text as Python 2 shows it, with quotation marks around it."""
    return codecs.escape_decode(line[1:-1])[0].decode("latin1")  # type: ignore[attr-defined]


def _utf8(content: bytes) -> str:
    return content.decode("utf-8", "surrogatepass")


def _whole(content: bytes) -> int:
    return int.from_bytes(content, "little", signed=True)


VALUES: dict[bytes, Callable[[Stream], Any]] = {
    pickle.NONE: lambda _: None,
    pickle.NEWTRUE: lambda _: True,
    pickle.NEWFALSE: lambda _: False,
    pickle.BININT: lambda stream: stream.number("<i"),
    pickle.BININT1: lambda stream: stream.number("<B"),
    pickle.BININT2: lambda stream: stream.number("<H"),
    pickle.BINFLOAT: lambda stream: stream.number(">d"),
    pickle.INT: lambda stream: _integer(stream.line()),
    pickle.LONG: lambda stream: _integer(stream.line()),
    pickle.LONG1: lambda stream: _whole(stream.sized("<B")),
    pickle.LONG4: lambda stream: _whole(stream.sized("<i")),
    pickle.FLOAT: lambda stream: float(stream.line()),
    pickle.STRING: lambda stream: _quoted(stream.line()),
    pickle.SHORT_BINSTRING: lambda stream: stream.sized("<B").decode("latin1"),
    pickle.BINSTRING: lambda stream: stream.sized("<i").decode("latin1"),
    pickle.UNICODE: lambda stream: stream.line().decode("raw-unicode-escape"),
    pickle.SHORT_BINUNICODE: lambda stream: _utf8(stream.sized("<B")),
    pickle.BINUNICODE: lambda stream: _utf8(stream.sized("<I")),
    pickle.BINUNICODE8: lambda stream: _utf8(stream.sized("<Q")),
    pickle.SHORT_BINBYTES: lambda stream: stream.sized("<B"),
    pickle.BINBYTES: lambda stream: stream.sized("<I"),
    pickle.BINBYTES8: lambda stream: stream.sized("<Q"),
    pickle.BYTEARRAY8: lambda stream: stream.sized("<Q"),
    pickle.EMPTY_LIST: lambda _: [],
    pickle.EMPTY_DICT: lambda _: {},
    pickle.EMPTY_TUPLE: lambda _: (),
}
"""Opcode -> the value that it stands for, read from what follows it."""
