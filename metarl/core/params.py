"""Arithmetic on parameters: dicts of tensors, of one task or stacked over N tasks, treated as
vectors.

A stacked dict has leaves [N, ...]. Every function says which of the two it takes; most take both.
"""

import copy
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from metarl.struct import all_finite
from metarl.threads import is_worker
from metarl.types import Params


def of(module: nn.Module) -> Params:
    """The module's parameters by name, detached from any graph; they share memory with the
    module."""
    return {name: parameter.detach() for name, parameter in module.named_parameters()}


def detached(params: Params) -> Params:
    return {name: leaf.detach() for name, leaf in params.items()}


def call(module: nn.Module, params: Params, *x: Any) -> Any:
    """What `module` computes with `params` in place of its own parameters. Differentiable in
    `params`."""
    return torch.func.functional_call(_replica(module), params, x)


_thread = threading.local()


def _replica(module: nn.Module) -> nn.Module:
    """The module itself, or among several threads this one's own copy of it.

    `functional_call` puts the parameters into the module while it runs: two threads must not do
    that to the same one.
    """
    if not is_worker():
        return module
    replicas = _thread.__dict__.setdefault("replicas", {})
    if module not in replicas:
        replicas[module] = _copy(module)
    return replicas[module]


def _copy(module: nn.Module) -> nn.Module:
    """A module tree of its own, on the same tensors."""
    copied = copy.copy(module)
    for slots in ("_parameters", "_buffers", "_modules"):
        copied.__dict__[slots] = module.__dict__[slots].copy()
    for name, child in module.named_children():
        copied.__dict__["_modules"][name] = _copy(child)
    return copied


def stack(params: Sequence[Params]) -> Params:
    """N dicts with leaves [...] -> one with leaves [N, ...]."""
    if not params:
        raise ValueError("stack needs the parameters of at least one task, got none")
    return {name: torch.stack([one[name] for one in params]) for name in params[0]}


def task(params: Params, index: int | slice) -> Params:
    """Task `index` of stacked parameters (or a slice of tasks), a view."""
    return {name: leaf[index] for name, leaf in params.items()}


def parts(params: Params, num: int) -> list[Params]:
    """Stacked parameters [num · n, ...] -> `num` of them with leaves [n, ...], views."""
    if num == 1:
        return [params]
    pieces = {name: leaf.chunk(num) for name, leaf in params.items()}
    return [{name: piece[i] for name, piece in pieces.items()} for i in range(num)]


def one_after_the_other(each: Sequence[Params]) -> Params:
    """The inverse of `parts`."""
    if len(each) == 1:
        return each[0]
    return {name: torch.cat([one[name] for one in each]) for name in each[0]}


def named(**modules: nn.Module) -> Params:
    """The parameters of several modules in one dict, as the modules have them: gradients reach
    them."""
    return joined({name: dict(module.named_parameters()) for name, module in modules.items()})


def gradient(loss: Tensor, params: Params) -> Params:
    """∂loss/∂params, by name. Every parameter must have a part in the loss."""
    return dict(zip(params, torch.autograd.grad(loss, list(params.values())), strict=True))


def expand(params: Params, num_tasks: int) -> Params:
    """The same parameters for each of N tasks: leaves [...] -> [N, ...] without copying. Don't
    write to the result."""
    return {name: leaf.expand(num_tasks, *leaf.shape) for name, leaf in params.items()}


def num_tasks(params: Params) -> int:
    """Returns N, the number of tasks of stacked parameters."""
    return next(iter(params.values())).shape[0]


def flatten(params: Params, num_batch_dims: int = 0) -> Tensor:
    """All entries as one vector [P], in the dict's order; with `num_batch_dims=1`, stacked ones as
    [N, P]."""
    return torch.cat([rows(leaf, num_batch_dims) for leaf in params.values()], dim=-1)


def unflatten(vector: Tensor, like: Params) -> Params:
    """The inverse of `flatten`: [P] or [N, P] to the names and shapes of `like`, which has no task
    dimension.

    Raises: ValueError if the vector's length isn't the number of entries of `like`.
    """
    sizes = [leaf.numel() for leaf in like.values()]
    if vector.shape[-1] != sum(sizes):
        raise ValueError(
            f"a vector of {vector.shape[-1]} entries doesn't fit parameters of {sum(sizes)} entries"
        )
    pieces = vector.split(sizes, dim=-1)
    return {
        name: piece.reshape((*vector.shape[:-1], *leaf.shape))
        for (name, leaf), piece in zip(like.items(), pieces, strict=True)
    }


