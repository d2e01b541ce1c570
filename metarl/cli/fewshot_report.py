"""What a few-shot training ends with: the evaluation on held-out tasks, pictures, and a sweep's
comparison."""

import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from metarl.cli import comparison, console, evaluation, fewshot_build, tracking
from metarl.fewshot.algorithms.mann import SequenceLearner
from metarl.fewshot.algorithms.meta_lstm import MetaLstm
from metarl.fewshot.evaluate import adaptation_measures, predictions
from metarl.fewshot.evaluate import draw as draw_tasks
from metarl.fewshot.losses import OBJECTIVES
from metarl.fewshot.types import FewShotAdapter, FewShotLearner, TaskSource
from metarl.report import fewshot
from metarl.report.held_out import measures_row
from metarl.run.rows import read_rows
from metarl.run.seeding import Generators
from metarl.run.training import Outcome

TASKS, CURVES = 6, 3  # drawn in a picture
TUNING_TASKS = 100  # of training classes, on which the rate of plain gradient steps is chosen


def report_run(
    config: DictConfig,
    name: str,
    learner: FewShotLearner,
    source: TaskSource,
    folder: Path,
    device: torch.device,
    outcome: Outcome,
) -> None:
    """evaluation.json, pictures of a few tasks and of the training, a table on the console."""
    report = evaluated(config, learner, source, device)
    origin = {
        "learner": name,
        "overrides": comparison.overrides(),
        "iteration": outcome.iteration,
        "trained_tasks": outcome.count,
        "seed": config.seed,
    }
    with console.shown_after(fewshot.table(report)):
        fewshot.write(folder, report | origin | evaluation.provenance(config, folder))
    if config.evaluation.pictures:
        draw(config, name, learner, source, folder, device, num_updates=report["num_updates"])
        draw_training(
            folder,
            f"{source.spec.name}, {name}, seed {config.seed}: training tasks",
            report["measure"],
        )
    tracking.report(config, folder, outcome, _numbers(report, source), count="tasks")
    print(f"written to {folder}", file=sys.stderr)
    comparison.note(folder)


def _numbers(report: Mapping[str, Any], source: TaskSource) -> dict[str, float]:
    """The evaluation as loggers take it; nothing where a number isn't finite."""
    try:
        return measures_row(report, less_is_better=OBJECTIVES[source.spec.kind].best is min)
    except FloatingPointError:
        return {}


def evaluated(
    config: DictConfig, learner: FewShotLearner, source: TaskSource, device: torch.device
) -> dict[str, Any]:
    """How well the learner answers on held-out tasks, beside its references."""
    settings = config.evaluation
    report = fewshot.evaluate(
        learner.adapter(),
        source,
        fewshot_build.test_size(config),
        split=settings.split,
        num_tasks=settings.num_tasks,
        num_updates=settings.num_updates,
        tasks=lambda: Generators(settings.seed)("evaluation"),
        device=device,
        references=references(config, learner, source, device),
    )
    if isinstance(learner, SequenceLearner):
        generator = Generators(settings.seed)("sequences")
        measures = learner.measures_in_sequence(settings.num_tasks, settings.split, generator)
        report["instances"] = fewshot.instances(measures)
    return report


def references(
    config: DictConfig, learner: FewShotLearner, source: TaskSource, device: torch.device
) -> dict[str, FewShotAdapter[Any]]:
    """What stands beside the learner in its evaluation: itself before any training, where it learns
    at all; and plain gradient steps from the same start, where it has learned the steps."""
    if not learner.state_dict():
        return {}
    untrained = fewshot_build.learner(config, source, Generators(config.seed), device)
    found: dict[str, FewShotAdapter[Any]] = {"random initialisation": untrained.adapter()}
    if isinstance(learner, MetaLstm) and learner.fine_tuning_lrs:
        lr = best_lr(config, learner, source, device)
        found[f"gradient steps of rate {lr} from the same start"] = learner.fine_tuning(lr)
    return found


def best_lr(
    config: DictConfig, learner: MetaLstm, source: TaskSource, device: torch.device
) -> float:
    """The best rate of plain gradient steps on training tasks, after all of them."""
    size, best = fewshot_build.test_size(config), OBJECTIVES[source.spec.kind].best

    def reached(lr: float) -> float:
        adapter, tasks = learner.fine_tuning(lr), Generators(config.evaluation.seed)("fine_tuning")
        values = adaptation_measures(
            *(adapter, source, size),
            num_tasks=TUNING_TASKS,
            num_updates=adapter.num_updates,
            generator=tasks,
            split="train",
            device=device,
        )
        return values[:, -1].mean().item()

    measured = {lr: reached(lr) for lr in learner.fine_tuning_lrs}
    return best((value, lr) for lr, value in measured.items() if math.isfinite(value))[1]


def draw_training(folder: Path, title: str, measure: str) -> None:
    """learning_curve.png, if there was any training."""
    from metarl.report.plots import learning_curve_png  # loads Matplotlib

    if rows := read_rows(folder / "metrics.jsonl"):
        learning_curve_png(
            folder / "learning_curve.png", [rows], title=title, **training_curves(rows[0], measure)
        )


def training_curves(row: Mapping[str, float], measure: str) -> dict[str, Any]:
    """What a learning curve shows of a training; of a reader of sequences, where a class is met for
    the k-th time."""
    again = {
        f"{measure}_{k}": f"where a class is met the {_ordinal(k)} time"
        for k in (1, 2, 5, 10)
        if f"{measure}_{k}" in row
    }
    curves = again or {measure: f"{measure} on the training tasks' questions"}
    return {"ylabel": measure, "curves": curves, "count": ("tasks", "training tasks")}


def draw(
    config: DictConfig,
    name: str,
    learner: FewShotLearner,
    source: TaskSource,
    folder: Path,
    device: torch.device,
    *,
    num_updates: int,
) -> None:
    """tasks.png with answers where the inputs are pictures, curves.png where a number is to be
    fitted to a number."""
    from metarl.report.fewshot_plots import answers_png, curves_png  # loads Matplotlib

    spec, size = source.spec, fewshot_build.test_size(config)
    is_curve = spec.kind == "regression" and spec.input_shape == (1,)
    if not is_curve and len(spec.input_shape) != 3:
        return
    generator = Generators(config.evaluation.seed)("pictures")
    shown_tasks = CURVES if is_curve else TASKS
    episodes = draw_tasks(source, shown_tasks, size, generator, config.evaluation.split, device)
    every = list(predictions(learner.adapter(), episodes, num_updates))
    title = (
        f"{spec.name}, {size}, {name} after {num_updates} update{'' if num_updates == 1 else 's'}"
    )
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


def _ordinal(count: int) -> str:
    """1 -> 1st, 2 -> 2nd, 11 -> 11th."""
    last = (
        "th" if count % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(count % 10, "th")
    )
    return f"{count}{last}"
