"""Sinusoid regression (Finn et al. 2017, arXiv:1703.03400, section 5.1): each task is a wave to be
learned from a few points."""

import math
from collections.abc import Sequence

import torch

from metarl.errors import SettingError
from metarl.fewshot.types import DataSpec, Episodes, Examples, Split, TaskSize
from metarl.struct import struct


@struct
class Waves:
    """y = amplitude · sin(x − phase), one for each of N tasks."""

    amplitude: torch.Tensor  # [N]
    phase: torch.Tensor  # [N] rad

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the waves' values [N, B, 1] at x [N, B, 1]."""
        return self.amplitude[:, None, None] * torch.sin(x - self.phase[:, None, None])


class Sinusoid:
    """Amplitude U[0.1, 5], phase U[0, π], x U[−5, 5], no noise. Tasks are new each time, so test
    ones are never seen before."""

    def __init__(
        self,
        *,
        amplitude: Sequence[float] = (0.1, 5.0),
        phase: Sequence[float] = (0.0, math.pi),
        x: Sequence[float] = (-5.0, 5.0),
    ) -> None:
        for name, bounds in {"amplitude": amplitude, "phase": phase, "x": x}.items():
            if len(bounds) != 2 or not bounds[0] <= bounds[1]:
                raise SettingError(f"{name} {list(bounds)}: expected a lower and an upper bound")
        self._amplitude = amplitude
        self._phase = phase
        self._x = x
        self.spec = DataSpec(
            name="sinusoid",
            kind="regression",
            input_shape=(1,),
            num_values=1,
            splits=("train", "validation", "test"),
            definition={"amplitude": list(amplitude), "phase": list(phase), "x": list(x)},
        )

    def to(self, device: torch.device | str) -> "Sinusoid":
        return self  # There are no data to move.

    def sample(
        self, num: int, size: TaskSize, generator: torch.Generator, split: Split = "train"
    ) -> Episodes:
        return self.points(self.waves(num, generator), size, generator)

    def waves(self, num: int, generator: torch.Generator) -> Waves:
        return Waves(
            amplitude=torch.empty(num).uniform_(*self._amplitude, generator=generator),
            phase=torch.empty(num).uniform_(*self._phase, generator=generator),
        )

    def points(self, waves: Waves, size: TaskSize, generator: torch.Generator) -> Episodes:
        """Support and query points on each wave. Raises: ValueError for more than one way."""
        if size.ways != 1:
            raise SettingError(f"ways={size.ways}: the sinusoid is a regression, expected ways=1")
        if min(size.shots, size.queries) < 1:
            raise SettingError(
                f"shots={size.shots}, queries={size.queries}: expected at least 1 of each"
            )
        num, count = len(waves.amplitude), size.shots + size.queries
        x = torch.empty(num, count, 1).uniform_(*self._x, generator=generator)
        y = waves(x)
        return Episodes(
            support=Examples(x=x[:, : size.shots], y=y[:, : size.shots]),
            query=Examples(x=x[:, size.shots :], y=y[:, size.shots :]),
        )
