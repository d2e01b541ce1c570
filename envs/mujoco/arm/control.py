"""Moves the arm by small steps of its hand: control is a displacement of the grip and of the
fingers, and the joints' servos follow. Damped least squares on the present Jacobian turns one into
the other; nothing but the actuators acts on the physics.
"""

import math

import mujoco
import torch
from torch import Tensor

from envs.sim.types import Simulator

# What the arm's files read of the simulation
FIELDS = (
    "xanchor",
    "xaxis",
    "site_xpos",
    "site_xmat",
    "sensordata",
)
NUM_JOINTS = 7
# rad; the hand looks down, the grip at (0.50, 0, 0.21) m
HOME = (
    0.0,
    0.478,
    0.0,
    1.753,
    0.0,
    math.pi - 0.478 - 1.753,
    0.0,
)
STEP = 0.02  # m, of the grip along each axis at control 1
FINGER_STEP = 0.004  # m, of each finger at control 1
LEAD = 0.04  # m, how far along each axis the servos' target may be from the grip
FINGER_LEAD = 0.01  # m; × 6000 N/m it is the strongest grip, 60 N or 30 N on each side
# m, of the servos' target; so the fingers stay off the table
WORKSPACE = (
    (0.3, -0.35, 0.015),
    (0.7, 0.35, 0.45),
)
DAMPING = 0.01  # m/rad, of the least squares
POSTURE = 0.1  # how much of the way home the joints go where the hand doesn't care

# What of it belongs to the definition
CONTROL = {
    "kind": "hand steps",
    "step": [STEP, FINGER_STEP],
    "lead": [LEAD, FINGER_LEAD],
    "workspace": WORKSPACE,
    "damping": DAMPING,
    "posture": POSTURE,
}


class HandSteps:
    """Control [W, 4] → the servos' targets: displacements of the grip along x, y and z, and +1 to
    close, −1 to open.

    With p and q the grip's position and the joints' angles, q' the servos' present targets, J the
    Jacobian of the grip's position and orientation, and J⁺ = Jᵀ (J Jᵀ + λ² I)⁻¹:

        p' = clip(p + J_p (q' − q) + STEP · control, WORKSPACE),  at most LEAD away from p
        q' ← q + h + J⁺ ([p' − p, turn that looks straight down] − J h),     h = POSTURE (HOME − q)

    Displacements add to the target, not to where the arm is, so at control 0 it holds its place
    under a load. Right after a reset the targets are where the joints are.
    """

    num_controls = 4

    def __init__(self, model: mujoco.MjModel) -> None:
        names = [f"joint{i}" for i in range(1, NUM_JOINTS + 1)]
        self._joints = slice(model.joint(names[0]).id, model.joint(names[-1]).id + 1)
        self._finger = int(model.joint("left_finger").qposadr[0])
        self._grip = model.site("grip").id
        self._low, self._high = torch.tensor(model.actuator_ctrlrange).unbind(1)
        self._home = torch.tensor(HOME, dtype=torch.float64)
        self._workspace = torch.tensor(WORKSPACE, dtype=torch.float64)
        self._damping = DAMPING**2 * torch.eye(6, dtype=torch.float64)

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        self._low = self._low.to(device, dtype)
        self._high = self._high.to(device, dtype)
        self._home = self._home.to(device, dtype)
        self._workspace = self._workspace.to(device, dtype)
        self._damping = self._damping.to(device, dtype)

    def __call__(self, sim: Simulator, control: Tensor) -> None:
        control = control.to(sim.ctrl)
        present = torch.cat([sim.qpos[:, :NUM_JOINTS], sim.qpos[:, self._finger, None]], dim=1)
        target = torch.where(sim.time[:, None] == 0, present, sim.ctrl)
        arm = self._arm_target(sim, target[:, :NUM_JOINTS], control[:, :3])
        opening = sim.qpos[:, self._finger]
        finger = (target[:, NUM_JOINTS] - FINGER_STEP * control[:, 3]).clamp(
            opening - FINGER_LEAD, opening + FINGER_LEAD
        )
        wanted = torch.cat([arm, finger[:, None]], dim=1)
        torch.clamp(wanted, self._low, self._high, out=sim.ctrl)

    def _arm_target(self, sim: Simulator, target: Tensor, control: Tensor) -> Tensor:
        """Returns the joints' targets [W, 7] in rad."""
        joints, position, rotation = sim.qpos[:, :NUM_JOINTS], *self._pose(sim)
        low, high = self._workspace
        jacobian = self._jacobian(sim, position)
        homewards = POSTURE * (self._home - joints)
        lead, drift = (jacobian @ torch.stack([target - joints, homewards], dim=2)).unbind(2)
        shift = ((position + lead[:, :3] + STEP * control).clamp(low, high) - position).clamp(
            -LEAD, LEAD
        )
        motion = torch.cat([shift, _turn_down(rotation)], dim=1) - drift
        # `solve` would wait for the device to know whether a matrix is singular; none is, by λ.
        gram = torch.baddbmm(self._damping, jacobian, jacobian.mT)
        return joints + homewards + _times(jacobian.mT, torch.linalg.solve_ex(gram, motion)[0])

    def _pose(self, sim: Simulator) -> tuple[Tensor, Tensor]:
        """Position [W, 3] in m and rotation matrix [W, 3, 3] of the grip."""
        return sim.field("site_xpos")[:, self._grip], sim.field("site_xmat")[:, self._grip].reshape(
            -1, 3, 3
        )

    def _jacobian(self, sim: Simulator, position: Tensor) -> Tensor:
        """Returns the Jacobian of the grip's pose, [W, 6, 7], in m/rad and rad/rad. A hinge moves a
        point by axis × (point − anchor) and turns it by its axis."""
        axis, anchor = (sim.field(name)[:, self._joints] for name in ("xaxis", "xanchor"))
        moved = torch.linalg.cross(axis, position[:, None] - anchor)
        return torch.cat(
            [moved, axis], dim=2
        ).mT.contiguous()  # half the time of all products with it


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix @ vector[:, :, None])[:, :, 0]


def _turn_down(rotation: Tensor) -> Tensor:
    """[W, 3] rad: the small turn after which a hand with this rotation looks straight down, its
    fingers along y.

    Half the sum of the cross products of its axes with where they should be, −x, y and −z: the
    rotation vector, to third order.
    """
    (_, xy, xz), (yx, _, yz), (zx, zy, _) = (row.unbind(1) for row in rotation.unbind(1))
    return torch.stack([-yz - zy, xz - zx, xy + yx], dim=1) / 2
