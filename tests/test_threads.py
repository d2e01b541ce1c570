"""One thread an operation for what asks for it, and for nothing else."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from metarl.threads import on_one_thread, one_thread


@pytest.mark.parametrize("decorator", [one_thread(), on_one_thread])
def test_torch_takes_one_thread_inside_and_gives_the_others_back(
    decorator: Callable[..., Any],
) -> None:
    seen = []

    @decorator
    def step(fails: bool) -> None:
        seen.append(torch.get_num_threads())
        if fails:
            raise ValueError("a wrong action")

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        step(False)
        with pytest.raises(ValueError, match="a wrong action"):
            step(fails=True)
        assert seen == [1, 1]
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
