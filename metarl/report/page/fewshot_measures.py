"""What a report on few-shot learners shows, as numbers and words: accuracies in per cent, or squared
errors."""

from collections.abc import Mapping, Sequence
from typing import Any

from metarl.report.fewshot import scale_of
from metarl.report.fewshot_learners import FewShotLearner, after_each_update
from metarl.rl.evaluation.several_runs import Estimate


def with_training(of: Sequence[FewShotLearner]) -> list[FewShotLearner]:
    """Returns the learners whose runs all tell how their training went."""
    measure = of[0].runs[0].report["measure"]
    return [
        learner
        for learner in of
        if all(run.metrics for run in learner.runs)
        and all({measure, "tasks"} <= row.keys() for run in learner.runs for row in run.metrics)
    ]


def scaled_metrics(learner: FewShotLearner) -> list[list[dict[str, Any]]]:
    """The metrics of each seed, accuracies in per cent."""
    report = learner.runs[0].report
    key, (scale, _) = report["measure"], scale_of(report)
    return [[row | {key: scale * row[key]} for row in run.metrics] for run in learner.runs]


def scaled_means(learner: FewShotLearner) -> list[Estimate | None]:
    """`after_each_update`, accuracies in per cent."""
    scale, _ = scale_of(learner.runs[0].report)
    return [
        None if mean is None else {end: scale * value for end, value in mean.items()}
        for mean in after_each_update(learner)
    ]


def with_unit(report: Mapping[str, Any]) -> str:
    """What an axis is called along which scaled numbers stand."""
    return in_words(report) + (" in %" if report["measure"] == "accuracy" else "")


def in_words(report: Mapping[str, Any]) -> str:
    """What is measured on a task."""
    return {"mse": "squared error"}.get(report["measure"], str(report["measure"]))


def cell(report: Mapping[str, Any], estimate: Estimate | None) -> tuple[str, str]:
    """A mean as a table shows it, and its interval."""
    scale, digits = scale_of(report)
    unit = " %" if report["measure"] == "accuracy" else ""
    return ("diverged", "") if estimate is None else estimated(estimate, scale, digits, unit)


def estimated(estimate: Estimate, scale: float, digits: int, unit: str) -> tuple[str, str]:
    """An estimate in this unit, and its interval."""
    value, low, high = (
        f"{scale * estimate[end]:.{digits}f}" for end in ("value", "ci_low", "ci_high")
    )
    return f"{value}{unit}", f"[{low}, {high}]"
