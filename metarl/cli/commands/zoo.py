"""Packs a finished run into a file that comes with metarl: the weights alone, what they were made
by, and how good they are.

The evaluation in it is of the packed weights, which may be rounded, with the settings of the run's
own evaluation. Everybody then loads it as zoo:<name>; without words it lists what there is.

Examples:
  python scripts/zoo.py
  python scripts/zoo.py run=runs/bandit/rl2_ppo/2026-01-31_12-00-00-seed0
  python scripts/zoo.py run=<run folder> name=half_cheetah_vel/rl2_ppo half=true output=my_zoo
"""

import itertools
import json
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from metarl import zoo
from metarl.cli import (
    build,
    checkpoints,
    evaluation,
    fewshot_build,
    fewshot_report,
    outputs,
    strangers,
)
from metarl.cli.configs import as_dict
from metarl.cli.main import run_command
from metarl.errors import UserError
from metarl.fewshot import deferred
from metarl.fewshot.types import TaskSource
from metarl.report.algo_name import algo_name
from metarl.report.finished import parsed
from metarl.run import checkpoint
from metarl.run.rows import read_rows
from metarl.run.seeding import Generators
from metarl.run.timing import without_timing
from metarl.struct import replace

CURVE_ROWS = 100
"""Rows of metrics that are kept, evenly over the training."""

_RESUMED = "resume=<run folder>"
"""What stands for a folder on another machine; not to be pasted, so it has no quotes."""


def run(config: DictConfig) -> None:
    folder = zoo.FOLDER if config.output is None else Path(config.output).expanduser()
    if config.run is None:
        if config.name is not None:
            raise UserError(f"name={config.name}: nothing is packed without run=<run folder>")
        if not folder.is_dir():
            raise UserError(
                f"output={folder}: there is no such folder; expected one of packed runs"
            )
        print("\n".join(_line(name, folder) for name in zoo.names(folder)) or "nothing yet")
        return
    strangers.say_what_is_called(config)
    loaded = finished(config.run)
    name = config.name or _default_name(loaded.content)
    outputs.folder(zoo.check_free(name, folder, replace=config.replace).parent)
    content = packed(loaded, half=config.half)
    place = zoo.write(name, content, folder, replace=config.replace)
    print(f"written to {place}, {place.stat().st_size} bytes", file=sys.stderr)
    print(_line(name, folder))


def finished(location: str) -> checkpoints.Loaded:
    """The run to be packed. Raises: UserError if it isn't finished, or can't be loaded."""
    is_fewshot = "dataset" in checkpoints.read(location).content
    loaded = fewshot_build.load(location) if is_fewshot else checkpoints.load(location)
    if loaded.zoo_name is not None:
        raise UserError(f"run={location}: it is packed already; expected a run folder")
    own = loaded.run_folder / "evaluation.json"
    is_best = loaded.path.name == checkpoint.BEST  # of a run that came to its end, which own shows
    is_over = is_best or loaded.content["iteration"] >= loaded.config.iterations
    if not is_over or not own.exists():
        raise UserError(
            f"run={location}: {loaded.content['iteration']} of {loaded.config.iterations} "
            "iterations are done; expected a finished run with its evaluation.json"
        )
    return loaded


def packed(loaded: checkpoints.Loaded, *, half: bool) -> dict[str, Any]:
    """What the file holds of a finished run. Raises: UserError if its evaluation is damaged."""
    own = loaded.run_folder / "evaluation.json"
    command = _to_repeat(str(parsed(own, json.loads).get("command")))
    settings = as_dict(loaded.config, resolve=True) | {"run_dir": None, "resume": None}
    if "data_dir" in settings.get("dataset", {}):
        settings["dataset"]["data_dir"] = None
    weights = zoo.weights(loaded.content["learner"], half=half)
    names = (
        *("env", "variant", "dataset", "learner_name", "spec_hash", "made_by", "interface"),
        *("own_code", "commit", "versions"),
    )
    content = {name: loaded.content[name] for name in names if name in loaded.content}
    counts = {
        name: loaded.content[name]
        for name in ("iteration", "env_steps", "tasks", "seconds")
        if name in loaded.content
    }
    content |= counts | {
        "config": settings,
        "follow_iterations": loaded.content.get("follow_iterations", []),
        "learner": weights,
        "curve": _curve(loaded.run_folder),
        "training": {"command": command, "machine": machine(), "half": half},
    }
    state = zoo.completed(weights, zoo.without_training(loaded.content["learner"]))
    rounded = replace(loaded, content={**loaded.content, "learner": state})
    if "dataset" in loaded.content:
        source = fewshot_build.source(loaded.config)
        content["data_spec"] = deferred.packed(source.spec)
        content["evaluation"] = _few_shot_report(rounded, source)
    else:
        content["evaluation"] = _report(rounded)
    return content


