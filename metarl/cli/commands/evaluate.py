"""Measures how a trained learner adapts to held-out tasks: returns after 0, 1, ..., K updates, with
intervals.

Beside it stand a random initialisation that adapts in the same way, and standing still. Every
episode counts, once. Tasks, updates and episodes are as many as at the end of the training unless
you say otherwise. With env=... it is another variant or horizon than it was trained on, as far as
the learner can see and act there; the result says so.

Examples:
  python scripts/evaluate.py checkpoint=<run folder> num_tasks=40 num_updates=3
  python scripts/evaluate.py checkpoint=<run folder>/checkpoints/iteration_00000300.pt output=300.json
  python scripts/evaluate.py checkpoint=<run folder> env=half_cheetah_vel_long deterministic=true
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from metarl.cli import build, checkpoints, console, evaluation, outputs, strangers
from metarl.cli.main import run_command
from metarl.report.evaluation import folder_of, table, write_beside
from metarl.run.seeding import Generators


def run(config: DictConfig) -> None:
    loaded, result = evaluated(config, is_kept=True)
    with console.shown_after(table(result)):
        written = keep(config, loaded, result)
    own = loaded.run_folder / "evaluation.json"
    is_beside = config.output is None and written != own and own.exists()
    kept = "; the training's own evaluation.json is as it was" if is_beside else ""
    done, planned = loaded.content["iteration"], loaded.config.iterations
    if loaded.zoo_name is None and done < planned:
        kept += f"; this is the state after iteration {done} of {planned}"
    print(f"written to {written}{kept}", file=sys.stderr)


def evaluated(
    config: DictConfig, *, is_kept: bool, loaded: checkpoints.Loaded | None = None
) -> tuple[checkpoints.Loaded, dict[str, Any]]:
    """The learner that the config names, and how it adapts: what the result file will hold.

    Args: is_kept: whether there is to be such a file; that it can be written is tried first.
    loaded: what the config names, where that is at hand.
    """
    strangers.say_what_is_called(config)
    if loaded is None:
        loaded = checkpoints.load_saying(config.checkpoint)
    if is_kept:
        outputs.folder(folder_of(_place(config, loaded)))
    device = build.device(config.device)
    tested = checkpoints.elsewhere(loaded, config.env)
    learner = checkpoints.trained_learner(loaded, Generators(config.seed), device)
    names = (
        "num_tasks",
        "num_updates",
        "episodes_per_task",
        "inner_lr_decay",
        "context_size",
        "deterministic",
    )
    asked = {key: config[key] for key in names}
    if not checkpoints.names_world(config.env):
        asked = evaluation.settings(tested, asked)
    found = evaluation.evaluate(tested, learner, device, seed=config.seed, **asked)
    origin = {
        "checkpoint": str(loaded.path),
        "iteration": loaded.content["iteration"],
        "trained_env_steps": loaded.content["env_steps"],
        "training_seed": loaded.config.seed,
        "seed": config.seed,
    }
    result = (
        found.report
        | evaluation.trained_elsewhere(loaded, tested, found)
        | evaluation.judged_by_its_choosers(loaded, tested, found)
        | origin
        | evaluation.provenance(tested)
    )
    return loaded, result


def keep(config: DictConfig, loaded: checkpoints.Loaded, result: Mapping[str, Any]) -> Path:
    """Writes the result to the config's `output`, or beside the run. Returns the file."""
    return write_beside(_place(config, loaded), result, spare=config.output is None)


def _place(config: DictConfig, loaded: checkpoints.Loaded) -> Path:
    return loaded.run_folder if config.output is None else Path(config.output).expanduser()


def main() -> None:
    run_command("evaluate", run)


if __name__ == "__main__":
    main()
