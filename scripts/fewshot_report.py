"""What a few-shot training ends with: the evaluation on held-out tasks, pictures, and a sweep's comparison."""

import sys
from pathlib import Path

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from metarl._scripts import comparison, evaluation, fewshot_build
from metarl.fewshot.evaluate import draw as draw_tasks
from metarl.fewshot.evaluate import predictions
from metarl.fewshot.types import TaskSource
from metarl.run import fewshot_report
from metarl.run.fewshot_plots import answers_png, curves_png
from metarl.run.seeding import Generators
from metarl.run.train import Outcome
from metarl.types import MetaLearner

TASKS, CURVES = 6, 3  # drawn in a picture


def report_run(
    config: DictConfig,
    learner: MetaLearner,
    source: TaskSource,
    folder: Path,
    device: torch.device,
    outcome: Outcome,
) -> None:
    """evaluation.json, pictures of a few tasks, a table on the console."""
    settings = config.evaluation
    report = fewshot_report.evaluate(
        learner.adapter(),
        source,
        fewshot_build.test_size(config),
        split=settings.split,
        num_tasks=settings.num_tasks,
        num_updates=settings.num_updates,
        generator=Generators(settings.seed)("evaluation"),
        device=device,
    )
    origin = {
        "learner": HydraConfig.get().runtime.choices["learner"],
        "overrides": comparison.overrides(),
        "iteration": outcome.iteration,
        "trained_tasks": outcome.count,
        "seed": config.seed,
    }
    fewshot_report.write(folder, report | origin | evaluation.provenance())
    if settings.pictures:
        draw(config, learner, source, folder, device, num_updates=report["num_updates"])
    print(fewshot_report.table(report))
    print(f"written to {folder}", file=sys.stderr)
    comparison.note(folder)


def draw(
    config: DictConfig,
    learner: MetaLearner,
    source: TaskSource,
    folder: Path,
    device: torch.device,
    *,
    num_updates: int,
) -> None:
    """tasks.png with answers where the inputs are pictures, curves.png where a number is to be fitted to a number."""
    spec, size = source.spec, fewshot_build.test_size(config)
    is_curve = spec.kind == "regression" and spec.input_shape == (1,)
    if not is_curve and len(spec.input_shape) != 3:
        return
    generator = Generators(config.evaluation.seed)("pictures")
    shown_tasks = CURVES if is_curve else TASKS
    episodes = draw_tasks(source, shown_tasks, size, generator, config.evaluation.split, device)
    every = list(predictions(learner.adapter(), episodes, num_updates))
    title = f"{spec.name}, {size}, {HydraConfig.get().runtime.choices['learner']} after {num_updates} updates"
    if not is_curve:
        answers_png(folder / "tasks.png", episodes, every[-1].cpu(), title=title)
        return
    order = episodes.query.x[..., 0].argsort(1)
    curve = lambda values: values[..., 0].gather(1, order).cpu()
    curves_png(
        folder / "curves.png",
        curve(episodes.query.x),
        curve(episodes.query.y),
        episodes.support.x[..., 0].cpu(),
        episodes.support.y[..., 0].cpu(),
        {k: curve(every[k]) for k in sorted({0, 1, num_updates}) if k <= num_updates},
        title=title,
    )
