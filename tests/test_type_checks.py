"""The import hook of conftest.py is at work: a wrong argument is found by the signature alone."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.type_checks import WrongType, checked
from torch import Tensor

from metarl.core.rules import Sgd
from metarl.rl.types import BatchedEnv, RLAdapter, Step
from metarl.struct import map_tensors, struct


def test_functions_of_the_suite_are_checked() -> None:
    with pytest.raises(WrongType, match="function"):
        map_tensors("not a function", torch.ones(2))  # type: ignore[arg-type]


def test_methods_of_the_suite_are_checked() -> None:
    with pytest.raises(WrongType, match="params"):
        Sgd(0.1).init("no parameters")  # type: ignore[arg-type]


def test_structs_of_the_suite_are_checked() -> None:
    flag = torch.zeros(1, dtype=torch.bool)
    numbers = {"next_obs": torch.zeros(1, 2), "reward": torch.zeros(1)}
    with pytest.raises(WrongType, match="diverged"):
        Step(**numbers, terminated=flag, truncated=flag, diverged="no", terms={})  # type: ignore[arg-type]


def test_results_are_checked() -> None:
    @checked
    def number() -> int:
        return "none"  # type: ignore[return-value]

    with pytest.raises(WrongType, match="return"):
        number()


def test_stand_ins_for_protocols_pass() -> None:
    @checked
    def function(
        env: BatchedEnv[Any], adapter: RLAdapter[Any] | None, make: Callable[[BatchedEnv[Any]], int]
    ) -> int:
        return 1

    assert function("a stand-in", None, len) == 1


def test_structs_pass_through_vmap() -> None:
    @struct
    class Pair:
        first: Tensor
        second: Tensor

    pair = Pair(first=torch.ones(2, 3), second=torch.ones(2))
    assert torch.func.vmap(lambda pair: pair.first.sum() + pair.second)(pair).tolist() == [4.0, 4.0]
