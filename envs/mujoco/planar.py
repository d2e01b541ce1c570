"""The centre of mass of a planar robot, in closed form from its joint angles."""

import math

import mujoco
import torch
from torch import Tensor


class PlanarMassCentre:
    """Works out the centre of mass of robots whose joints are x, z, pitch and then hinges about y
    at the body origins.

    With θ_b the pitch of body b, the sum of the hinge angles from the root to b,

        com = (x, z) + com₀ + Σ_b (w_b^x cos θ_b + w_b^z sin θ_b,  w_b^z cos θ_b − w_b^x sin θ_b)
        w_b = (m_b · own centre of mass in b
               +  Σ_children mass of the child's subtree · its origin in b) / total mass

    and its velocity is the derivative. MuJoCo has both as `subtree_com` and `subtree_linvel`, one
    substep late, and only where a sensor asks for them. Every torch operation costs more than its
    arithmetic here, so both are two products with one vector of sines, of θ_b + π/2, θ_b, and π/2,
    which carries the constant.
    """

    def __init__(self, model: mujoco.MjModel) -> None:
        total = model.body_subtreemass[1]
        num_bodies = model.nbody - 1
        # [hinge, b]: hinge turns body b
        turns = torch.zeros(num_bodies, num_bodies, dtype=torch.float64)
        weight = torch.zeros(num_bodies, 2, dtype=torch.float64)  # m
        for body in range(1, model.nbody):
            parent = int(model.body_parentid[body])
            weight[body - 1] += torch.tensor(
                model.body_mass[body] * model.body_ipos[body, [0, 2]] / total
            )
            if parent > 0:
                turns[:, body - 1] = turns[:, parent - 1]
                lever = model.body_subtreemass[body] * model.body_pos[body, [0, 2]] / total
                weight[parent - 1] += torch.tensor(lever)
            turns[body - 1, body - 1] = 1.0
        root = torch.tensor(model.body_pos[1, [0, 2]])[None]
        across = torch.stack([weight[:, 1], -weight[:, 0]], dim=1)
        to_xyz = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
        # Over (x, z, hinges), whose first two turn nothing and move the whole.
        # [2 + B, 2 B + 1]
        turns = torch.nn.functional.pad(torch.cat([turns, turns], dim=1), (0, 1, 2, 0))
        phase = (
            math.pi
            / 2
            * torch.tensor([1.0] * num_bodies + [0.0] * num_bodies + [1.0], dtype=torch.float64)
        )
        shift = torch.nn.functional.pad(to_xyz, (0, 0, 0, num_bodies))  # [2 + B, 3]
        place = torch.cat([weight, across, root]) @ to_xyz  # [2 B + 1, 3]
        change = torch.cat([across, -weight, 0 * root]) @ to_xyz
        self._constants: tuple[Tensor, ...] = (phase, turns, shift, place, change)

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Moves the constants to where qpos and qvel are, in their type of numbers."""
        self._constants = tuple(constant.to(device, dtype) for constant in self._constants)

    def __call__(self, qpos: Tensor, qvel: Tensor) -> tuple[Tensor, Tensor]:
        """Place and velocity (x, y, z) [W, 3] in m and m/s, y 0, from qpos and qvel [W, 2 +
        num_bodies]."""
        phase, turns, shift, place, change = self._constants
        waves = torch.addmm(phase, qpos, turns).sin()
        return torch.addmm(qpos @ shift, waves, place), torch.addmm(
            qvel @ shift, qvel @ turns * waves, change
        )
