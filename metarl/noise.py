"""Random numbers from S streams at once. What is drawn has S blocks of rows, and block s comes from
stream s alone.

So several seeds side by side, or worlds that are seeded one by one, draw the numbers that each
would draw by itself. With one stream they are torch's own.
"""

from collections.abc import Callable, Sequence
from multiprocessing.reduction import ForkingPickler
from typing import Any, Protocol

import torch
from torch import Tensor


class Startable(Protocol):
    """What `Noise.starts` asks of an environment."""

    @property
    def num_worlds(self) -> int: ...

    @property
    def num_uniforms(self) -> int: ...


class Noise:
    """Draws from the generators it holds, and moves them on. All lie on one device.

    Args:
      generators: one for each stream.
      device: where the numbers are to lie; None: where the generators do.
      share: (i, n) gives block i of n of the rows that are drawn: of n processes with a generator
        in the same state, each draws the rows of all and takes its own.
    Raises: ValueError without any generator.
    """

    def __init__(
        self,
        *generators: torch.Generator,
        device: torch.device | str | None = None,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        if not generators:
            raise ValueError("noise needs at least one generator, got none")
        self._generators = generators
        self._share = share
        self.device = generators[0].device if device is None else torch.device(device)

    @property
    def generators(self) -> tuple[torch.Generator, ...]:
        """The generators of the streams, in order."""
        return self._generators

    @property
    def share(self) -> tuple[int, int]:
        """Which block of the rows that are drawn it gives, and of how many."""
        return self._share

    @property
    def alone(self) -> torch.Generator:
        """The generator of the only stream, for draws that have no rows. Raises: ValueError if
        there are several."""
        if len(self._generators) > 1:
            raise ValueError(
                f"there are {len(self._generators)} streams; expected 1, for a draw that has no "
                "rows for each"
            )
        return self._generators[0]

    def each(self) -> "list[Noise]":
        """Each stream by itself; it goes on in both."""
        return [self._of(generator) for generator in self._generators]

    @property
    def whole(self) -> "Noise":
        """The same streams without a share: for draws that all processes make alike."""
        return Noise(*self._generators, device=self.device)

    def while_running(self, running: Tensor) -> "Noise":
        """The same streams, but none goes on whose rows have all stopped, for alone it would have
        ended there: a generator without meaning draws in its place.

        Args: running: [B] bool of rows, on the CPU.
        """
        if len(self._generators) == 1 or bool(running.all()):
            return self
        blocks = running.split(self._rows_each(len(running)))
        spare = torch.Generator(self._generators[0].device)
        drawing = [
            generator if bool(block.any()) else spare
            for generator, block in zip(self._generators, blocks, strict=True)
        ]
        return self._of(*drawing)

    def uniform(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """U[0, 1), [*shape]."""
        return self._stacked(
            shape, lambda g, part: torch.rand(part, generator=g, dtype=dtype, device=self.device)
        )

    def starts(self, env: Startable) -> Tensor:
        """What `env.reset` takes: [W, num_uniforms] float64 on the CPU or wherever the generators
        are."""
        return self.uniform(env.num_worlds, env.num_uniforms, dtype=torch.float64)

    def normal(self, *shape: int, dtype: torch.dtype = torch.float32, dim: int = 0) -> Tensor:
        """N(0, 1), [*shape]. Args: dim: the dimension of the rows."""
        draw = lambda g, part: torch.randn(part, generator=g, dtype=dtype, device=self.device)
        return self._stacked(shape, draw, dim)

    def exponential(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Exp(1), [*shape]."""

        def draw(generator: torch.Generator, part: Sequence[int]) -> Tensor:
            return torch.empty(part, dtype=dtype, device=self.device).exponential_(
                generator=generator
            )

        return self._stacked(shape, draw)

    def integers(self, high: int, *shape: int) -> Tensor:
        """Uniform on 0, ..., high − 1: int64 [*shape]."""
        return self._stacked(
            shape, lambda g, part: torch.randint(high, part, generator=g, device=self.device)
        )

    def gamma(self, concentration: Tensor) -> Tensor:
        """Gamma(concentration, 1), of its shape. (torch.distributions has no argument for a
        generator.)"""
        return self._by_rows(
            concentration, lambda g, rows: torch._standard_gamma(rows, generator=g)
        )

    def choices(self, weights: Tensor) -> Tensor:
        """One column for each row of weights [B, k], with probabilities in proportion: int64
        [B]."""
        return self._by_rows(weights, lambda g, rows: torch.multinomial(rows, 1, generator=g)[:, 0])

    def _stacked(
        self,
        shape: Sequence[int],
        draw: Callable[[torch.Generator, Sequence[int]], Tensor],
        dim: int = 0,
    ) -> Tensor:
        if len(self._generators) == 1 and self._share == (0, 1):
            return draw(self._generators[0], shape)
        part, (number, count) = list(shape), self._share
        part[dim] = self._rows_each(shape[dim])
        whole = [*part[:dim], part[dim] * count, *part[dim + 1 :]]
        drawn = [
            draw(generator, whole).narrow(dim, number * part[dim], part[dim])
            for generator in self._generators
        ]
        return drawn[0] if len(drawn) == 1 else torch.cat(drawn, dim)

    def _by_rows(self, values: Tensor, draw: Callable[[torch.Generator, Tensor], Tensor]) -> Tensor:
        if self._share != (0, 1):
            raise ValueError("these draws need the rows of all processes; expected a share of 0, 1")
        if len(self._generators) == 1:
            return draw(self._generators[0], values)
        blocks = values.split(self._rows_each(len(values)))
        return torch.cat(
            [
                draw(generator, rows)
                for generator, rows in zip(self._generators, blocks, strict=True)
            ]
        )

    def _of(self, *generators: torch.Generator) -> "Noise":
        return Noise(*generators, device=self.device, share=self._share)

    def _rows_each(self, num_rows: int) -> int:
        share, rest = divmod(num_rows, len(self._generators))
        if rest:
            raise ValueError(
                f"{num_rows} rows can't be shared out among {len(self._generators)} streams"
            )
        return share


def _generator(state: bytes, device: str) -> torch.Generator:
    made = torch.Generator(device)
    made.set_state(torch.frombuffer(bytearray(state), dtype=torch.uint8))
    return made


def _taken_apart(generator: torch.Generator) -> tuple[Any, ...]:
    return _generator, (generator.get_state().numpy().tobytes(), str(generator.device))


# Torch sends a generator's state to a spawned process by shared memory, which ends before it comes
# there.
ForkingPickler.register(torch.Generator, _taken_apart)
