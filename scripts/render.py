"""Films held-out tasks, before and after adaptation side by side: a video of each task, and a grid of all.

The task, the present velocity and the return so far are written in the picture. Videos are H.264 at the speed of the world.

Examples:
  python scripts/render.py checkpoint=runs/half_cheetah_vel/maml_ppo/2026-01-31_12-00-00-seed0 num_tasks=3
  python scripts/render.py env=half_cheetah_vel num_tasks=2
"""

import sys
from pathlib import Path

from omegaconf import DictConfig

from envs.process import tune_process
from metarl._scripts import build, cli, filming
from metarl.errors import UserError


def run(config: DictConfig) -> None:
    tune_process()
    _check(config)
    device = build.device(config.device)
    if config.checkpoint is None:
        subject = filming.random_actions(config)
    else:
        loaded = build.load(config.checkpoint)
        for warning in loaded.warnings:
            print(f"{warning}; using {loaded.path}", file=sys.stderr)
        settings = {key: config[key] for key in ("num_tasks", "num_updates", "seed")}
        subject = filming.trained(loaded, device=device, **settings)
    folder = Path(config.output).expanduser() if config.output is not None else subject.folder
    settings = {key: config[key] for key in ("num_tasks", "seed", "width", "height")}
    filming.film(subject, folder, device=device, **settings)
    print(f"written to {folder}", file=sys.stderr)


def _check(config: DictConfig) -> None:
    """Raises: UserError for a number out of range, or none or both of checkpoint and env."""
    for key, least in (("num_tasks", 1), ("num_updates", 0), ("seed", 0), ("width", 64), ("height", 48)):
        if config[key] < least:
            raise UserError(f"{key}={config[key]}: expected {least} or more")
    if (config.checkpoint is None) == ("env" not in config):
        raise UserError("give either checkpoint=<run folder or file>, or env=<name> to look at an environment")


def main() -> None:
    cli.main("render", run)


if __name__ == "__main__":
    main()