def _to_repeat(command: str) -> str:
    """The commands, joined by &&, without where metarl, run and data lay on their machine, and what
    we add for Hydra."""
    try:
        words = shlex.split(command)
    except ValueError:  # Evaluations of earlier versions name words without their quotes.
        words = command.split()
    parts = itertools.groupby(words, "&&".__ne__)
    return " && ".join(_one_to_repeat(list(part)) for is_command, part in parts if is_command)


def _one_to_repeat(command: Sequence[str]) -> str:
    is_launcher = lambda word: word in ("python", "torchrun") or word.startswith("--")
    launcher = list(itertools.takewhile(is_launcher, command))
    program, *words = command[len(launcher) :]
    if program.endswith(".py"):
        program = f"scripts/{Path(program).name}"
    places = ("run_dir=", "dataset.data_dir=", "+hydra.")
    kept = [
        _RESUMED if word.startswith("resume=") else word
        for word in words
        if not word.startswith(places)
    ]
    begin = [word for word in launcher if word != "python"]
    end = [word if word == _RESUMED else shlex.quote(word) for word in kept]
    return " ".join([*begin, program, *end])


def machine() -> dict[str, Any]:
    """What the file says of the machine it was made on."""
    return {
        "system": platform.system(),
        "processor": platform.machine(),
        "python": platform.python_version(),
    }


def _report(loaded: checkpoints.Loaded) -> dict[str, Any]:
    config, cpu = loaded.config, build.device("cpu")
    learner = checkpoints.trained_learner(loaded, Generators(config.seed), cpu)
    asked = evaluation.settings(config)
    return dict(evaluation.evaluate(config, learner, cpu, seed=config.seed, **asked).report)


def _few_shot_report(loaded: checkpoints.Loaded, source: TaskSource) -> dict[str, Any]:
    learner = fewshot_build.trained_learner(loaded, loaded.config, source)
    return fewshot_report.evaluated(loaded.config, learner, source, build.device("cpu"))


def _curve(folder: Path) -> list[dict[str, Any]]:
    rows = [without_timing(row) for row in read_rows(folder / "metrics.jsonl")]
    every = max(1, -(-len(rows) // CURVE_ROWS))
    return rows[::-every][::-1]  # The last row says where training ended.


def _default_name(content: Mapping[str, Any]) -> str:
    if "dataset" in content:
        return f"{content['dataset']}/{content['learner_name']}"
    return f"{content['env']}/{algo_name(content['config']).replace(' ', '_')}"


def _line(name: str, folder: Path) -> str:
    """One file of the zoo: its numbers, and what made it."""
    content = zoo.read(name, folder)
    report = content["evaluation"]
    if "dataset" in content:
        measure = report["measure"]
        rows = [f"{row['mean']:.3f}" for row in report["updates"]]
    else:
        measure, rows = "return (IQM)", [f"{row['iqm']:.1f}" for row in report["returns"]]
    # A trial of a single episode has one number.
    ends = rows if len(rows) == 1 else [rows[0], rows[-1]]
    numbers = f"{measure} {' -> '.join(ends)}"
    return f"{name:32} {numbers:32} {content['training']['command']} ({content['commit']})"


def main() -> None:
    run_command("zoo", run)


if __name__ == "__main__":
    main()
