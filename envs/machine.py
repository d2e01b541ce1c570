"""Says where an environment runs: which engine moves its worlds, on how many threads, and on which
device its tensors are."""

from dataclasses import dataclass

import torch

from metarl.choices import expected
from metarl.errors import SettingError

BACKENDS = ("cpu", "warp")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Says where an environment runs. The spec hash doesn't depend on it; with the backend `cpu` no
    result does. MuJoCo Warp computes in float32, so its results differ by rounding.

    Raises: ValueError for a backend or device that isn't there, or fewer than one thread or contact.
    """

    backend: str = "cpu"
    """The physics engine: `cpu` is MuJoCo's C engine, `warp` is MuJoCo Warp on a GPU."""
    num_threads: int | None = None
    """Threads of the C engine; None: one for each CPU. Worlds without physics use torch's own
    threads."""
    device: torch.device | str = "cpu"
    """The device of the actions that come in and of the observations and rewards that come out.
    MuJoCo on CPUs copies them there; MuJoCo Warp computes there."""
    max_contacts: int | None = None
    """How many contacts a world may have at once in MuJoCo Warp, whose buffers don't grow; None:
    as many as the model's shapes can have."""
    graphs: bool = True
    """Whether what surrounds MuJoCo Warp's physics in a rollout (policy, reward, records) may be
    replayed from CUDA graphs, too: the same numbers, in few launches. Only on a GPU are there
    any."""

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise SettingError(f"backend is {self.backend!r}; {expected(self.backend, BACKENDS)}")
        check_num_threads(self.num_threads)
        check_device(self.device)
        if self.max_contacts is not None and self.max_contacts < 1:
            raise SettingError(f"max_contacts is {self.max_contacts}; expected at least 1, or None")


def check_device(device: torch.device | str) -> None:
    """Raises: ValueError for a device that isn't there."""
    try:
        kind = torch.device(device).type
    except RuntimeError:  # torch's own message is a list of twenty.
        raise SettingError(
            f"device is {device!r}; expected cpu or cuda, or one of several as cuda:1"
        ) from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise SettingError(f"device is {str(device)!r}: torch finds no CUDA device here")


def check_num_threads(num_threads: int | None) -> None:
    if num_threads is not None and num_threads < 1:
        raise SettingError(
            f"num_threads is {num_threads}; expected at least 1, or None for all CPUs"
        )
