"""HalfCheetah whose task is a forward velocity to hold (half_cheetah_vel) or a direction to run in (half_cheetah_dir).

Physics is Gymnasium's half_cheetah.xml, bit-identical to HalfCheetah-v5 with frame_skip 5. Never terminates.

| obs | meaning | unit |
|---|---|---|
| 0 | height of the root above its start | m |
| 1 | pitch of the torso | rad |
| 2–7 | angles of back thigh, shin, foot, front thigh, shin, foot | rad |
| 8–9 | velocity of the root along x, z | m/s |
| 10 | pitch rate | rad/s |
| 11–16 | rates of the six joints | rad/s |
| 17–19 | `_maml` only: centre of mass x, y, z; y is 0 at all times, for the robot is planar, and kept as published | m |

| action | meaning | unit |
|---|---|---|
| 0–5 | torque at the joints in the order above, as a fraction of 120, 90, 60, 120, 60, 30 N m times action_scale | 1 |

    half_cheetah_vel:  r = −|v − g| − 0.05 ‖a‖²        half_cheetah_dir:  r = d v − 0.05 ‖a‖²

with a the action after scaling and clipping to [−1, 1], and v the displacement of the root along x by the control step.

| environment | v | task prior | T | control step | action_scale | training tasks |
|---|---|---|---|---|---|---|
| half_cheetah_vel | Δx / dt | g ~ U[0, 3] m/s | 200 | 5 · .01 s | 1 | 100, test 30 |
| half_cheetah_vel_maml | centre of mass | g ~ U[0, 2] m/s | 200 | 1 · .01 s | 1 | ∞, test 40 |
| half_cheetah_vel_promp | Δx / dt | g ~ U[0, 3] m/s | 100 | 5 · .01 s | 10 | ∞, test 40 |
| half_cheetah_dir | Δx / dt | d ∈ {1, −1} | 200 | 5 · .01 s | 1 | the two |
| half_cheetah_dir_promp | Δx / dt | d ∈ {1, −1} | 100 | 5 · .01 s | 10 | the two |

Sources: Finn et al. 2017 (cbfinn/maml_rl, half_cheetah_env_rand.py) for `_maml`, Rothfuss et al. 2019 (jonasrothfuss/ProMP,
half_cheetah_rand_vel.py, half_cheetah_rand_direc.py) for `_promp`. How we differ: today's MuJoCo and Gymnasium's model; the
test tasks are our own; directions come in turn instead of by coin, so that each meta-batch has as many of both.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from envs.mdp import MDP, MujocoEnv, definition, normal_from_uniform, split_name
from envs.mujoco.models import gymnasium_model
from envs.mujoco.planar import PlanarMassCentre
from envs.sim.cpu import CpuSimulator
from envs.sim.types import Simulator
from envs.tasks import FewTasks, TaskPrior
from metarl.rl.types import EnvSpec
from metarl.struct import struct

CONTROL_COST = 0.05
Tasks = TypeVar("Tasks")


@struct
class TargetVelocity:
    target_velocity: Tensor  # [N] m/s, forward


@struct
class Direction:
    direction: Tensor  # [N] 1 forward, -1 backward


def velocity_reward(velocity: Tensor, tasks: TargetVelocity) -> Tensor:
    return -(velocity - tasks.target_velocity).abs()


def direction_reward(velocity: Tensor, tasks: Direction) -> Tensor:
    return tasks.direction * velocity


@dataclass(frozen=True, kw_only=True)
class HalfCheetah(Generic[Tasks]):
    """As in HalfCheetah-v5: velocity from the displacement of the root, starts U(±0.1) and 0.1 N(0, 1) about rest."""

    task_reward: Callable[[Tensor, Tasks], Tensor]
    control_step: float  # s
    obs_size = 17
    num_uniforms = 18
    camera = "track"

    def initial_state(self, uniform: Tensor) -> tuple[Tensor, Tensor]:
        return 0.2 * uniform[:, :9] - 0.1, 0.1 * normal_from_uniform(uniform[:, 9:])

    def observe(self, sim: Simulator) -> Tensor:
        # Without x, so that the policy can't tell where it is.
        return torch.cat([sim.qpos[:, 1:], sim.qvel], dim=1)

    def measure(self, sim: Simulator) -> Tensor:
        return sim.qpos[:, 0].clone()

    def reward(self, before: Tensor, sim: Simulator, control: Tensor, tasks: Tasks) -> tuple[Tensor, dict[str, Tensor]]:
        velocity = (sim.qpos[:, 0] - before) / self.control_step
        return _total(self.task_reward(velocity, tasks), velocity, control)

    def terminated(self, sim: Simulator) -> Tensor:
        return torch.zeros_like(sim.diverged)


@dataclass(frozen=True, kw_only=True)
class HalfCheetahMassCentre(Generic[Tasks]):
    """As in cbfinn/maml_rl: velocity and position of the whole body's centre of mass, starts 0.01 N(0, 1), 0.1 N(0, 1)."""

    task_reward: Callable[[Tensor, Tasks], Tensor]
    mass_centre: PlanarMassCentre
    obs_size = 20
    num_uniforms = 18
    camera = "track"

    def initial_state(self, uniform: Tensor) -> tuple[Tensor, Tensor]:
        normal = normal_from_uniform(uniform)
        return 0.01 * normal[:, :9], 0.1 * normal[:, 9:]

    def observe(self, sim: Simulator) -> Tensor:
        position, _ = self.mass_centre(sim.qpos, sim.qvel)
        y = torch.zeros_like(position[:, :1])
        return torch.cat([sim.qpos[:, 1:], sim.qvel, position[:, :1], y, position[:, 1:]], dim=1)

    def measure(self, sim: Simulator) -> Tensor:
        return sim.time  # not used: the velocity at the end of the step is what counts

    def reward(self, before: Tensor, sim: Simulator, control: Tensor, tasks: Tasks) -> tuple[Tensor, dict[str, Tensor]]:
        velocity = self.mass_centre(sim.qpos, sim.qvel)[1][:, 0]
        return _total(self.task_reward(velocity, tasks), velocity, control)

    def terminated(self, sim: Simulator) -> Tensor:
        return torch.zeros_like(sim.diverged)


