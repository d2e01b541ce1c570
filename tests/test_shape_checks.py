"""The import hook of conftest.py is at work: a wrong argument is found by the signature alone."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from jaxtyping import Float, TypeCheckError, jaxtyped
from support.shape_checks import checked
from torch import Tensor

from metarl.rl.types import BatchedEnv, RLAdapter
from metarl.struct import map_tensors, struct


def test_functions_of_the_suite_are_checked() -> None:
    with pytest.raises(TypeCheckError, match="function"):
        map_tensors("not a function", torch.ones(2))  # type: ignore[arg-type]


def test_wrong_shape_is_named() -> None:
    @jaxtyped(typechecker=checked)
    def total(x: Float[Tensor, "task step"]) -> Float[Tensor, " task"]:
        return x.sum(-1)

    assert total(torch.ones(2, 3)).tolist() == [3.0, 3.0]
    with pytest.raises(TypeCheckError, match="'x'"):
        total(torch.ones(3))


def test_checks_see_one_task_inside_vmap() -> None:
    @jaxtyped(typechecker=checked)
    def total(x: Float[Tensor, " step"]) -> Float[Tensor, ""]:
        return x.sum()

    assert torch.func.vmap(total)(torch.ones(2, 3)).tolist() == [3.0, 3.0]


def test_stand_ins_for_protocols_pass() -> None:
    @checked
    def function(
        env: BatchedEnv[Any], adapter: RLAdapter[Any] | None, make: Callable[[BatchedEnv[Any]], int]
    ) -> int:
        return 1

    assert function("a stand-in", None, len) == 1  # type: ignore[arg-type]


def test_structs_pass_through_vmap() -> None:
    @struct
    class Pair:
        first: Tensor
        second: Tensor

    pair = Pair(first=torch.ones(2, 3), second=torch.ones(2))
    assert torch.func.vmap(lambda pair: pair.first.sum() + pair.second)(pair).tolist() == [4.0, 4.0]
