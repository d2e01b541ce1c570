"""Finished runs as comparisons read them: their settings, their evaluation, and how training went.

A run lies in its run folder, or in a folder of results, which holds several seeds of one setting:
config.yaml, evaluation_seed0.json, metrics_seed0.jsonl.gz, evaluation_seed1.json, ....
"""

import gzip
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from metarl.errors import UserError
from metarl.run.logging import read_metrics

_ENTRIES = ("env", "split", "returns", "random_initialisation", "tasks")  # of every evaluation
_EVALUATION = re.compile(r"evaluation(_seed\d+)?\.json")


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A run that has been evaluated."""

    place: Path
    """The file of the run's evaluation."""
    config: dict[str, Any]
    """What config.yaml holds."""
    report: dict[str, Any]
    """What the evaluation holds."""
    metrics: list[dict[str, Any]]
    """The rows of metrics.jsonl; none where that isn't kept."""

    @property
    def seed(self) -> int:
        """The training's, also where somebody evaluated it with another."""
        return int(self.report.get("training_seed", self.report.get("seed", self.config["seed"])))

    @property
    def returns(self) -> Tensor:
        """[N, K + 1, E] float64: each episode of each held-out task after 0, 1, ..., K updates."""
        # Evaluations of earlier versions have the means of the episodes alone.
        tasks = self.report["tasks"]
        episodes = [task.get("episodes", [[mean] for mean in task["returns"]]) for task in tasks]
        return torch.tensor(episodes, dtype=torch.float64)

    @property
    def algo(self) -> str:
        """The algorithm as the command line calls it."""
        chosen = self.config.get("composed", {}).get("choices", {}).get("algo")
        return str(chosen or self.config["algo"]["_target_"].rpartition(".")[0].rpartition(".")[2])

    @property
    def shows_task(self) -> bool:
        """Whether its observations hold the task."""
        return bool(self.config["env"].get("shows_task"))

    @property
    def unit(self) -> str:
        """What its updates are called, see `metarl.rl.types.Sizes`."""
        # Evaluations of earlier versions don't say it.
        has_episodes = "episodes_per_trial" in self.config["algo"]
        return str(self.report.get("unit", "episode" if has_episodes else "update"))

    @property
    def numbers(self) -> list[float] | None:
        """The number that makes each held-out task; None where more than one does, or none is
        told."""
        of_tasks = [list(task.get("numbers", {}).values()) for task in self.report["tasks"]]
        if any(len(n) != 1 or isinstance(n[0], list) for n in of_tasks):
            return None
        return [float(number) for (number,) in of_tasks]

    @property
    def tasks(self) -> list[str]:
        """The held-out tasks in words."""
        return [task["task"] for task in self.report["tasks"]]


def finished_runs(folders: Sequence[Path]) -> tuple[list[Finished], list[Path]]:
    """Returns the finished runs of reinforcement learning in these folders and below them, in order
    of their places, and the folders of runs that haven't been evaluated yet.

    Raises: UserError for a folder that isn't there, holds no finished run at all, or a file that
      can't be read.
    """
    found: dict[Path, Finished] = {}
    unfinished: list[Path] = []
    for folder in folders:
        if not folder.is_dir():
            raise UserError(
                f"runs: {folder} {'is no folder' if folder.exists() else 'is not there'}"
            )
        here = dict[Path, Finished]()
        for config in sorted(folder.rglob("config.yaml")):
            of_run = list(_read_runs(config))
            here |= {run.place.resolve(): run for run in of_run if "dataset" not in run.config}
            unfinished += [] if of_run else [config.parent]
        if not here:
            raise UserError(
                f"runs: {folder} has no finished run; expected folders in it, or itself, with "
                "config.yaml and evaluation.json"
            )
        found |= here
    return [found[place] for place in sorted(found)], unfinished


def _read_runs(config_file: Path) -> Iterator[Finished]:
    config = _parsed(config_file, yaml.safe_load)
    for file in sorted(config_file.parent.glob("evaluation*.json")):
        named = _EVALUATION.fullmatch(file.name)
        if named is None or file.stat().st_size == 0:  # another evaluation of it, or one to come
            continue
        metrics = file.with_name(f"metrics{named[1] or ''}.jsonl")
        report = _parsed(file, json.loads)
        is_ours = "dataset" not in config
        if is_ours and (missing := [name for name in _ENTRIES if name not in report]):
            raise UserError(
                f"{file}: has no {missing[0]}; expected an evaluation, as train and evaluate "
                "write it"
            )
        yield Finished(place=file, config=config, report=report, metrics=_rows(metrics))


def _rows(file: Path) -> list[dict[str, Any]]:
    packed = file.with_suffix(".jsonl.gz")
    if file.exists() or not packed.exists():
        return read_metrics(file)
    with gzip.open(packed, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _parsed(file: Path, parse: Any) -> dict[str, Any]:
    try:
        content = parse(file.read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{file}: can't be read: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UserError(f"{file}: expected keys and values, found {content!r:.60}")
    return content
