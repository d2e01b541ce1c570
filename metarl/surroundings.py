"""What a user's program has asked of torch, out of force while we compute, and back afterwards.

Some of it is a thread's (inference mode, autocast, a default device), some the whole process's (the
default type, the precision of products, the random numbers).
"""

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import ParamSpec, TypeVar

import torch

T = TypeVar("T")
Args = ParamSpec("Args")


@contextmanager
def ordinary_tensors() -> Iterator[None]:
    """Around what makes or changes tensors that stay: made within `torch.inference_mode` of the
    user's they could never be changed outside, and on a default device or under autocast they
    would be others than ours."""
    with ExitStack() as held:
        if torch.is_inference_mode_enabled():
            held.enter_context(torch.inference_mode(False))
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                held.enter_context(torch.autocast(device, enabled=False))
        if torch.get_default_device().type != "cpu":  # It costs time where there is none.
            held.enter_context(torch.device("cpu"))
        yield


def among_ordinary_tensors(function: Callable[Args, T]) -> Callable[Args, T]:
    """`function` within `ordinary_tensors`. Costs next to nothing where tensors are ordinary
    already, as at nearly every step of an episode."""

    @functools.wraps(function)
    def inner(*args: Args.args, **kwargs: Args.kwargs) -> T:
        if _are_ordinary():
            return function(*args, **kwargs)
        with ordinary_tensors():
            return function(*args, **kwargs)

    return inner


def _are_ordinary() -> bool:
    return not (
        torch.is_inference_mode_enabled()
        or torch.is_autocast_enabled("cpu")
        or torch.is_autocast_enabled("cuda")
        or torch.get_default_device().type != "cpu"
    )


@contextmanager
def undisturbed() -> Iterator[None]:
    """Inside, tensors are ordinary ones, of float32 where nothing else is said, and products are as
    precise as their numbers. Outside, the program's random numbers go on as if nothing had been
    drawn inside.

    Several threads may be inside at once: what is the whole process's is ours from the first one
    that enters to the last one that leaves. Beside a thread the program draws numbers itself, so
    that nothing is put back.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    with ordinary_tensors(), ExitStack() as held:
        if in_main_thread:
            held.enter_context(torch.random.fork_rng(devices=[]))
        held.enter_context(_OF_THE_PROCESS)
        yield


class _OfTheProcess:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._num_inside = 0
        self._dtype, self._precision = torch.float32, "highest"

    def __enter__(self) -> None:
        with self._lock:
            if self._num_inside == 0:
                self._dtype, self._precision = torch.get_default_dtype(), _precision()
                torch.set_default_dtype(torch.float32)
                if self._precision != "highest":
                    torch.set_float32_matmul_precision("highest")
            self._num_inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._num_inside -= 1
            if self._num_inside == 0:
                torch.set_default_dtype(self._dtype)
                if self._precision != "highest":
                    torch.set_float32_matmul_precision(self._precision)


def _precision() -> str:
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:  # Set for single backends, where it is the user's affair.
        return "highest"


_OF_THE_PROCESS = _OfTheProcess()