def _total(task_reward: Tensor, velocity: Tensor, control: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    control_cost = CONTROL_COST * control.square().sum(-1)
    return task_reward - control_cost, {"velocity": velocity, "control_cost": control_cost}


def half_cheetah_vel(
    num_worlds: int,
    *,
    horizon: int = 200,
    action_scale: float = 1.0,
    num_train_tasks: int | None = 100,
    num_test_tasks: int = 30,
    **machine: Any,
) -> MujocoEnv:
    """Hold a forward velocity in [0, 3] m/s. num_train_tasks None: training draws a new velocity each time."""
    tasks = velocities(3.0, num_train_tasks, num_test_tasks)
    return _environment("half_cheetah_vel", num_worlds, tasks, horizon, action_scale, **machine)


def half_cheetah_vel_maml(
    num_worlds: int,
    *,
    horizon: int = 200,
    action_scale: float = 1.0,
    num_train_tasks: int | None = None,
    num_test_tasks: int = 40,
    **machine: Any,
) -> MujocoEnv:
    """cbfinn/maml_rl's half_cheetah_vel: one physics step a control step, 2 s an episode, velocity of the mass centre."""
    tasks = velocities(2.0, num_train_tasks, num_test_tasks)
    return _environment("half_cheetah_vel_maml", num_worlds, tasks, horizon, action_scale, **machine)


def half_cheetah_vel_promp(
    num_worlds: int,
    *,
    horizon: int = 100,
    action_scale: float = 10.0,
    num_train_tasks: int | None = None,
    num_test_tasks: int = 40,
    **machine: Any,
) -> MujocoEnv:
    """ProMP's half_cheetah_vel: 100 steps, actions divided by 10."""
    tasks = velocities(3.0, num_train_tasks, num_test_tasks)
    return _environment("half_cheetah_vel_promp", num_worlds, tasks, horizon, action_scale, **machine)


def half_cheetah_dir(num_worlds: int, *, horizon: int = 200, action_scale: float = 1.0, **machine: Any) -> MujocoEnv:
    """Run forward or backward."""
    return _environment("half_cheetah_dir", num_worlds, directions(), horizon, action_scale, **machine)


def half_cheetah_dir_promp(
    num_worlds: int, *, horizon: int = 100, action_scale: float = 10.0, **machine: Any
) -> MujocoEnv:
    """ProMP's half_cheetah_dir: 100 steps, actions divided by 10."""
    return _environment("half_cheetah_dir_promp", num_worlds, directions(), horizon, action_scale, **machine)


def velocities(highest: float, num_train: int | None, num_test: int) -> TaskPrior[TargetVelocity]:
    """Target velocities U[0, highest] m/s."""
    return TaskPrior(
        draw=partial(_draw_velocity, highest),
        num_uniforms=1,
        bounds={"target_velocity": (0.0, highest)},
        describe=_describe_velocity,
        num_train=num_train,
        num_test=num_test,
    )


def directions() -> FewTasks[Direction]:
    """Forward and backward, in turn."""
    tasks = Direction(direction=torch.tensor([1.0, -1.0]))
    return FewTasks(tasks, bounds={"direction": (-1.0, 1.0)}, describe=_describe_direction)


def _draw_velocity(highest: float, uniform: Tensor) -> TargetVelocity:
    return TargetVelocity(target_velocity=(highest * uniform[:, 0]).float())


def _describe_velocity(tasks: TargetVelocity) -> list[str]:
    return [f"target {velocity:.2f} m/s" for velocity in tasks.target_velocity.tolist()]


def _describe_direction(tasks: Direction) -> list[str]:
    return ["forward" if direction > 0 else "backward" for direction in tasks.direction.tolist()]


def _environment(
    name: str,
    num_worlds: int,
    tasks: TaskPrior[Any] | FewTasks[Any],
    horizon: int,
    action_scale: float,
    *,
    num_threads: int | None = None,
    device: torch.device | str = "cpu",
) -> MujocoEnv:
    by_mass_centre = name.endswith("_maml")
    task_reward = velocity_reward if name.startswith("half_cheetah_vel") else direction_reward
    frame_skip = 1 if by_mass_centre else 5
    model = gymnasium_model("half_cheetah.xml")
    sim = CpuSimulator(model, num_worlds, num_threads=num_threads)
    mdp: MDP[Any]
    if by_mass_centre:
        mdp = HalfCheetahMassCentre(task_reward=task_reward, mass_centre=PlanarMassCentre(model))
    else:
        mdp = HalfCheetah(task_reward=task_reward, control_step=sim.timestep * frame_skip)
    family, variant = split_name(name, ("half_cheetah_vel", "half_cheetah_dir"))
    spec = EnvSpec(
        name=name,
        family=family,
        variant=variant,
        horizon=horizon,
        definition=definition(
            tasks,
            model="gymnasium/half_cheetah.xml",
            physics_step=sim.timestep,
            frame_skip=frame_skip,
            action_scale=action_scale,
            reward=f"{'-|v - g|' if task_reward is velocity_reward else 'd v'} - {CONTROL_COST} |a|^2",
            velocity="centre of mass" if by_mass_centre else "root displacement",
            obs_size=mdp.obs_size,
            start_noise="0.01 N, 0.1 N" if by_mass_centre else "U(-0.1, 0.1), 0.1 N",
        ),
    )
    return MujocoEnv(
        spec=spec,
        sim=sim,
        mdp=mdp,
        tasks=tasks,
        control_range=torch.tensor(model.actuator_ctrlrange),
        frame_skip=frame_skip,
        action_scale=action_scale,
        device=device,
    )
