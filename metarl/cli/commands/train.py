"""Meta-trains a learner, then evaluates how it adapts to held-out tasks.

A run writes config.yaml, metrics.jsonl, TensorBoard events and checkpoints/ while it goes, and at
its end evaluation.json, adaptation_curve.png, learning_curve.png and a video before and after
adaptation. eval_every=10 evaluates on held-out tasks while it goes, and keeps the best checkpoint;
loggers=[...] chooses who else gets the numbers. Ctrl-C saves; resume=<run folder> goes on, on a CPU with
the same numbers. With num_seeds=8 eight seeds share one simulation, each with a run folder of its own
below the run's.

Examples:
  python scripts/train.py env=half_cheetah_vel algo=maml_ppo
  python scripts/train.py env=point_navigation_2d algo=maml_trpo algo.inner_lr=0.5 iterations=100
  python scripts/train.py experiment=point_navigation_2d_maml seed=1
  python scripts/train.py env=half_cheetah_vel algo=maml_ppo num_seeds=8
  torchrun --nproc-per-node=2 scripts/train.py env=half_cheetah_vel algo=maml_ppo
  python scripts/train.py resume=<run folder> iterations=1000
"""

import sys
from pathlib import Path

from omegaconf import DictConfig

from metarl.cli import (
    build,
    evaluation,
    held_out,
    origins,
    placement,
    processes,
    run_folder,
    several,
    start,
    tracking,
)
from metarl.cli.main import run_command
from metarl.run import distributed
from metarl.run.seeding import Generators
from metarl.run.train import OnRow, train
from metarl.run.training import check
from metarl.struct import struct


@struct
class Trained:
    """A training that is over, or was stopped with Ctrl-C."""

    folder: Path
    interrupted: bool


def run(config: DictConfig) -> None:
    if distributed.num_processes() > 1:
        processes.run(config)
    elif several.is_asked_for(config):
        several.run(config)
    elif distributed.is_launched():  # One process of torchrun goes the way of many.
        processes.run(config)
    elif trained(config).interrupted:
        raise SystemExit(130)


def trained(config: DictConfig, on_row: OnRow | None = None) -> Trained:
    """Trains one seed as the config asks for, and evaluates unless it was stopped."""
    with run_folder.choose(config) as asked:
        config = asked.config
        device = start.prepare(asked)
        generators = Generators(config.seed)
        env = build.training_environment(config, device)
        learner = build.learner(config, env, generators, device)
        if asked.has_work:
            check(learner, iterations=config.iterations, checkpoint_every=config.checkpoint_every)
        loggers = tracking.tracking(config)
        folder, lock = asked.create()
        print(f"run folder {folder}, {placement.described(config, device)}", file=sys.stderr)
        with held_out.returns(config, device) as evaluations:
            outcome = train(
                learner,
                generators,
                iterations=config.iterations,
                run_folder=folder,
                provenance=origins.provenance(config, env) | placement.provenance(config, device),
                checkpoint_every=config.checkpoint_every,
                keep_checkpoints=config.keep_checkpoints,
                held_out=evaluations,
                tracking=loggers,
                resume_from=asked.resume_from,
                lock=lock,
                on_row=on_row,
            )
        if outcome.interrupted:
            run_folder.say_how_to_go_on(folder, outcome.iteration)
            return Trained(folder=folder, interrupted=True)
        env.close()  # A GPU has its memory back for the evaluation.
        with run_folder.saying_how_to_evaluate(folder):
            evaluation.report_run(config, learner, folder, device, outcome)
        return Trained(folder=folder, interrupted=False)


def main() -> None:
    run_command("train", run)


if __name__ == "__main__":
    main()
