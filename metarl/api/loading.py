"""Brings a trained agent back, whatever it was trained on."""

import warnings
from pathlib import Path

from metarl import zoo
from metarl.api.agent import Agent
from metarl.api.fitting import FewShotAgent
from metarl.api.given import place
from metarl.cli import checkpoints, fewshot_build
from metarl.cli.session import as_words, session
from metarl.errors import UserError
from metarl.run import checkpoint


def load(
    where: str | Path, *, config_dir: str | Path | None = None, with_env: bool = True
) -> Agent | FewShotAgent:
    """The agent of a run folder, a checkpoint file, or the zoo.

        metarl.load("bandit/rl2_ppo")
        metarl.load("runs/bandit/rl2_ppo/2026-01-31_12-00-00-seed0")

    Args:
      where: a path, or `<run folder>/best`; where there is none, a name of the zoo, with or without `zoo:` before it.
      config_dir: configs of your own, if the run was made with them.
      with_env: False makes nothing of the environment that the agent was trained on, which needn't
        be there: it acts and adapts, and can't be evaluated or filmed.
    Raises: UserError if there is neither, or the file can't be used.
    """
    checkpoint = _located(str(where), place(where, "load: where"))
    with session("evaluate", as_words({"checkpoint": checkpoint}), config_dir):
        found = checkpoints.read(checkpoint, with_env=with_env)
        is_few_shot = "dataset" in found.content
        loaded = (fewshot_build if is_few_shot else checkpoints).load(checkpoint, found)
        for warning in loaded.warnings:
            warnings.warn(f"{warning}; using {loaded.path}", stacklevel=2)
        return (FewShotAgent if is_few_shot else Agent)(loaded, checkpoint, config_dir)


def _located(where: str, place: Path) -> str:
    if where.startswith(zoo.PREFIX) or place.exists() or checkpoint.named(place) != place:
        return where
    if where in zoo.names():
        return zoo.PREFIX + where
    if (packed := place.with_name(f"{place.name}.pt")).exists():
        raise UserError(f"there is no file or folder {where}; did you mean {packed}?")
    raise UserError(f"there is no file or folder {where}, and {zoo.unknown(where)}")
