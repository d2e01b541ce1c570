"""HalfCheetah whose task is a forward velocity to hold (half_cheetah_vel), a direction to run in
(half_cheetah_dir) or a motor that is dead (half_cheetah_cripple).

Physics is Gymnasium's half_cheetah.xml, bit-identical to HalfCheetah-v5 with frame_skip 5. Never
terminates.

| obs | meaning | unit |
|---|---|---|
| 0 | height of the root above its start | m |
| 1 | pitch of the torso | rad |
| 2–7 | angles of back thigh, shin, foot, front thigh, shin, foot | rad |
| 8–9 | velocity of the root along x, z | m/s |
| 10 | pitch rate | rad/s |
| 11–16 | rates of the six joints | rad/s |
| 17–19 | `_maml` only: centre of mass x, y, z; y is 0 at all times, for the robot is planar, and kept as published | m |
| 17–19 | `_pmr`, `_pearl`, `_varibad`, `_wide`, `_sparse` only: origin of the torso x, y, z; y is 0 at all times, kept as published | m |

| action | meaning | unit |
|---|---|---|
| 0–5 | torque at the joints in the order above, as a fraction of 120, 90, 60, 120, 60, 30 N m times action_scale | 1 |

    half_cheetah_vel:      r = −|v − g| − 0.05 ‖a‖²
    half_cheetah_dir:      r = d v − 0.05 ‖a‖²;     `_sparse`: r = −0.05 ‖a‖² where |x| < 5 m
    half_cheetah_cripple:  r = v − 0.05 ‖a‖²,       a_j = 0 for the dead motor j, whatever the action; it is dead from the start, or from
                           control step fails_at_step of each episode, where that is set

with a the action after scaling and clipping to [−1, 1], and v the displacement of the root along x
by the control step.

| environment | v | task prior | T | control step | action_scale | training tasks |
|---|---|---|---|---|---|---|
| half_cheetah_vel | Δx / dt | g ~ U[0, 3] m/s | 200 | 5 · .01 s | 1 | 100, test 30 |
| half_cheetah_vel_maml | centre of mass | g ~ U[0, 2] m/s | 200 | 1 · .01 s | 1 | ∞, test 40 |
| half_cheetah_vel_promp | Δx / dt | g ~ U[0, 3] m/s | 100 | 5 · .01 s | 10 | ∞, test 40 |
| half_cheetah_vel_pmr | Δx / dt | g ~ U[0, 2] m/s | 100 | 5 · .01 s | 10 | ∞, test 40 |
| half_cheetah_vel_pearl | Δx / dt | g ~ U[0, 3] m/s | 200 | 5 · .01 s | 1 | the published 100, test 30 |
| half_cheetah_vel_varibad | Δx / dt | g ~ U[0, 3] m/s | 200 | 5 · .01 s | 1 | ∞, test 40 |
| half_cheetah_vel_wide | Δx / dt | g ~ U[0, 7] m/s | 200 | 5 · .01 s | 1 | ∞, test 40 |
| half_cheetah_vel_long | Δx / dt | g ~ U[0, 3] m/s | 1000 | 5 · .01 s | 1 | ∞, test 40 |
| half_cheetah_dir | Δx / dt | d ∈ {1, −1} | 200 | 5 · .01 s | 1 | the two |
| half_cheetah_dir_maml | centre of mass | d ∈ {1, −1} | 200 | 1 · .01 s | 1 | the two |
| half_cheetah_dir_promp | Δx / dt | d ∈ {1, −1} | 100 | 5 · .01 s | 10 | the two |
| half_cheetah_dir_sparse | Δx / dt | d ∈ {1, −1} | 200 | 5 · .01 s | 1 | the two |
| half_cheetah_cripple | Δx / dt | j ∈ {0, ..., 5} | 1000 | 5 · .01 s | 1 | 5 (j = 1–5), test 1 (j = 0) |

Sources: Finn et al. 2017 (cbfinn/maml_rl, half_cheetah_env_rand.py, half_cheetah_env_rand_direc.py)
for `_maml`; Rothfuss et al. 2019 (jonasrothfuss/ProMP, half_cheetah_rand_vel.py,
half_cheetah_rand_direc.py) for `_promp`; tristandeleu/pytorch-maml-rl
(maml_rl/envs/mujoco/half_cheetah.py) for `_pmr`; Rakelly et al. 2019 (katerakelly/oyster,
half_cheetah_vel.py) for `_pearl`; Zintgraf et al. 2020 (lmzintgraf/varibad, half_cheetah_vel.py)
for `_varibad`, which are two episodes on one task there; Greenberg et al. 2023 (ido90/RobustMetaRL)
for `_wide`; Grigsby et al. 2024 (UT-Austin-RPL/amago) for `_long`; Zintgraf et al. 2021
(lmzintgraf/hyperx, half_cheetah_dir.py) for `_sparse`; Nagabandi et al. 2019
(iclavera/learning_to_adapt, half_cheetah_env.py) for `_cripple`.

How we differ: today's MuJoCo and Gymnasium's model; the test tasks are our own except in `_pearl`,
and except for test_velocities=published of half_cheetah_vel_maml, which are its authors';
directions come in turn instead of by coin, so that each meta-batch has as many of both; the
torso's origin is that at the end of the step, not one physics step before; `_cripple` has
Gymnasium's control step and observation (published: 0.01 s, centre of mass and its velocity).
"""

