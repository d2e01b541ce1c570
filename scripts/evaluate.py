"""Measures how a trained learner adapts to held-out tasks: returns after 0, 1, ..., K updates, with intervals.

Beside it stand a random initialisation that adapts in the same way, and standing still. Every episode counts, once.

Examples:
  python scripts/evaluate.py checkpoint=runs/half_cheetah_vel/maml_ppo/2026-01-31_12-00-00-seed0 num_tasks=40 num_updates=3
  python scripts/evaluate.py checkpoint=<run folder>/checkpoints/iteration_00000300.pt episodes_per_task=5
"""

import sys
from pathlib import Path

from omegaconf import DictConfig

from metarl._scripts import build, cli, console, evaluation, strangers
from metarl.errors import UserError
from metarl.run import report
from metarl.run.seeding import Generators


def run(config: DictConfig) -> None:
    strangers.say_what_is_called(config)
    loaded = build.load(config.checkpoint)
    for warning in loaded.warnings:
        print(f"{warning}; using {loaded.path}", file=sys.stderr)
    if "env" in config and config.env != loaded.config.env:
        raise UserError(
            f"env={config.env.name}: {loaded.path} was trained on {dict(loaded.config.env)}, not {dict(config.env)}"
        )
    device = build.device(config.device)
    learner = build.trained_learner(loaded, Generators(config.seed), device)
    settings = {key: config[key] for key in ("num_tasks", "num_updates", "episodes_per_task", "seed")}
    found = evaluation.evaluate(loaded.config, learner, device, **settings)
    folder = Path(config.output).expanduser() if config.output is not None else loaded.run_folder
    origin = {
        "checkpoint": str(loaded.path),
        "iteration": loaded.content["iteration"],
        "trained_env_steps": loaded.content["env_steps"],
        "training_seed": loaded.config.seed,
        "seed": config.seed,
    }
    with console.shown_after(report.table(found.report)):
        report.write(folder, found.report | origin | evaluation.provenance())
    print(f"written to {folder}", file=sys.stderr)


def main() -> None:
    cli.main("evaluate", run)


if __name__ == "__main__":
    main()
