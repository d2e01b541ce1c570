"""Meta-World (Yu et al. 2019, arXiv:1910.10897), the robot arm with fifty tasks that much of
meta-reinforcement learning is measured on: its benchmarks ML1, ML10 and ML45 as task distributions.

    env = envs.make("envs.metaworld:meta_world", num_worlds=20, task_name="push-v3")

Its package takes another MuJoCo than ours, so that its worlds run in a Python of their own
(world.py), whose path METARL_METAWORLD_PYTHON holds; docs/meta_world.md is the guide.
"""

import itertools
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from envs.own import own_environment, reset_option
from envs.own.tasks import whole_number
from envs.own.world import WorldError
from metarl.choices import expected
from metarl.errors import SettingError, UserError
from metarl.rl.types import BatchedEnv

PYTHON = "METARL_METAWORLD_PYTHON"
"""The environment variable with the path of a Python that has Meta-World."""

ML10 = (
    *("reach-v3", "push-v3", "pick-place-v3", "door-open-v3", "drawer-close-v3"),
    *("button-press-topdown-v3", "peg-insert-side-v3", "window-open-v3", "sweep-v3"),
    "basketball-v3",
)
ML10_TEST = ("drawer-open-v3", "door-close-v3", "shelf-place-v3", "sweep-into-v3", "lever-pull-v3")
ML45 = (
    *("assembly-v3", "basketball-v3", "button-press-topdown-v3", "button-press-topdown-wall-v3"),
    *("button-press-v3", "button-press-wall-v3", "coffee-button-v3", "coffee-pull-v3"),
    *("coffee-push-v3", "dial-turn-v3", "disassemble-v3", "door-close-v3", "door-open-v3"),
    *("drawer-close-v3", "drawer-open-v3", "faucet-open-v3", "faucet-close-v3", "hammer-v3"),
    *("handle-press-side-v3", "handle-press-v3", "handle-pull-side-v3", "handle-pull-v3"),
    *("lever-pull-v3", "pick-place-wall-v3", "pick-out-of-hole-v3", "push-back-v3"),
    *("pick-place-v3", "plate-slide-v3", "plate-slide-side-v3", "plate-slide-back-v3"),
    *("plate-slide-back-side-v3", "peg-insert-side-v3", "peg-unplug-side-v3", "soccer-v3"),
    *("stick-push-v3", "stick-pull-v3", "push-wall-v3", "push-v3", "reach-wall-v3", "reach-v3"),
    *("shelf-place-v3", "sweep-into-v3", "sweep-v3", "window-open-v3", "window-close-v3"),
)
ML45_TEST = ("bin-picking-v3", "box-close-v3", "hand-insert-v3", "door-lock-v3", "door-unlock-v3")

TASKS = (*ML45, *ML45_TEST)
"""All fifty."""

HORIZON = 500
"""Control steps of an episode, which can't be longer."""

_VARIATIONS = 50  # of a task, for training and again for test


BENCHMARKS = {"ML1": None, "ML10": (ML10, ML10_TEST), "ML45": (ML45, ML45_TEST)}
"""The tasks for training and for test; ML1 has one, which is both."""


