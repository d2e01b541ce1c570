"""Humanoid whose task is a heading to run in (humanoid_dir).

Physics is Gymnasium's humanoid.xml, bit-identical to Humanoid-v5 with frame_skip 5.

| obs | meaning | unit |
|---|---|---|
| 0 | height of the torso | m |
| 1–4 | orientation of the torso, a quaternion w, x, y, z | 1 |
| 5–7 | angles of the abdomen about z, y, x | rad |
| 8–11, 12–15 | angles of the right, left hip about x, z, y and of the knee | rad |
| 16–18, 19–21 | angles of the right, left shoulder (two) and elbow | rad |
| 22–24 | velocity of the torso along x, y, z | m/s |
| 25–27 | angular velocity of the torso about its own x, y, z | rad/s |
| 28–44 | rates of the 17 joints in the order above | rad/s |
| 45–161 | of each of 13 bodies: its inertia about the whole robot's centre of mass (xx, yy, zz, xy, xz, yz), and its mass times its distance from there along x, y, z | kg m², kg m |
| 162–239 | of each of 13 bodies: angular and linear velocity of the body's frame at the whole robot's centre of mass | rad/s, m/s |
| 240–256 | torques of the motors at the 17 joints | N m |

| action | meaning | unit |
|---|---|---|
| 0–2 | torque at the abdomen about y, z, x, as a fraction of 40 N m times action_scale | 1 |
| 3–6, 7–10 | the same at the right, left hip about x, z, y and the knee, of 40, 40, 120, 80 N m | 1 |
| 11–13, 14–16 | the same at the right, left shoulder (two) and elbow, of 10 N m | 1 |

    r = 1.25 v · (cos g, sin g) + 5 [robot is healthy] − 0.1 ‖u‖² − min(5e-7 ‖f‖², 10)

with v the displacement of the whole robot's centre of mass by the control step, u = 0.4 a, a the
action after scaling and clipping to [−1, 1], and f the contact torques and forces on all bodies in
N m and N. The robot is healthy while its torso's height is between 1 and 2 m; else the episode
terminates.

| environment | task prior | T | control step | action_scale | training tasks |
|---|---|---|---|---|---|
| humanoid_dir | g ~ U[0, 2π) | 200 | 5 · .003 s | 1 | 100, test 30 |

Source: Rakelly et al. 2019 (katerakelly/oyster, humanoid_dir.py).

How we differ: contact forces are paid for, but not observed. They are those at the beginning of the
last physics step, 0.003 s before those of Humanoid-v5 (their costs are alike on average, 0.15 under
random actions, and correlate by 0.65). The observation is Humanoid-v5's without them and without
the bodies' masses, which never change. Centre of mass, inertias and velocities are those of
MuJoCo's last evaluation of the dynamics, which is not quite the end of the step (up to 2e-5 m
apart), as in Humanoid-v5. The bonus is paid as in Humanoid-v5; published is 5 also in the step in
which the robot falls.
"""

import mujoco
import torch
from torch import Tensor

from envs.mujoco.env import MDP, Effects
from envs.mujoco.models import GymnasiumModel, sense_contact_forces
from envs.mujoco.render import View
from envs.mujoco.targets import Heading, along, heading_arrow, headings
from envs.mujoco.variant import Variant
from envs.sim.types import Simulator

SPEED_REWARD = 1.25
ALIVE_BONUS = 5.0
CONTROL_COST = 0.1
CONTACT_COST, HIGHEST_CONTACT_COST = 5e-7, 10.0
HEALTHY_HEIGHT = (1.0, 2.0)  # m
START_NOISE = 0.01


class Humanoid(MDP[Heading, Tensor]):
    """Runs as Humanoid-v5 does, but observes no contact forces. Starts are U(±0.01) about rest,
    positions and velocities."""

    obs_size = 257
    num_uniforms = 47
    camera = View(distance=4.0, elevation=-20.0)
    definition = {
        "reward": f"{SPEED_REWARD} v . (cos g, sin g) + {ALIVE_BONUS} [healthy]"
        f" - {CONTROL_COST} |u|^2 - min({CONTACT_COST} |f|^2, {HIGHEST_CONTACT_COST})",
        "velocity": "displacement of the centre of mass",
        "contact_forces": "not observed, one physics step before the end",
        "terminates": f"height outside {HEALTHY_HEIGHT} m",
        "start_noise": f"U(-{START_NOISE}, {START_NOISE})",
    }

    def __init__(self, model: mujoco.MjModel, control_step: float) -> None:
        self._rest = torch.tensor(model.qpos0)  # [24]
        self._control_step = control_step  # s

    def initial_state(self, uniform: Tensor) -> tuple[Tensor, Tensor]:
        noise = START_NOISE * (2 * uniform - 1)
        return self._rest + noise[:, :24], noise[:, 24:]

    def measure(self, sim: Simulator) -> Tensor:
        """x, y [W, 2] of the whole robot's centre of mass, in m."""
        return sim.field("subtree_com")[:, 1, :2].clone()

    def observe(self, sim: Simulator, now: Tensor) -> Tensor:
        # Without x and y, so that the policy can't tell where it is; body 0 is the world, the last
        # of ten inertias the mass.
        inertia, velocity = sim.field("cinert")[:, 1:, :9], sim.field("cvel")[:, 1:]
        torque = sim.field("qfrc_actuator")[:, 6:]
        return torch.cat(
            [sim.qpos[:, 2:], sim.qvel, inertia.flatten(1), velocity.flatten(1), torque], dim=1
        )

    def reward(
        self, before: Tensor, now: Tensor, sim: Simulator, control: Tensor, tasks: Heading
    ) -> tuple[Tensor, dict[str, Tensor]]:
        velocity = along(tasks.heading, (now - before) / self._control_step)
        control_cost = CONTROL_COST * sim.ctrl.square().sum(-1)
        contact_cost = (CONTACT_COST * sim.field("cfrc_ext").square().sum((1, 2))).clamp(
            max=HIGHEST_CONTACT_COST
        )
        reward = SPEED_REWARD * velocity + ALIVE_BONUS * healthy(sim) - control_cost - contact_cost
        return reward, {
            "velocity": velocity,
            "control_cost": control_cost,
            "contact_cost": contact_cost,
        }

    def terminated(self, sim: Simulator) -> Tensor:
        return ~healthy(sim)


def healthy(sim: Simulator) -> Tensor:
    """Tells [W] whether the robot is healthy."""
    height = sim.qpos[:, 2]
    return (height > HEALTHY_HEIGHT[0]) & (height < HEALTHY_HEIGHT[1])


VARIANTS: dict[str, Variant] = {
    "humanoid_dir": Variant(
        family="humanoid_dir",
        model=GymnasiumModel(file="humanoid.xml", edit=sense_contact_forces),
        mdp=Humanoid,
        tasks=headings,
        effects=Effects(marks=heading_arrow),
        horizon=200,
        action_scale=1.0,
        frame_skip=5,
        num_train_tasks=100,
        num_test_tasks=30,
        fields=("subtree_com", "cinert", "cvel", "qfrc_actuator", "cfrc_ext"),
    )
}
