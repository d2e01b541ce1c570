"""Runs as comparisons read them: their settings, how training went, and their evaluation once they
are finished.

A run lies in its run folder, or in a folder of results, which holds several seeds of one setting:
config.yaml, evaluation_seed0.json, metrics_seed0.jsonl.gz, evaluation_seed1.json, ....
"""

import gzip
import io
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from metarl.errors import UserError
from metarl.report.algo_name import algo_name
from metarl.report.run_places import in_order, num_seeds_in
from metarl.run import lock
from metarl.run.rows import read_rows

_ENTRIES = ("env", "split", "returns", "random_initialisation", "tasks")  # of every evaluation
_PLAYED = ("deterministic", "inner_lr_decay", "context_size")
_EVALUATION = re.compile(r"evaluation(_seed\d+)?\.json")

ConfigsBelow = dict[Path, dict[Path, dict[str, Any]]]
"""What each config.yaml holds that lies in a folder or below it, by the folder."""


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
    """The rows of metrics.jsonl, see `numbers_of`; none where that isn't kept."""

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
    def episodes_per_task(self) -> int:
        """How many episodes of a task were played after each update."""
        return int(self.report.get("episodes_per_task", self.returns.shape[2]))

    @property
    def played(self) -> dict[str, Any]:
        """What the evaluation was asked to do otherwise than training does, by its names."""
        return {key: self.report[key] for key in _PLAYED if self.report.get(key)}

    @property
    def algo(self) -> str:
        """What results call the algorithm."""
        return algo_name(self.config)

    @property
    def shows_task(self) -> bool:
        """Whether its observations hold the task."""
        return bool(self.config["env"].get("shows_task"))

    @property
    def spec_hash(self) -> str | None:
        """The environment's that it was evaluated in; None where the evaluation doesn't say it."""
        return self.report.get("spec_hash")

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


@dataclass(frozen=True, kw_only=True)
class Begun:
    """A run that hasn't been evaluated: it still goes, or was stopped."""

    place: Path
    """The run's folder."""
    config: dict[str, Any]
    metrics: list[dict[str, Any]]

    @property
    def seed(self) -> int:
        return int(self.config["seed"])

    @property
    def algo(self) -> str:
        return algo_name(self.config)

    @property
    def goes_on(self) -> bool:
        """Whether a process writes there."""
        return lock.is_locked(self.place)


def finished_runs(folders: Sequence[Path]) -> tuple[list[Finished], list[Path]]:
    """Returns the finished runs of reinforcement learning in these folders and below them, in order
    of their places, and the folders of runs that haven't been evaluated yet.

    Raises: UserError as `configs_below` and `all_runs` do, or if no run is finished.
    """
    finished, begun = all_runs(configs_below(folders))
    if not finished:
        raise UserError(_NOTHING.format(", ".join(map(str, folders))))
    return finished, [run.place for run in begun]


def all_runs(below: ConfigsBelow) -> tuple[list[Finished], list[Begun]]:
    """Returns the runs of reinforcement learning that these configurations are of, in order of
    their places: the finished ones, and those that haven't been evaluated yet.

    Raises: UserError for a folder that holds no run at all, or a file that can't be read.
    """
    finished: dict[Path, Finished] = {}
    begun: dict[Path, Begun] = {}
    for folder, configs in below.items():
        has_run = has_few_shot = False
        for file, config in configs.items():
            has_few_shot |= "dataset" in config
            if "dataset" in config or config.get("num_seeds") not in (None, 1):
                continue  # The folders of its seeds lie below.
            has_run, of_run = True, list(_finished(file, config))
            finished |= {run.place.resolve(): run for run in of_run}
            if not of_run:
                metrics = _rows(file.with_name("metrics.jsonl"))
                run = Begun(place=file.parent, config=config, metrics=metrics)
                begun[file.parent.resolve()] = run
        if has_few_shot and not has_run:
            raise UserError(
                f"runs: {folder} has few-shot runs alone; expected runs of reinforcement learning "
                "(report shows few-shot runs by themselves)"
            )
        if not has_run:
            raise UserError(_NOTHING.format(folder))
    return [finished[place] for place in sorted(finished)], [begun[p] for p in sorted(begun)]


def configs_below(folders: Sequence[Path]) -> ConfigsBelow:
    """Reads each config.yaml in these folders and below them. Raises: UserError for a folder that
    isn't there, or a file that can't be read."""
    found: ConfigsBelow = {}
    for folder in folders:
        if not folder.is_dir():
            raise UserError(
                f"runs: {folder} {'is no folder' if folder.exists() else 'is not there'}"
            )
        files = in_order(folder.rglob("config.yaml"))
        found[folder] = {file: parsed(file, _yaml) for file in files}
    return found


_LONGEST_ROW = 1_000_000  # characters; ours have some thousand


