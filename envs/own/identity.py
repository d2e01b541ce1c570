"""What tells one source or setting from another, as JSON values for the spec: two that can differ
never share it.

What can be imported by its name is its name. All else has its content beside: the arguments of a
partial, the code of a function made inside another and the variables that it closes over, the
attributes of an object.
"""

import functools
import hashlib
import inspect
import json
import types
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
import torch

from metarl.errors import SettingError


def identity(value: Any, *, inside: tuple[int, ...] = ()) -> Any:
    """JSON values; plain numbers, words, lists and dicts are themselves.

    Args: inside: ids of the objects that hold the value, which may hold each other in a circle.
    Raises: ValueError if nothing stable can be said of the value.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if id(value) in inside:
        return f"circle of {len(inside) - inside.index(id(value))}"
    of = functools.partial(identity, inside=(*inside, id(value)))
    if isinstance(value, Mapping):
        return {str(key): of(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [of(item) for item in value]
    if isinstance(value, set | frozenset):
        return {"set": sorted((of(item) for item in value), key=json.dumps)}
    if isinstance(value, np.generic):
        return {"number": of(value.item()), "dtype": str(value.dtype)}
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
    if hasattr(value, "__array__"):
        return _array(np.asarray(value), of)
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, PurePath):
        return {"path": str(value)}
    if isinstance(value, functools.partial):
        return {
            "partial": of(value.func),
            "arguments": of(value.args),
            "keywords": of(value.keywords),
        }
    if isinstance(value, types.MethodType):
        return {"method": value.__func__.__qualname__, "of": of(value.__self__)}
    if isinstance(value, types.ModuleType):
        return {"module": value.__name__}
    if isinstance(value, types.CodeType):
        return of([value.co_code, value.co_consts, value.co_names, value.co_varnames])
    if isinstance(value, type):
        parts = {
            name: of(closed)
            for name, method in vars(value).items()
            if (closed := _closed_over(method))
        }
        return {"class": title(value), "closes_over": _digest(parts)} if parts else title(value)
    if inspect.isroutine(value):
        return _function(value, of)
    return {"object": title(type(value)), "content": _digest(of(_content(value)))}


def title(source: Any) -> str:
    """An id as it is, of a file's its name without the folders; else module and name of a class or
    function, of what a partial calls, or of an object's class."""
    if isinstance(source, str):
        file, _, name = source.rpartition(":")
        return f"{PurePath(file).stem}:{name}" if file.endswith(".py") else source
    if isinstance(source, functools.partial):
        return title(source.func)
    named = source if hasattr(source, "__qualname__") else type(source)
    return f"{named.__module__}.{named.__qualname__}"


def _function(function: Any, of: Any) -> Any:
    content = {
        "closes_over": _closed_over(function),
        "defaults": [function.__defaults__, function.__kwdefaults__]
        if _is_local(function)
        else None,
        "code": function.__code__ if _is_local(function) else None,
    }
    told = {
        key: _digest(of(value)) for key, value in content.items() if value and value != [None, None]
    }
    return {"function": title(function), **told} if told else title(function)


def _is_local(function: Any) -> bool:
    return "<" in getattr(function, "__qualname__", "") and hasattr(function, "__defaults__")


def _closed_over(function: Any) -> dict[str, Any]:
    """The variables of the function around it that a function uses; its own class, for super(),
    isn't one."""
    code, cells = getattr(function, "__code__", None), getattr(function, "__closure__", None)
    if code is None or not cells:
        return {}
    named = {
        name: cell
        for name, cell in zip(code.co_freevars, cells, strict=True)
        if name != "__class__"
    }
    return {name: cell.cell_contents for name, cell in named.items() if _is_filled(cell)}


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _array(array: np.ndarray, of: Any) -> Any:
    if array.dtype.kind == "O":
        return {"objects": of(array.tolist())}
    few = {"array": array.tolist()} if array.dtype.kind in "biufU" and array.size <= 100 else None
    content = few or {
        "sha256": hashlib.sha256(array.tobytes()).hexdigest()[:16],
        "shape": list(array.shape),
    }
    return {**content, "dtype": str(array.dtype)}


def _content(value: Any) -> Any:
    """What pickle would keep of an object: its attributes, slots and items, wherever they are."""
    try:
        reduced = value.__reduce_ex__(4)
    except Exception as error:  # An object that can't be taken apart says so by any exception.
        raise SettingError(
            f"nothing stable tells {value!r} from another {type(value).__name__}; "
            "expected numbers, words, lists, arrays, functions, or objects that can be pickled"
        ) from error
    if isinstance(reduced, str):
        return reduced
    return [list(part) if isinstance(part, Iterator) else part for part in reduced]