from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import mujoco
import numpy as np
import torch
from torch import Tensor

from envs.mujoco.env import MDP, Effects
from envs.mujoco.models import GymnasiumModel
from envs.mujoco.motion import mean_velocity, squared_norm
from envs.mujoco.planar import PlanarMassCentre
from envs.mujoco.targets import (
    DIRECTION,
    FORWARD,
    VELOCITY,
    Direction,
    TaskReward,
    directions,
    published_velocities,
    velocities,
)
from envs.mujoco.variant import Setting, Variant
from envs.noise import normal_from_uniform
from envs.sim.types import Simulator
from envs.tasks import ListedTasks, PublishedTest
from metarl.choices import expected
from metarl.errors import SettingError
from metarl.rl.types import FixedSpeeds
from metarl.struct import struct

CONTROL_COST = 0.05
SPARSE_DISTANCE = 5.0  # m
TEST_VELOCITIES = ("own", "published")
TORSO_HEIGHT = 0.7  # m, at qpos 0
Tasks = TypeVar("Tasks")


@struct
class DeadMotor:
    joint: Tensor  # [N] int64: 0–5, in the order of the actions


def far_direction_reward(x: Tensor, velocity: Tensor, tasks: Direction) -> Tensor:
    return (tasks.direction * velocity).masked_fill(x.abs() < SPARSE_DISTANCE, 0.0)


def without_dead_motor(
    fails_at_step: int, control: Tensor, tasks: DeadMotor, num_steps: Tensor
) -> Tensor:
    """control [W, 6], with 0 for the dead motor of those worlds that have taken `fails_at_step`
    steps or more."""
    joint = tasks.joint[:, None]
    if fails_at_step == 0:
        return control.scatter(1, joint, 0.0)
    still = control.gather(1, joint).masked_fill(num_steps[:, None] >= fails_at_step, 0.0)
    return control.scatter(1, joint, still)


class HalfCheetah(MDP[Tasks, Tensor]):
    """Runs as HalfCheetah-v5 does: the velocity is the displacement of the root; starts are U(±0.1)
    and 0.1 N(0, 1) about rest."""

    num_uniforms = 18
    camera = "track"

    def __init__(
        self,
        model: mujoco.MjModel,
        control_step: float,
        *,
        reward: TaskReward[Tasks],
        shows_torso: bool = False,
    ) -> None:
        self._control_step = control_step  # s
        self._task_reward = reward.function
        self._shows_torso = shows_torso
        self.obs_size = 20 if shows_torso else 17
        self.definition = {
            "reward": f"{reward.formula} - {CONTROL_COST} |a|^2",
            "velocity": "root displacement",
            "start_noise": "U(-0.1, 0.1), 0.1 N",
        }

    def initial_state(self, uniform: Tensor) -> tuple[Tensor, Tensor]:
        return 0.2 * uniform[:, :9] - 0.1, 0.1 * normal_from_uniform(uniform[:, 9:])

    def measure(self, sim: Simulator) -> Tensor:
        """Returns x of the root, [W] in m."""
        return sim.qpos.select(1, 0).clone()

    def observe(self, sim: Simulator, now: Tensor) -> Tensor:
        # Without x, where it isn't published, so that the policy can't tell where it is.
        moving = [sim.qpos[:, 1:], sim.qvel]
        if not self._shows_torso:
            return torch.cat(moving, dim=1)
        x, height = now[:, None], sim.qpos[:, 1:2] + TORSO_HEIGHT
        return torch.cat([*moving, x, torch.zeros_like(x), height], dim=1)

    def reward(
        self, before: Tensor, now: Tensor, sim: Simulator, control: Tensor, tasks: Tasks
    ) -> tuple[Tensor, dict[str, Tensor]]:
        velocity = mean_velocity(before, now, self._control_step)
        return _total(self._task_reward(now, velocity, tasks), velocity, control)


