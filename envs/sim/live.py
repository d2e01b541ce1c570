"""Keeps the name of a live tensor with the memory that it stands for.

`sim.qpos = x` would leave the simulator as it is, and everyone after it would read and write a
tensor that moves nothing. So it is refused; `sim.qpos.copy_(x)` is what was meant.
"""

from collections.abc import Callable
from typing import Any, TypeVar

Kind = TypeVar("Kind", bound=type)


def bound_once(*names: str) -> Callable[[Kind], Kind]:
    """Decorates a class whose attributes of these `names` are set once, when an object is made.

    In place they may change as ever, `sim.ctrl += x` included. Reading costs nothing.
    """

    def decorated(kind: Kind) -> Kind:
        def set_once(self: Any, name: str, value: Any) -> None:
            if name in names and vars(self).get(name, value) is not value:
                raise AttributeError(
                    f"{name} of a {kind.__name__} can't be another tensor, because it is the "
                    f"simulator's own memory; expected {name}.copy_(...), which writes into it"
                )
            object.__setattr__(self, name, value)

        kind.__setattr__ = set_once  # type: ignore[method-assign, assignment]
        return kind

    return decorated