class _WithoutAliases(yaml.SafeLoader):
    """Nine lines of aliases to one another are more than can ever be walked through."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has an alias (*), which config.yaml never has")
        return super().compose_node(parent, index)


def _yaml(text: str) -> Any:
    return yaml.load(text, Loader=_WithoutAliases)


_NOTHING = (
    "runs: {} has no finished run; expected folders in it, or itself, with config.yaml and "
    "evaluation.json"
)


def _finished(config_file: Path, config: dict[str, Any]) -> Iterator[Finished]:
    """The evaluated runs of one setting. Raises: UserError for an evaluation that is damaged."""
    for file, report, metrics in evaluations(config_file, _ENTRIES):
        run = Finished(place=file, config=config, report=report, metrics=_rows(metrics))
        _check_whole(run)
        yield run


def evaluations(
    config_file: Path, entries: Sequence[str]
) -> Iterator[tuple[Path, dict[str, Any], Path]]:
    """Yields the evaluations beside a config.yaml: their files, what they hold, and the
    metrics.jsonl of their runs. Raises: UserError for one that is damaged, or lacks an entry."""
    for file in in_order(config_file.parent.glob("evaluation*.json")):
        named = _EVALUATION.fullmatch(file.name)
        if named is None or file.stat().st_size == 0:  # another evaluation of it, or one to come
            continue
        report = parsed(file, json.loads)
        if missing := [name for name in entries if name not in report]:
            raise UserError(
                f"{file}: has no {missing[0]}; expected an evaluation, as train and evaluate "
                "write it"
            )
        yield file, report, file.with_name(f"metrics{named[1] or ''}.jsonl")


def _check_whole(run: Finished) -> None:
    """Raises: UserError for numbers that no comparison can be made of."""
    for key in ("env", "algo"):
        if not isinstance(run.config.get(key), dict):
            raise UserError(
                f"{run.place.with_name('config.yaml')}: has no {key}; expected the configuration of "
                "a run"
            )
    try:
        shape, is_finite = run.returns.shape, bool(run.returns.isfinite().all())
        whole = len(shape) == 3 and 0 not in shape and is_finite and all(run.tasks)
        whole = whole and all("mean" in row for row in run.report["returns"])
        whole = whole and _tell_success_alike(run.report["tasks"], shape)
    except (KeyError, TypeError, ValueError, RuntimeError):
        whole = False
    if not whole:
        raise UserError(
            f"{run.place}: the returns of its tasks are damaged; expected a finite number for each "
            "episode after each update"
        )


def _tell_success_alike(tasks: Sequence[dict[str, Any]], shape: Sequence[int]) -> bool:
    """Whether each task says of each of its episodes whether it is solved, or none says it."""
    solved = [task["solved"] for task in tasks if "solved" in task]
    return not solved or torch.tensor(solved).shape == shape


def _rows(file: Path) -> list[dict[str, Any]]:
    """The rows of reinforcement learning. Those that tell no steps or no return are left out."""
    return [
        row
        for row in numbers_of(file)
        if "env_steps" in row and ("return_after" in row or "return" in row)
    ]


def numbers_of(file: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl, or of the file as results keep it. What isn't a finite number is
    left out, as damaged rows are.

    Seeds that one process trained together wrote the time of all: here each has its share, so that
    they compare with runs alone. A seed that went on alone, or whose others had diverged, says so
    by `seeds_together` of its rows; in those of earlier versions all seeds of the folder count.
    """
    rows = [{k: v for k, v in row.items() if _is_number(v)} for row in _all_rows(file)]
    of_old = num_seeds_in(file.parent.parent)
    if any("seeds_together" in row for row in rows):
        of_old = 1
    before = share = 0.0
    for row in rows:
        if "seconds" in row:
            share += (row["seconds"] - before) / row.get("seeds_together", of_old)
            before, row["seconds"] = row["seconds"], share
    return rows


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _all_rows(file: Path) -> list[dict[str, Any]]:
    packed = file.with_suffix(".jsonl.gz")
    if file.exists() or not packed.exists():
        return read_rows(file)
    try:
        with gzip.open(packed, "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in _bounded(lines)]
    except (OSError, EOFError, ValueError, RecursionError) as error:
        raise UserError(f"{packed}: can't be read: {' '.join(str(error).split())}") from error
    return [row for row in rows if isinstance(row, dict)]


def _bounded(lines: io.TextIOBase) -> Iterator[str]:
    """Raises: ValueError for a line longer than any row; a packed one may fill the memory."""
    while line := lines.readline(_LONGEST_ROW + 1):
        if len(line) > _LONGEST_ROW:
            raise ValueError(f"it has a line of more than {_LONGEST_ROW} characters")
        yield line


def parsed(file: Path, parse: Any) -> dict[str, Any]:
    """What a file of JSON or YAML holds. Raises: UserError, naming it, if it is damaged."""
    try:
        content = parse(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"{file}: can't be read: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UserError(f"{file}: expected keys and values, found {content!r:.60}")
    return content
