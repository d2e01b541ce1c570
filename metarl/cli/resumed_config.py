"""What may be given anew where a run goes on, and what moves with it."""

from collections.abc import Callable, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from metarl.cli import origins
from metarl.errors import UserError

MAY_CHANGE_ON_RESUME = (
    *("resume", "iterations", "device", "sim.num_threads", "sim.max_contacts", "sim.graphs"),
    *("checkpoint_every", "keep_checkpoints", "eval_every", "eval_tasks", "eval_by"),
    "evaluation",
    *("loggers", "wandb", "mlflow"),
)
"""Keys, or what they begin with, that leave the numbers so far as they are; those of the simulator
change no state at all, or only where physics had been wrong."""


CANT_CHANGE = f"{{}} can't be changed with resume; what can: {', '.join(MAY_CHANGE_ON_RESUME)}"
"""Takes the key."""


def may_change(key: str) -> bool:
    """Tells whether the setting may be another one where a run goes on."""
    return f"{key}.".startswith(tuple(f"{word}." for word in MAY_CHANGE_ON_RESUME))


def check_unchanged(config: DictConfig, given: Mapping[str, Any]) -> None:
    """Raises: UserError if something is given otherwise that a run can't change on its way."""
    for key, value in given.items():
        if key == "experiment":  # It sets whatever it names, and leaves no value of its own.
            raise UserError(
                "experiment can't be given with resume: the run goes on with its own settings; what "
                f"can be changed: {', '.join(MAY_CHANGE_ON_RESUME)}"
            )
        if not may_change(key) and _kept(key, value) != _kept(key, OmegaConf.select(config, key)):
            raise UserError(CANT_CHANGE.format(key))


def _kept(key: str, value: Any) -> Any:
    """What can't change in a group, as `sim=warp`, which lets one name its own settings."""
    if not isinstance(value, Mapping):
        return value
    return {name: part for name, part in value.items() if not may_change(f"{key}.{name}")}


def change(
    config: DictConfig,
    given: Mapping[str, Any],
    follow: list[str],
    done: int,
    say: Callable[[str], None],
) -> None:
    """Changes the settings that are given. What was as many as `iterations` because it follows them
    (where a schedule ends) follows them again, and a line says so: else a rate would be 0 from
    there on.

    Args: follow: keys of what follows them; done: iterations so far; say: takes the line.
    """
    planned = config.iterations
    for key in follow:
        if OmegaConf.select(config, key) == planned:
            OmegaConf.update(config, key, "${iterations}")
    for key, value in given.items():
        if may_change(key):  # Else it is as it was.
            OmegaConf.update(config, key, value)
    if config.iterations <= done:
        say(
            f"iterations={config.iterations}: {done} are done, so only the evaluation is made again"
        )
    elif config.iterations != planned and (moved := origins.follow_iterations(config)):
        say(
            f"iterations={config.iterations}, once {planned}: {', '.join(moved)} moves with it, so "
            "from here on rates are those "
            f"of a schedule over {config.iterations} iterations"
        )
