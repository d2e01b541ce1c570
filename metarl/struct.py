"""`@struct`: the value type of this suite. A frozen, keyword-only dataclass that is also a torch
pytree.

Being a pytree, a struct goes through `torch.func.vmap`, `tree_map` and `tree_leaves` as a dict or
tuple does.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, dataclass_transform

import torch
import torch.utils._pytree as pytree
from torch import Tensor

T = TypeVar("T")


@dataclass_transform(kw_only_default=True, frozen_default=True)
def struct(cls: type[T]) -> type[T]:
    """Turns a class with annotated fields into a frozen, keyword-only dataclass and registers it
    with torch's pytrees."""
    cls = dataclasses.dataclass(frozen=True, kw_only=True, eq=False)(cls)
    names = tuple(field.name for field in dataclasses.fields(cls))  # type: ignore[arg-type]

    def flatten(value: Any) -> tuple[list[Any], None]:
        return [getattr(value, name) for name in names], None

    def unflatten(leaves: Any, _: None) -> Any:
        # Not through __init__: vmap rebuilds structs whose leaves are ints or None, which no field
        # type admits.
        value = object.__new__(cls)
        for name, leaf in zip(names, leaves, strict=True):
            object.__setattr__(value, name, leaf)
        return value

    pytree.register_pytree_node(
        cls, flatten, unflatten, serialized_type_name=f"{cls.__module__}.{cls.__qualname__}"
    )
    return cls


def map_tensors(function: Callable[[Tensor], Tensor], tree: T) -> T:
    """Applies `function` to every tensor of a pytree (struct, dict, tuple) and leaves everything
    else as it is."""
    return pytree.tree_map(lambda leaf: function(leaf) if isinstance(leaf, Tensor) else leaf, tree)


def named_leaves(tree: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """What lies in dicts, lists and tuples, each behind the name of its place: `moments.mean[0]`.

    Args: name: of the tree itself.
    """
    if isinstance(tree, Mapping):
        for key, part in tree.items():
            yield from named_leaves(part, f"{name}.{key}" if name else str(key))
    elif type(tree) in (list, tuple):  # Not a tuple with names, which no checkpoint holds.
        for index, part in enumerate(tree):
            yield from named_leaves(part, f"{name}[{index}]")
    else:
        yield name, tree


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether no tensor holds a NaN or an infinity. Waits once for each device that they lie on."""
    by_device: dict[torch.device, list[Tensor]] = {}
    for tensor in tensors:
        by_device.setdefault(tensor.device, []).append(torch.isfinite(tensor).all())
    return all(bool(torch.stack(flags).all()) for flags in by_device.values())


def choose_rows(rows: Tensor, chosen: T, otherwise: T) -> T:
    """Two pytrees with leaves [B, ...] -> leaf by leaf `chosen` where rows [B] is True, else
    `otherwise`."""

    def pick(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(rows.reshape(-1, *[1] * (a.ndim - 1)), a, b)

    return pytree.tree_map(pick, chosen, otherwise)


def join_rows(trees: Sequence[T]) -> T:
    """Pytrees of one kind with leaves [n, ...] -> one with leaves [N, ...], one after the other. What
    isn't a tensor is as in the first."""
    return pytree.tree_map(_joined_leaf, *trees)


def _joined_leaf(*leaves: Any) -> Any:
    return torch.cat(leaves) if isinstance(leaves[0], Tensor) else leaves[0]


def split_rows(tree: T, num: int) -> list[T]:
    """A pytree with leaves [num · n, ...] -> `num` of them with leaves [n, ...], views. What isn't a
    tensor is in each."""

    def block(number: int) -> T:
        return map_tensors(lambda leaf: leaf.chunk(num)[number], tree)

    return [block(number) for number in range(num)]


def replace(value: T, **changes: Any) -> T:
    """A copy of the struct `value` with some fields changed."""
    return dataclasses.replace(value, **changes)  # type: ignore[type-var]
