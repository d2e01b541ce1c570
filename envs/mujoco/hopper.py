"""Hopper whose task is physics of its own (hopper_rand_params): factors of mass, inertia, damping
and friction.

Physics is Gymnasium's hopper.xml, bit-identical to Hopper-v5 at factors of one. Terminates where
the robot has fallen: height of the torso not above 0.7 m, its pitch not in (−0.2, 0.2) rad, or any
position or velocity but x and height beyond ±100.

| obs | meaning | unit |
|---|---|---|
| 0 | height of the torso | m |
| 1 | pitch of the torso | rad |
| 2–4 | angles of hip, knee, ankle | rad |
| 5–6 | velocity of the torso along x, z, clipped to ±10 | m/s |
| 7 | pitch rate, clipped to ±10 | rad/s |
| 8–10 | rates of the three joints, clipped to ±10 | rad/s |

| action | meaning | unit |
|---|---|---|
| 0–2 | torque at the joints in the order above, as a fraction of 200 N m times action_scale | 1 |

    r = v + 1 − 0.001 ‖a‖²

with a the action after scaling and clipping to [−1, 1], and v the displacement of the torso along x
by the control step. The 1 is paid while the robot is upright; `_pearl` also pays it for the step
that ends in a fall.

| environment | task prior | T | control step | action_scale | training tasks |
|---|---|---|---|---|---|
| hopper_rand_params | factors of mass, inertia, damping, friction | 200 | 4 · .002 s | 1 | 40, test 10 |
| hopper_rand_params_pearl | factors of mass, inertia about each axis, damping, friction | 200 | 4 · .004 s | 1 | 40, test 10 |

Factors: 1.5^U(−3, 3) for the mass of each body, for its inertia, and for each of the three
frictions of each geom, the floor's too; 1.3^U(−3, 3) for the damping of each joint. The task is
constant for the episode and not observed.

Source: rand_param_envs (dennisl88/rand_param_envs, hopper_rand_params.py), as Rakelly et al. 2019
(katerakelly/oyster) use it for `_pearl`.

How we differ: today's MuJoCo and Gymnasium's model; one inertia factor a body, so that the body can
exist, except in `_pearl`; what MuJoCo derives from mass and inertia is recomputed (published: left
as it was); test tasks are our own.
"""

from envs.mujoco.models import GymnasiumModel
from envs.mujoco.upright import Upright, rand_params
from envs.mujoco.variant import Variant

HOPPER = GymnasiumModel(file="hopper.xml")
SLOW_HOPPER = GymnasiumModel(file="hopper.xml", physics_step=0.004)
UPRIGHT = Upright(lowest=0.7, pitch=0.2, state=100.0)

_RAND_PARAMS, _PEARL = rand_params("hopper", UPRIGHT, HOPPER, SLOW_HOPPER, published_skip=4)

VARIANTS: dict[str, Variant] = {
    "hopper_rand_params": _RAND_PARAMS,
    "hopper_rand_params_pearl": _PEARL,
}
