"""What a few-shot training ends with: the evaluation on held-out tasks, pictures, and a sweep's comparison."""

import sys
from pathlib import Path

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from metarl._scripts import evaluation, fewshot_build
from metarl.fewshot.types import TaskSource
from metarl.run import fewshot_report
from metarl.run.seeding import Generators
from metarl.run.train import Outcome
from metarl.types import MetaLearner


def report_run(
    config: DictConfig,
    learner: MetaLearner,
    source: TaskSource,
    folder: Path,
    device: torch.device,
    outcome: Outcome,
) -> None:
    """evaluation.json and a table on the console."""
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
        "iteration": outcome.iteration,
        "trained_tasks": outcome.count,
        "seed": config.seed,
    }
    fewshot_report.write(folder, report | origin | evaluation.provenance(config))
    print(fewshot_report.table(report))
    print(f"written to {folder}", file=sys.stderr)
