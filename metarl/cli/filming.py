"""What `render` films: a trained learner before and after adaptation, or an environment under
random actions."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

import envs
from metarl.cli import build, checkpoints
from metarl.cli.configs import as_dict, merged
from metarl.report.evaluation import acting, stage
from metarl.report.video import adaptation_video
from metarl.rl.adapters.uniform import UniformActions
from metarl.rl.data.collect import repeat_tasks
from metarl.rl.evaluation.curve import adaptation_curve
from metarl.run.seeding import Generators
from metarl.struct import struct


@struct
class Subject:
    """Says who acts in a film, and where."""

    config: DictConfig  # of the environment
    adapter: Any
    # Title of the panel -> state of the adapter, of num_tasks * episodes_per_task worlds
    states: dict[str, Any]
    episodes_per_task: int
    num_updates: int = 0
    """Up to the last of the states."""
    deterministic: bool = False
    """Whether the policy's most likely actions are taken."""


def random_actions(config: DictConfig) -> Subject:
    """Uniform actions in the environment of the config's groups `env` and `sim`."""
    with build.one_world(config) as world:
        action_space = world.action_space
    return Subject(
        config=config,
        adapter=UniformActions(action_space),
        states={"random actions": None},
        episodes_per_task=1,
    )


def trained(
    loaded: checkpoints.Loaded,
    *,
    num_tasks: int,
    num_updates: int | None,
    seed: int,
    device: torch.device,
    env: DictConfig | None = None,
) -> Subject:
    """The checkpoint's learner before and after `num_updates` updates on held-out tasks, with the
    episodes of its training, played as its evaluation plays them.

    Args:
      num_updates: None for as many as training takes.
      env: another environment than it was trained on, for instance with a motor that fails later.
    Raises: UserError if the learner can't see or act there.
    """
    generators, sizes = Generators(seed), build.sizes(loaded.config)
    episodes_per_task = sizes.episodes_per_task
    num_updates = sizes.num_updates if num_updates is None else num_updates
    adapter = checkpoints.trained_learner(loaded, generators, device).adapter()
    config = checkpoints.elsewhere(loaded, env)
    deterministic = bool(loaded.config.evaluation.get("deterministic"))
    with closing(build.environment(config, num_tasks * episodes_per_task)) as worlds:
        curve = adaptation_curve(
            *(adapter, worlds, worlds.prior.test_tasks(num_tasks)),
            build.streams(generators, device, "render/"),
            num_tasks=num_tasks,
            num_updates=num_updates,
            device=device,
            acting=acting(sizes.unit, deterministic=deterministic),
        )
    return Subject(
        config=config,
        adapter=adapter,
        states=before_and_after(curve.states, num_updates, sizes.unit),
        episodes_per_task=episodes_per_task,
        num_updates=num_updates,
        deterministic=deterministic,
    )


def before_and_after(states: Sequence[Any], num_updates: int, unit: str) -> dict[str, Any]:
    """Title -> state, of the states before and after each update; only the first if there is to be
    no update."""
    if num_updates == 0:
        return {stage(unit, 0) if unit == "episode" else "as trained": states[0]}
    return {stage(unit, k): states[k] for k in (0, num_updates)}


def film(
    subject: Subject,
    paths: Mapping[int, Path],
    *,
    num_tasks: int,
    seed: int,
    device: torch.device,
    grid_path: Path | None = None,
    width: int = 480,
    height: int = 360,
) -> None:
    """Writes a video of each chosen one of the first `num_tasks` held-out tasks, and perhaps one of
    all chosen together; of a learner that believes something of its task also a picture of that
    over the whole trial, x_belief.png beside x.mp4.

    Args:
      subject: its states are of num_tasks * episodes_per_task worlds.
      paths: number of a task -> where its video goes.
    Raises: UserError if nothing can be drawn here; OSError if a file can't be written.
    """
    num_worlds = num_tasks * subject.episodes_per_task
    config = _in_this_process(subject.config)
    worlds = [build.environment(config, num_worlds) for _ in subject.states]
    tasks = worlds[0].prior.test_tasks(num_tasks)
    descriptions = worlds[0].prior.describe(tasks)
    try:
        adaptation_video(
            list(paths.values()),
            subject.adapter,
            subject.states,
            worlds,
            repeat_tasks(tasks, subject.episodes_per_task),
            worlds=[task * subject.episodes_per_task for task in paths],
            labels=[f"{worlds[0].spec.name}: {descriptions[task]}" for task in paths],
            seed=seed,
            device=device,
            grid_path=grid_path,
            width=width,
            height=height,
            deterministic=subject.deterministic,
        )
        if subject.adapter.belief(next(iter(subject.states.values()))) is not None:
            from metarl.report.belief_plot import belief_pngs  # loads Matplotlib

            belief_pngs(
                {task: path.with_name(f"{path.stem}_belief.png") for task, path in paths.items()},
                worlds[0],
                subject.adapter,
                tasks,
                build.streams(Generators(seed), device, "belief/"),
                num_tasks=num_tasks,
                num_updates=subject.num_updates,
                titles=[f"{worlds[0].spec.name}: {text}" for text in descriptions],
                device=device,
                deterministic=subject.deterministic,
            )
    finally:
        for env in worlds:
            env.close()


def _in_this_process(config: DictConfig) -> DictConfig:
    """A user's own environment is drawn where its worlds are, and other processes show nothing of
    theirs."""
    if "processes" not in envs.overridable(config.env.name):
        return config
    return merged(as_dict(config, resolve=False), {"env": {"processes": False}})
