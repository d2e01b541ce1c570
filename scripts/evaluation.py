"""Evaluating a learner from the command line's side: at the end of a training, and from a checkpoint."""

import sys
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from metarl._scripts import build, filming
from metarl.errors import UserError
from metarl.run import report
from metarl.run.logging import read_metrics
from metarl.run.plots import learning_curve_png
from metarl.run.seeding import Generators
from metarl.run.train import Outcome
from metarl.types import MetaLearner


def evaluate(
    config: DictConfig,
    learner: MetaLearner,
    device: torch.device,
    *,
    num_tasks: int | None,
    num_updates: int | None,
    episodes_per_task: int | None,
    seed: int,
) -> report.Evaluation:
    """Adaptation to held-out tasks beside a random initialisation's and standing still; None: as the algorithm asks for.

    Raises: UserError for zero tasks.
    """
    sizes = build.sizes(config)
    num_updates = sizes.evaluated_updates if num_updates is None else num_updates
    if episodes_per_task is None:
        episodes_per_task = sizes.episodes_per_task
    if num_tasks is None:
        num_tasks = build.environment(config, num_worlds=1).tasks.num_test
    if min(num_tasks, episodes_per_task) < 1 or num_updates < 0:
        raise UserError(
            f"num_tasks={num_tasks} episodes_per_task={episodes_per_task} num_updates={num_updates}: "
            "expected at least 1, 1 and 0"
        )
    env = build.environment(config, num_tasks * episodes_per_task)
    generators = Generators(seed)
    return report.evaluate(
        learner.adapter(),
        env,
        random_adapter=build.learner(config, env, generators, device).adapter(),
        num_tasks=num_tasks,
        num_updates=num_updates,
        streams=build.streams(generators, device, "evaluation/"),
        device=device,
    )


def report_run(config: DictConfig, learner: MetaLearner, folder: Path, device: torch.device, outcome: Outcome) -> None:
    """What a training ends with: evaluation.json, adaptation_curve.png, learning_curve.png, a video, a table on the console."""
    settings = {key: config.evaluation[key] for key in ("num_tasks", "num_updates", "episodes_per_task")}
    found = evaluate(config, learner, device, seed=config.seed, **settings)
    origin = {"iteration": outcome.iteration, "trained_env_steps": outcome.count, "seed": config.seed}
    report.write(folder, found.report | origin | provenance(config))
    if rows := read_metrics(folder / "metrics.jsonl"):
        title = f"{found.report['env']}, seed {config.seed}: mean return of training episodes"
        learning_curve_png(folder / "learning_curve.png", [rows], title=title)
    print(report.table(found.report))
    if config.evaluation.video and found.report["num_updates"] > 0:
        film(config, learner, found, folder / "adaptation.mp4", device)
    print(f"written to {folder}", file=sys.stderr)


def provenance(config: DictConfig) -> dict[str, Any]:
    command = [word for word in sys.argv if not word.startswith("hydra")]  # without what cli.py adds
    return {"command": " ".join(command), "commit": build.commit(), "versions": build.versions()}


def film(config: DictConfig, learner: MetaLearner, found: report.Evaluation, path: Path, device: torch.device) -> None:
    """One held-out task, that of the median gain, before and after the updates that training takes. Where nothing can be
    drawn it says why."""
    last = min(build.sizes(config).num_updates, found.report["num_updates"])
    gains = torch.tensor([task["returns"][last] - task["returns"][0] for task in found.report["tasks"]])
    subject = filming.Subject(
        config=config,
        adapter=learner.adapter(),
        states=filming.before_and_after(found.states, last),
        episodes_per_task=found.report["episodes_per_task"],
    )
    typical = int(gains.argsort()[len(gains) // 2])
    try:
        filming.film(subject, {typical: path}, num_tasks=len(gains), seed=config.seed, device=device)
    except UserError as error:
        print(f"no video: {error}", file=sys.stderr)
