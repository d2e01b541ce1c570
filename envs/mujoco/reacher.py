"""Reacher whose task is a goal to bring the fingertip to, which isn't shown (reacher_goal).

Physics is Gymnasium's reacher.xml with a camera above, bit-identical to Reacher-v5; the target's
two joints stand at the goal, so that pictures show it. Never terminates.

| obs | meaning | unit |
|---|---|---|
| 0–1 | cosines of the angles of shoulder, elbow | 1 |
| 2–3 | sines of the angles of shoulder, elbow | 1 |
| 4–5 | rates of shoulder, elbow | rad/s |

| action | meaning | unit |
|---|---|---|
| 0–1 | torque at shoulder, elbow, as a fraction of 200 N m times action_scale | 1 |

    r = −‖fingertip − g‖₂ − ‖a‖²

with a the action after scaling and clipping to [−1, 1], and the fingertip where Gymnasium has it:
at the last stage of the last Runge-Kutta step, which differs from that of the joint angles by an
error of third order in the physics step.

| environment | task prior | T | control step | action_scale | training tasks |
|---|---|---|---|---|---|
| reacher_goal | g uniform on the disc of 0.2 m | 50 | 2 · .01 s | 1 | 100, test 30 |

Source: Reacher-v5 of Gymnasium.

How we differ: the target's place (Gymnasium's observation 4–5) and the vector to it (8–9) are
hidden, for they tell the task; the split is our own.
"""

from functools import partial

import mujoco
import torch
from torch import Tensor

from envs.mujoco.env import MDP, Effects
from envs.mujoco.models import GymnasiumModel
from envs.mujoco.motion import squared_norm
from envs.mujoco.targets import Place, places_on_disc
from envs.mujoco.variant import Variant
from envs.sim.types import Simulator

FURTHEST = 0.2  # m, of goals
LINKS = (0.1, 0.11)  # m
START_ANGLE = 0.1  # rad, to either side
START_RATE = 0.005  # rad/s, to either side
# Of the scripted controller, in torque fractions a rad and a rad/s; stiffer springs cost more in
# torque than in distance.
STIFFNESS, DAMPING = 0.2, 0.045


class Reacher(MDP[Place, None]):
    """Reaches as Reacher-v5 does, but observes nothing that tells the goal."""

    obs_size = 6
    num_uniforms = 4
    camera = "above"

    definition = {
        "reward": "-|fingertip - g|_2 - |a|^2",
        "start_noise": f"U(-{START_ANGLE}, {START_ANGLE}), U(-{START_RATE}, {START_RATE})",
    }

    def __init__(self, model: mujoco.MjModel, control_step: float) -> None:
        self._fingertip = model.body("fingertip").id
        self._target = model.body("target").id

    def initial_state(self, uniform: Tensor) -> tuple[Tensor, Tensor]:
        noise, at_target = 2 * uniform - 1, torch.zeros_like(uniform[:, :2])
        return (
            torch.cat([START_ANGLE * noise[:, :2], at_target], dim=1),
            torch.cat([START_RATE * noise[:, 2:], at_target], dim=1),
        )

    def measure(self, sim: Simulator) -> None:
        return None

    def observe(self, sim: Simulator, now: None) -> Tensor:
        angles = sim.qpos[:, :2].contiguous()  # whose cosines take half the time
        return torch.cat([angles.cos(), angles.sin(), sim.qvel[:, :2]], dim=1)

    def reward(
        self, before: None, now: None, sim: Simulator, control: Tensor, tasks: Place
    ) -> tuple[Tensor, dict[str, Tensor]]:
        position = sim.field("xpos")
        away = position.select(1, self._fingertip) - position.select(1, self._target)
        distance = torch.linalg.vector_norm(away, dim=-1)
        control_cost = squared_norm(control)
        return -distance - control_cost, {"distance": distance, "control_cost": control_cost}


def at_goal(qpos: Tensor, tasks: Place) -> Tensor:
    """qpos [W, 4] with the target's joints at the goal."""
    return torch.cat([qpos[:, :2], tasks.place.to(qpos)], dim=1)


def reach(sim: Simulator, tasks: Place) -> Tensor:
    """[W, 2]: the torques of two springs with dampers, at rest where the fingertip is at the
    goal."""
    shoulder, elbow = LINKS
    x, y = tasks.place.to(sim.qpos).unbind(-1)
    cos = (x.square() + y.square() - shoulder**2 - elbow**2) / (2 * shoulder * elbow)
    bend = cos.clamp(-1.0, 1.0).acos()
    turn = torch.atan2(y, x) - torch.atan2(elbow * bend.sin(), shoulder + elbow * bend.cos())
    # By the shorter way round; the elbow, which has a stop, bends to the one side.
    to_turn = torch.remainder(turn - sim.qpos[:, 0] + torch.pi, 2 * torch.pi) - torch.pi
    to_go = torch.stack([to_turn, bend - sim.qpos[:, 1]], dim=1)
    return (STIFFNESS * to_go - DAMPING * sim.qvel[:, :2]).clamp(-1.0, 1.0).float()


def _look_from_above(spec: mujoco.MjSpec) -> None:
    spec.worldbody.add_camera(name=Reacher.camera, pos=[0.0, 0.0, 0.9], fovy=45.0)  # m, degrees


VARIANTS: dict[str, Variant] = {
    "reacher_goal": Variant(
        family="reacher_goal",
        model=GymnasiumModel(file="reacher.xml", edit=_look_from_above),
        mdp=Reacher,
        tasks=partial(places_on_disc, FURTHEST),
        effects=Effects(place=at_goal, scripted=reach),
        horizon=50,
        action_scale=1.0,
        frame_skip=2,
        num_train_tasks=100,
        num_test_tasks=30,
        fields=("xpos",),
    )
}
