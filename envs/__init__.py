"""All environments by name, and how one is made:

    env = envs.make("half_cheetah_vel", num_worlds=800)
    env.set_tasks(env.tasks.sample(800, generator))
    obs = env.reset(generator)

`make` gives a `metarl.rl.types.BatchedEnv`; its `tasks` is the TaskDistribution.
"""

import difflib
import importlib
import inspect
from collections.abc import Callable
from typing import Any

import torch

from envs.gl import import_mujoco

import_mujoco()

from envs import bandit, gridworld, point_navigation, point_sparse, tabular_mdp  # noqa: E402
from envs.mujoco import ant, arm, half_cheetah, hopper, humanoid, reacher, swimmer, walker2d  # noqa: E402

ALL: dict[str, Callable[..., Any]] = {
    "half_cheetah_vel": half_cheetah.half_cheetah_vel,
    "half_cheetah_vel_maml": half_cheetah.half_cheetah_vel_maml,
    "half_cheetah_vel_promp": half_cheetah.half_cheetah_vel_promp,
    "half_cheetah_vel_pearl": half_cheetah.half_cheetah_vel_pearl,
    "half_cheetah_vel_varibad": half_cheetah.half_cheetah_vel_varibad,
    "half_cheetah_vel_wide": half_cheetah.half_cheetah_vel_wide,
    "half_cheetah_vel_long": half_cheetah.half_cheetah_vel_long,
    "half_cheetah_dir": half_cheetah.half_cheetah_dir,
    "half_cheetah_dir_maml": half_cheetah.half_cheetah_dir_maml,
    "half_cheetah_dir_promp": half_cheetah.half_cheetah_dir_promp,
    "half_cheetah_dir_sparse": half_cheetah.half_cheetah_dir_sparse,
    "half_cheetah_cripple": half_cheetah.half_cheetah_cripple,
    "ant_vel": ant.ant_vel,
    "ant_dir": ant.ant_dir,
    "ant_dir_promp": ant.ant_dir_promp,
    "ant_dir_varibad": ant.ant_dir_varibad,
    "ant_dir_2d": ant.ant_dir_2d,
    "ant_goal": ant.ant_goal,
    "ant_goal_maml": ant.ant_goal_maml,
    "ant_goal_sparse": ant.ant_goal_sparse,
    "humanoid_dir": humanoid.humanoid_dir,
    "swimmer_vel": swimmer.swimmer_vel,
    "walker2d_rand_params": walker2d.walker2d_rand_params,
    "walker2d_rand_params_pearl": walker2d.walker2d_rand_params_pearl,
    "walker2d_vel": walker2d.walker2d_vel,
    "walker2d_vel_promp": walker2d.walker2d_vel_promp,
    "walker2d_dir": walker2d.walker2d_dir,
    "walker2d_dir_promp": walker2d.walker2d_dir_promp,
    "hopper_rand_params": hopper.hopper_rand_params,
    "hopper_rand_params_pearl": hopper.hopper_rand_params_pearl,
    "reacher_goal": reacher.reacher_goal,
    "arm_reach": arm.arm_reach,
    "arm_grasp": arm.arm_grasp,
    "arm_pick_place": arm.arm_pick_place,
    "point_navigation_2d": point_navigation.point_navigation_2d,
    "point_navigation_2d_raw": point_navigation.point_navigation_2d_raw,
    "point_navigation_2d_corner": point_navigation.point_navigation_2d_corner,
    "point_navigation_2d_sparse": point_sparse.point_navigation_2d_sparse,
    "point_navigation_2d_sparse_pearl": point_sparse.point_navigation_2d_sparse_pearl,
    "bandit": bandit.Bandit,
    "tabular_mdp": tabular_mdp.TabularMDP,
    "gridworld_5x5": gridworld.Gridworld,
}


def make(
    name: str,
    num_worlds: int,
    *,
    num_threads: int | None = None,
    device: torch.device | str = "cpu",
    **overrides: Any,
) -> Any:
    """W = num_worlds worlds of the environment `name`: one of `ALL`, or `module:function` for a user's own (envs/own).

    Args:
      num_threads: of the simulation; None for all CPUs.
      device: where observations and rewards come out; MuJoCo on CPU copies them there.
      overrides: numbers of the definition to change, as `overridable(name)` lists; they change the spec hash.
    Raises: ValueError naming what is unknown or out of range, and what was expected.
    """
    known = overridable(name)
    for key in overrides:
        if key not in known:
            raise ValueError(f"{name} has no setting {key!r}{_like(key, known)}; it has: {', '.join(known)}")
    return _constructor(name)(num_worlds, num_threads=num_threads, device=device, **overrides)


def overridable(name: str) -> dict[str, Any]:
    """The settings of the environment `name` and their defaults, for instance horizon: 200."""
    parameters = inspect.signature(_constructor(name)).parameters.values()
    # A checkpoint's settings may be a stranger's: an interpreter isn't theirs to choose.
    not_settings = ("num_threads", "device", "python")
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in not_settings}


def _constructor(name: str) -> Callable[..., Any]:
    if name in ALL:
        return ALL[name]
    module, colon, function = name.partition(":")
    if not colon:
        raise ValueError(f"unknown environment {name!r}{_like(name, ALL)}; there are: {', '.join(ALL)}")
    try:
        return getattr(importlib.import_module(module), function)
    except (ModuleNotFoundError, AttributeError) as error:
        if isinstance(error, ModuleNotFoundError) and error.name != module:
            raise  # something that the user's module needs
        hint = "; a folder of your own needs another name than envs" if module.split(".")[0] == "envs" else ""
        raise ValueError(
            f"unknown environment {name!r} ({error}); expected module:function, on Python's path{hint}"
        ) from error


def _like(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), n=3)
    return f" (did you mean {' or '.join(close)}?)" if close else ""
