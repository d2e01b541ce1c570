"""Folders of finished runs, with numbers that a test chooses instead of a training."""

import json
from pathlib import Path
from typing import Any

import yaml


def run_folder(
    folder: Path,
    returns: list[list[float]],
    *,
    algo: str = "maml_ppo",
    seed: int = 0,
    unit: str = "update",
    settings: dict[str, Any] | None = None,
    rows: list[dict[str, float]] | None = None,
    env: str = "half_cheetah_vel",
    shows_task: bool = False,
    success: list[float] | None = None,
    solved: list[Any] | None = None,
    **more: Any,
) -> Path:
    """Writes a run whose tasks ask for 1, 2, ... m/s.

    Args:
      returns: [N][K + 1] means of each task; two episodes of each are 1 above and 1 below.
      settings: of the algorithm; rows: of metrics.jsonl; success:
        the rate after each update; solved: [N][K + 1][2] of each episode; more: further entries of
        the evaluation.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "env": {"name": env, "shows_task": shows_task},
        "algo": {"_target_": f"metarl.rl.algorithms.{algo}.Learner", **(settings or {})},
        "seed": seed,
        "run_dir": str(folder),
        "composed": {"choices": {"env": env, "algo": algo}},
    }
    summary = [
        {"update": k, "mean": sum(column) / len(column)}
        for k, column in enumerate(zip(*returns, strict=True))
    ]
    if success is not None:
        summary = [row | {"success_rate": rate} for row, rate in zip(summary, success, strict=True)]
    tasks = [
        {
            "task": f"target {number}.00 m/s",
            "numbers": {"target_velocity": float(number)},
            "returns": of_task,
            "episodes": [[value - 1.0, value + 1.0] for value in of_task],
        }
        for number, of_task in enumerate(returns, start=1)
    ]
    for task, of_task in zip(tasks, solved or (), strict=False):
        task["solved"] = of_task
    report = {
        "env": env,
        "algo": algo,
        "split": "fixed",
        "unit": unit,
        "seed": seed,
        "num_tasks": len(returns),
        "trained_env_steps": 2_000_000,
        "returns": summary,
        "random_initialisation": [row | {"mean": -300.0} for row in summary],
        "stand_still": {"mean": -350.0},
        "tasks": tasks,
        **more,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "evaluation.json").write_text(json.dumps(report))
    if rows is not None:
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def few_shot_folder(
    folder: Path,
    by_task: list[float | None],
    *,
    means: list[float | None] | None = None,
    learner: str = "maml",
    seed: int = 0,
    rows: list[dict[str, float]] | None = None,
    settings: dict[str, Any] | None = None,
    **more: Any,
) -> Path:
    """Writes a few-shot run.

    Args:
      by_task: the accuracy of each task after the last update, None where it diverged; means: after
        0, 1, ..., K - 1 updates, each ± 0.1.
      settings: of the learner; rows: of metrics.jsonl; more: further entries of the evaluation.
    """
    folder.mkdir(parents=True, exist_ok=True)
    there = [value for value in by_task if value is not None]
    last = sum(there) / len(there) if len(there) == len(by_task) else None
    updates = [
        {"update": k, "mean": mean, "half_width": None if mean is None else 0.1}
        for k, mean in enumerate([*([0.2] if means is None else means), last])
    ]
    config = {
        "dataset": {"_target_": "metarl.fewshot.digits.Digits"},
        "learner": {"_target_": f"metarl.fewshot.algorithms.{learner}", **(settings or {})},
        "seed": seed,
        "evaluation": {"seed": 0},
    }
    report = {
        "dataset": "digits",
        "spec_hash": "abc",
        "split": "test",
        "ways": 5,
        "shots": 1,
        "queries": 5,
        "measure": "accuracy",
        "transductive": False,
        "num_updates": len(updates) - 1,
        "updates": updates,
        "references": {"random initialisation": [row | {"mean": 0.25} for row in updates]},
        "by_task": by_task,
        "learner": learner,
        "trained_tasks": 1000,
        "seed": seed,
        "command": "scripts/fewshot.py",
        **more,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "evaluation.json").write_text(json.dumps(report))
    if rows is not None:
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder
