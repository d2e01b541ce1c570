"""A memory of a user's own, tried out before any training: agents act by its `step` and learn
through its `sequence`, and would train in silence if the two differed."""

from typing import Any

import torch
import torch.utils._pytree as pytree
from torch import Tensor, nn

from metarl.described import described
from metarl.errors import SettingError

_STEPS, _ROWS = 5, 3
_CLOSE = 1e-4


@torch.no_grad()
def try_memory(memory: Any, input_size: int) -> None:
    """Takes some steps on random inputs, one by one and in one go.

    Raises: SettingError naming the memory, and what it does otherwise than a memory must.
    """
    name = type(memory).__name__
    for part in ("initial", "step", "sequence", "output_size"):
        if not hasattr(memory, part):
            raise SettingError(
                f"{name} has no {part}; expected a memory as those of metarl.nn.recurrent, with "
                "initial, step, sequence, output_size and max_steps"
            )
    most = getattr(memory, "max_steps", None)
    num = _STEPS if most is None else min(_STEPS, most)
    like = next(memory.parameters(), torch.zeros(())) if isinstance(memory, nn.Module) else None
    x = torch.randn(num, _ROWS, input_size, generator=torch.Generator().manual_seed(0))
    x = x if like is None else x.to(like)
    start = memory.initial(_ROWS)
    _check_rows(f"{name}.initial", start)
    outputs, state = [], start
    for t in range(num):
        output, after = _step(memory, x[t], state)
        outputs.append(output)
        _check_kept(memory, name, x[t], state, after)
        state = after
    _check_is(
        _step(memory, x[0], start)[0],
        outputs[0],
        f"{name}.step gives another output the second time, from the same state; expected it to keep "
        "nothing on itself and to write to no state",
    )
    whole, told = memory.sequence(x), f"{name}.sequence"
    if not isinstance(whole, Tensor) or whole.shape != (num, _ROWS, memory.output_size):
        raise SettingError(
            f"{told} returned {described(whole)}; expected [T, B, H] = {[num, _ROWS, memory.output_size]}"
        )
    _check_is(
        whole,
        torch.stack(outputs),
        f"{told} gives other outputs than its steps one after the other",
    )
    _check_is(
        memory.sequence(x[:, :1]),
        whole[:, :1],
        f"{told} gives a row other outputs beside other rows; expected inputs [T, B, I] whose rows "
        "don't see each other",
    )


def _step(memory: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    name = type(memory).__name__
    found = memory.step(x, state)
    if not isinstance(found, tuple) or len(found) != 2 or not isinstance(found[0], Tensor):
        raise SettingError(
            f"{name}.step returned {described(found)}; expected the output and the state after it"
        )
    if found[0].shape != (len(x), memory.output_size):
        raise SettingError(
            f"{name}.step returned an output of shape {list(found[0].shape)}; expected [B, H] = "
            f"{[len(x), memory.output_size]}"
        )
    return found


def _check_kept(memory: Any, name: str, x: Tensor, state: Any, after: Any) -> None:
    """Where `active` is False the state stays; elsewhere it is as without."""
    active = torch.arange(_ROWS, device=x.device) > 0
    _, found = memory.step(x, state, active)
    leaves = zip(*(pytree.tree_leaves(tree) for tree in (found, state, after)), strict=True)
    for there, before, then in leaves:
        if before.shape != then.shape:  # It grows with every step.
            continue
        _check_is(
            there,
            torch.cat([before[:1], then[1:]]),
            f"{name}.step with active changes the state where it is False, or keeps it elsewhere; "
            "expected the state to stay where active [B] is False",
        )


def _check_rows(what: str, state: Any) -> None:
    for leaf in pytree.tree_leaves(state):
        if not isinstance(leaf, Tensor) or leaf.ndim == 0 or len(leaf) != _ROWS:
            raise SettingError(
                f"{what}({_ROWS}) holds {described(leaf)}; expected tensors [{_ROWS}, ...], a row for "
                "each of the batch"
            )


def _check_is(found: Any, expected: Tensor, otherwise: str) -> None:
    same = isinstance(found, Tensor) and found.shape == expected.shape
    if not same or not torch.allclose(found, expected, _CLOSE, _CLOSE):
        raise SettingError(otherwise)
