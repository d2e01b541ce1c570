"""The random numbers that torch, numpy and Python draw where no generator is given, as a run's own:
code of a user's may draw from them, and a run would then neither be repeatable nor go on after a
stop with the numbers of one that wasn't stopped."""

# ruff: noqa: NPY002
# The old streams of numpy are what this is about.

import random
from typing import Any

import numpy as np
import torch

from metarl.run.seeding import seed_from


class GlobalStreams:
    """Inside, they go on from where they were when it was last left, at first from a seed made of the
    words; outside, as if nothing had been drawn inside. Those of a GPU are left alone.

    Args: words: for instance the seed of a run and the number of its iteration.
    """

    def __init__(self, *words: object) -> None:
        self._seed = seed_from("/".join(map(str, words)).encode())
        self._own: tuple[Any, ...] | None = None
        self._outside: tuple[Any, ...] = ()

    def __enter__(self) -> None:
        self._outside = _states()
        if self._own is not None:
            _put(self._own)
            return
        torch.default_generator.manual_seed(self._seed)
        np.random.seed(self._seed % 2**32)
        random.seed(self._seed)

    def __exit__(self, *error: object) -> None:
        self._own = _states()
        _put(self._outside)


def _states() -> tuple[Any, ...]:
    return torch.default_generator.get_state(), np.random.get_state(), random.getstate()


def _put(states: tuple[Any, ...]) -> None:
    of_torch, of_numpy, of_python = states
    torch.default_generator.set_state(of_torch)
    np.random.set_state(of_numpy)
    random.setstate(of_python)
