"""All environments by name, and how one is made:

    env = envs.make("half_cheetah_vel", num_worlds=800)
    env.set_tasks(env.prior.sample(800, generator))
    obs = env.reset(metarl.noise.Noise(generator).starts(env))

`make` gives a `metarl.rl.types.BatchedEnv`; its `prior` is the TaskDistribution. Where it runs is
one argument:

    machine = envs.Machine(num_threads=8, device="cuda")
    env = envs.make("half_cheetah_vel", num_worlds=800, machine=machine)

Read in this order: tasks.py (which tasks there are), episodes.py (which task and step each world is
at), mujoco/ (robots) and small/ (worlds without physics), each with its __init__.py, then
variants.py and this file (how a row becomes an environment), own/ (environments of a user), metaworld/
(Meta-World's, made so) and batched_trial.py (what is asked of one that steps all worlds by itself), gym.py
and sb3.py (ours for other libraries, both on numpy_worlds.py).
"""

import hashlib
import importlib
from typing import Any

import gymnasium
import numpy as np
import torch
import torch.utils._pytree as pytree

from envs.mujoco.gl import import_mujoco

import_mujoco()

from envs.batched_trial import try_batched_once  # noqa: E402
from envs.machine import BACKENDS as BACKENDS  # noqa: E402
from envs.machine import Machine  # noqa: E402
from envs.mujoco import ant, half_cheetah, hopper, humanoid, reacher, swimmer, walker2d  # noqa: E402
from envs.mujoco.arm import env as arm  # noqa: E402
from envs.mujoco.variant import Variant  # noqa: E402
from envs.shows_task import ShowsTask  # noqa: E402
from envs.small import bandit, gridworld, point_navigation, point_sparse, tabular_mdp  # noqa: E402
from envs.variants import Row, UserFunction  # noqa: E402
from metarl.choices import did_you_mean  # noqa: E402
from metarl.errors import SettingError  # noqa: E402
from metarl.rl.types import BatchedEnv  # noqa: E402
from metarl.struct import replace  # noqa: E402

FAMILIES = (
    half_cheetah,
    ant,
    humanoid,
    swimmer,
    walker2d,
    hopper,
    reacher,
    arm,
    point_navigation,
    point_sparse,
    bandit,
    tabular_mdp,
    gridworld,
)
"""The modules with environments. Each has a table VARIANTS of its rows."""

ALL: dict[str, Row] = {name: row for family in FAMILIES for name, row in family.VARIANTS.items()}


def make(
    name: str,
    num_worlds: int,
    *,
    machine: Machine | None = None,
    num_threads: int | None = None,
    device: torch.device | str | None = None,
    shows_task: bool = False,
    **overrides: Any,
) -> Any:
    """W = num_worlds worlds of the environment `name`: one of `ALL`, or `module:name` for a user's
    own.

    A user's own is a row (see envs/mujoco/variant.py) or a function that makes an environment (see
    envs/own).

    Args:
      machine: where it runs; None: on CPUs.
      num_threads, device: those of the machine, for short.
      shows_task: puts the task into the observation, see envs/shows_task.py; changes the spec hash. A
        function that has such a setting of its own is asked to do it.
      overrides: settings of the variant to change, as `overridable(name)` lists; they change the
        spec hash.
    Raises: ValueError naming what is unknown or out of range, and what was expected.
    """
    # numpy's numbers are as good as Python's.
    overrides = {
        key: value.item() if isinstance(value, np.generic) else value
        for key, value in overrides.items()
    }
    if not isinstance(shows_task, bool | np.bool_):
        raise SettingError(f"shows_task is {shows_task!r}; expected True or False")
    row = _row(name)
    known = row.settings
    for key in overrides:
        if key not in known:
            raise SettingError(
                f"{name} has no setting {key!r}{did_you_mean(key, known)}\nit has: {', '.join(known)}"
            )
    if machine is None:
        machine = Machine(num_threads=num_threads, device="cpu" if device is None else device)
    elif num_threads is not None or device is not None:
        raise ValueError(
            f"machine is {machine} beside num_threads or device; expected either, not both"
        )
    shows_by_itself = "shows_task" in known
    if shows_by_itself and shows_task:
        overrides["shows_task"] = True
    if machine.backend != "cpu" and not has_physics(name):
        raise SettingError(
            f"backend is {machine.backend!r}, and {name} is no MuJoCo environment of ours; "
            "expected 'cpu'"
        )
    make_worlds = lambda num: row.make(name.rpartition(":")[2], num, machine, **overrides)
    env = make_worlds(num_worlds)
    if isinstance(env, gymnasium.Env):
        raise SettingError(f"{name} makes a Gymnasium environment; {_OWN}")
    if type(env).__module__.partition(".")[0] not in ("envs", "metarl"):
        try_batched_once(env, f"{name} {machine} {overrides}", make_worlds)
    if name not in ALL and isinstance(row, Row):
        env.spec = replace(env.spec, definition={**env.spec.definition, **_tasks_of(env)})
    return ShowsTask(env) if shows_task and not shows_by_itself else env


def _tasks_of(env: BatchedEnv[Any]) -> dict[str, str]:
    """What the problem of a user's row has in its definition beside what rows of ours have: some of
    its held-out tasks, for ranges don't say how tasks are drawn. Of numbers four digits count, so
    that it is the same on every machine."""
    leaves = pytree.tree_leaves(env.prior.test_tasks())
    words = " ".join(f"{x:.3e}" for leaf in leaves for x in leaf.double().flatten()[:100].tolist())
    return {"tasks": hashlib.sha256(words.encode()).hexdigest()[:12]}


def overridable(name: str) -> dict[str, Any]:
    """The settings of the environment `name` and their defaults, for instance horizon: 200."""
    return dict(_row(name).settings)


def has_physics(name: str) -> bool:
    """Whether MuJoCo moves the environment `name`, so that a machine's back-end matters."""
    return isinstance(_row(name), Variant)


def _row(name: str) -> Row:
    if name in ALL:
        return ALL[name]
    module, colon, variable = name.partition(":")
    if not colon:
        raise SettingError(
            f"there is no environment {name!r}{did_you_mean(name, ALL)}\nthere are: {', '.join(ALL)}"
        )
    try:
        found = getattr(importlib.import_module(module), variable)
    except (ModuleNotFoundError, AttributeError) as error:
        if isinstance(error, ModuleNotFoundError) and error.name != module:
            raise  # something that the user's module needs
        hint = (
            "; a folder of your own needs another name than envs"
            if module.split(".")[0] == "envs"
            else ""
        )
        raise SettingError(
            f"there is no environment {name!r} ({error}); expected module:function, on Python's "
            f"path{hint}"
        ) from error
    if isinstance(found, Row):
        return found
    if isinstance(found, type) and issubclass(found, gymnasium.Env):
        raise SettingError(f"{name} is a class of Gymnasium environments; {_OWN}")
    if not callable(found):
        raise SettingError(
            f"{name} is {found!r}; expected a row, or a function that makes an environment"
        )
    return UserFunction(found)


_OWN = (
    "expected a function (num_worlds, **machine) that makes worlds of it with "
    "envs.own.own_environment (docs/own_environment.md)"
)
