"""Ant whose task is a forward velocity (ant_vel), a heading to run in (ant_dir, ant_dir_2d) or a
place to go to (ant_goal).

Physics is Gymnasium's ant.xml, bit-identical to Ant-v5 with frame_skip 5.

| obs | meaning | unit |
|---|---|---|
| 0–1 | ant_goal only: x, y of the torso | m |
| 0 (2) | height of the torso | m |
| 1–4 (3–6) | orientation of the torso, a quaternion w, x, y, z | 1 |
| 5–12 (7–14) | angles of hip and ankle of the front left, front right, back left, back right leg | rad |
| 13–15 (15–17) | velocity of the torso along x, y, z | m/s |
| 16–18 (18–20) | angular velocity of the torso about its own x, y, z | rad/s |
| 19–26 (21–28) | rates of the eight joints | rad/s |
| 27–110 | ant_dir_promp only: contact torque (3) and force (3) on each of 14 bodies, clipped to ±1; those on the world, 27–32, are 0 at all times, and kept as published | N m, N |

The numbers in brackets are ant_goal's.

| action | meaning | unit |
|---|---|---|
| 0–7 | torque at hip and ankle of the back right, front left, front right, back left leg, as a fraction of 150 N m times action_scale | 1 |

    r = task reward + alive bonus [robot is healthy] − c ‖a‖² − 0.0005 ‖f‖²

with a the action after scaling and clipping to [−1, 1], v the displacement of the torso by the
control step, p its place, and f the contact torques and forces on all bodies, each clipped to ±1 N
m or N; ant_goal_sparse doesn't charge them. The robot is healthy while its torso's height is within
[0.2, 1] m, in `_promp` within [0, 1] m; else the episode terminates, except in ant_goal.

| environment | task reward | alive bonus | c | task prior | T | control step | action_scale | training tasks |
|---|---|---|---|---|---|---|---|---|
| ant_vel | 1 − abs(vˣ − g) | .05 | .005 | g ~ U[0, 3] m/s | 200 | 5 · .01 s | 1 | 100, test 30 |
| ant_dir | v · (cos g, sin g) | 1 | .5 | g ∈ {0, π} | 200 | 5 · .01 s | 1 | the two |
| ant_dir_promp | v · (cos g, sin g) | 1, also for the step that ends in a fall | .5 | g ∈ {0, π} | 100 | 5 · .01 s | 10 | the two |
| ant_dir_varibad | v · (cos g, sin g) | 1 | .5 | g ∈ {−1, 1} rad | 200 | 5 · .01 s | 1 | the two |
| ant_dir_2d | v · (cos g, sin g) | 1 | .5 | g ~ U[0, 2π) | 200 | 5 · .01 s | 1 | 100, test 30 |
| ant_goal | −‖p − g‖₁ | 0 | .1 | g uniform on the disc of 3 m | 200 | 5 · .01 s | 1 | 150, test 30 |
| ant_goal_maml | 4 − ‖p − g‖₁, terminates | .05 | .005 | g ~ U[−3, 3]² m | 200 | 5 · .01 s | 1 | ∞, test 40 |
| ant_goal_sparse | 1 − ‖p − g‖₂ within .75 m of g, else −.75 | 0 | .01 | g uniform on the disc of 3 m | 200 | 5 · .01 s | 1 | ∞, test 40 |

Sources: Finn et al. 2017 (cbfinn/maml_rl, ant_env_rand.py, ant_env_rand_goal.py) for ant_vel and
ant_goal_maml; Rothfuss et al. 2019 (jonasrothfuss/ProMP, ant_rand_direc_2d.py, ant_rand_direc.py)
for ant_dir_2d and `_promp`; Rakelly et al. 2019 (katerakelly/oyster, ant_dir.py, ant_goal.py) for
ant_dir and ant_goal; Zintgraf et al. 2020 (lmzintgraf/varibad, ant_dir.py) for `_varibad`, whose ±1
are used as radians there, so that the headings are ±57° and not forward and backward; Zintgraf et
al. 2021 (lmzintgraf/hyperx, ant_goal.py) for `_sparse`.

How we differ: contact forces are those of the state at the end of the step; Ant-v5 has them from
the last stage of the last Runge-Kutta step (under random actions their costs correlate by 0.9).
Velocity is the displacement of qpos; Ant-v5's x_velocity takes the torso's xpos, which is not yet
that of the end of the step (0.002 m/s apart in the median, at most 0.08). The bonus is paid as in
Ant-v5, except in `_promp`; published are 1 and .05 also in the step in which the robot falls.
Gymnasium's model, start pose and noise, and control step (cbfinn/maml_rl: 0.02 s) in all variants.
cbfinn's two pay for the velocity and the place of the centre of mass, ours for the torso's (under
random actions .1 m/s apart in the median, at most .9; .06 m). Of what
the published agents observe ours don't have the clipped contact forces (ant_vel, ant_goal, `_maml`,
`_sparse`, ant_dir_2d), the torso's rotation matrix (cbfinn's two), nor a second copy of its place.
Published `_sparse` charges contacts .0005 of their squares, ours nothing; published ant_dir_2d goes
on below 0.2 m, as `_promp` does here. Directions come in turn instead of by coin.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, TypeVar

import mujoco
import torch
from torch import Tensor

from envs.mujoco.env import MDP, Effects
from envs.mujoco.models import GymnasiumModel, sense_contact_forces
from envs.mujoco.render import View
from envs.mujoco.targets import (
    Heading,
    Place,
    TargetVelocity,
    along,
    few_headings,
    heading_arrow,
    headings,
    place_disc,
    places_in_square,
    places_on_disc,
    velocities,
)
from envs.mujoco.variant import Variant
from envs.noise import normal_from_uniform
from envs.sim.types import Simulator
from metarl.rl.types import FixedSpeeds

HEALTHY_HEIGHT = (0.2, 1.0)  # m
CONTACT_COST = 5e-4
PLACE_RANGE = 3.0  # m, of the places to go to
GOAL_RADIUS = 0.75  # m, `_sparse`
_BESIDE = View(distance=4.5, elevation=-25.0)
_TOWARDS_GOAL = View(distance=7.0, elevation=-40.0, shows_marks=True)
Tasks = TypeVar("Tasks")
Outcome = tuple[Tensor, dict[str, Tensor]]


def velocity_reward(place: Tensor, velocity: Tensor, tasks: TargetVelocity) -> Outcome:
    forward = velocity[:, 0]
    return 1.0 - (forward - tasks.target_velocity).abs(), {"velocity": forward}


def heading_reward(place: Tensor, velocity: Tensor, tasks: Heading) -> Outcome:
    forward = along(tasks.heading, velocity)
    return forward, {"velocity": forward}


def near_reward(highest: float, place: Tensor, velocity: Tensor, tasks: Place) -> Outcome:
    away = place - tasks.place
    return highest - away.abs().sum(-1), {"distance": torch.linalg.vector_norm(away, dim=-1)}


def inside_reward(place: Tensor, velocity: Tensor, tasks: Place) -> Outcome:
    distance = torch.linalg.vector_norm(place - tasks.place, dim=-1)
    inside = distance <= GOAL_RADIUS
    return torch.where(inside, 1.0 - distance, -GOAL_RADIUS), {
        "distance": distance,
        "success": inside,
    }


@dataclass(frozen=True, kw_only=True)
class Rules(Generic[Tasks]):
    """Says what a variant pays for, and when its episodes end."""

    reward: Callable[[Tensor, Tensor, Tasks], Outcome]
    """(place [W, 2], velocity [W, 2], tasks) -> what the task pays [W], and terms [W]."""
    formula: str
    """The reward as it reads in a definition."""
    alive_bonus: float
    control_cost: float
    contact_cost: float = CONTACT_COST
    terminates: bool = True
    """True: an episode ends when the robot isn't healthy."""
    healthy_height: tuple[float, float] = HEALTHY_HEIGHT
    """The lowest and highest healthy place of the torso, in m."""
    bonus_when_falling: bool = False


