"""Where an environment runs: which engine moves its worlds, on how many threads, and where its
tensors come out."""

from dataclasses import dataclass

import torch

from metarl.errors import SettingError

BACKENDS = ("cpu",)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Says where an environment runs. No result depends on it, and neither does the spec hash.

    Raises: ValueError for a backend that isn't there, or fewer than one thread.
    """

    backend: str = "cpu"
    """The physics engine. `cpu` is MuJoCo's C engine; `warp`, MuJoCo on a GPU, isn't there yet."""
    num_threads: int | None = None
    """Threads of the simulation; None: one for each CPU. Worlds without physics use torch's own
    threads."""
    device: torch.device | str = "cpu"
    """Where actions come in and observations and rewards come out. MuJoCo on CPUs copies them
    there."""

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            missing = ", which isn't there yet" if self.backend == "warp" else ""
            raise SettingError(
                f"backend is {self.backend!r}{missing}; expected {' or '.join(map(repr, BACKENDS))}"
            )
        check_num_threads(self.num_threads)


def check_num_threads(num_threads: int | None) -> None:
    if num_threads is not None and num_threads < 1:
        raise SettingError(
            f"num_threads is {num_threads}; expected at least 1, or None for all CPUs"
        )
