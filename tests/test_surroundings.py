"""What a program has asked of torch, inside and outside of what we compute."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import pytest
import torch

from metarl.surroundings import among_ordinary_tensors, ordinary_tensors, undisturbed


@contextmanager
def precision(word: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(word)
    try:
        yield
    finally:
        assert torch.get_float32_matmul_precision() == word
        torch.set_float32_matmul_precision(before)


def of_a_product() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(300, 300, generator=generator)
    return (x @ x).requires_grad_()


@pytest.mark.parametrize(
    "around",
    [
        torch.inference_mode,
        lambda: torch.autocast("cpu", torch.bfloat16),
        lambda: torch.device("meta"),
        lambda: precision("medium"),
    ],
)
def test_numbers_are_those_without_it(around: Callable[[], AbstractContextManager]) -> None:
    expected = of_a_product()
    with around():
        with undisturbed():
            found = of_a_product()
        assert torch.equal(found, expected)


def test_tensors_made_in_inference_mode_can_be_changed_outside() -> None:
    with torch.inference_mode(), ordinary_tensors():
        made = torch.zeros(2)
    assert made.requires_grad_().grad is None


@pytest.mark.parametrize(
    "around",
    [
        nullcontext,
        torch.inference_mode,
        lambda: torch.autocast("cpu", torch.bfloat16),
        lambda: torch.device("meta"),
    ],
)
def test_a_function_among_ordinary_tensors_gives_what_it_gives_alone(
    around: Callable[[], AbstractContextManager],
) -> None:
    with around():
        found = among_ordinary_tensors(of_a_product)()
    assert torch.equal(found, of_a_product())


def test_a_default_type_comes_back_when_the_last_thread_has_left() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        first, second = undisturbed(), undisturbed()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert torch.get_default_dtype() == torch.float32
        second.__exit__(None, None, None)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_random_numbers_go_on_as_if_none_were_drawn_inside() -> None:
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    with undisturbed():
        torch.rand(5)
    assert torch.equal(torch.rand(2), expected)


def test_a_program_that_seeds_beside_our_thread_keeps_its_seed() -> None:
    inside, seeded = threading.Event(), threading.Event()

    def work() -> None:
        with undisturbed():
            inside.set()
            seeded.wait(10)

    thread = threading.Thread(target=work)
    torch.manual_seed(1)
    thread.start()
    inside.wait(10)
    torch.manual_seed(2)
    expected = torch.rand(2)
    torch.manual_seed(2)
    seeded.set()
    thread.join()
    assert torch.equal(torch.rand(2), expected)
