"""The loggers that a configuration asks for, and what they are told when a run is over."""

import sys
from collections.abc import Mapping
from pathlib import Path

from omegaconf import DictConfig

from metarl.cli.configs import as_dict
from metarl.errors import UserError
from metarl.run.log import give_results
from metarl.run.loggers.logger import Results
from metarl.run.loggers.opening import DISTANT, Tracking, check
from metarl.run.training import Outcome

_FILES = ("evaluation.json", "learning_curve.png", "adaptation_curve.png")


def tracking(config: DictConfig) -> Tracking:
    """Raises: UserError naming the extra that a logger lacks."""
    plain = as_dict(config, resolve=True)
    names = tuple(plain["loggers"])
    check(names)
    return Tracking(names=names, settings={name: plain[name] for name in DISTANT})


def report(
    config: DictConfig,
    folder: Path,
    outcome: Outcome,
    numbers: Mapping[str, float],
    *,
    count: str = "env_steps",
    video: Path | None = None,
) -> None:
    """Gives the loggers what a run ends with, which lies in its folder already: what keeps a logger
    from taking it is said, and no more."""
    results = Results(
        numbers=dict(numbers),
        iteration=outcome.iteration,
        count=outcome.count,
        video=video if video is not None and video.exists() else None,
        files=[folder / name for name in _FILES if (folder / name).exists()],
    )
    try:
        give_results(
            folder,
            results,
            count=count,
            tracking=tracking(config),
            config=as_dict(config, resolve=True),
        )
    except UserError as error:
        print(f"the loggers don't have the results: {error}", file=sys.stderr)