def meta_world(
    num_worlds: int,
    *,
    benchmark: str = "ML1",
    task_name: str | None = None,
    horizon: int = HORIZON,
    num_test_tasks: int = 50,
    tasks_seed: int = 0,
    shows_task: bool = False,
    python: str | Path | None = None,
    num_threads: int | None = None,
    device: torch.device | str = "cpu",
) -> BatchedEnv[Any]:
    """Each task has 50 variations for training, or for test: a goal, which an agent doesn't see,
    and places of the objects, which it does.

    Args:
      benchmark: ML1, one task, to be learned from some of its variations for others; ML10 and ML45,
        ten and 45 tasks for training and five others for test.
      task_name: of ML1, one of `TASKS`.
      horizon: control steps of an episode, of 0.0125 s.
      num_test_tasks: how many variations an evaluation takes, the same number of each task.
      tasks_seed: Meta-World draws the variations by it.
      shows_task: puts the goal into the observation, for an agent that needn't find it out.
      python: path of a Python that has Meta-World; None: what METARL_METAWORLD_PYTHON says.
        A function of yours may give it; no setting of a run can.
      num_threads: how many processes the worlds are dealt over; None: one for each CPU.
    Raises: ValueError naming what doesn't fit and what was expected; UserError where there is no
    Python that has Meta-World, saying how to make one.
    """
    if benchmark not in [*BENCHMARKS]:
        raise SettingError(f"benchmark is {benchmark!r}; {expected(benchmark, BENCHMARKS)}")
    if not 0 <= whole_number("tasks_seed", tasks_seed) <= _HIGHEST_SEED:
        raise SettingError(f"tasks_seed is {tasks_seed}; expected 0 to {_HIGHEST_SEED}")
    count = whole_number("num_worlds", num_worlds)
    if not 1 <= whole_number("horizon", horizon) <= HORIZON:
        raise SettingError(f"horizon is {horizon}; expected 1 to {HORIZON}, where Meta-World ends")
    both = BENCHMARKS[benchmark]
    if both is None and task_name not in TASKS:
        raise SettingError(f"task_name is {task_name!r}; ML1 has one: {expected(task_name, TASKS)}")
    if both is not None and task_name is not None:
        raise SettingError(
            f"task_name is {task_name!r}; expected None, for {benchmark} has all of its own"
        )
    train, test = both or ((task_name,), (task_name,))
    names = list(dict.fromkeys([*train, *test]))
    named = {"task": reset_option("task", one_of=names)} if len(names) > 1 else {}
    with _package_needed(where := _python(python)):
        return own_environment(
            f"{Path(__file__).with_name('world.py')}:MetaWorld",
            num_worlds,
            name=_name(benchmark, task_name),
            settings={
                "tasks": names,
                "seed": tasks_seed,
                **({"shows_task": True} if shows_task else {}),
            },
            tasks={**named, "variation": reset_option("variation", one_of=range(2 * _VARIATIONS))},
            train_tasks=_tasks(train, range(_VARIATIONS), named),
            test_tasks=_tasks(test, range(_VARIATIONS, 2 * _VARIATIONS), named),
            num_test_tasks=num_test_tasks,
            horizon=horizon,
            terms=["success"],
            python=where,
            processes=_num_processes(count, num_threads),
            device=device,
        )


def _name(benchmark: str, task: str | None) -> str:
    """metaworld_ml10, metaworld_ml1_push_v3."""
    parts = ["metaworld", benchmark.lower(), *([] if task is None else [task])]
    return "_".join(parts).replace("-", "_")


def _tasks(
    names: Sequence[str | None], variations: range, named: object
) -> list[dict[str, str | int | None]]:
    """One of each task, then the next of each, so that the first few are of all."""
    return [
        {**({"task": name} if named else {}), "variation": variation}
        for variation, name in itertools.product(variations, names)
    ]


_HIGHEST_SEED = 2**32 - 2
"""The test tasks are drawn by the next one, and numpy takes none above."""

_INSTALL = f"""
  python -m venv meta-world
  meta-world/bin/pip install metaworld packaging
  export {PYTHON}=$PWD/meta-world/bin/python"""


def _python(given: str | Path | None) -> Path:
    python = given or os.environ.get(PYTHON)
    if not python:
        raise UserError(
            f"{PYTHON} isn't set; expected the path of a Python that has Meta-World, which takes "
            f"another MuJoCo than metarl, so that it lives beside it:{_INSTALL}"
        )
    if not Path(python).expanduser().is_file():
        raise UserError(
            f"{'python' if given else PYTHON} is {str(python)!r}; expected the path of a Python "
            f"interpreter that has Meta-World:{_INSTALL}"
        )
    return Path(python).expanduser().absolute()


@contextmanager
def _package_needed(python: str | Path) -> Iterator[None]:
    """Says what to install where it isn't."""
    try:
        yield
    except WorldError as error:
        if "No module named" not in str(error):
            raise
        raise UserError(
            f"{python} lacks what Meta-World's worlds need ({error}); expected one made by{_INSTALL}"
        ) from error


def _num_processes(num_worlds: int, num_threads: int | None) -> int:
    most = os.cpu_count() or 1 if num_threads is None else whole_number("num_threads", num_threads)
    return max(1, min(num_worlds, most))
