"""Makes each world's object what its task says: shape, size, mass, inertia and friction as model
fields, and where it starts.

The model has all four shapes in one body (assets/arm_object.xml). Those that a world doesn't use
shrink to a point inside the one it does, so nothing touches them; this takes only numbers that any
simulator lets differ between worlds.
"""

from typing import Any

import mujoco
import torch
from torch import Tensor

from envs.mujoco.arm.tasks import SHAPES, Grasp, PickPlace, Reach, resting_height
from envs.sim.types import Simulator

PER_WORLD = ("geom_size", "geom_friction", "body_mass", "body_inertia", "site_pos")
POINT = 1e-4  # m, the half-width of a shape that isn't used
LIFTED = 0.1  # m above its start: where an object counts as lifted, and where arm_grasp's mark is


class ObjectPhysics:
    """(sim, worlds [W] bool, tasks) → writes the model fields of these worlds, as `MujocoEnv`
    asks."""

    def __init__(self, model: mujoco.MjModel) -> None:
        geoms = [model.geom(shape).id for shape in SHAPES]
        self._geoms = slice(geoms[0], geoms[-1] + 1)  # They follow one another.
        self._body = model.body("object").id
        self._goal = model.site("goal").id

    def __call__(self, sim: Simulator, worlds: Tensor, tasks: Grasp | PickPlace) -> None:
        size = geom_sizes(tasks)
        chosen = torch.nn.functional.one_hot(tasks.shape, len(SHAPES))[:, :, None].bool()
        _write(
            sim.param("geom_size"),
            (slice(None), self._geoms),
            torch.where(chosen, size, POINT),
            worlds,
        )
        friction = tasks.friction.double()[:, None].expand(-1, len(SHAPES))
        _write(sim.param("geom_friction"), (slice(None), self._geoms, 0), friction, worlds)
        _write(sim.param("body_mass"), (slice(None), self._body), tasks.mass.double(), worlds)
        _write(sim.param("body_inertia"), (slice(None), self._body), inertia(tasks), worlds)
        _write(sim.param("site_pos"), (slice(None), self._goal), _mark(tasks), worlds)
        sim.params_changed()


class GoalMark:
    """(sim, worlds [W] bool, tasks) → puts the mark that shows the goal in pictures where it is; no
    physics."""

    def __init__(self, model: mujoco.MjModel) -> None:
        self._goal = model.site("goal").id

    def __call__(self, sim: Simulator, worlds: Tensor, tasks: Reach) -> None:
        _write(sim.param("site_pos"), (slice(None), self._goal), tasks.goal.double(), worlds)


def place_object(qpos: Tensor, tasks: Grasp | PickPlace) -> Tensor:
    """qpos [W, 16] with the object, whose joint is the last, on the table at its start."""
    x, y, yaw = tasks.start.to(qpos).unbind(1)
    zero = torch.zeros_like(x)
    pose = [x, y, resting_height(tasks).to(qpos), (yaw / 2).cos(), zero, zero, (yaw / 2).sin()]
    return torch.cat([qpos[:, :-7], torch.stack(pose, dim=1)], dim=1)


def geom_sizes(tasks: Grasp | PickPlace) -> Tensor:
    """[N, 4, 3] m, in the order of SHAPES: MuJoCo's half-sides of a box, radius and half-length of
    the others."""
    width, length = tasks.half_width.double(), tasks.half_length.double()
    zero = torch.zeros_like(width)
    rows = [
        (width, width, length),
        (width, length, zero),
        (width, zero, zero),
        (width, length, zero),
    ]
    return torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)


def inertia(tasks: Grasp | PickPlace) -> Tensor:
    """[N, 3] kg m² about x, y and z, of a solid of even density: boxes and cylinders stand along z,
    capsules lie along x.

    A capsule is a cylinder and two half balls, whose centres of mass are 3/8 of the radius beyond
    its ends.
    """
    r, l, mass = tasks.half_width.double(), tasks.half_length.double(), tasks.mass.double()
    box = [mass * (r**2 + l**2) / 3, mass * (r**2 + l**2) / 3, mass * 2 * r**2 / 3]
    across, along = mass * (r**2 / 4 + l**2 / 3), mass * r**2 / 2
    ball = 0.4 * mass * r**2
    caps = mass * (4 / 3 * r) / (4 / 3 * r + 2 * l)  # the two half balls' part, by volume
    straight = mass - caps
    lying = straight * r**2 / 2 + caps * 0.4 * r**2
    turned = straight * (r**2 / 4 + l**2 / 3) + caps * (0.4 * r**2 + l**2 + 0.75 * r * l)
    kinds = torch.stack(
        [
            torch.stack(row, 1)
            for row in (box, [across, across, along], [ball] * 3, [lying, turned, turned])
        ],
        dim=1,
    )
    return kinds[torch.arange(len(kinds), device=kinds.device), tasks.shape]


def _mark(tasks: Grasp | PickPlace) -> Tensor:
    """[N, 3] m: the goal, or for `Grasp` the height to lift to."""
    if isinstance(tasks, PickPlace):
        return tasks.goal.double()
    return torch.cat(
        [tasks.start[:, :2], (resting_height(tasks) + LIFTED)[:, None]], dim=1
    ).double()


def _write(field: Tensor, where: Any, value: Tensor, worlds: Tensor) -> None:
    """Writes `value` [W, ...] to field[where], an index from which [W, ...] comes, where `worlds`
    is True."""
    mask = worlds.reshape(-1, *[1] * (value.ndim - 1))
    field[where] = torch.where(mask, value.to(field), field[where])