class Ant(MDP[Tasks, Tensor]):
    """Runs as Ant-v5 does: starts are U(±0.1) about rest and 0.1 N(0, 1)."""

    num_uniforms = 29

    def __init__(
        self,
        model: mujoco.MjModel,
        control_step: float,
        *,
        rules: Rules[Tasks],
        shows_place: bool = False,
        shows_forces: bool = False,
        camera: View = _BESIDE,
    ) -> None:
        self._rest = torch.tensor(model.qpos0)  # [15]
        self._control_step = control_step  # s
        self._rules = rules
        self._shows_place = shows_place
        self._shows_forces = shows_forces
        self.camera = camera
        self.obs_size = 27 + 2 * shows_place + 84 * shows_forces
        self.definition = {
            "reward": f"{rules.formula} + {rules.alive_bonus} [healthy]"
            f" - {rules.control_cost} |a|^2 - {rules.contact_cost} |f|^2",
            "bonus": "always" if rules.bonus_when_falling else "while healthy",
            "velocity": "root displacement",
            "contact_forces": f"{'' if shows_forces else 'not '}observed, at the end of the step, "
            "clipped to 1",
            "terminates": f"height outside {list(rules.healthy_height)} m"
            if rules.terminates
            else "never",
            "start_noise": "U(-0.1, 0.1), 0.1 N",
        }

    def initial_state(self, uniform: Tensor) -> tuple[Tensor, Tensor]:
        return self._rest + 0.2 * uniform[:, :15] - 0.1, 0.1 * normal_from_uniform(uniform[:, 15:])

    def measure(self, sim: Simulator) -> Tensor:
        """Returns x and y of the torso, [W, 2] in m."""
        return sim.qpos[:, :2].clone()

    def observe(self, sim: Simulator, now: Tensor) -> Tensor:
        # Without x and y, where they don't matter, so that the policy can't tell where it is.
        moving = [sim.qpos if self._shows_place else sim.qpos[:, 2:], sim.qvel]
        return torch.cat([*moving, contact_forces(sim)] if self._shows_forces else moving, dim=1)

    def reward(
        self, before: Tensor, now: Tensor, sim: Simulator, control: Tensor, tasks: Tasks
    ) -> Outcome:
        reward, terms = self._rules.reward(now, (now - before) / self._control_step, tasks)
        control_cost = self._rules.control_cost * control.square().sum(-1)
        contact_cost = self._rules.contact_cost * contact_forces(sim).square().sum(-1)
        bonus = self._rules.alive_bonus * (self.healthy(sim) | self._rules.bonus_when_falling)
        costs = {"control_cost": control_cost, "contact_cost": contact_cost}
        return reward + bonus - control_cost - contact_cost, {**terms, **costs}

    def terminated(self, sim: Simulator) -> Tensor | None:
        return ~self.healthy(sim) if self._rules.terminates else None

    def healthy(self, sim: Simulator) -> Tensor:
        """Tells [W] whether the robot is healthy."""
        height, (lowest, highest) = sim.qpos[:, 2], self._rules.healthy_height
        return (height >= lowest) & (height <= highest)


