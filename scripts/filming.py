"""What `render` films: a trained learner before and after adaptation, or an environment under random actions."""

from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from metarl._scripts import build
from metarl.rl.collect import repeat_tasks
from metarl.rl.evaluate import adaptation_curve
from metarl.rl.uniform_actions import UniformActions
from metarl.run.seeding import Generators
from metarl.run.video import adaptation_video
from metarl.struct import struct


@struct
class Subject:
    """Who acts, and where."""

    config: DictConfig  # of the environment
    adapter: Any
    states: dict[str, Any]  # title of the panel -> state of the adapter, of num_tasks * episodes_per_task worlds
    episodes_per_task: int
    folder: Path  # for its videos, unless the user wants another


def random_actions(config: DictConfig) -> Subject:
    """Uniform actions in the environment of the config's groups `env` and `sim`."""
    return Subject(
        config=config,
        adapter=UniformActions(build.environment(config, num_worlds=1).action_space),
        states={"random actions": None},
        episodes_per_task=1,
        folder=Path("videos") / config.env.name,
    )


def trained(loaded: build.Loaded, *, num_tasks: int, num_updates: int, seed: int, device: torch.device) -> Subject:
    """The checkpoint's learner before and after `num_updates` updates on held-out tasks, with the episodes of its training."""
    generators, episodes_per_task = Generators(seed), loaded.config.algo.episodes_per_task
    adapter = build.trained_learner(loaded, generators, device).adapter()
    env = build.environment(loaded.config, num_tasks * episodes_per_task)
    tasks, streams = env.tasks.test_tasks(num_tasks), build.streams(generators, device, "render/")
    curve = adaptation_curve(adapter, env, tasks, streams, num_tasks=num_tasks, num_updates=num_updates, device=device)
    states = {"before adaptation": curve.states[0]}
    if num_updates > 0:
        states[f"after {num_updates} update{'s' if num_updates > 1 else ''}"] = curve.states[-1]
    return Subject(
        config=loaded.config,
        adapter=adapter,
        states=states,
        episodes_per_task=episodes_per_task,
        folder=loaded.run_folder / "videos",
    )


def film(
    subject: Subject, folder: Path, *, num_tasks: int, seed: int, device: torch.device, width: int, height: int
) -> None:
    """Writes task_0.mp4, task_1.mp4, ... of the held-out tasks, and grid.mp4 of all if they are several.

    Raises: UserError if nothing can be drawn here; OSError if a file can't be written.
    """
    num_worlds = num_tasks * subject.episodes_per_task
    envs = [build.environment(subject.config, num_worlds) for _ in subject.states]
    tasks = envs[0].tasks.test_tasks(num_tasks)
    try:
        adaptation_video(
            [folder / f"task_{task}.mp4" for task in range(num_tasks)],
            subject.adapter,
            subject.states,
            envs,
            repeat_tasks(tasks, subject.episodes_per_task),
            worlds=range(0, num_worlds, subject.episodes_per_task),
            labels=[f"{subject.config.env.name}: {text}" for text in envs[0].tasks.describe(tasks)],
            seed=seed,
            device=device,
            grid_path=folder / "grid.mp4" if num_tasks > 1 else None,
            width=width,
            height=height,
        )
    finally:
        for env in envs:
            env.close()
