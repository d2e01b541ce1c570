"""A learner that is nothing but a random walk, for tests of the training loop."""

import json
from pathlib import Path
from typing import Any

import torch

from metarl.run.seeding import Generators
from metarl.run.timing import without_timing
from metarl.types import MetaLearner


class Walker(MetaLearner):
    """Adds noise to a parameter in each iteration."""

    special: Any = staticmethod(lambda learner: None)
    """Is called after each iteration."""

    def __init__(self, generators: Generators) -> None:
        self.generator = generators("policy")
        self.x = torch.zeros(3)
        self.count = 0

    def step(self) -> dict[str, float]:
        iteration = self.iteration()
        try:
            next(iteration)
            iteration.send(None)
        except StopIteration as end:
            metrics: dict[str, float] = end.value
            return metrics
        raise AssertionError("it asks once")

    def asking(self) -> Any:
        return self.iteration()

    def iteration(self) -> Any:
        yield "data"
        self.x += torch.randn(3, generator=self.generator)
        self.count += 1
        Walker.special(self)
        value = self.x.sum().item()
        return {"env_steps": 10, "return_before": value, "return_after": value + 1}

    def state_dict(self) -> dict[str, Any]:
        return {"x": self.x, "count": self.count}

    def load_state_dict(self, state: Any) -> None:
        self.x.copy_(state["x"])
        self.count = state["count"]


def measured(learner: Any) -> dict[str, float]:
    """An evaluation of a walker: where it is, with a width of 1 around it."""
    value = learner.x.sum().item()
    ends = {"value_ci_low": value - 0.5, "value_ci_high": value + 0.5}
    return {"score": value, "value": value, **ends}


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    """What follows from the seed in metrics.jsonl or evaluations.jsonl; [] if there is none."""
    file = folder / f"{name}.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    return [without_timing(json.loads(line)) for line in lines]
