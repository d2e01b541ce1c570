"""Drawing positions from stretches of consecutive ones: how a replay draws from trials of unequal
length, all tasks at once."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from metarl.noise import Noise
from metarl.struct import struct


class Stretch(NamedTuple):
    start: int
    num: int
    """How many positions from `start` on may be drawn."""
    stop: int
    """The end of the stretch. It lies further on than the last start where what is drawn is longer
    than one position."""


@struct
class Stretches:
    """The stretches of each task, padded with empty ones: leaves [tasks, S]."""

    start: Tensor
    count: Tensor
    until: Tensor  # the sum of the counts up to this one, with it
    stop: Tensor
    totals: list[int]  # of each task's counts

    @classmethod
    def of(cls, tasks: Sequence[Sequence[Stretch]], device: torch.device) -> "Stretches":
        most = max(1, *map(len, tasks))
        padded = [
            [*stretches, *[Stretch(0, 0, 0)] * (most - len(stretches))] for stretches in tasks
        ]
        start, count, stop = (
            leaf.contiguous() for leaf in torch.tensor(padded).to(device).unbind(-1)
        )
        until = count.cumsum(-1)
        return cls(start=start, count=count, until=until, stop=stop, totals=until[:, -1].tolist())

    def draw(self, tasks: Tensor, num: int, noise: Noise) -> tuple[Tensor, Tensor]:
        """Draws `num` positions of each of B tasks, uniformly and with replacement. None may be
        without any.

        Args: tasks: [B] int64.
        Returns: the positions [B, num], and where the stretch of each ends.
        """
        tasks = tasks.to(self.start.device, non_blocking=True)
        until = self.until[tasks]
        drawn = drawn_below(until[:, -1:], num, noise)
        index = torch.searchsorted(until, drawn, right=True)
        start, count, stop = (
            leaf[tasks].gather(1, index) for leaf in (self.start, self.count, self.stop)
        )
        return start + drawn - (until.gather(1, index) - count), stop


def drawn_below(total: Tensor, num: int, noise: Noise) -> Tensor:
    """Draws [B, num] of the numbers 0, ..., total − 1, uniformly and with replacement; total [B, 1]
    int64. 0 where there are none."""
    uniform = noise.uniform(len(total), num, dtype=torch.float64).to(total.device)
    # A product with a number just below 1 may be rounded up.
    return (uniform * total).long().minimum(total - 1).clamp(min=0)
