"""Which classes and methods are metarl's, and which someone's own.

Where the same numbers can be had faster by knowing what a class does, that knowledge holds for ours
alone: a subclass may do otherwise.
"""

from collections.abc import Callable
from typing import Any


def is_ours(kind: type | Callable[..., Any], *methods: str) -> bool:
    """Whether a class or a function was written in metarl; with `methods`, whether each of these was that it
    has, which a subclass that leaves them alone inherits."""
    return all(map(_is_of_metarl, [getattr(kind, name, None) for name in methods] or [kind]))


def _is_of_metarl(thing: Any) -> bool:
    return str(getattr(thing, "__module__", "")).partition(".")[0] == "metarl"
