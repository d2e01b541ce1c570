"""What data of research are often shared as: a pickle of arrays, lists, text and numbers. It is read
without running anything that it asks for.

`pickle_machine` reads the lists and numbers. Arrays are made here, of bytes that are in the file: a
pickle never gets at numpy's own types, which would make arrays over any part of the memory for it.
So a made-up file runs nothing, changes nothing and reads nothing but itself. What it takes of memory
is at most some hundred times its length, and that of an archive's file is limited, too. A long one
takes long.
"""

import itertools
import math
import operator
import pickle
import re
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from metarl.described import described
from metarl.errors import UserError
from metarl.fewshot.pickle_machine import Allowed, Unfilled, enter, value_of
from metarl.fewshot.pickle_values import Stream
from metarl.fewshot.picture_files import Files

_UNPACKED = 16  # times as large as its archive; pictures shrink to a half, a trap to a thousandth
_SMALL = 16 * 2**20  # bytes; pictures of tests may shrink as traps do
_TYPE = re.compile("[biufSU][1-9][0-9]{0,8}")  # of numbers or text, and how long each is
_NDARRAY = "numpy.ndarray"
_KEYS_SHOWN = 8


def unpickled(files: Files, name: str) -> Any:
    """What the file holds; text that Python 2 wrote is text. Arrays can't be written to. A list may
    be there many times, or in itself: who goes through all there is needs a limit.

    Raises: UserError naming the file if it is damaged, or asks for anything but arrays, lists, text
    and numbers.
    """
    try:
        with files.open(name) as file:
            return value_of(Stream(file, _most(files.root)), _ALLOWED)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # A damaged one raises whatever its bytes happen to mean.
        raise UserError(
            f"{files.root}: {name} isn't a pickle of arrays, lists, text and numbers: "
            f"{str(error) or type(error).__name__}"
        ) from error


def _most(root: Path) -> float:
    """Bytes of a file: what is in a folder takes its place there."""
    return max(_SMALL, _UNPACKED * root.stat().st_size) if root.is_file() else math.inf


def whole_numbers(values: Any) -> np.ndarray:
    """[M] int64. Raises: TypeError or OverflowError for what isn't M whole numbers of 64 bits."""
    return np.fromiter(map(operator.index, values), np.int64)


def in_short(content: Any) -> str:
    """`a dict of data, labels`, `a list of 3`, `an array [3, 2] of uint8`: what is there where
    something else was expected."""
    if isinstance(content, dict):
        keys = [" ".join(str(key).split())[:40] for key in itertools.islice(content, _KEYS_SHOWN)]
        keys += ["..."] if len(content) > _KEYS_SHOWN else []
        return f"a dict of {', '.join(keys) or 'nothing'}"
    if isinstance(content, list | tuple):
        return f"a {type(content).__name__} of {len(content)}"
    if isinstance(content, np.ndarray):
        return f"an array {list(content.shape)} of {content.dtype}"
    return described(content)


def _encoded(text: Any, encoding: Any = "latin1") -> bytes:
    """How Python 3 writes bytes into the older kinds of pickle."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"text in {encoding}")
    return str.encode(text, "latin1")


def _no_bytes() -> bytes:
    return b""


def _dict(pairs: Any = ()) -> dict[Any, Any]:
    made: dict[Any, Any] = {}
    for key, value in pairs:
        enter(made, [key], [value])
    return made


def _type(name: Any, *_: Any) -> Unfilled:
    """A type of values; the order of its bytes follows. Others would be addresses, or say that they
    are other ones within."""
    if not isinstance(name, str) or not _TYPE.fullmatch(name):
        raise pickle.UnpicklingError(
            f"an array of {name if isinstance(name, str) else described(name)}"
        )
    return Unfilled(partial(_ordered, np.dtype(name)))


def _ordered(dtype: np.dtype, state: Any) -> np.dtype:
    """Args: state: version, order of bytes, None three times for what has no parts, and what numpy
    knows of the type anyway."""
    known = isinstance(state, tuple) and state[0] == 3 and state[1] in ("<", ">", "|", "=")
    if not known or state[2:5] != (None,) * 3:
        raise pickle.UnpicklingError(f"an array of {dtype} with parts")
    return dtype.newbyteorder(state[1])


def _unfilled_array(kind: Any, *_: Any) -> Unfilled:
    if kind != _NDARRAY:
        raise pickle.UnpicklingError("an array of no kind that is known")
    return Unfilled(_filled_array)


def _filled_array(state: Any) -> np.ndarray:
    _, shape, dtype, is_fortran, values = state
    return _array(values, dtype, shape, "F" if is_fortran else "C")


def _array(values: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> np.ndarray:
    """Args: axes: where order is "K", the axes of the result among those of `shape`."""
    if isinstance(values, str):
        values = values.encode("latin1")  # as Python 2 has them
    if not isinstance(values, bytes) or not isinstance(dtype, np.dtype):
        raise pickle.UnpicklingError("an array of other things than bytes and their type")
    if not _is_shape(shape):
        raise pickle.UnpicklingError(f"an array whose shape is {in_short(shape)}")
    if math.prod(shape) * dtype.itemsize != len(values):
        raise pickle.UnpicklingError(f"{len(values)} bytes for an array {list(shape)} of {dtype}")
    array = np.frombuffer(values, dtype)
    _check_values(array)
    if order == "K":
        return array.reshape(shape).transpose(axes)
    return array.reshape(shape, order=order)


def _check_values(array: np.ndarray) -> None:
    """numpy takes for granted that truth is 0 or 1, and text is of characters that there are."""
    if array.dtype.kind == "b" and (array.view(np.uint8) > 1).any():
        raise pickle.UnpicklingError("an array of bool with other bytes than 0 and 1")
    codes = np.dtype("u4").newbyteorder(array.dtype.byteorder)
    if array.dtype.kind == "U" and (array.view(codes) > sys.maxunicode).any():
        raise pickle.UnpicklingError("an array of text with characters that there aren't")


def _is_shape(shape: Any) -> bool:
    return (
        isinstance(shape, tuple)
        and len(shape) <= 64
        and all(type(n) is int and 0 <= n < 2**63 for n in shape)
    )


# What numpy's arrays are put together by, and what stands for it here.
_ALLOWED: Allowed = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _type,
    ("collections", "OrderedDict"): _dict,
    ("_codecs", "encode"): _encoded,
    **{(builtins, "bytes"): _no_bytes for builtins in ("__builtin__", "builtins")},
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _unfilled_array for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _array for core in ("core", "_core")},
}
