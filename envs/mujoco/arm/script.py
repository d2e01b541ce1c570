"""Controllers that see the hidden task and the true state: proof that the arm's tasks can be
solved, and the oracle's row."""

import torch
from torch import Tensor

from envs.mujoco.arm.control import STEP
from envs.mujoco.arm.objects import LIFTED
from envs.mujoco.arm.state import ArmState
from envs.mujoco.arm.tasks import Grasp, PickPlace, Reach, resting_height
from envs.sim.types import Simulator

GAIN = 0.4  # of the way that is left, in each step: the servos follow a little late
HOVER = 0.06  # m above the object's centre, where the hand waits until it is over it
OVER = 0.006  # m, how far aside the hand may be on its way down
AROUND = 0.008  # m, from where the fingers may close
FIRM = 5.0  # N, the squeeze from which on the hand moves with the object


class ReachScript:
    """Moves the grip straight to the goal."""

    def __init__(self, state: ArmState) -> None:
        self._state = state

    def __call__(self, sim: Simulator, tasks: Reach) -> Tensor:
        arm = _towards(tasks.goal - self._state.grip(sim))
        return torch.cat([arm, torch.zeros_like(arm[:, :1])], dim=1).float()


class GraspScript:
    """Moves the hand over the object, down around it, closes it, and carries the object to the
    goal. Each step is chosen from the present state alone, so a lost object is picked up again."""

    def __init__(self, state: ArmState) -> None:
        self._state = state

    def __call__(self, sim: Simulator, tasks: Grasp | PickPlace) -> Tensor:
        grip, place, held = (
            self._state.grip(sim),
            self._state.object(sim),
            self._state.squeeze(sim) > FIRM,
        )
        way = place - grip
        aside, below = way[:, :2].norm(dim=1), way[:, 2]
        over = aside < OVER
        around = (aside < AROUND) & (below.abs() < AROUND)
        above = torch.cat([way[:, :2], way[:, 2:] + HOVER], dim=1)
        approach = torch.where(over[:, None], way, above)
        arm = torch.where(held[:, None], self._goal(tasks).to(place) - place, approach)
        arm = torch.where((around & ~held)[:, None], torch.zeros_like(arm), _towards(arm))
        close = torch.where(held | around, 1.0, -1.0).to(arm)
        return torch.cat([arm, close[:, None]], dim=1).float()

    def _goal(self, tasks: Grasp | PickPlace) -> Tensor:
        if isinstance(tasks, PickPlace):
            return tasks.goal
        return torch.cat(
            [tasks.start[:, :2], (resting_height(tasks) + 1.2 * LIFTED)[:, None]], dim=1
        )


def _towards(way: Tensor) -> Tensor:
    """[W, 3] control in [−1, 1] along `way` [W, 3] in m."""
    step = GAIN * way / STEP
    return step / step.abs().amax(1, keepdim=True).clamp(min=1.0)
