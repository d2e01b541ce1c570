"""One thread an operation for what asks for it, and for nothing else; threads over tasks."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch

from metarl.threads import is_worker, map_in_threads, on_one_thread, one_thread


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


def test_workers_share_out_work_that_they_do_not_share_out_again() -> None:
    together = threading.Barrier(2, timeout=60)  # Both must be at work at once to pass it.

    def work(item: int) -> list[int]:
        together.wait()
        assert is_worker()
        mine = threading.get_ident()
        inner = map_in_threads(lambda x: (10 * item + x, threading.get_ident()), [1, 2], workers=2)
        assert {thread for _, thread in inner} == {mine}
        return [value for value, _ in inner]

    assert map_in_threads(work, [1, 2], workers=2) == [[11, 12], [21, 22]]
    assert not is_worker()
