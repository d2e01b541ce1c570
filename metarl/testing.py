"""Checks that a learner of your own keeps to what the rest of metarl relies on, for its tests.

They train it three times for a few iterations, by the same words as the command line, and compare
the numbers, which follow from the seed on a CPU. docs/own_learner.md shows them.
"""

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from metarl.api import Run, train, train_fewshot
from metarl.run.timing import without_timing

__all__ = ["check_fewshot_learner", "check_learner"]


def check_learner(
    env: str | None = None,
    algo: str | None = None,
    /,
    *words: str,
    iterations: int = 4,
    **settings: Any,
) -> None:
    """Trains a learner three times, in a folder that is removed, and compares:

    - twice the same: every random number follows from the seed;
    - stopped after half of the iterations and resumed: `state_dict` leaves nothing out;
    - evaluated anew from its checkpoint: what is loaded is what was trained.

        check_learner("point_navigation_2d", "es_maml", config_dir="my_configs",
                      algo={"meta_batch_size": 2}, evaluation={"num_tasks": 2})

    Args:
      env, algo, words, settings: as those of `metarl.train`; small numbers make it quick.
      iterations: of each training; 2 or more.
    Raises: AssertionError that names what differs; ValueError if `iterations` is below 2; UserError
    and SettingError as `metarl.train` does.
    """
    named = (env, algo, "evaluation.video=false", *words)
    _check(train, named, iterations, settings)


def check_fewshot_learner(
    dataset: str | None = None,
    learner: str | None = None,
    /,
    *words: str,
    iterations: int = 4,
    **settings: Any,
) -> None:
    """Does the same as `check_learner` for few-shot learning.

    Args: as those of `metarl.train_fewshot`.
    Raises: see `check_learner`.
    """
    _check(train_fewshot, (dataset, learner, "log_every=1", *words), iterations, settings)


def _check(
    command: Callable[..., Run],
    words: Sequence[str | None],
    iterations: int,
    settings: Mapping[str, Any],
) -> None:
    if iterations < 2:
        raise ValueError(
            f"iterations={iterations}; expected 2 or more, some before a resume and some after it"
        )
    config_dir, quiet = settings.get("config_dir"), settings.get("quiet", True)
    with tempfile.TemporaryDirectory() as folder:

        def trained(name: str, iterations: int = iterations, **more: Any) -> Run:
            asked = {"device": "cpu", "quiet": quiet, **settings, **more}
            return command(*words, iterations=iterations, run_dir=Path(folder) / name, **asked)

        whole = trained("whole")
        _compare(
            "trained again with the same seed",
            *(whole, trained("again")),
            "a random number comes from elsewhere than the setting's streams and `noise`",
        )
        parts = trained("parts", iterations=iterations // 2)
        resumed = command(
            resume=parts.folder, iterations=iterations, config_dir=config_dir, quiet=quiet
        )
        _compare(
            f"resumed after {_counted(iterations // 2)}",
            *(whole, resumed),
            "`state_dict` leaves something out that the next iteration depends on",
        )
        kept, found = whole.evaluation.returns, whole.evaluate(quiet=quiet).returns
        if not _same(kept.tolist(), found.tolist()):
            raise AssertionError(
                f"evaluated anew from its checkpoint: mean {found.mean():g}, expected "
                f"{kept.mean():g} as at the end of the training: what is loaded isn't what was "
                "trained"
            )


def _counted(iterations: int) -> str:
    return f"{iterations} iteration{'s' if iterations > 1 else ''}"


def _compare(how: str, whole: Run, other: Run, why: str) -> None:
    """Raises: AssertionError if the numbers of two trainings differ, or those of their
    evaluations."""
    rows, others = ([*map(without_timing, run.metrics)] for run in (whole, other))
    if len(rows) != len(others):
        raise AssertionError(f"{how}: {len(others)} rows of metrics; expected {len(rows)}: {why}")
    for number, (row, found) in enumerate(zip(rows, others, strict=True), start=1):
        differ = [
            f"{name} {found.get(name)} instead of {value}"
            for name, value in row.items()
            if not _same(value, found.get(name))
        ]
        if differ:
            raise AssertionError(
                f"{how}, row {number} of its metrics has {', '.join(differ)}: {why}"
            )
    if not _same(whole.evaluation.returns.tolist(), other.evaluation.returns.tolist()):
        raise AssertionError(f"{how}, its evaluation at the end is another: {why}")


def _same(one: object, other: object) -> bool:
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    return one == other
