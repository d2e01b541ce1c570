"""What every logger is told, and what it knows of the run when it begins."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from metarl.struct import struct
from metarl.types import Metrics

HELD_OUT, EVALUATION = "held_out/", "evaluation/"
"""What numbers' names begin with: of the evaluations during training, and of that at its end."""


class Logger(Protocol):
    """Takes in the numbers of a run, each row once and in their order."""

    def metrics(self, row: Metrics) -> None:
        """A row of metrics.jsonl: what iteration `row["iteration"]` came to."""
        ...

    def evaluation(self, row: Metrics) -> None:
        """A row of evaluations.jsonl: held-out tasks after `row["iteration"]` iterations."""
        ...

    def results(self, results: "Results") -> None:
        """What the run ends with."""
        ...

    def flush(self) -> None:
        """Comes before each checkpoint: rows of before it must outlive the process."""
        ...

    def close(self) -> None: ...


@struct
class Results:
    numbers: Metrics
    """The numbers of the evaluation at the end."""
    iteration: int
    count: int
    """Env steps, or tasks, of the whole training."""
    video: Path | None
    files: list[Path]
    """What else is worth keeping: evaluation.json and pictures."""


@struct
class Begun:
    """A run whose loggers are opened: a new one, or one that goes on."""

    folder: Path
    config: dict[str, Any]
    """The whole configuration as plain data; {} where nobody knows it."""
    count: str
    """What its rows count: env_steps or tasks."""
    first_iteration: int
    """The number of the next iteration."""
    metrics: list[Metrics]
    """The rows of before."""
    evaluations: list[Metrics]

    @property
    def name(self) -> str:
        """`half_cheetah_vel/maml_ppo/2026-01-31_12-00-00-seed0`."""
        return "/".join(self.folder.absolute().parts[-3:])

    @property
    def num(self) -> int:
        """How many env steps, or tasks, the rows of before come to."""
        return int(max((row.get(self.count, 0) for row in self.metrics), default=0))


CHANGES_NO_NUMBER = (
    *("run_dir", "resume", "loggers", "wandb", "mlflow", "evaluation"),
    *("eval_every", "eval_tasks", "eval_by"),
    *("checkpoint_every", "keep_checkpoints", "log_every"),
)
"""Keys of a configuration that leave a training's numbers as they are."""


def settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration as hyperparameters: each value by its full name ("algo.inner_lr"), without
    what changes no number."""
    kept = {key: value for key, value in config.items() if key not in CHANGES_NO_NUMBER}
    return dict(_leaves(kept))


def _leaves(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            found += _leaves(value, f"{name}.")
        else:
            is_plain = isinstance(value, bool | int | float | str)
            found.append((name, value if is_plain else str(value)))
    return found


def named(row: Mapping[str, float], prefix: str) -> dict[str, float]:
    return {f"{prefix}{name}": value for name, value in row.items()}
