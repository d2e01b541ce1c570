"""Evaluating a learner from the command line's side: at the end of a training, and from a
checkpoint."""

import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from metarl.cli import (
    build,
    checkpoints,
    comparison,
    console,
    filming,
    held_out,
    origins,
    own_code,
    run_config,
    tracking,
)
from metarl.cli.configs import as_dict, shown
from metarl.cli.words import called
from metarl.errors import UserError
from metarl.report import evaluation
from metarl.report.algo_name import algo_name
from metarl.report.finished import numbers_of
from metarl.report.held_out import returns_row
from metarl.rl.types import RLLearner
from metarl.run.global_streams import GlobalStreams
from metarl.run.held_out import KEY
from metarl.run.seeding import Generators
from metarl.run.training import Outcome
from metarl.struct import replace


def evaluate(
    config: DictConfig,
    learner: RLLearner,
    device: torch.device,
    *,
    num_tasks: int | None,
    num_updates: int | None,
    episodes_per_task: int | None,
    seed: int,
    inner_lr_decay: float | None = None,
    deterministic: bool | None = None,
    context_size: int | None = None,
) -> evaluation.Evaluation:
    """Adaptation to held-out tasks beside a random initialisation's and standing still; None: as
    the algorithm asks for.

    Args: config: its `env` says where, which may be elsewhere than the learner was trained.
    Raises: UserError for zero tasks, or a decay or a context that the learner has no use for.
    """
    check(config, num_tasks=num_tasks, num_updates=num_updates, episodes_per_task=episodes_per_task)
    sizes = build.sizes(config)
    num_updates = sizes.evaluated_updates if num_updates is None else num_updates
    if num_tasks is None:
        with build.one_world(config) as one:
            num_tasks = one.prior.num_test
    asked = {"inner_lr_decay": inner_lr_decay, "context_size": context_size}
    asked = {name: value for name, value in asked.items() if value is not None}
    num_worlds = num_tasks * (episodes_per_task or sizes.episodes_per_task)
    with closing(build.environment(config, num_worlds)) as env, GlobalStreams(seed, "evaluation"):
        if asked:
            if inner_lr_decay is not None:
                config = build.scheduled(config, inner_lr_decay)
            if context_size is not None:
                config = build.seeing(config, context_size)
            trained = learner.state_dict()
            learner = build.learner(config, env, Generators(seed), device)
            learner.load_state_dict(trained)
        generators = Generators(seed)
        found = evaluation.evaluate(
            learner.adapter(),
            env,
            random_adapter=build.learner(config, env, generators, device).adapter(),
            num_tasks=num_tasks,
            num_updates=num_updates,
            unit=sizes.unit,
            streams=build.streams(generators, device, "evaluation/"),
            device=device,
            algo=algo_name(config),
            deterministic=bool(deterministic),
        )
    return replace(found, report=found.report | asked)


def trained_elsewhere(
    loaded: checkpoints.Loaded, tested: DictConfig, found: evaluation.Evaluation
) -> dict[str, Any]:
    """What the result says of a learner that is tested on another problem than it was trained on;
    {} if it isn't."""
    with build.one_world(loaded.config) as trained_on:
        spec, prior = trained_on.spec, trained_on.prior
    then, now = dict(loaded.config.env), dict(tested.env)
    if spec.spec_hash == found.report["spec_hash"]:
        return {}
    changed = [
        f"{key}={shown(then.get(key))} where it is {shown(now.get(key))} here"
        for key in sorted((then.keys() & now.keys()) - {"name"})
        if then[key] != now[key]
    ]
    note = f"out of distribution: trained on {', '.join([spec.name, *changed])} (variant {spec.variant}, spec {spec.spec_hash})"
    # Tasks of one kind can be looked up; where training draws new ones, no finite list says which
    # it has seen.
    if prior.split == "fixed" and type(found.tasks) is type(prior.test_tasks(1)):
        seen = int((~prior.is_held_out(found.tasks)).sum())
        note += f"; {seen} of these tasks were in training" if seen else ""
    return {
        "trained_on": {"env": spec.name, "variant": spec.variant, "spec_hash": spec.spec_hash},
        "note": note,
    }


def judged_by_its_choosers(
    loaded: checkpoints.Loaded, tested: DictConfig, found: evaluation.Evaluation
) -> dict[str, Any]:
    """What the result says where some of the tasks have chosen the state that they judge, which
    flatters it; {} if none has."""
    if KEY not in loaded.content:
        return {}
    with build.one_world(tested) as env, build.one_world(loaded.config) as trained_on:
        prior = env.prior
        if env.spec.spec_hash != trained_on.spec.spec_hash:
            return {}
    listed, num_tasks = held_out.num_listed(prior), found.report["num_tasks"]
    places = [
        place if listed is None else place % listed
        for place in held_out.choosers(loaded.config, prior)
    ]
    chose = sum(place < num_tasks for place in places)
    if not chose:
        return {}
    return {"note": f"{chose} of these tasks have chosen this state as the best (eval_every)"}