def dot(a: Params, b: Params) -> Tensor:
    """⟨a, b⟩ over all entries, a scalar []."""
    return torch.stack([(a[name] * b[name]).sum() for name in a]).sum()


def dots(a: Params, b: Params, num_batch_dims: int) -> Tensor:
    """⟨a, b⟩ of each system: []; with `num_batch_dims=1`, leaves [N, ...], it is [N]."""
    return torch.stack([rows(a[name] * b[name], num_batch_dims).sum(-1) for name in a]).sum(0)


def norm(a: Params) -> Tensor:
    """The Euclidean norm over all entries, a scalar []."""
    return dot(a, a).sqrt()


def add(a: Params, b: Params, scale: float | Tensor = 1.0) -> Params:
    """a + scale · b."""
    return {name: a[name] + scale * b[name] for name in a}


def add_scaled(a: Params, b: Params, scale: Tensor) -> Params:
    """a + scale · b, the scale [] or [N], each system's own."""
    return {name: leaf + _beside(scale, leaf).to(leaf.dtype) * b[name] for name, leaf in a.items()}


def choose(which: Tensor, chosen: Params, otherwise: Params) -> Params:
    """`chosen` where `which` [] or [N] is True, else `otherwise`."""
    return {
        name: torch.where(_beside(which, leaf), leaf, otherwise[name])
        for name, leaf in chosen.items()
    }


def scaled(a: Params, scale: float | Tensor) -> Params:
    return {name: scale * leaf for name, leaf in a.items()}


def zeros_like(a: Params) -> Params:
    return {name: torch.zeros_like(leaf) for name, leaf in a.items()}


def joined(groups: Mapping[str, Params]) -> Params:
    """Joins several dicts into one, for what takes a single vector of parameters: `weight` of group
    `policy` becomes policy.weight."""
    return {
        f"{group}.{name}": leaf for group, params in groups.items() for name, leaf in params.items()
    }


def group(params: Params, name: str) -> Params:
    """Returns one of the dicts that `joined` put together."""
    prefix = f"{name}."
    return {
        key.removeprefix(prefix): leaf for key, leaf in params.items() if key.startswith(prefix)
    }


def assign(params: Params, values: Mapping[str, Tensor]) -> None:
    """Writes `values` into the tensors of `params`, which stay the same objects. Raises: ValueError
    if names or shapes differ."""
    if set(params) != set(values):
        raise ValueError(f"parameters {sorted(values)} don't fit this learner's {sorted(params)}")
    for name, tensor in params.items():
        if tensor.shape != values[name].shape:
            raise ValueError(
                f"{name} has shape {tuple(values[name].shape)}, expected {tuple(tensor.shape)}"
            )
    for name, tensor in params.items():
        tensor.detach().copy_(values[name])


def sum_all(params: Sequence[Params]) -> Params:
    """The sum of several dicts of the same names and shapes, leaf by leaf."""
    return {name: torch.stack([one[name] for one in params]).sum(0) for name in params[0]}


def sum_tasks(params: Params) -> Params:
    """Leaves [N, ...] summed over tasks, the adjoint of `expand`."""
    return {name: leaf.sum(0) for name, leaf in params.items()}


def first_non_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of the first tensor with a NaN or an infinity, None if all are finite. Waits once for
    each device that they lie on."""
    if all_finite(tensors.values()):
        return None
    return next(name for name, leaf in tensors.items() if not bool(torch.isfinite(leaf).all()))


def rows(leaf: Tensor, num_batch_dims: int) -> Tensor:
    """Flattens all but the first `num_batch_dims` dimensions into one, also where there is none
    left (a scalar parameter)."""
    return leaf.reshape(*leaf.shape[:num_batch_dims], -1)


def _beside(values: Tensor, leaf: Tensor) -> Tensor:
    """values [...] with as many dimensions as the leaf [..., D, ...] has."""
    return values.reshape(values.shape + (1,) * (leaf.dim() - values.dim()))
