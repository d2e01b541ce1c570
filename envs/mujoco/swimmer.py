"""Swimmer whose task is a forward velocity to hold (swimmer_vel).

Physics is Gymnasium's swimmer.xml, bit-identical to Swimmer-v5 with frame_skip 4. Never terminates.

| obs | meaning | unit |
|---|---|---|
| 0 | heading of the front link | rad |
| 1–2 | angles of the front and back joint | rad |
| 3–4 | velocity of the front link's root along x, y | m/s |
| 5 | turning rate of the front link | rad/s |
| 6–7 | rates of the front and back joint | rad/s |

| action | meaning | unit |
|---|---|---|
| 0–1 | torque at the front and back joint, as a fraction of 150 N m times action_scale | 1 |

    r = −|v − g| − 0.0001 ‖a‖²

with a the action after scaling and clipping to [−1, 1], and v the displacement of the root along x
by the control step.

| environment | task prior | T | control step | action_scale | training tasks |
|---|---|---|---|---|---|
| swimmer_vel | g ~ U[.1, .2] m/s | 200 | 4 · .01 s | 1 | 100, test 30 |

Source: Rothfuss et al. 2019 (jonasrothfuss/ProMP, swimmer_rand_vel.py).

How we differ: the published reward is +|v − g|, which pays for missing the velocity; a fixed set of
training velocities.
"""

from functools import partial

import mujoco
import torch
from torch import Tensor

from envs.mujoco.env import MDP, Effects
from envs.mujoco.models import GymnasiumModel
from envs.mujoco.motion import mean_velocity, squared_norm
from envs.mujoco.targets import TargetVelocity, velocities
from envs.mujoco.variant import Variant
from envs.sim.types import Simulator
from metarl.rl.types import FixedSpeeds

CONTROL_COST = 1e-4
START_NOISE = 0.1


class Swimmer(MDP[TargetVelocity, Tensor]):
    """Swims as Swimmer-v5 does: starts are U(±0.1) about rest, positions and velocities."""

    obs_size = 8
    num_uniforms = 10
    camera = "track"
    definition = {
        "reward": f"-|v - g| - {CONTROL_COST} |a|^2",
        "velocity": "root displacement",
        "start_noise": f"U(-{START_NOISE}, {START_NOISE})",
    }

    def __init__(self, model: mujoco.MjModel, control_step: float) -> None:
        self._control_step = control_step  # s

    def initial_state(self, uniform: Tensor) -> tuple[Tensor, Tensor]:
        noise = START_NOISE * (2 * uniform - 1)
        return noise[:, :5], noise[:, 5:]

    def measure(self, sim: Simulator) -> Tensor:
        """Returns x of the root, [W] in m."""
        return sim.qpos.select(1, 0).clone()

    def observe(self, sim: Simulator, now: Tensor) -> Tensor:
        # Without x and y, so that the policy can't tell where it is.
        return torch.cat([sim.qpos[:, 2:], sim.qvel], dim=1)

    def reward(
        self, before: Tensor, now: Tensor, sim: Simulator, control: Tensor, tasks: TargetVelocity
    ) -> tuple[Tensor, dict[str, Tensor]]:
        velocity = mean_velocity(before, now, self._control_step)
        control_cost = CONTROL_COST * squared_norm(control)
        reward = -(velocity - tasks.target_velocity).abs() - control_cost
        return reward, {"velocity": velocity, "control_cost": control_cost}


VARIANTS: dict[str, Variant] = {
    "swimmer_vel": Variant(
        family="swimmer_vel",
        model=GymnasiumModel(file="swimmer.xml"),
        mdp=Swimmer,
        tasks=partial(velocities, 0.2, lowest=0.1),
        effects=Effects(fixed_speeds=FixedSpeeds()),
        horizon=200,
        action_scale=1.0,
        frame_skip=4,
        num_train_tasks=100,
        num_test_tasks=30,
    )
}
