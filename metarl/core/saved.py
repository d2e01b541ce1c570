"""Saved state coming back: it is compared with what is there before anything is written, and what
doesn't fit is named.

Names are as in the learner's state: `optimizer.state.3.exp_avg`. A file may hold anything that
tensors, numbers, strings and containers can say, whatever its digest.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn


def check(found: Any, like: Any, name: str = "", *, apart: Sequence[str] = ()) -> None:
    """Compares with an example, container by container. Tensors must have its shape and type of
    numbers, numbers its type.

    Args: apart: entries of the outermost dict that are for others to check.
    Raises: ValueError naming the first part that is missing, unknown or of another kind.
    """
    if isinstance(like, Mapping):
        if not isinstance(found, Mapping):
            raise ValueError(
                f"{name or 'the state'} is {_kind(found)}; expected a dict with {_listed(like)}"
            )
        like = {key: part for key, part in like.items() if key not in apart}
        check_names({key: None for key in found if key not in apart}, like, name)
        for key, part in like.items():
            check(found[key], part, below(name, key))
    elif isinstance(like, list | tuple):
        if not isinstance(found, list | tuple) or len(found) != len(like):
            raise ValueError(f"{name} is {_kind(found)}; expected {_kind(like)}")
        for index, (part, example) in enumerate(zip(found, like, strict=True)):
            check(part, example, f"{name}[{index}]")
    elif isinstance(like, Tensor):
        check_tensor(found, like.shape, like.dtype, name)
    elif isinstance(like, float):
        if isinstance(found, bool) or not isinstance(found, float | int):
            raise ValueError(f"{name} is {_kind(found)}; expected a number")
    elif like is not None and type(found) is not type(like):
        raise ValueError(f"{name} is {_kind(found)}; expected {_kind(like)}")


def check_names(found: Mapping[Any, Any], like: Mapping[Any, Any], name: str = "") -> None:
    """Raises: ValueError naming the first key that `found` lacks, or that `like` doesn't have."""
    missing, unknown = (
        [key for key in like if key not in found],
        [key for key in found if key not in like],
    )
    if missing:
        raise ValueError(f"{below(name, missing[0])} is missing")
    if unknown:
        raise ValueError(
            f"{below(name, str(unknown[0])[:60])} isn't known here; expected {_listed(like)}"
        )


def check_tensor(found: Any, shape: Sequence[int], dtype: torch.dtype, name: str) -> None:
    """Raises: ValueError unless it is an ordinary tensor of this shape and type of numbers."""
    expected = f"a tensor {tuple(shape)} of {dtype}"
    if not isinstance(found, Tensor) or found.shape != torch.Size(shape) or found.dtype != dtype:
        raise ValueError(f"{name} is {_kind(found)}; expected {expected}")
    if found.layout != torch.strided or found.is_meta or found.is_quantized:
        raise ValueError(f"{name} is a tensor without plain numbers; expected {expected}")


class Part(Protocol):
    """Has a state of its own within a learner's, as an optimizer does."""

    def state_dict(self) -> dict[str, Any]: ...

    def check(self, found: Mapping[str, Any], name: str) -> None:
        """Raises: ValueError naming what of `found` doesn't fit, with `name` before it."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


Parts = Mapping[str, Part | nn.Module]
"""What a learner's state is made of, by the names there."""


def load_parts(found: Any, like: Mapping[str, Any], parts: Parts) -> None:
    """Compares a learner's whole state with an example, then brings its parts back. What else is in
    the state is for the learner to take.

    Raises: ValueError naming what doesn't fit. Nothing has been written then.
    """
    by_themselves = {key: part for key, part in parts.items() if not isinstance(part, nn.Module)}
    check(found, like, apart=tuple(by_themselves))
    check_names(found, like)
    for key, part in by_themselves.items():
        if not isinstance(found[key], Mapping):
            raise ValueError(f"{key} is {_kind(found[key])}; expected {_kind(like[key])}")
        check_names(found[key], like[key], key)
        part.check(found[key], key)
    for key, loaded in parts.items():
        loaded.load_state_dict(found[key])


def check_adam(optimizer: torch.optim.Optimizer, found: Any, name: str) -> None:
    """Raises: ValueError unless `found` is a state of torch's Adam, with the groups and the moments
    of this optimizer's parameters."""
    mine = optimizer.state_dict()
    if not isinstance(found, Mapping):
        raise ValueError(f"{name} is {_kind(found)}; expected a dict with {_listed(mine)}")
    check_names(found, mine, name)
    groups, moments = found["param_groups"], found["state"]
    if not isinstance(groups, list) or len(groups) != len(mine["param_groups"]):
        raise ValueError(
            f"{name}.param_groups is {_kind(groups)}; expected {_kind(mine['param_groups'])}"
        )
    for index, (group, like) in enumerate(zip(groups, mine["param_groups"], strict=True)):
        _check_group(group, like, f"{name}.param_groups[{index}]")
    leaves = [leaf for group in optimizer.param_groups for leaf in group["params"]]
    if not isinstance(moments, Mapping):
        raise ValueError(f"{name}.state is {_kind(moments)}; expected a dict")
    for key, entry in moments.items():
        if not isinstance(key, int) or not 0 <= key < len(leaves):
            raise ValueError(
                f"{name}.state.{str(key)[:60]} isn't known here; there are {len(leaves)} parameters"
            )
        leaf = leaves[key].detach()
        check(
            entry,
            {"step": torch.tensor(0.0), "exp_avg": leaf, "exp_avg_sq": leaf},
            f"{name}.state.{key}",
        )


def _check_group(group: Any, like: Mapping[str, Any], name: str) -> None:
    """A group may lack settings or have others, as those that another version of torch has
    saved."""
    if not isinstance(group, Mapping):
        raise ValueError(f"{name} is {_kind(group)}; expected a dict with {_listed(like)}")
    check_names(
        {key: None for key in group if key in ("lr", "params")}, {"lr": None, "params": None}, name
    )
    if group["params"] != like["params"]:
        raise ValueError(
            f"{name}.params has {_kind(group['params'])}; expected {_kind(like['params'])}"
        )
    for key, value in like.items():
        if key in group and key != "params":
            # A rate of 1 may become .5.
            is_whole = isinstance(value, int) and not isinstance(value, bool)
            check(group[key], float(value) if is_whole else value, f"{name}.{key}")


def below(name: str, key: Any) -> str:
    """The name of an entry of what is called `name`; of a whole state that is nothing."""
    return f"{name}.{key}" if name else str(key)


def _listed(like: Mapping[Any, Any]) -> str:
    return (
        ", ".join(map(str, list(like)[:6])) + (", ..." if len(like) > 6 else "") or "nothing in it"
    )


def _kind(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)} of {value.dtype}"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if value is None:
        return "missing"
    return "a dict" if isinstance(value, Mapping) else f"a {type(value).__name__}"
