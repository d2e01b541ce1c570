"""What the user of an environment of their own knows of its optimum."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from envs.numpy_worlds import task_dicts
from envs.own.tasks import TaskVariable
from envs.own.world import WorldError, number_in

BestReturn = float | Callable[[dict[str, Any]], float]


@dataclass(frozen=True)
class BestReturns:
    """What the user says can be earned, as `References.known_returns` has it."""

    best: BestReturn
    variables: dict[str, TaskVariable]
    name: str  # of the environment, in messages

    def __call__(self, tasks: Any, num_episodes: int) -> dict[str, Tensor]:
        """Raises: WorldError naming the task for which it isn't a finite number."""
        every = [
            {name: self.variables[name].meant(value) for name, value in task.items()}
            for task in task_dicts(tasks)
        ]
        return {"oracle": torch.tensor([self._of(task) for task in every], dtype=torch.float32)}

    def _of(self, task: dict[str, Any]) -> float:
        try:
            found: Any = self.best(task) if callable(self.best) else self.best
        except Exception as error:
            raise WorldError(
                f"best_return of {self.name} fails for the task {task}: {type(error).__name__}: {error}"
            ) from error
        value = None if isinstance(found, bool) else number_in(found)
        if value is None or not math.isfinite(value):
            raise WorldError(
                f"best_return of {self.name} is {found!r:.60} for the task {task}; expected a finite "
                "number"
            )
        return value
