"""Where a run lives: a new folder with its config.yaml, or an old one to go on with."""

import shlex
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from metarl._scripts import build
from metarl.errors import UserError
from metarl.files import write_text

MAY_CHANGE_ON_RESUME = (
    *("resume", "iterations", "device", "sim.num_threads"),
    *("checkpoint_every", "keep_checkpoints", "evaluation"),
)
"""Keys, or what they begin with, that leave the numbers so far as they are; the number of threads changes no state at all."""


def choose(
    config: DictConfig, *, groups: tuple[str, str] = ("env", "algo"), load: Callable[[str], build.Loaded] = build.load
) -> tuple[DictConfig, Path, dict[str, Any] | None]:
    """The config to run, its folder, and the checkpoint's content if an old run goes on. Nothing is written yet.

    Args:
      groups: whose choices name the default folder, runs/<one>/<other>/<date>-seed<seed>.
      load: brings the run of `resume` back.
    Raises: UserError if the folder holds a run already, or the overrides don't go with `resume`.
    """
    _check(config)
    if config.resume is not None:
        return _resumed(config, load)
    folder = Path(config.run_dir).expanduser() if config.run_dir is not None else _default_folder(config, groups)
    if (folder / "config.yaml").exists():
        raise UserError(f"{folder} holds a run already; go on with resume={folder}, or choose another run_dir")
    return config, folder, None


def create(folder: Path, config: DictConfig) -> None:
    """Makes the folder with its config.yaml, once all that the config asks for was found possible. In an old run's folder
    config.yaml tells from now on with what it goes on.

    Raises: UserError if it can't be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "config.yaml", OmegaConf.to_yaml(config, resolve=True))
    except OSError as error:
        raise UserError(f"can't write the run folder {folder}: {error.strerror or error}") from error


def resume_command(folder: Path, script: str = "train") -> str:
    return f"python scripts/{script}.py resume={shlex.quote(str(folder))}"


def _resumed(config: DictConfig, load: Callable[[str], build.Loaded]) -> tuple[DictConfig, Path, dict[str, Any]]:
    """The settings come from the checkpoint; only what doesn't change the numbers so far may be given anew."""
    given = [override.split("=")[0].lstrip("+~") for override in HydraConfig.get().overrides.task]
    refused = [key for key in given if not f"{key}.".startswith(tuple(f"{word}." for word in MAY_CHANGE_ON_RESUME))]
    if refused:
        raise UserError(f"{refused[0]} can't be changed with resume; what can: {', '.join(MAY_CHANGE_ON_RESUME)}")
    loaded = load(config.resume)
    for warning in loaded.warnings:
        print(f"{warning}; going on from {loaded.path}", file=sys.stderr)
    resumed = loaded.config
    for key in given:
        OmegaConf.update(resumed, key, OmegaConf.select(config, key))
    if resumed.iterations <= (done := loaded.content["iteration"]):
        print(
            f"iterations={resumed.iterations}: {done} are done, so only the evaluation is made again", file=sys.stderr
        )
    return resumed, loaded.run_folder, loaded.content


def _default_folder(config: DictConfig, groups: tuple[str, str]) -> Path:
    """runs/<env>/<algo>/<date>-seed<seed>, with a number behind it if two runs start within a second."""
    choices = HydraConfig.get().runtime.choices
    parent = Path("runs").joinpath(*(choices[group] for group in groups))
    name = f"{datetime.now():%Y-%m-%d_%H-%M-%S}-seed{config.seed}"
    folder, number = parent / name, 1
    while folder.exists():
        number += 1
        folder = parent / f"{name}-{number}"
    return folder


def _check(config: DictConfig) -> None:
    for key, least in (("iterations", 0), ("seed", 0), ("checkpoint_every", 1), ("keep_checkpoints", 1)):
        if config[key] < least:
            raise UserError(f"{key}={config[key]}: expected {least} or more")
    if config.run_dir == "":
        raise UserError("run_dir=: expected a folder, or null for the default one")
