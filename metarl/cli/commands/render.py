"""Films held-out tasks, before and after adaptation side by side: a video of each task, and a grid
of all.

The task, the present velocity and the return so far are written in the picture. Videos are H.264 at
the speed of the world.

Examples:
  python scripts/render.py checkpoint=<run folder> num_tasks=3
  python scripts/render.py env=half_cheetah_vel num_tasks=2
  python scripts/render.py checkpoint=<run folder> env=half_cheetah_cripple env.fails_at_step=100
"""

import re
import sys
from pathlib import Path

from omegaconf import DictConfig

from metarl.cli import build, checkpoints, filming, outputs, strangers
from metarl.cli.main import run_command
from metarl.errors import UserError

_OF_A_TASK = re.compile(r"task_([0-9]+)(?:\.mp4|_belief\.png)")


def run(config: DictConfig) -> None:
    print(f"written to {rendered(config)[0].parent}", file=sys.stderr)


def rendered(config: DictConfig, loaded: checkpoints.Loaded | None = None) -> list[Path]:
    """Films what the config asks for. Returns the video of each task.

    Args: loaded: the checkpoint that the config names, where it is at hand.
    """
    _check(config)
    strangers.say_what_is_called(config)
    device = build.device(config.device)
    if config.checkpoint is None:
        folder = _folder(config, Path("videos") / config.env.name.split(":")[-1])
        subject = filming.random_actions(config)
    else:
        if loaded is None:
            loaded = checkpoints.load_saying(config.checkpoint)
        own, there = loaded.config.env, checkpoints.elsewhere(loaded, config.env).env
        # Films of the own problem stay.
        below = "videos" if there == own else f"videos/{there.name.split(':')[-1]}"
        folder = _folder(config, loaded.run_folder / below)
        settings = {key: config[key] for key in ("num_tasks", "num_updates", "seed")}
        settings["env"] = config.env
        subject = filming.trained(loaded, device=device, **settings)
    paths = {task: folder / f"task_{task}.mp4" for task in range(config.num_tasks)}
    grid_path = folder / "grid.mp4" if config.num_tasks > 1 else None
    settings = {key: config[key] for key in ("num_tasks", "seed", "width", "height")}
    filming.film(subject, paths, device=device, grid_path=grid_path, **settings)
    if config.output is None:
        _remove_what_is_older(folder, config.num_tasks)
    return list(paths.values())


def _folder(config: DictConfig, default: Path) -> Path:
    """Where the films go. Raises: UserError if nothing can be written there."""
    return outputs.folder(default if config.output is None else config.output)


def _remove_what_is_older(folder: Path, num_tasks: int) -> None:
    """Removes what an earlier call filmed of more tasks: beside these films it would be taken for
    the same agent's."""
    for path in folder.glob("task_*"):
        named = _OF_A_TASK.fullmatch(path.name)
        if named and int(named[1]) >= num_tasks:
            path.unlink()
    if num_tasks == 1:
        (folder / "grid.mp4").unlink(missing_ok=True)


def _check(config: DictConfig) -> None:
    """Raises: UserError for a number out of range, or neither checkpoint nor env."""
    for key, least in (
        ("num_tasks", 1),
        ("num_updates", 0),
        ("seed", 0),
        ("width", 64),
        ("height", 48),
    ):
        if config[key] is not None and config[key] < least:
            raise UserError(f"{key}={config[key]}: expected {least} or more")
    if config.checkpoint is None and "name" not in config.env:
        raise UserError(
            "give checkpoint=<run folder or file>, or env=<name> to look at an environment"
        )


def main() -> None:
    run_command("render", run)


if __name__ == "__main__":
    main()
