"""What memory there is, and whether what a learner takes at its start fits into it."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch

from metarl.errors import UserError
from metarl.types import Experience

_MEMINFO = Path("/proc/meminfo")
_CGROUPS = (
    (Path("/sys/fs/cgroup"), "memory.max", "memory.current", "inactive_file"),
    (
        Path("/sys/fs/cgroup/memory"),
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "total_inactive_file",
    ),
)
"""The files in which both versions of control groups say what a container may take, what it has
taken, and in memory.stat how much of that are copies of files that can go."""


def is_exhausted(error: BaseException) -> bool:
    """Tells whether Python's or torch's memory was too small for what was asked for; torch raises
    its own on the CPU as RuntimeError."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and any(words in str(error) for words in ("can't allocate memory", "out of memory"))
    )


def available(device: torch.device) -> int:
    """Returns how many bytes are free on the device, those counted that the system can make
    free, and on a GPU those that torch keeps for later."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    return min([_of_machine(), *_of_container()])


def check_fits(experience: Experience | None) -> str | None:
    """Returns what memory an experience will take at once, in a line; None if it takes none at
    once.

    Raises: UserError with the numbers if there isn't so much.
    """
    reserve = None if experience is None else experience.reserve()
    if reserve is None:
        return None
    free = available(reserve.device)
    need = f"{reserve.what}: {sized(reserve.num_bytes)} of memory on {reserve.device}"
    if reserve.num_bytes > free:
        raise UserError(f"{need}, but {sized(free)} are free there; expected a smaller capacity")
    return f"{need}, of {sized(free)} free"


def check_together_fit(experiences: Sequence[Experience | None]) -> None:
    """Raises: UserError with the numbers if there isn't the memory that these experiences, of as
    many seeds, will take at once."""
    reserves = [found for one in experiences if one is not None and (found := one.reserve())]
    need = sum(reserve.num_bytes for reserve in reserves)
    if need and need > (free := available(reserves[0].device)):
        raise UserError(
            f"{len(reserves)} seeds, each with {reserves[0].what}: {sized(need)} of memory on "
            f"{reserves[0].device}, but {sized(free)} are free there; expected fewer seeds, or a "
            "smaller capacity"
        )


def check_rollout_fits(num_worlds: int, horizon: int, numbers_a_step: int, whose: str) -> None:
    """Raises: UserError if the memory of this machine is too small for what one episode of each
    world leaves behind. Args: whose: of which environment, for the message."""
    need = num_worlds * horizon * numbers_a_step * torch.float32.itemsize
    free = available(torch.device("cpu"))
    if need > free:
        raise UserError(
            f"{num_worlds} worlds of {whose}, one for each episode of each task, with {horizon} steps "
            f"of {numbers_a_step} numbers: {sized(need)} of memory, but {sized(free)} are free; "
            "expected fewer tasks, episodes or seeds, or a shorter horizon"
        )


def sized(num_bytes: int) -> str:
    """Says a size in words: 1536 -> 1.5 KiB."""
    size, unit = float(num_bytes), "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"


def _of_machine() -> int:
    if _MEMINFO.exists():
        lines = dict(
            line.split(":", 1) for line in _MEMINFO.read_text("utf-8").splitlines() if ":" in line
        )
        return int(lines["MemAvailable"].split()[0]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _of_container() -> list[int]:
    found = []
    for folder, limit, taken, files in _CGROUPS:
        try:
            stat = dict(
                line.split() for line in (folder / "memory.stat").read_text("utf-8").splitlines()
            )
            used = int((folder / taken).read_text("utf-8")) - int(stat[files])
            found.append(int((folder / limit).read_text("utf-8")) - used)
        # There is none of this version, or no limit ("max").
        except (OSError, ValueError, KeyError):
            continue
    return found
