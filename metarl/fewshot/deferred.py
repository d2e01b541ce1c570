"""Tasks that are read when the first are drawn. A trained network that comes with metarl says
itself what its problem is, so it answers on machines without the data it was trained on."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch

from metarl.errors import UserError
from metarl.fewshot.types import DataSpec, Episodes, Split, TaskSize, TaskSource


class DeferredTasks:
    """A `TaskSource`. Args: spec: of the tasks; make: reads them, and is called once, or never."""

    def __init__(self, spec: DataSpec, make: Callable[[], TaskSource]) -> None:
        self.spec = spec
        self._make = make
        self._made: TaskSource | None = None

    def to(self, device: torch.device | str) -> "DeferredTasks":
        return DeferredTasks(self.spec, lambda: self._tasks().to(device))

    def sample(
        self, num: int, size: TaskSize, generator: torch.Generator, split: Split = "train"
    ) -> Episodes:
        """Raises: as `make` and what it made; UserError if that is another problem."""
        return self._tasks().sample(num, size, generator, split)

    def _tasks(self) -> TaskSource:
        if self._made is None:
            made = self._make()
            if made.spec.spec_hash != self.spec.spec_hash:
                raise UserError(
                    f"{self.spec.name} has the spec hash {made.spec.spec_hash} here; expected "
                    f"{self.spec.spec_hash}, of the data that this learner was trained on"
                )
            self._made = made
        return self._made


def packed(spec: DataSpec) -> dict[str, Any]:
    """The spec as plain values, for a file."""
    return {**asdict(spec), "input_shape": list(spec.input_shape), "splits": list(spec.splits)}


def unpacked(values: dict[str, Any]) -> DataSpec:
    """What `packed` was given. Raises: TypeError or KeyError for anything else."""
    sequences = {name: tuple(values[name]) for name in ("input_shape", "splits")}
    return DataSpec(**(values | sequences))
