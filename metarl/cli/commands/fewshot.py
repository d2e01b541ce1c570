"""Meta-trains a few-shot learner on supervised tasks, then measures it on tasks of classes that
training never saw.

A run writes the same files as train.py while it goes, and at its end evaluation.json,
learning_curve.png and tasks.png or curves.png: a few tasks with its answers. Ctrl-C saves;
resume=<run folder> goes on with the same numbers. A sweep (-m) ends in a table of its runs.

Examples:
  python scripts/fewshot.py dataset=digits learner=maml
  python scripts/fewshot.py dataset=omniglot learner=maml ways=5 shots=1
  python scripts/fewshot.py -m dataset=sinusoid learner=maml,fomaml,anil,meta_sgd
  python scripts/fewshot.py resume=runs/digits/maml/2026-01-31_12-00-00-seed0 iterations=1000
"""

import sys

from omegaconf import DictConfig, OmegaConf

from metarl.cli import (
    build,
    fewshot_build,
    fewshot_report,
    held_out,
    run_folder,
    strangers,
    tracking,
)
from metarl.cli.commands.train import Trained
from metarl.cli.main import run_command
from metarl.run.seeding import Generators
from metarl.run.train import OnRow, train
from metarl.run.training import check


def run(config: DictConfig) -> None:
    if trained(config).interrupted:
        raise SystemExit(130)


def trained(config: DictConfig, on_row: OnRow | None = None) -> Trained:
    """Trains as the config asks for, and evaluates unless it was stopped."""
    with run_folder.choose(
        config,
        groups=("dataset", "learner"),
        load=fewshot_build.load,
        untrained=fewshot_build.untrained,
    ) as asked:
        config = asked.config
        if asked.resume_from is None:
            strangers.say_what_is_called(config)
            _say_what_is_not_followed(config, asked.choices["learner"])
        device = build.device(config.device)
        generators = Generators(config.seed)
        source = fewshot_build.source(config, device)
        fewshot_build.check_tasks(config, source)
        learner = fewshot_build.learner(config, source, generators, device)
        fewshot_build.check_needs(config, source, learner.needs())
        if asked.has_work:
            every = {key: config[key] for key in ("checkpoint_every", "log_every")}
            check(learner, iterations=config.iterations, **every)
        evaluations = held_out.measures(config, source, device)
        loggers = tracking.tracking(config)
        folder, lock = asked.create()
        print(f"run folder {folder}, device {device}", file=sys.stderr)
        name = fewshot_build.learner_name(asked.resume_from, asked.choices)
        outcome = train(
            learner,
            generators,
            iterations=config.iterations,
            run_folder=folder,
            provenance=fewshot_build.provenance(config, source, name),
            checkpoint_every=config.checkpoint_every,
            keep_checkpoints=config.keep_checkpoints,
            log_every=config.log_every,
            shown=fewshot_build.shown(source),
            held_out=evaluations,
            tracking=loggers,
            resume_from=asked.resume_from,
            lock=lock,
            on_row=on_row,
        )
        if outcome.interrupted:
            command = run_folder.resume_command(folder, "fewshot")
            print(
                f"stopped after iteration {outcome.iteration}; to go on: {command}", file=sys.stderr
            )
            return Trained(folder=folder, interrupted=True)
        with run_folder.saying_how_to_evaluate(folder, "fewshot"):
            fewshot_report.report_run(config, name, learner, source, folder, device, outcome)
        return Trained(folder=folder, interrupted=False)


def _say_what_is_not_followed(config: DictConfig, name: str) -> None:
    """A line for each of the settings of `adaptation` that were asked for and this learner has no
    use for: rows of a sweep over it would be alike."""
    written = str(OmegaConf.to_container(config.learner, resolve=False))
    for key, value in run_folder.given(config).items():
        if key.startswith("adaptation.") and f"${{{key}}}" not in written:
            print(
                f"{key}={value} changes nothing: learner={name} doesn't take it from there; its own "
                "settings are learner.*",
                file=sys.stderr,
            )


def main() -> None:
    run_command("fewshot", run)


if __name__ == "__main__":
    main()
