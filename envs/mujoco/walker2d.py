"""Walker2d whose task is physics of its own (walker2d_rand_params), a forward velocity to hold (walker2d_vel) or a direction to
walk in (walker2d_dir).

Physics is Gymnasium's walker2d_v5.xml, bit-identical to Walker2d-v5 at factors of one. Terminates where the robot has fallen:
height of the torso not in (0.8, 2) m, or its pitch not in (−1, 1) rad.

| obs | meaning | unit |
|---|---|---|
| 0 | height of the torso | m |
| 1 | pitch of the torso | rad |
| 2–7 | angles of right hip, knee, ankle, left hip, knee, ankle | rad |
| 8–9 | velocity of the torso along x, z, clipped to ±10 | m/s |
| 10 | pitch rate, clipped to ±10 | rad/s |
| 11–16 | rates of the six joints, clipped to ±10 | rad/s |

| action | meaning | unit |
|---|---|---|
| 0–5 | torque at the joints in the order above, as a fraction of 100 N m times action_scale | 1 |

    walker2d_rand_params:  r = v + 1 − 0.001 ‖a‖²
    walker2d_vel:          r = −|v − g| + 15 − 0.001 ‖a‖²
    walker2d_dir:          r = d v + 1 − 0.001 ‖a‖²

with a the action after scaling and clipping to [−1, 1], and v the displacement of the torso along x by the control step. The
constant is paid while the robot is upright; `_pearl` and `_promp` also pay it for the step that ends in a fall.

| environment | task prior | T | control step | action_scale | training tasks |
|---|---|---|---|---|---|
| walker2d_rand_params | factors of mass, inertia, damping, friction | 200 | 4 · .002 s | 1 | 40, test 10 |
| walker2d_rand_params_pearl | the same, an inertia factor an axis | 200 | 4 · .004 s | 1 | 40, test 10 |
| walker2d_vel | g ~ U[0, 10] m/s | 200 | 4 · .002 s | 1 | 100, test 30 |
| walker2d_vel_promp | g ~ U[0, 10] m/s | 100 | 8 · .002 s | 10 | ∞, test 40 |
| walker2d_dir | d ∈ {1, −1} | 200 | 4 · .002 s | 1 | the two |
| walker2d_dir_promp | d ∈ {1, −1} | 100 | 8 · .002 s | 10 | the two |

Factors: 1.5^U(−3, 3) for the mass of each body, for its inertia, and for each of the three frictions of each geom, the floor's
too; 1.3^U(−3, 3) for the damping of each joint. The task is constant for the episode and not observed.

Sources: rand_param_envs (dennisl88/rand_param_envs, walker_rand_params.py), as Rakelly et al. 2019 (katerakelly/oyster) use it for
`_pearl`; Rothfuss et al. 2019 (jonasrothfuss/ProMP, walker2d_rand_vel.py, walker2d_rand_direc.py) for vel and dir, and `_promp`.
Control step, T, action_scale and split of walker2d_vel and walker2d_dir are our choice; as published they are `_promp`.

How we differ: today's MuJoCo; v5's model, whose feet have equal friction, except in `_pearl` and `_promp`, where the right foot
slides more easily, as published; one inertia factor a body, so that the body can exist, except in `_pearl`; what MuJoCo derives
from mass and inertia is recomputed (published: left as it was); directions come in turn instead of by coin; test tasks are our own.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import mujoco
from torch import Tensor

from envs.mdp import MujocoEnv, split_name
from envs.mujoco.models import gymnasium_model
from envs.mujoco.scaled_physics import physics_factors
from envs.mujoco.targets import direction_reward, directions, forward_reward, velocities, velocity_reward
from envs.mujoco.upright import Upright, upright_environment
from metarl.rl.types import FixedSpeeds

HIGHEST_VELOCITY = 10.0  # m/s


def _rand_params(
    name: str,
    num_worlds: int,
    *,
    horizon: int,
    action_scale: float,
    num_train_tasks: int | None,
    num_test_tasks: int,
    **machine: Any,
) -> MujocoEnv[Any]:
    tasks = physics_factors(_model(name), num_train_tasks, num_test_tasks, per_axis=name.endswith("_pearl"))
    return _environment(name, num_worlds, tasks, horizon, action_scale, **machine)


def _velocity(
    name: str,
    num_worlds: int,
    *,
    horizon: int,
    action_scale: float,
    num_train_tasks: int | None,
    num_test_tasks: int,
    **machine: Any,
) -> MujocoEnv[Any]:
    tasks = velocities(HIGHEST_VELOCITY, num_train_tasks, num_test_tasks)
    speeds = FixedSpeeds(bonus=_REWARDS["walker2d_vel"][2])
    return _environment(name, num_worlds, tasks, horizon, action_scale, fixed_speeds=speeds, **machine)


def _direction(name: str, num_worlds: int, *, horizon: int, action_scale: float, **machine: Any) -> MujocoEnv[Any]:
    return _environment(name, num_worlds, directions(), horizon, action_scale, **machine)


# num_train_tasks None: training draws a new task each time.
_FACTORS: dict[str, Any] = {"horizon": 200, "action_scale": 1.0, "num_train_tasks": 40, "num_test_tasks": 10}
_PROMP: dict[str, Any] = {"horizon": 100, "action_scale": 10.0}
walker2d_rand_params = partial(_rand_params, "walker2d_rand_params", **_FACTORS)
walker2d_rand_params_pearl = partial(_rand_params, "walker2d_rand_params_pearl", **_FACTORS)
walker2d_vel = partial(_velocity, "walker2d_vel", horizon=200, action_scale=1.0, num_train_tasks=100, num_test_tasks=30)
walker2d_vel_promp = partial(_velocity, "walker2d_vel_promp", **_PROMP, num_train_tasks=None, num_test_tasks=40)
walker2d_dir = partial(_direction, "walker2d_dir", horizon=200, action_scale=1.0)
walker2d_dir_promp = partial(_direction, "walker2d_dir_promp", **_PROMP)

_REWARDS: dict[
    str, tuple[Callable[..., Tensor], str, float]
] = {  # and how they read, and the bonus: for `vel` above the greatest distance from g, so that falling never pays
    "walker2d_rand_params": (forward_reward, "v", 1.0),
    "walker2d_vel": (velocity_reward, "-|v - g|", 15.0),
    "walker2d_dir": (direction_reward, "d v", 1.0),
}


def _model(name: str) -> mujoco.MjModel:
    model = gymnasium_model(_file(name))
    if name.endswith("_pearl"):
        model.opt.timestep = 0.004
    return model


def _file(name: str) -> str:
    return "walker2d.xml" if name.endswith(("_pearl", "_promp")) else "walker2d_v5.xml"


def _environment(
    name: str, num_worlds: int, tasks: Any, horizon: int, action_scale: float, **machine: Any
) -> MujocoEnv[Any]:
    family, variant = split_name(name, tuple(_REWARDS))
    task_reward, formula, bonus = _REWARDS[family]
    return upright_environment(
        num_worlds,
        name=name,
        family=family,
        model=_model(name),
        model_name=f"gymnasium/{_file(name)}",
        frame_skip=8 if variant == "promp" else 4,
        upright=Upright(lowest=0.8, highest=2.0, pitch=1.0),
        task_reward=task_reward,
        formula=formula,
        bonus=bonus,
        bonus_when_falling=variant != "default",
        tasks=tasks,
        horizon=horizon,
        action_scale=action_scale,
        **machine,
    )
