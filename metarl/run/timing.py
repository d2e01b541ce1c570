"""What a row of metrics says of the machine: how long the run has taken, how fast it is, how much
memory it needed.

These numbers alone differ between two runs of one seed, or between a run that was stopped and one
that wasn't; `TIMING` names them, and `without_timing` is what to compare such runs by.
"""

import resource
import sys
import time
from collections.abc import Mapping
from typing import Any

import torch

TIMING = frozenset(
    {
        "seconds",
        "env_steps_per_second",
        "tasks_per_second",
        "peak_memory_mib",
        "peak_device_memory_mib",
        "seeds_together",
    }
)
"""The metrics of `Stopwatch.row`, whatever a learner counts, and in rows of seeds that were trained
together how many these were: the seconds are of all of them."""

_MIB = 2**20
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes; what ru_maxrss counts in


class Stopwatch:
    """Measures a training that may be resumed: its seconds go on from those of the checkpoint."""

    def __init__(self, seconds: float = 0.0) -> None:
        """Args: seconds: what the run had taken up to the checkpoint that it goes on from."""
        self._start = time.perf_counter() - seconds

    def seconds(self) -> float:
        """Seconds since the run began, the times between a stop and its resume left out."""
        return time.perf_counter() - self._start

    def row(self, count: str, num: float, since: float) -> dict[str, float]:
        """The metrics of `TIMING` that one run tells.

        Args:
          count: what is counted: env_steps or tasks.
          num: how many there were since the run had taken `since` seconds.
        Returns: seconds since the run began; how many of what is counted a second; the largest
          memory of the process so far in MiB, and what torch and Warp have held at most on a CUDA
          device, if it uses one.
        """
        now = self.seconds()
        row = {
            "seconds": now,
            f"{count}_per_second": num / max(now - since, 1e-9),
            "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            * _RSS_UNIT
            / _MIB,
        }
        if torch.cuda.is_initialized():
            row["peak_device_memory_mib"] = _peak_device_memory() / _MIB
        return row


def _peak_device_memory() -> int:
    """Bytes on torch's present CUDA device: torch's peak, and that of Warp, which simulates worlds
    in memory of its own."""
    found = torch.cuda.max_memory_allocated()
    warp: Any = sys.modules.get("warp")
    device = f"cuda:{torch.cuda.current_device()}"
    if warp is not None and warp.is_mempool_enabled(device):
        found += warp.get_mempool_used_mem_high(device)
    return int(found)


def without_timing(row: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the part of a row of metrics that follows from the seed."""
    return {name: value for name, value in row.items() if name not in TIMING}
