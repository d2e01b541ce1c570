"""Walker2d whose task is physics of its own (walker2d_rand_params), a forward velocity to hold
(walker2d_vel) or a direction to walk in (walker2d_dir).

Physics is Gymnasium's walker2d_v5.xml, bit-identical to Walker2d-v5 at factors of one. Terminates
where the robot has fallen: height of the torso not in (0.8, 2) m, or its pitch not in (−1, 1) rad.

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

with a the action after scaling and clipping to [−1, 1], and v the displacement of the torso along x
by the control step. The constant is paid while the robot is upright; `_pearl` and `_promp` also pay
it for the step that ends in a fall.

| environment | task prior | T | control step | action_scale | training tasks |
|---|---|---|---|---|---|
| walker2d_rand_params | factors of mass, inertia, damping, friction | 200 | 4 · .002 s | 1 | 40, test 10 |
| walker2d_rand_params_pearl | factors of mass, inertia about each axis, damping, friction | 200 | 5 · .004 s | 1 | 40, test 10 |
| walker2d_vel | g ~ U[0, 10] m/s | 200 | 4 · .002 s | 1 | 100, test 30 |
| walker2d_vel_promp | g ~ U[0, 10] m/s | 100 | 8 · .002 s | 10 | ∞, test 40 |
| walker2d_dir | d ∈ {1, −1} | 200 | 4 · .002 s | 1 | the two |
| walker2d_dir_promp | d ∈ {1, −1} | 100 | 8 · .002 s | 10 | the two |

Factors: 1.5^U(−3, 3) for the mass of each body, for its inertia, and for each of the three
frictions of each geom, the floor's too; 1.3^U(−3, 3) for the damping of each joint. The task is
constant for the episode and not observed.

Sources: rand_param_envs (dennisl88/rand_param_envs, walker_rand_params.py), as Rakelly et al. 2019
(katerakelly/oyster) use it for `_pearl`; Rothfuss et al. 2019 (jonasrothfuss/ProMP,
walker2d_rand_vel.py, walker2d_rand_direc.py) for vel and dir, and `_promp`. Control step, T,
action_scale and split of walker2d_vel and walker2d_dir are our choice; as published they are
`_promp`.

How we differ: today's MuJoCo; v5's model, whose feet have equal friction, except in `_pearl` and
`_promp`, where the right foot slides more easily, as published; one inertia factor a body, so that
the body can exist, except in `_pearl`; what MuJoCo derives from mass and inertia is recomputed
(published: left as it was); directions come in turn instead of by coin; test tasks are our own.
"""

from dataclasses import replace
from functools import partial
from typing import Any

from envs.mujoco.env import Effects
from envs.mujoco.models import GymnasiumModel
from envs.mujoco.targets import DIRECTION, VELOCITY, directions, velocities
from envs.mujoco.upright import Upright, UprightRobot, rand_params
from envs.mujoco.variant import Variant
from metarl.rl.types import FixedSpeeds

HIGHEST_VELOCITY = 10.0  # m/s
WALKER = GymnasiumModel(file="walker2d_v5.xml")
SLIPPERY_WALKER = GymnasiumModel(file="walker2d.xml")  # whose right foot slides more easily
SLOW_WALKER = replace(SLIPPERY_WALKER, physics_step=0.004)
UPRIGHT = Upright(lowest=0.8, highest=2.0, pitch=1.0)
VELOCITY_BONUS = 15.0  # above the greatest distance from g, so that falling never pays

_HOLD = partial(UprightRobot, upright=UPRIGHT, reward=VELOCITY, bonus=VELOCITY_BONUS)
_WALK = partial(UprightRobot, upright=UPRIGHT, reward=DIRECTION, bonus=1.0)
_PROMP: dict[str, Any] = {
    "model": SLIPPERY_WALKER,
    "horizon": 100,
    "action_scale": 10.0,
    "frame_skip": 8,
}

_RAND_PARAMS, _PEARL = rand_params("walker2d", UPRIGHT, WALKER, SLOW_WALKER, published_skip=5)
_VEL = replace(
    _RAND_PARAMS,
    family="walker2d_vel",
    mdp=_HOLD,
    tasks=partial(velocities, HIGHEST_VELOCITY),
    effects=Effects(fixed_speeds=FixedSpeeds(bonus=VELOCITY_BONUS)),
    num_train_tasks=100,
    num_test_tasks=30,
)
_DIR = replace(
    _VEL,
    family="walker2d_dir",
    mdp=_WALK,
    tasks=directions,
    effects=Effects(),
    num_train_tasks=None,
    num_test_tasks=None,
)

VARIANTS: dict[str, Variant] = {
    "walker2d_rand_params": _RAND_PARAMS,
    "walker2d_rand_params_pearl": _PEARL,
    "walker2d_vel": _VEL,
    "walker2d_vel_promp": replace(
        _VEL,
        mdp=partial(_HOLD, bonus_when_falling=True),
        num_train_tasks=None,
        num_test_tasks=40,
        **_PROMP,
    ),
    "walker2d_dir": _DIR,
    "walker2d_dir_promp": replace(_DIR, mdp=partial(_WALK, bonus_when_falling=True), **_PROMP),
}
