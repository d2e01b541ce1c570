"""A 7-joint arm with a parallel gripper: reach a place, grasp an object, carry it. Goals are
hidden, so are mass, friction and shape; how high an object's centre lies (observation 26) tells how
high it stands, as a look at it would.

| obs | meaning | unit |
|---|---|---|
| 0–6 | angles of joints 1–7, from the base to the hand | rad |
| 7–13 | their velocities | rad/s |
| 14 | opening: how far each finger is from the middle | m |
| 15–17 | grip, the point between the finger pads: x, y, z; the base is at 0, 0 and the table's top at z = 0 | m |
| 18–20 | where the left finger opens to, a unit vector | |
| 21–23 | where the hand points to, a unit vector | |
| 24–26 | arm_grasp and arm_pick_place only, as all that follows: object's centre − grip | m |
| 27–29, 30–32 | the object's own x and z axes, in the frame of the hand | |
| 33–35 | velocity of the object's centre | m/s |

| action | meaning | unit |
|---|---|---|
| 0–2 | displacement of the grip along x, y, z in a step of 0.04 s | 0.02 m |
| 3 | displacement of both fingers, + to close | 0.004 m |

Displacements move the targets of the joints' servos (envs/mujoco/arm/control.py); at 0 the arm
holds still. The hand looks down, its fingers along y. Tasks and splits: envs/mujoco/arm/tasks.py.
With p the grip, b the object's centre, h its height above its start, g the hidden goal, held = 1
where both pads press on opposite sides of the object, else 0, and near(d, s) = 1 / (1 + (d/s)²),

    arm_reach       r = −‖p − g‖₂                                                      success: ‖p − g‖₂ < 0.05 m
    arm_grasp       r = 2 near(‖b − p‖₂, 0.05) + held (2 + 6 clip(h / 0.1, 0, 1))        success: held, h ≥ 0.1 m
    arm_pick_place  r = 2 near(‖b − p‖₂, 0.05) + held (2 + 2 clip(h / 0.1, 0, 1)
                        + 4 near(‖b − g‖₂, 0.1))                                        success: held, ‖b − g‖₂ < 0.05 m

so that without a grasp a step pays at most 2, with one at least 2, and 10 is the most. `success` is
among each step's terms. Nothing terminates. Starts: joints HOME + U(±0.03) rad, opening U(0.035,
0.04) m, at rest.

| environment | task prior | T | control step | action_scale | training tasks |
|---|---|---|---|---|---|
| arm_reach | g ~ U[.35, .6] × [−.25, .25] × [.05, .35] m | 150 | 16 · .0025 s | 1 | ∞, test 40 |
| arm_grasp | shape, half_width, half_length, mass, friction, start | 150 | 16 · .0025 s | 1 | ∞, test 40 |
| arm_pick_place | shape, half_width, half_length, mass, friction, start, goal | 150 | 16 · .0025 s | 1 | ∞, test 40 |

Source: our own, in the manner of Meta-World's reach-v3 and pick-place-v3
(Farama-Foundation/Metaworld, metaworld/envs). How we differ: an arm moved by torque-limited servos
where theirs is dragged by a mocap body; 150 steps of 0.04 s, not 500 of 0.0125 s; objects of 4
shapes, and held-out kinds of them; goals in the air only; a grasp is seen by its contacts. Not
comparable with it.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import mujoco
import torch
from torch import Tensor

from envs.mujoco.arm.control import CONTROL, FIELDS, HOME, NUM_JOINTS, HandSteps
from envs.mujoco.arm.objects import LIFTED, PER_WORLD, GoalMark, ObjectPhysics, place_object
from envs.mujoco.arm.script import GraspScript, ReachScript
from envs.mujoco.arm.state import HELD_FORCE, ArmState
from envs.mujoco.arm.tasks import (
    Grasp,
    PickPlace,
    Reach,
    grasp_tasks,
    pick_place_tasks,
    reach_tasks,
    resting_height,
)
from envs.mujoco.env import MDP, Effects
from envs.mujoco.models import ASSETS, XmlModel
from envs.mujoco.variant import Variant
from envs.sim.types import Simulator

Tasks = TypeVar("Tasks", Grasp, PickPlace)

START_NOISE = 0.03  # rad
# The object's pose until a task places it: m, quaternion.
OUT_OF_THE_WAY = (0.7, 0.3, 0.04, 1.0, 0.0, 0.0, 0.0)
START_OPENING = (0.035, 0.04)  # m
REACHED = 0.05  # m
_HAND_SIZE = 24
_COMMON_DEFINITION: dict[str, Any] = {
    "success": {"reached": REACHED, "lifted": LIFTED, "held": HELD_FORCE},
    "start_noise": {"joints": START_NOISE, "opening": START_OPENING},
}


class ArmReach(MDP[Reach, None]):
    """Reaches with the arm alone."""

    obs_size = _HAND_SIZE
    num_uniforms = NUM_JOINTS + 1
    camera = "scene"
    definition = {"reward": "-|p - g|", **_COMMON_DEFINITION}

    def __init__(self, model: mujoco.MjModel, control_step: float) -> None:
        self.state = ArmState(model)

    def initial_state(self, uniform: Tensor) -> tuple[Tensor, Tensor]:
        qpos = _start(uniform)
        return qpos, torch.zeros_like(qpos)

    def measure(self, sim: Simulator) -> None:
        return None

    def observe(self, sim: Simulator, now: None) -> Tensor:
        return _observe_hand(self.state, sim)

    def reward(
        self, before: None, now: None, sim: Simulator, control: Tensor, tasks: Reach
    ) -> tuple[Tensor, dict[str, Tensor]]:
        distance = (self.state.grip(sim) - tasks.goal).norm(dim=1)
        return -distance, {"success": distance < REACHED, "distance": distance}


class ArmGrasp(MDP[Tasks, None]):
    """Grasps an object with the arm.

    Args:
      after_grasp: (lift [W], object's place [W, 3], tasks) -> what a held object is worth [W],
        success if held [W] bool, and terms.
      formula: how that worth reads in a definition.
    """

    obs_size = _HAND_SIZE + 12
    num_uniforms = NUM_JOINTS + 1
    camera = "scene"

    def __init__(
        self,
        model: mujoco.MjModel,
        control_step: float,
        *,
        after_grasp: Callable[[Tensor, Tensor, Tasks], tuple[Tensor, Tensor, dict[str, Tensor]]],
        formula: str,
    ) -> None:
        self.state = ArmState(model)
        self._after_grasp: Callable[
            [Tensor, Tensor, Tasks], tuple[Tensor, Tensor, dict[str, Tensor]]
        ] = after_grasp
        self.definition = {"reward": f"2 near + held (2 + {formula})", **_COMMON_DEFINITION}

    def initial_state(self, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """The object lies out of the way until a task places it."""
        arm = _start(uniform)
        pose = torch.tensor(OUT_OF_THE_WAY, dtype=torch.float32).to(arm).expand(len(arm), -1)
        return torch.cat([arm, pose], dim=1), arm.new_zeros(len(arm), arm.shape[1] + 6)

    def measure(self, sim: Simulator) -> None:
        return None

    def observe(self, sim: Simulator, now: None) -> Tensor:
        hand = self.state.rotation(sim)
        axes = hand.mT @ self.state.object_rotation(sim)[:, :, ::2]  # its x and z
        offset = self.state.object(sim) - self.state.grip(sim)
        velocity = self.state.object_velocity(sim)
        return torch.cat(
            [_observe_hand(self.state, sim), offset, axes.mT.flatten(1), velocity], dim=1
        )

    def reward(
        self, before: None, now: None, sim: Simulator, control: Tensor, tasks: Tasks
    ) -> tuple[Tensor, dict[str, Tensor]]:
        place, held = self.state.object(sim), self.state.held(sim)
        reach = near((place - self.state.grip(sim)).norm(dim=1), 0.05)
        lift = ((place[:, 2] - resting_height(tasks)) / LIFTED).clamp(0.0, 1.0)
        worth, success, terms = self._after_grasp(lift, place, tasks)
        reward = 2 * reach + held * (2 + worth)
        return reward, {
            "success": held & success,
            "held": held,
            "reach": reach,
            "lift": lift,
            **terms,
        }


def near(distance: Tensor, scale: float) -> Tensor:
    """1 at distance 0, a half at `scale`, and a long tail: it still falls where one starts."""
    return 1 / (1 + (distance / scale).square())


def lifted(lift: Tensor, place: Tensor, tasks: Grasp) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    return 6 * lift, lift >= 1, {}


def carried(
    lift: Tensor, place: Tensor, tasks: PickPlace
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    distance = (place - tasks.goal).norm(dim=1)
    return 2 * lift + 4 * near(distance, 0.1), distance < REACHED, {"distance": distance}


def _start(uniform: Tensor) -> Tensor:
    """Returns qpos [W, 9] of the arm at a start."""
    joints = torch.tensor(HOME, dtype=torch.float32).to(uniform) + START_NOISE * (
        2 * uniform[:, :NUM_JOINTS] - 1
    )
    low, high = START_OPENING
    opening = low + (high - low) * uniform[:, NUM_JOINTS:]
    return torch.cat([joints, opening, opening], dim=1)


def _observe_hand(state: ArmState, sim: Simulator) -> Tensor:
    rotation = state.rotation(sim)
    joints, opening = slice(NUM_JOINTS), slice(NUM_JOINTS, NUM_JOINTS + 1)
    parts = [sim.qpos[:, joints], sim.qvel[:, joints], sim.qpos[:, opening], state.grip(sim)]
    return torch.cat([*parts, rotation[:, :, 1], rotation[:, :, 2]], dim=1)


def _shows_goal(model: mujoco.MjModel) -> Effects[Reach]:
    return Effects(
        per_world=("site_pos",), set_physics=GoalMark(model), scripted=ReachScript(ArmState(model))
    )


def _has_object(model: mujoco.MjModel) -> Effects[Any]:
    return Effects(
        per_world=PER_WORLD,
        set_physics=ObjectPhysics(model),
        place=place_object,
        scripted=GraspScript(ArmState(model)),
    )


_REACH = Variant(
    family="arm_reach",
    model=XmlModel(path=ASSETS / "arm.xml"),
    mdp=ArmReach,
    tasks=reach_tasks,
    effects=_shows_goal,
    drive=HandSteps,
    horizon=150,
    action_scale=1.0,
    frame_skip=16,
    num_train_tasks=None,
    num_test_tasks=40,
    fields=FIELDS,
    definition={"control": CONTROL},
)
_GRASP = replace(
    _REACH,
    family="arm_grasp",
    model=XmlModel(path=ASSETS / "arm_object.xml"),
    mdp=partial(ArmGrasp, after_grasp=lifted, formula="6 lift"),
    tasks=grasp_tasks,
    effects=_has_object,
)

VARIANTS: dict[str, Variant] = {
    "arm_reach": _REACH,
    "arm_grasp": _GRASP,
    "arm_pick_place": replace(
        _GRASP,
        family="arm_pick_place",
        mdp=partial(ArmGrasp, after_grasp=carried, formula="2 lift + 4 near goal"),
        tasks=pick_place_tasks,
    ),
}
