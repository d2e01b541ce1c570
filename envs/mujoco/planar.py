"""The centre of mass of a planar robot, in closed form from its joint angles."""

import mujoco
import torch
from torch import Tensor


class PlanarMassCentre:
    """For robots with root joints x, z, pitch and then hinges about y at the body origins (cheetah, hopper, walker).

    With θ_b the pitch of body b, the sum of the hinge angles from the root to b,

        com = (x, z) + com₀ + Σ_b (w_b^x cos θ_b + w_b^z sin θ_b,  w_b^z cos θ_b − w_b^x sin θ_b)
        w_b = (m_b · own centre of mass in b  +  Σ_children mass of the child's subtree · its origin in b) / total mass

    and its velocity is the derivative. MuJoCo has both as `subtree_com` and `subtree_linvel`, one substep late, and only
    where a sensor asks for them.
    """

    def __init__(self, model: mujoco.MjModel) -> None:
        self._root = torch.tensor(model.body_pos[1, [0, 2]])
        total = model.body_subtreemass[1]
        num_bodies = model.nbody - 1
        self._chain = torch.zeros(num_bodies, num_bodies, dtype=torch.float64)  # [hinge, b]: hinge turns body b
        weight = torch.zeros(num_bodies, 2, dtype=torch.float64)  # m
        for body in range(1, model.nbody):
            parent = int(model.body_parentid[body])
            weight[body - 1] += torch.tensor(model.body_mass[body] * model.body_ipos[body, [0, 2]] / total)
            if parent > 0:
                self._chain[:, body - 1] = self._chain[:, parent - 1]
                lever = model.body_subtreemass[body] * model.body_pos[body, [0, 2]] / total
                weight[parent - 1] += torch.tensor(lever)
            self._chain[body - 1, body - 1] = 1.0
        along, across = weight, torch.stack([weight[:, 1], -weight[:, 0]], dim=1)
        self._in_waves = torch.cat([along, across])  # of (cos θ, sin θ), [2 num_bodies, 2]
        self._in_turning = torch.cat([across, -along])  # of θ' (cos θ, sin θ): the derivative

    def position(self, qpos: Tensor) -> Tensor:
        """(x, z) [W, 2] in m, from qpos [W, 2 + num_bodies]."""
        return (qpos[:, :2] + self._root.to(qpos)).addmm(self._waves(qpos).flatten(1), self._in_waves.to(qpos))

    def velocity(self, qpos: Tensor, qvel: Tensor) -> Tensor:
        """(x, z) [W, 2] in m/s, from qpos and qvel [W, 2 + num_bodies]."""
        rate = qvel[:, 2:] @ self._chain.to(qvel)
        turning = self._waves(qpos) * rate.unsqueeze(1)
        return qvel[:, :2].addmm(turning.flatten(1), self._in_turning.to(qvel))

    def _waves(self, qpos: Tensor) -> Tensor:
        """[W, 2, num_bodies]: cos θ and sin θ."""
        pitch = qpos[:, 2:] @ self._chain.to(qpos)
        return torch.stack([pitch.cos(), pitch.sin()], dim=1)
