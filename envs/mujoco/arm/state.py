"""Reads the arm's world: where the grip and the object are, and whether the object is held."""

import mujoco
import torch
from torch import Tensor

from envs.sim.types import Simulator

HELD_FORCE = 0.5  # N
# cosine between a contact's normal and the way the finger closes, from which on it is a side of the
# object
SIDEWAYS = 0.7


class ArmState:
    """Views of a Simulator of arm.xml or arm_object.xml, which keeps FIELDS. What comes from qpos
    and qvel is of now; the rest, the grip's pose and the contacts, is one physics substep old
    (0.0025 s)."""

    def __init__(self, model: mujoco.MjModel) -> None:
        self._grip = model.site("grip").id
        self._touches = []
        if "object" in [model.body(i).name for i in range(model.nbody)]:
            self._touches = [_slice(model.sensor(f"{side}_touch")) for side in ("left", "right")]

    def grip(self, sim: Simulator) -> Tensor:
        """Returns the grip's place [W, 3] in m."""
        return sim.field("site_xpos")[:, self._grip]

    def rotation(self, sim: Simulator) -> Tensor:
        """Returns the hand's rotation matrix [W, 3, 3]. Its columns are the hand's axes: y is where
        the left finger opens to, z where the hand points."""
        return sim.field("site_xmat")[:, self._grip].reshape(-1, 3, 3)

    def object(self, sim: Simulator) -> Tensor:
        """Returns the place of the object's centre, [W, 3] in m."""
        return sim.qpos[:, -7:-4]

    def object_velocity(self, sim: Simulator) -> Tensor:
        """Returns the velocity of the object's centre, [W, 3] in m/s."""
        return sim.qvel[:, -6:-3]

    def object_rotation(self, sim: Simulator) -> Tensor:
        """Returns the rotation matrix [W, 3, 3] of the object."""
        return rotation_matrix(sim.qpos[:, -4:])

    def held(self, sim: Simulator) -> Tensor:
        """Tells [W] whether the fingers press on opposite sides of the object, each by 0.5 N or
        more."""
        return self.squeeze(sim) >= HELD_FORCE

    def squeeze(self, sim: Simulator) -> Tensor:
        """Returns the lesser of the two fingers' strongest contacts with the object, [W] in N; 0
        unless they press from opposite sides.

        A finger presses where the contact's normal, which points from it into the object, is the
        way it closes, or nearly.
        """
        inwards = -self.rotation(sim)[:, :, 1]  # as the left finger closes
        left, right = (sim.field("sensordata")[:, touch] for touch in self._touches)
        return torch.minimum(_pressure(left, inwards), _pressure(right, -inwards))


def rotation_matrix(quaternion: Tensor) -> Tensor:
    """Returns rotation matrices [W, 3, 3] from unit quaternions w, x, y, z [W, 4]."""
    w, x, y, z = quaternion.unbind(1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, dim=1).reshape(-1, 3, 3)


def _pressure(touch: Tensor, closing: Tensor) -> Tensor:
    """[W] N from a contact sensor's force along the normal, two tangential ones, and the normal [W,
    6]."""
    force, normal = touch[:, 0], touch[:, 3:]
    return torch.where((normal * closing).sum(1) >= SIDEWAYS, force, 0.0)


def _slice(sensor: object) -> slice:
    start, size = int(sensor.adr[0]), int(sensor.dim[0])  # type: ignore[attr-defined]
    return slice(start, start + size)
