"""What data of research are often shared as: a pickle of arrays, lists, text and numbers. It is read
without running anything that it asks for."""

import pickle
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np

from metarl.described import described
from metarl.errors import UserError
from metarl.fewshot.picture_files import Files


def _encoded(text: str, encoding: str = "latin1") -> bytes:
    """How Python 3 writes bytes into the older kinds of pickle."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"text in {encoding}")
    return text.encode(encoding)


def _empty(kind: type, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An array whose shape, type and values follow in the pickle."""
    return np.ndarray.__new__(kind, shape, dtype)


def _filled(
    values: bytes | bytearray, dtype: Any, shape: tuple[int, ...], order: Any
) -> np.ndarray:
    return np.frombuffer(values, dtype).reshape(shape, order=order)


# What numpy's arrays are put together by, and what stands for it here.
_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _encoded,
    **{(builtins, "bytes"): bytes for builtins in ("__builtin__", "builtins")},
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _empty for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _filled for core in ("core", "_core")},
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which could run code")
        return _ALLOWED[module, name]


def unpickled(files: Files, name: str) -> Any:
    """What the file holds; text that Python 2 wrote is text.

    Raises: UserError naming the file if it is damaged, or asks for anything but arrays, lists, text
    and numbers.
    """
    try:
        with files.open(name) as file:
            return _Unpickler(file, encoding="latin1").load()
    except UserError:
        raise
    except Exception as error:  # A damaged one raises whatever its bytes happen to mean.
        raise UserError(
            f"{files.root}: {name} isn't a pickle of arrays, lists, text and numbers: "
            f"{error or type(error).__name__}"
        ) from error


def in_short(content: Any) -> str:
    """`a dict of data, labels`, `a list of 3`, `an array [3, 2] of uint8`: what is there where
    something else was expected."""
    if isinstance(content, dict):
        return f"a dict of {', '.join(map(str, content)) or 'nothing'}"
    if isinstance(content, list | tuple):
        return f"a {type(content).__name__} of {len(content)}"
    if isinstance(content, np.ndarray):
        return f"an array {list(content.shape)} of {content.dtype}"
    return described(content)
