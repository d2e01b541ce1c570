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
        self._chain = torch.zeros(num_bodies, num_bodies, dtype=torch.float64)  # [b, hinge]: hinge turns body b
        self._weight = torch.zeros(num_bodies, 2, dtype=torch.float64)  # m
        for body in range(1, model.nbody):
            parent = int(model.body_parentid[body])
            self._weight[body - 1] += torch.tensor(model.body_mass[body] * model.body_ipos[body, [0, 2]] / total)
            if parent > 0:
                self._chain[body - 1] = self._chain[parent - 1]
                lever = model.body_subtreemass[body] * model.body_pos[body, [0, 2]] / total
                self._weight[parent - 1] += torch.tensor(lever)
            self._chain[body - 1, body - 1] = 1.0

    def __call__(self, qpos: Tensor, qvel: Tensor) -> tuple[Tensor, Tensor]:
        """Position [W, 2] in m and velocity [W, 2] in m/s, each (x, z), from qpos, qvel [W, 2 + num_bodies]."""
        weight = self._weight.to(qpos)
        chain = self._chain.to(qpos).T
        pitch, rate = qpos[:, 2:] @ chain, qvel[:, 2:] @ chain
        cos, sin = pitch.cos(), pitch.sin()
        turned = torch.stack([cos @ weight[:, 0] + sin @ weight[:, 1], cos @ weight[:, 1] - sin @ weight[:, 0]], dim=1)
        rate_cos, rate_sin = rate * cos, rate * sin
        slope = torch.stack(
            [rate_cos @ weight[:, 1] - rate_sin @ weight[:, 0], -rate_sin @ weight[:, 1] - rate_cos @ weight[:, 0]],
            dim=1,
        )
        return qpos[:, :2] + self._root.to(qpos) + turned, qvel[:, :2] + slope
