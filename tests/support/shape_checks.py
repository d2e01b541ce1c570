"""The run-time type checker of the tests: beartype on every function of metarl and envs, blind to
protocols.

jaxtyping's import hook applies `checked` to each annotated function and struct, so that every call
in every test also checks the shapes and types in the signatures. A protocol says what a function
needs of its arguments, which mypy checks; a stand-in in a test may have less, so here it passes as
any object.
"""

from collections.abc import Callable
from typing import Any, TypeVar, get_args, get_origin

from beartype import BeartypeConf, beartype

F = TypeVar("F", bound=Callable[..., Any])

_CONF = BeartypeConf(is_pep484_tower=True)  # An int where a float is meant.


def checked(function: F) -> F:
    hints = function.__annotations__
    function.__annotations__ = {
        name: object if _mentions_protocol(hint) else hint for name, hint in hints.items()
    }
    return beartype(conf=_CONF)(function)


def _mentions_protocol(hint: Any) -> bool:
    if isinstance(hint, list):  # The arguments of a Callable.
        return any(map(_mentions_protocol, hint))
    is_protocol = any(getattr(part, "_is_protocol", False) for part in (hint, get_origin(hint)))
    return is_protocol or any(map(_mentions_protocol, get_args(hint)))