class HalfCheetahMassCentre(MDP[Tasks, tuple[Tensor, Tensor]]):
    """Runs as cbfinn/maml_rl does: the velocity is that of the centre of mass; starts are 0.01 N(0,
    1) and 0.1 N(0, 1)."""

    obs_size = 20
    num_uniforms = 18
    camera = "track"

    def __init__(
        self, model: mujoco.MjModel, control_step: float, *, reward: TaskReward[Tasks]
    ) -> None:
        self._task_reward = reward.function
        self._mass_centre = PlanarMassCentre(model)
        self.definition = {
            "reward": f"{reward.formula} - {CONTROL_COST} |a|^2",
            "velocity": "centre of mass",
            "start_noise": "0.01 N, 0.1 N",
        }

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        self._mass_centre.to(device, dtype)

    def initial_state(self, uniform: Tensor) -> tuple[Tensor, Tensor]:
        normal = normal_from_uniform(uniform)
        return 0.01 * normal[:, :9], 0.1 * normal[:, 9:]

    def measure(self, sim: Simulator) -> tuple[Tensor, Tensor]:
        """Place and velocity of the centre of mass, (x, y, z) [W, 3] in m and m/s."""
        return self._mass_centre(sim.qpos, sim.qvel)

    def observe(self, sim: Simulator, now: tuple[Tensor, Tensor]) -> Tensor:
        return torch.cat([sim.qpos[:, 1:], sim.qvel, now[0]], dim=1)

    def reward(
        self,
        before: tuple[Tensor, Tensor],
        now: tuple[Tensor, Tensor],
        sim: Simulator,
        control: Tensor,
        tasks: Tasks,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        velocity = now[1].select(1, 0).float()  # at the end of the step
        return _total(self._task_reward(sim.qpos.select(1, 0), velocity, tasks), velocity, control)


def _total(
    task_reward: Tensor, velocity: Tensor, control: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    control_cost = CONTROL_COST * squared_norm(control)
    return task_reward - control_cost, {"velocity": velocity, "control_cost": control_cost}


def dead_motors(fails_at_step: int | None) -> ListedTasks[DeadMotor]:
    """Training has motors 1–5 die, test motor 0, the back thigh."""
    return ListedTasks(
        train=DeadMotor(joint=torch.arange(1, 6)),
        test=DeadMotor(joint=torch.zeros(1, dtype=torch.int64)),
        num_test=1,
        source="joints 1-5, joint 0",
        bounds={"joint": (0, 5)},
        describe=partial(
            _describe_motor, "" if fails_at_step is None else f" from step {fails_at_step}"
        ),
    )


def _describe_motor(when: str, tasks: DeadMotor) -> list[str]:
    names = ("back thigh", "back shin", "back foot", "front thigh", "front shin", "front foot")
    return [f"dead motor of the {names[joint]}{when}" for joint in tasks.joint.tolist()]


def _dies_at(row: Variant, fails_at_step: int | None) -> Variant:
    whole = isinstance(fails_at_step, int) and not isinstance(fails_at_step, bool)
    if fails_at_step is not None and not (whole and 0 < fails_at_step < row.horizon):
        raise SettingError(
            f"fails_at_step is {fails_at_step!r}; expected a control step 1, ..., "
            f"{row.horizon - 1} (horizon - 1), or None for "
            "a motor that is dead from the start"
        )
    return replace(
        row,
        tasks=partial(dead_motors, fails_at_step),
        effects=Effects(actuate=partial(without_dead_motor, fails_at_step or 0)),
        definition={"fails_at_step": fails_at_step},
    )


def _tested_on(row: Variant, test_velocities: str) -> Variant:
    if test_velocities not in TEST_VELOCITIES:
        raise SettingError(
            f"test_velocities is {test_velocities!r}; {expected(test_velocities, TEST_VELOCITIES)}"
        )
    if test_velocities == "own":
        return row
    drawn = PublishedTest(uniform=_of_numpys_seed_1, source="numpy RandomState(1).uniform")
    return replace(row, tasks=partial(velocities, 2.0, published_test=drawn))


def _of_numpys_seed_1(num: int) -> Tensor:
    return torch.from_numpy(np.random.RandomState(1).uniform(size=(num, 1)))


FAR_DIRECTION = TaskReward(far_direction_reward, f"(d v where |x| >= {SPARSE_DISTANCE})")
# The mean return of RL² on the 30 held-out tasks is −36.5 (results/half_cheetah_vel_rl2).
OF_RL2 = FixedSpeeds(
    allowance=36.5,
    allowance_is="what RL² loses to run-up, control, noise and its own errors",
    allowance_steps=200,
)
_NEW_EACH_TIME: dict[str, Any] = {"num_train_tasks": None, "num_test_tasks": 40}
_PROMP: dict[str, Any] = {"horizon": 100, "action_scale": 10.0}

_VEL = Variant(
    family="half_cheetah_vel",
    model=GymnasiumModel(file="half_cheetah.xml"),
    mdp=partial(HalfCheetah, reward=VELOCITY),
    tasks=partial(velocities, 3.0),
    effects=Effects(fixed_speeds=FixedSpeeds()),
    horizon=200,
    action_scale=1.0,
    frame_skip=5,
    num_train_tasks=100,
    num_test_tasks=30,
)
_SHOWS_TORSO = partial(HalfCheetah, reward=VELOCITY, shows_torso=True)
_DIR = replace(
    _VEL,
    family="half_cheetah_dir",
    mdp=partial(HalfCheetah, reward=DIRECTION),
    tasks=directions,
    effects=Effects(),
    num_train_tasks=None,
    num_test_tasks=None,
)

VARIANTS: dict[str, Variant] = {
    "half_cheetah_vel": replace(_VEL, effects=Effects(fixed_speeds=OF_RL2)),
    "half_cheetah_vel_maml": replace(
        _VEL,
        mdp=partial(HalfCheetahMassCentre, reward=VELOCITY),
        tasks=partial(velocities, 2.0),
        frame_skip=1,
        own_settings={"test_velocities": Setting("own", _tested_on)},
        **_NEW_EACH_TIME,
    ),
    "half_cheetah_vel_promp": replace(_VEL, **_PROMP, **_NEW_EACH_TIME),
    "half_cheetah_vel_pmr": replace(
        _VEL, mdp=_SHOWS_TORSO, tasks=partial(velocities, 2.0), **_PROMP, **_NEW_EACH_TIME
    ),
    "half_cheetah_vel_pearl": replace(
        _VEL, mdp=_SHOWS_TORSO, tasks=partial(published_velocities, 3.0)
    ),
    "half_cheetah_vel_varibad": replace(_VEL, mdp=_SHOWS_TORSO, **_NEW_EACH_TIME),
    "half_cheetah_vel_wide": replace(
        _VEL, mdp=_SHOWS_TORSO, tasks=partial(velocities, 7.0), **_NEW_EACH_TIME
    ),
    "half_cheetah_vel_long": replace(_VEL, horizon=1000, **_NEW_EACH_TIME),
    "half_cheetah_dir": _DIR,
    "half_cheetah_dir_maml": replace(
        _DIR, mdp=partial(HalfCheetahMassCentre, reward=DIRECTION), frame_skip=1
    ),
    "half_cheetah_dir_promp": replace(_DIR, **_PROMP),
    "half_cheetah_dir_sparse": replace(
        _DIR, mdp=partial(HalfCheetah, reward=FAR_DIRECTION, shows_torso=True)
    ),
    "half_cheetah_cripple": replace(
        _DIR,
        family="half_cheetah_cripple",
        mdp=partial(HalfCheetah, reward=FORWARD),
        horizon=1000,
        own_settings={"fails_at_step": Setting(None, _dies_at)},
    ),
}
