"""What Walker2d and Hopper share: a planar robot that must stay upright, seen and started as in
Gymnasium's v5 environments."""

from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import mujoco
import torch
from torch import Tensor

from envs.mujoco.env import MDP
from envs.mujoco.models import Model
from envs.mujoco.motion import mean_velocity, squared_norm
from envs.mujoco.scaled_physics import physics_factors, scaled_physics
from envs.mujoco.targets import FORWARD, TaskReward
from envs.mujoco.variant import Variant
from envs.sim.types import Simulator

CONTROL_COST = 1e-3
START_NOISE = 5e-3  # of every position and velocity
FASTEST_SEEN = 10.0  # m/s or rad/s

Tasks = TypeVar("Tasks")


@dataclass(frozen=True, kw_only=True)
class Upright:
    """Tells the states in which the robot hasn't fallen, by height and pitch of the torso. All
    bounds are exclusive."""

    lowest: float  # m
    highest: float = torch.inf  # m
    pitch: float  # rad, to either side
    state: float = torch.inf  # of every position and velocity after x and height

    def __call__(self, sim: Simulator) -> Tensor:
        """Tells [W] whether the robot stands upright."""
        height, pitch = sim.qpos[:, 1], sim.qpos[:, 2]
        upright = (height > self.lowest) & (height < self.highest) & (pitch.abs() < self.pitch)
        if self.state < torch.inf:
            upright &= (sim.qpos[:, 2:].abs() < self.state).all(-1) & (
                sim.qvel.abs() < self.state
            ).all(-1)
        return upright


class UprightRobot(MDP[Tasks, Tensor]):
    """Pays r = task_reward(x, v, task) + bonus − 0.001 ‖a‖², with v the displacement of the root
    along x by the control step.

    Args:
      bonus_when_falling: the bonus is also paid for the step that ends the episode, as before
        Gymnasium's v5.
    """

    camera = "track"

    def __init__(
        self,
        model: mujoco.MjModel,
        control_step: float,
        *,
        upright: Upright,
        reward: TaskReward[Tasks],
        bonus: float,
        bonus_when_falling: bool = False,
    ) -> None:
        self._rest = torch.tensor(model.qpos0)  # [nq]
        self._control_step = control_step  # s
        self._upright = upright
        self._task_reward = reward.function
        self._bonus = bonus
        self._bonus_when_falling = bonus_when_falling
        self.num_uniforms = 2 * len(self._rest)
        self.obs_size = 2 * len(self._rest) - 1
        self.definition = {
            "reward": f"{reward.formula} + {bonus:g} - {CONTROL_COST} |a|^2",
            "bonus": "always" if bonus_when_falling else "while upright",
            "upright": {
                bound: value for bound, value in vars(upright).items() if value < torch.inf
            },
            "velocity": "root displacement",
            "start_noise": f"U(-{START_NOISE}, {START_NOISE})",
        }

    def initial_state(self, uniform: Tensor) -> tuple[Tensor, Tensor]:
        noise = START_NOISE * (2 * uniform - 1)
        return self._rest + noise[:, : len(self._rest)], noise[:, len(self._rest) :]

    def measure(self, sim: Simulator) -> Tensor:
        """Returns x of the root, [W] in m."""
        return sim.qpos.select(1, 0).clone()

    def observe(self, sim: Simulator, now: Tensor) -> Tensor:
        # Without x, so that the policy can't tell where it is.
        return torch.cat([sim.qpos[:, 1:], sim.qvel.clamp(-FASTEST_SEEN, FASTEST_SEEN)], dim=1)

    def reward(
        self, before: Tensor, now: Tensor, sim: Simulator, control: Tensor, tasks: Tasks
    ) -> tuple[Tensor, dict[str, Tensor]]:
        velocity = mean_velocity(before, now, self._control_step)
        bonus = self._bonus if self._bonus_when_falling else self._bonus * self._upright(sim)
        control_cost = CONTROL_COST * squared_norm(control)
        reward = self._task_reward(now, velocity, tasks) + bonus - control_cost
        return reward, {"velocity": velocity, "control_cost": control_cost}

    def terminated(self, sim: Simulator) -> Tensor:
        return ~self._upright(sim)


def rand_params(
    robot: str, upright: Upright, model: Model, published: Model, *, published_skip: int
) -> tuple[Variant, Variant]:
    """Makes the two rows of a robot whose task is its physics: with one factor of inertia a body,
    so that the body can exist, and `_pearl` as it is published, with `published_skip` physics steps
    in a control step."""
    mdp = partial(UprightRobot, upright=upright, reward=FORWARD, bonus=1.0)
    row = Variant(
        family=f"{robot}_rand_params",
        model=model,
        mdp=mdp,
        tasks=partial(physics_factors, model, per_axis=False),
        effects=scaled_physics,
        horizon=200,
        action_scale=1.0,
        frame_skip=4,
        num_train_tasks=40,
        num_test_tasks=10,
    )
    pearl = replace(
        row,
        model=published,
        frame_skip=published_skip,
        mdp=partial(mdp, bonus_when_falling=True),
        tasks=partial(physics_factors, published, per_axis=True),
    )
    return row, pearl
