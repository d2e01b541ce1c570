"""What Walker2d and Hopper share: a planar robot that must stay upright, seen and started as in Gymnasium's v5 environments."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import mujoco
import torch
from torch import Tensor

from envs.mdp import MujocoEnv
from envs.mujoco.build import environment
from envs.mujoco.motion import mean_velocity, squared_norm
from envs.mujoco.scaled_physics import FIELDS, PhysicsFactors, PhysicsScaler
from envs.sim.types import Simulator

CONTROL_COST = 1e-3
START_NOISE = 5e-3  # of every position and velocity
FASTEST_SEEN = 10.0  # m/s or rad/s

Tasks = TypeVar("Tasks")


@dataclass(frozen=True, kw_only=True)
class Upright:
    """The states in which the robot hasn't fallen: height and pitch of the torso, all bounds exclusive."""

    lowest: float  # m
    highest: float = torch.inf  # m
    pitch: float  # rad, to either side
    state: float = torch.inf  # of every position and velocity after x and height

    def __call__(self, sim: Simulator) -> Tensor:
        """[W] bool"""
        height, pitch = sim.qpos[:, 1], sim.qpos[:, 2]
        upright = (height > self.lowest) & (height < self.highest) & (pitch.abs() < self.pitch)
        if self.state < torch.inf:
            upright &= (sim.qpos[:, 2:].abs() < self.state).all(-1) & (sim.qvel.abs() < self.state).all(-1)
        return upright


@dataclass(frozen=True, kw_only=True)
class UprightRobot(Generic[Tasks]):
    """r = task_reward(x, v, task) + bonus − 0.001 ‖a‖², with v the displacement of the root along x by the control step.

    Args:
      rest: qpos [nq] without noise.
      bonus_when_falling: also for the step that ends the episode, as before Gymnasium's v5.
    """

    task_reward: Callable[[Tensor, Tensor, Tasks], Tensor]
    upright: Upright
    bonus: float
    bonus_when_falling: bool
    rest: Tensor
    control_step: float  # s
    camera = "track"

    @property
    def num_uniforms(self) -> int:
        return 2 * len(self.rest)

    @property
    def obs_size(self) -> int:
        return 2 * len(self.rest) - 1

    def initial_state(self, uniform: Tensor) -> tuple[Tensor, Tensor]:
        noise = START_NOISE * (2 * uniform - 1)
        return self.rest + noise[:, : len(self.rest)], noise[:, len(self.rest) :]

    def measure(self, sim: Simulator) -> Tensor:
        """x [W] in m."""
        return sim.qpos.select(1, 0).clone()

    def observe(self, sim: Simulator, now: Tensor) -> Tensor:
        # Without x, so that the policy can't tell where it is.
        return torch.cat([sim.qpos[:, 1:], sim.qvel.clamp(-FASTEST_SEEN, FASTEST_SEEN)], dim=1)

    def reward(
        self, before: Tensor, now: Tensor, sim: Simulator, control: Tensor, tasks: Tasks
    ) -> tuple[Tensor, dict[str, Tensor]]:
        velocity = mean_velocity(before, now, self.control_step)
        bonus = self.bonus if self.bonus_when_falling else self.bonus * self.upright(sim)
        control_cost = CONTROL_COST * squared_norm(control)
        reward = self.task_reward(now, velocity, tasks) + bonus - control_cost
        return reward, {"velocity": velocity, "control_cost": control_cost}

    def terminated(self, sim: Simulator) -> Tensor:
        return ~self.upright(sim)


def upright_environment(
    num_worlds: int,
    *,
    name: str,
    family: str,
    model: mujoco.MjModel,
    model_name: str,
    frame_skip: int,
    upright: Upright,
    task_reward: Callable[[Tensor, Tensor, Any], Tensor],
    formula: str,  # of task_reward
    bonus: float,
    bonus_when_falling: bool,
    tasks: Any,
    **settings: Any,
) -> MujocoEnv[Any]:
    """The environment `name` with the tasks of `tasks`; settings are those of `environment`."""
    mdp: UprightRobot[Any] = UprightRobot(
        task_reward=task_reward,
        upright=upright,
        bonus=bonus,
        bonus_when_falling=bonus_when_falling,
        rest=torch.tensor(model.qpos0),
        control_step=model.opt.timestep * frame_skip,
    )
    if isinstance(tasks.test_tasks(1), PhysicsFactors):
        settings |= {"per_world": FIELDS, "set_physics": PhysicsScaler(model)}
    return environment(
        num_worlds,
        name=name,
        family=family,
        model=model,
        model_name=model_name,
        mdp=mdp,
        tasks=tasks,
        frame_skip=frame_skip,
        numbers={
            "reward": f"{formula} + {bonus:g} - {CONTROL_COST} |a|^2",
            "bonus": "always" if bonus_when_falling else "while upright",
            "upright": {bound: value for bound, value in vars(upright).items() if value < torch.inf},
            "velocity": "root displacement",
            "start_noise": f"U(-{START_NOISE}, {START_NOISE})",
        },
        **settings,
    )
