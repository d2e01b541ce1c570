"""Whether MuJoCo Warp can run on a device, how many worlds fit there, in which order with torch it
works, and what one hears while its kernels are compiled, which takes a minute and is done once for
each version."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import warp as wp

from metarl.errors import SettingError

if wp.config.log_level == wp.LOG_INFO:  # Not what a user has set.
    # Else it writes to stdout at each module, and without a GPU that there is none.
    wp.config.log_level = wp.LOG_WARNING if torch.cuda.is_available() else wp.LOG_ERROR

_OLDEST_DRIVER = "580"  # of NVIDIA, for which the wheels of warp-lang are built
_PATIENCE = 3.0  # s, after which a compilation says what it is
_SHARE_OF_FREE = 0.9  # of a device's memory: the rest is for what kernels take while they run
_log = logging.getLogger("metarl")


def warp_device(device: torch.device | str) -> wp.Device:
    """Warp's name of a torch device.

    Raises: SettingError if it isn't there, or Warp can't use it.
    """
    asked = torch.device(device)
    if asked.type == "cpu":
        return wp.get_device("cpu")
    if asked.type != "cuda":
        raise SettingError(f"device is {device}; MuJoCo Warp runs on cuda, and for tests on cpu")
    if not torch.cuda.is_available():
        raise SettingError(
            f"device is {device}, but torch finds no CUDA device here; expected backend 'cpu'"
        )
    if not wp.is_cuda_available():
        raise SettingError(
            f"device is {device}, but Warp {wp.__version__} can't use it: the NVIDIA driver is "
            f"too old; expected {_OLDEST_DRIVER} or newer, or backend 'cpu'"
        )
    index = torch.cuda.current_device() if asked.index is None else asked.index
    return wp.get_device(f"cuda:{index}")


def free_memory(device: wp.Device) -> int:
    """How many bytes Warp can have of a GPU. What torch keeps for later is given back first, for
    Warp, unlike torch, can't take it from there."""
    theirs = wp.device_to_torch(device)
    torch.cuda.synchronize(theirs)
    torch.cuda.empty_cache()
    return int(device.free_memory)


def check_fits(num_worlds: int, bytes_a_world: int, free: int, device: str) -> None:
    """Raises: SettingError saying how many worlds fit into what is free, if so many don't."""
    most = int(_SHARE_OF_FREE * free / bytes_a_world)
    if num_worlds > most:
        raise SettingError(
            f"num_worlds is {num_worlds}, each of {bytes_a_world / 2**10:.0f} KiB: more than the "
            f"{free / 2**30:.1f} GiB that are free on {device}; expected at most {most}"
        )


@contextmanager
def refused_if_too_large(num_worlds: int, device: str) -> Iterator[None]:
    """Turns Warp's words for too little memory into ours. `check_fits` can't foresee all: kernels
    take memory while they run, and others may be on the device.

    Raises: SettingError.
    """
    try:
        yield
    except RuntimeError as error:
        lacks_memory = "Failed to allocate" in str(error) or "out of memory" in str(error)
        if not lacks_memory or "memory pools" in str(error):
            raise
        raise SettingError(
            f"num_worlds is {num_worlds}: the memory of {device} is too small for them beside what "
            f"else lies there ({error}); expected fewer"
        ) from error


def torchs_stream(device: wp.Device) -> wp.Stream | None:
    """The stream that torch works in now. Whatever Warp launches into it comes after all that torch
    did before, and before all that torch does next. None on a CPU, where all work is in order."""
    return wp.stream_from_torch(wp.device_to_torch(device)) if device.is_cuda else None


@contextmanager
def between_torchs(device: wp.Device) -> Iterator[None]:
    """What Warp does inside, in its own stream, comes between what torch did before and what it does
    after. For captures, because torch's usual stream is the one in which CUDA allows none."""
    theirs = torchs_stream(device)
    if theirs is None:
        yield
        return
    device.stream.wait_stream(theirs)
    yield
    theirs.wait_stream(device.stream)


def can_capture(device: Any) -> bool:
    """Whether graphs work on one of Warp's devices; where they don't, the log says so: simulating is slower then."""
    if not device.is_cuda or wp.is_mempool_enabled(device):
        return True
    _log.warning(
        "%s has no memory pools, so MuJoCo Warp's kernels are launched one by one, which is slower",
        device.name,
    )
    return False


@contextmanager
def told_if_compiling(device: str) -> Iterator[None]:
    """Says in the log, if what is done inside takes long because kernels are compiled for it, so
    that nobody takes it for stuck; and how long it took."""
    before, begin, done = _num_modules(), time.perf_counter(), threading.Event()

    def watch() -> None:
        while not done.wait(_PATIENCE):
            if _num_modules() > before:
                _log.warning(
                    "compiling MuJoCo Warp's kernels for %s, which takes a minute or two; they "
                    "are kept in %s for the next time",
                    device,
                    wp.config.kernel_cache_dir,
                )
                return

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        done.set()
    seconds = time.perf_counter() - begin
    if seconds > _PATIENCE and _num_modules() > before:
        _log.warning("compiled in %.0f s", seconds)


def _num_modules() -> int:
    folder = wp.config.kernel_cache_dir
    return len(list(Path(folder).iterdir())) if folder and Path(folder).is_dir() else 0