def check(
    config: DictConfig,
    *,
    num_tasks: int | None,
    num_updates: int | None,
    episodes_per_task: int | None,
    inner_lr_decay: float | None = None,
    **others: Any,
) -> None:
    """Raises: UserError for what no evaluation can have, or not that of the config's algorithm; a
    training asks at its start."""
    least = {
        "num_tasks": (num_tasks, 1),
        "num_updates": (num_updates, 0),
        "episodes_per_task": (episodes_per_task, 1),
    }
    for name, (value, limit) in least.items():
        if value is not None and value < limit:
            raise UserError(f"{name}={value}: expected {limit} or more")
    if inner_lr_decay is not None:
        build.scheduled(config, inner_lr_decay)


def report_run(
    config: DictConfig, learner: RLLearner, folder: Path, device: torch.device, outcome: Outcome
) -> None:
    """What a training ends with: evaluation.json, adaptation_curve.png, learning_curve.png, a
    video, a table on the console."""
    found = evaluate_run(config, learner, folder, device, outcome)
    with console.shown_after(evaluation.table(found.report)):
        evaluation.write(folder, found.report)
    illustrate(config, learner, found, folder, device)
    tell_loggers(config, found.report, folder, outcome, folder / "adaptation.mp4")
    print(f"written to {folder}", file=sys.stderr)
    comparison.note(folder)


def tell_loggers(
    config: DictConfig,
    report: Mapping[str, Any],
    folder: Path,
    outcome: Outcome,
    video: Path | None = None,
) -> None:
    """Gives the loggers what a training ends with."""
    numbers = returns_row(report, build.sizes(config).num_updates, held_out.scored_by(config))
    tracking.report(config, folder, outcome, numbers, video=video)


def settings(config: DictConfig, asked: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What `evaluate` is told of a training's own problem: what is `asked` for; else, and where
    that is None, as the training's `evaluation` says.

    Checkpoints of earlier versions may lack a setting; it is None then.
    """
    names = ("num_tasks", "num_updates", "episodes_per_task", "inner_lr_decay", "deterministic")
    own = {name: config.evaluation.get(name) for name in names}
    given = {name: value for name, value in (asked or {}).items() if value is not None}
    return own | given


def evaluate_run(
    config: DictConfig, learner: RLLearner, folder: Path, device: torch.device, outcome: Outcome
) -> evaluation.Evaluation:
    """The evaluation that a training ends with, whose report says where it comes from."""
    found = evaluate(config, learner, device, seed=config.seed, **settings(config))
    origin = {
        "iteration": outcome.iteration,
        "trained_env_steps": outcome.count,
        "seed": config.seed,
    }
    return replace(found, report=found.report | origin | provenance(config, folder))


def illustrate(
    config: DictConfig,
    learner: RLLearner,
    found: evaluation.Evaluation,
    folder: Path,
    device: torch.device,
) -> None:
    """The pictures of a training: learning_curve.png, and a video where one is asked for."""
    from metarl.report.plots import learning_curve_png, return_curves  # loads Matplotlib

    if rows := numbers_of(folder / "metrics.jsonl"):
        title = f"{found.report['env']}, {found.report['algo']}, seed {config.seed}"
        curves = return_curves(rows, found.report["unit"])
        learning_curve_png(folder / "learning_curve.png", [rows], title=title, curves=curves)
    if config.evaluation.video and (
        found.report["num_updates"] > 0 or found.report["unit"] == "episode"
    ):
        film(config, learner, found, folder / "adaptation.mp4", device)


def provenance(config: DictConfig, folder: Path | None = None) -> dict[str, Any]:
    """Returns where a result comes from: the command, the code and the library versions.

    Args: folder: of the run whose end it is, which may have taken more than one command.
    """
    return {
        "command": called()
        if folder is None
        else " && ".join(run_config.made_by(folder / "config.yaml")),
        "commit": origins.commit(),
        **own_code.told(as_dict(config, resolve=True)),
        "versions": origins.versions(),
    }


def film(
    config: DictConfig,
    learner: RLLearner,
    found: evaluation.Evaluation,
    path: Path,
    device: torch.device,
) -> None:
    """One held-out task, that of the median gain, before and after the updates that training takes;
    of trials of a single episode, that of the median return. Where nothing can be drawn it says
    why."""
    last = min(build.sizes(config).num_updates, found.report["num_updates"])
    gains = torch.tensor(
        [task["returns"][last] - task["returns"][0] * (last > 0) for task in found.report["tasks"]]
    )
    subject = filming.Subject(
        config=config,
        adapter=learner.adapter(),
        states=filming.before_and_after(found.states, last, found.report["unit"]),
        episodes_per_task=found.report["episodes_per_task"],
        num_updates=last,
        deterministic=found.report["deterministic"],
    )
    typical = int(gains.argsort()[len(gains) // 2])
    try:
        filming.film(
            subject, {typical: path}, num_tasks=len(gains), seed=config.seed, device=device
        )
    except UserError as error:
        print(f"no video: {error}", file=sys.stderr)
