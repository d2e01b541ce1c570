"""Adaptation of one task as a differentiable function, and ways to run a task's function over N
tasks.

One pure task function, several back-ends (loop, threads, vmap, chunks of vmap): all give the same
numbers, so which is used is a question of speed alone.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, get_args

import torch
import torch.utils._pytree as pytree

from metarl.choices import expected
from metarl.core import params as P
from metarl.core.checks import check_counts
from metarl.core.gradients import Implicit, Mode, check_mode, inner_gradient
from metarl.core.implicit import implicit_gradient
from metarl.core.rules import moved_by
from metarl.threads import WORKERS, each_in_threads
from metarl.types import Batch, InnerRule, LossFn, Params

Backend = Literal["auto", "loop", "threads", "vmap", "joint"]


def adapt(
    loss: LossFn,
    params: Params,
    support: tuple[Batch, ...],
    rule: InnerRule,
    rule_params: Params | None = None,
    mode: Mode = "through",
) -> Params:
    """K = len(support) inner steps of one task, φ_{k+1} = rule(φ_k, ∇ℓ(φ_k; support_k)),
    differentiable in θ = `params`.

    Inside torch.func's transforms it is differentiated by them, else by autograd, where grad mode
    is on; outside training call it under torch.no_grad().

    Args:
      loss: (params, batch) -> [].
      rule_params: the rule's learned parameters, from `rule.init`.
      mode: how derivatives go back through the steps, see `metarl.core.gradients`.
    Returns: the adapted parameters φ_K.
    Raises: ValueError for an unknown mode, or for Implicit without any support.
    """
    check_mode(mode, rule)
    rule_params = rule_params or {}
    adapted, names = params, moved_by(rule, params)
    for k, batch in enumerate(support):
        if mode == "through":
            gradient = loss_gradient(loss, adapted, names, batch)
        else:
            with torch.no_grad():
                gradient = P.detached(loss_gradient(loss, P.detached(adapted), names, batch))
        adapted = rule(adapted, inner_gradient(gradient, adapted, params, mode), rule_params, k)
    if isinstance(mode, Implicit):
        if not support:
            raise ValueError("implicit adaptation needs at least one support batch, got none")
        return implicit_gradient(loss, params, P.detached(adapted), support[-1], mode)
    return adapted


def loss_gradient(loss: LossFn, params: Params, names: Sequence[str], batch: Batch) -> Params:
    """∇ℓ by the parameters with these names: what a rule leaves alone isn't differentiated.
    Autograd does what torch.func.grad does in four fifths of the time and half the memory, but
    knows no vmap."""
    chosen = {name: params[name] for name in names}
    if inside_transform():
        return torch.func.grad(lambda moved: loss({**params, **moved}, batch))(chosen)
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        moved = {
            name: leaf if leaf.requires_grad else leaf.detach().requires_grad_()
            for name, leaf in chosen.items()
        }
        value = loss({**params, **moved}, batch)
        if not value.requires_grad:
            return P.zeros_like(moved)
        found = torch.autograd.grad(
            value, list(moved.values()), create_graph=create_graph, materialize_grads=True
        )
    return dict(zip(moved, found, strict=True))


def over_tasks(
    task: Callable[..., Any],
    *stacked: Any,
    backend: Backend = "auto",
    chunk: int | None = None,
    workers: int | None = None,
) -> Any:
    """task(*data of one task) for each of N tasks, results stacked: leaves [N, ...].

    Args:
      task: pure; takes one task's data, returns a pytree of tensors. May close over shared
        parameters.
      stacked: pytrees with leaves [N, ...].
      backend: loop; threads (one torch thread each); vmap. auto: threads for tasks of pictures on a
        CPU with several cores, where convolutions are near peak already and batching them over
        tasks only costs memory; else vmap.
      chunk: tasks per vmap call; all at once if None.
      workers: threads of the threads back-end; `threads.WORKERS` if None.

    Don't take gradients of its result where the task uses `F.batch_norm(training=True)` under vmap:
    torch gets the second order wrong there (2 % off, silently). `grad_over_tasks` doesn't suffer
    from it.
    """
    results = list(_chunks(task, stacked, backend, chunk, workers))
    return (
        results[0]
        if len(results) == 1
        else pytree.tree_map(lambda *leaves: torch.cat(leaves), *results)
    )


def grad_over_tasks(
    task: Callable[..., Any],
    params: Any,
    *stacked: Any,
    backend: Backend = "auto",
    chunk: int | None = None,
    workers: int | None = None,
    has_aux: bool = False,
) -> Any:
    """The loss of every task and the gradient of their mean by `params`, added up task by task or
    chunk by chunk.

    Each task is differentiated on its own, vmap(grad(task)) and not grad(vmap(task)), so memory
    stays that of one chunk and batch norm is differentiated rightly.

    Args:
      task: (params, *data of one task) -> [], or ([], aux) with `has_aux`.
      params: a pytree of tensors, shared by the tasks, for instance {"params": θ, "rule": α}.
      backend: those of `over_tasks`, or joint: one gradient through all tasks of a chunk,
        grad(vmap(task)), for tasks that use shared parameters as they are (see
        `metarl.core.low_rank`) and hold no `F.batch_norm`.
    Returns: (values [N], gradient like params), or (values, gradient, aux stacked [N, ...]) with
    `has_aux`.
    """
    num_tasks = _num_tasks(stacked)

    def differentiated(*data: Any) -> Any:
        if not inside_transform():
            return _value_and_gradient(task, params, data)
        gradient, value = torch.func.grad_and_value(task, has_aux=has_aux)(params, *data)
        return value, gradient

    if backend == "joint":
        pieces: Iterator[Any] = _jointly(task, params, stacked, chunk or num_tasks)
    else:
        pieces = (
            (values, pytree.tree_map(lambda leaf: leaf.sum(0), gradient))
            for values, gradient in _chunks(differentiated, stacked, backend, chunk, workers)
        )
    results, total = [], None
    for values, summed in pieces:
        results.append(values)
        total = summed if total is None else pytree.tree_map(torch.add, total, summed)
    values = pytree.tree_map(lambda *leaves: torch.cat(leaves), *results)
    mean = pytree.tree_map(lambda leaf: leaf / num_tasks, total)
    return (values[0], mean, values[1]) if has_aux else (values, mean)


def _jointly(
    task: Callable[..., Any], params: Any, stacked: tuple[Any, ...], chunk: int
) -> Iterator[tuple[Any, Any]]:
    """Yields chunk by chunk what the tasks return [tasks of the chunk], and the gradient of their
    summed losses."""
    for start in range(0, _num_tasks(stacked), chunk):
        in_dims = (None, *(0 for _ in stacked))
        batched = torch.func.vmap(task, in_dims=in_dims, randomness="different")
        yield _value_and_gradient(batched, params, _part(stacked, slice(start, start + chunk)))


def _value_and_gradient(
    task: Callable[..., Any], params: Any, data: tuple[Any, ...]
) -> tuple[Any, Any]:
    """What the task returns, and the gradient of its loss, summed if it is several tasks', at
    leaves of its own: calls may run side by side."""
    with torch.enable_grad():
        leaves = pytree.tree_map(lambda leaf: leaf.detach().requires_grad_(), params)
        result = task(leaves, *data)
        loss = result[0] if isinstance(result, tuple) else result
        if loss.requires_grad:
            loss.sum().backward()  # Unlike torch.autograd.grad it gives memory back as it goes.
    result = pytree.tree_map(lambda leaf: leaf.detach(), result)
    return result, pytree.tree_map(
        lambda leaf: torch.zeros_like(leaf) if leaf.grad is None else leaf.grad, leaves
    )


def _chunks(
    task: Callable[..., Any],
    stacked: tuple[Any, ...],
    backend: Backend,
    chunk: int | None,
    workers: int | None,
) -> Iterator[Any]:
    """The results of task after task or chunk after chunk, leaves [tasks of the chunk, ...], in
    order."""
    num_tasks = _num_tasks(stacked)
    check_counts({"chunk": chunk})
    if backend == "auto":
        backend = _best_backend(stacked, workers)
    if backend == "vmap":
        for start in range(0, num_tasks, chunk or num_tasks):
            yield torch.func.vmap(task, randomness="different")(
                *_part(stacked, slice(start, start + (chunk or num_tasks)))
            )
    elif backend == "loop":
        for i in range(num_tasks):
            yield _as_chunk(task(*_part(stacked, i)))
    elif backend == "threads":
        if inside_transform():
            raise ValueError(
                "the threads back-end can't run inside torch.func transforms: use loop or vmap "
                "there"
            )
        each = [_part(stacked, i) for i in range(num_tasks)]
        yield from each_in_threads(lambda data: _as_chunk(task(*data)), each, workers=workers)
    else:
        raise ValueError(f"backend {backend!r}: {expected(backend, get_args(Backend))}")


def _best_backend(stacked: tuple[Any, ...], workers: int | None) -> Backend:
    leaves = pytree.tree_leaves(stacked)
    # [N, B, C, H, W]
    pictures_on_cpu = any(leaf.dim() >= 5 and leaf.device.type == "cpu" for leaf in leaves)
    if not pictures_on_cpu:
        return "vmap"
    return "loop" if inside_transform() or (workers or WORKERS) == 1 else "threads"


def inside_transform() -> bool:
    """Tells whether one of torch.func's transforms (grad, vmap, ...) is at work, rather than
    autograd alone."""
    return torch._C._functorch.peek_interpreter_stack() is not None


def _part(stacked: tuple[Any, ...], index: int | slice) -> Any:
    return pytree.tree_map(lambda leaf: leaf[index], stacked)


def _as_chunk(result: Any) -> Any:
    return pytree.tree_map(lambda leaf: leaf.unsqueeze(0), result)


def _num_tasks(stacked: tuple[Any, ...]) -> int:
    sizes = {leaf.shape[0] if leaf.dim() else 0 for leaf in pytree.tree_leaves(stacked)}
    if len(sizes) != 1 or 0 in sizes:
        raise ValueError(
            "stacked data must agree on the number of tasks, at least 1; got "
            f"{sorted(sizes) or 'no tensors'}"
        )
    return sizes.pop()