def contact_forces(sim: Simulator) -> Tensor:
    """[W, 84]: torque and force on each of 14 bodies, the world first, clipped to ±1 N m and N."""
    return sim.field("cfrc_ext").flatten(1).clamp(-1.0, 1.0)


RUN = Rules(reward=heading_reward, formula="v . (cos g, sin g)", alive_bonus=1.0, control_cost=0.5)
RUN_LENIENT = replace(RUN, healthy_height=(0.0, 1.0), bonus_when_falling=True)
HOLD = Rules(reward=velocity_reward, formula="1 - |v_x - g|", alive_bonus=0.05, control_cost=0.005)
GO = Rules(
    reward=partial(near_reward, 0.0),
    formula="-|p - g|_1",
    alive_bonus=0.0,
    control_cost=0.1,
    terminates=False,
)
GO_UPRIGHT = Rules(
    reward=partial(near_reward, 4.0), formula="4 - |p - g|_1", alive_bonus=0.05, control_cost=0.005
)
GO_INSIDE = Rules(
    reward=inside_reward,
    formula=f"(1 - |p - g|_2 within {GOAL_RADIUS} m, else -{GOAL_RADIUS})",
    alive_bonus=0.0,
    control_cost=0.01,
    contact_cost=0.0,
    terminates=False,
)
_GO_ANT = partial(Ant, shows_place=True, camera=_TOWARDS_GOAL)
_NEW_EACH_TIME: dict[str, Any] = {"num_train_tasks": None, "num_test_tasks": 40}

_VEL = Variant(
    family="ant_vel",
    model=GymnasiumModel(file="ant.xml", edit=sense_contact_forces),
    mdp=partial(Ant, rules=HOLD),
    tasks=partial(velocities, 3.0),
    effects=Effects(fixed_speeds=FixedSpeeds(bonus=1.0 + HOLD.alive_bonus)),
    horizon=200,
    action_scale=1.0,
    frame_skip=5,
    num_train_tasks=100,
    num_test_tasks=30,
    fields=("cfrc_ext",),
    current_fields=True,
)
_DIR_2D = replace(
    _VEL,
    family="ant_dir_2d",
    mdp=partial(Ant, rules=RUN),
    tasks=headings,
    effects=Effects(marks=heading_arrow),
)
_DIR = replace(
    _DIR_2D,
    family="ant_dir",
    tasks=partial(few_headings, 0.0, math.pi),
    num_train_tasks=None,
    num_test_tasks=None,
)
_GOAL = replace(
    _VEL,
    family="ant_goal",
    mdp=partial(_GO_ANT, rules=GO),
    tasks=partial(places_on_disc, PLACE_RANGE),
    effects=Effects(marks=partial(place_disc, 0.25)),
    num_train_tasks=150,
)

VARIANTS: dict[str, Variant] = {
    "ant_vel": _VEL,
    "ant_dir": _DIR,
    "ant_dir_promp": replace(
        _DIR, mdp=partial(Ant, rules=RUN_LENIENT, shows_forces=True), horizon=100, action_scale=10.0
    ),
    "ant_dir_varibad": replace(_DIR, tasks=partial(few_headings, -1.0, 1.0)),
    "ant_dir_2d": _DIR_2D,
    "ant_goal": _GOAL,
    "ant_goal_maml": replace(
        _GOAL,
        mdp=partial(_GO_ANT, rules=GO_UPRIGHT),
        tasks=partial(places_in_square, PLACE_RANGE),
        **_NEW_EACH_TIME,
    ),
    "ant_goal_sparse": replace(
        _GOAL,
        mdp=partial(_GO_ANT, rules=GO_INSIDE),
        effects=Effects(marks=partial(place_disc, GOAL_RADIUS)),
        **_NEW_EACH_TIME,
    ),
}
