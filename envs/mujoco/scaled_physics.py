"""Tasks that scale the physics of a robot: mass, inertia, damping and friction, each part by a
factor of its own. A world's model fields are the model's own values times its task's factors, so
nothing compounds, however often it is reset."""

import math
from functools import partial
from math import prod

import mujoco
import torch
from torch import Tensor

from envs.mujoco.env import Effects
from envs.mujoco.models import Model
from envs.sim.types import Simulator
from envs.tasks import TaskPrior, in_odd_cell
from metarl.struct import struct

FIELDS = ("body_mass", "body_inertia", "dof_damping", "geom_friction")
BASES = {"mass": 1.5, "inertia": 1.5, "damping": 1.3, "friction": 1.5}
LIMIT = 3.0  # of the exponents

Shapes = dict[str, tuple[int, ...]]


@struct
class PhysicsFactors:
    """Factors of what the model file says, in its order. The world body and undamped joints have
    none."""

    mass: Tensor  # [N, bodies]
    inertia: Tensor  # [N, bodies], or [N, bodies, 3]: one for each principal axis
    damping: Tensor  # [N, damped joints]
    friction: Tensor  # [N, geoms, 3]: sliding, torsional, rolling


def physics_factors(
    model: Model, num_train: int | None, num_test: int, *, per_axis: bool
) -> TaskPrior[PhysicsFactors]:
    """Independent log-uniform factors: 1.5^U(−3, 3) for mass, inertia and friction, 1.3^U(−3, 3)
    for damping.

    Args:
      model: has the parts that get factors.
      per_axis: the three principal inertias of a body get a factor each, which can make an inertia
        that no body has.
    """
    robot = model.load()
    bodies = robot.nbody - 1
    shapes: Shapes = {
        "mass": (bodies,),
        "inertia": (bodies, 3) if per_axis else (bodies,),
        "damping": (len(_damped(robot)),),
        "friction": (robot.ngeom, 3),
    }
    return TaskPrior(
        draw=partial(_draw, shapes),
        num_uniforms=sum(prod(shape) for shape in shapes.values()),
        held_out=_held_out,
        bounds={name: (base**-LIMIT, base**LIMIT) for name, base in BASES.items()},
        describe=_describe,
        num_train=num_train,
        num_test=num_test,
    )


def scaled_physics(model: mujoco.MjModel) -> Effects[PhysicsFactors]:
    """Returns the effects of tasks that scale the physics."""
    return Effects(per_world=FIELDS, set_physics=PhysicsScaler(model))


class PhysicsScaler:
    """Gives worlds the physics of their tasks. It is the `set_physics` of an environment whose
    simulator has `FIELDS` per world."""

    def __init__(self, model: mujoco.MjModel) -> None:
        self._own = {name: torch.tensor(getattr(model, name)) for name in FIELDS}
        self._damped = _damped(model)

    def __call__(self, sim: Simulator, worlds: Tensor, tasks: PhysicsFactors) -> None:
        inertia = tasks.inertia if tasks.inertia.ndim == 3 else tasks.inertia[:, :, None]
        changed = [
            self._scale(sim, worlds, "body_mass", slice(1, None), tasks.mass),
            self._scale(sim, worlds, "body_inertia", slice(1, None), inertia),
            self._scale(sim, worlds, "dof_damping", self._damped, tasks.damping),
            self._scale(sim, worlds, "geom_friction", slice(None), tasks.friction),
        ]
        # Not for a further episode on the same task: it takes as long as several control steps.
        if any(changed):
            sim.params_changed()

    def _scale(
        self, sim: Simulator, worlds: Tensor, name: str, parts: slice | Tensor, factor: Tensor
    ) -> bool:
        """Writes the own values of `parts` times factor [W, ...]. Returns whether any world's field
        changed; on a GPU, where one would wait to know, that it did."""
        field = sim.param(name)
        scaled = field.clone()
        # They move to the simulator's device at the first call, and are there from then on.
        own = self._own[name] = self._own[name].to(field)
        if isinstance(parts, Tensor):
            self._damped = parts = parts.to(field.device)
        scaled[:, parts] = own[parts] * factor.to(field)
        scaled = torch.where(worlds.reshape(-1, *[1] * (field.ndim - 1)), scaled, field)
        if field.device.type == "cpu" and torch.equal(scaled, field):
            return False
        field.copy_(scaled)
        return True


def _damped(model: mujoco.MjModel) -> Tensor:
    """[damped joints] int64: degrees of freedom."""
    return torch.tensor(model.dof_damping > 0).nonzero().flatten()


def _draw(shapes: Shapes, uniform: Tensor) -> PhysicsFactors:
    parts = uniform.split([prod(shape) for shape in shapes.values()], dim=1)
    factors = {
        name: (BASES[name] ** (LIMIT * (2 * part - 1))).reshape(-1, *shapes[name]).float()
        for name, part in zip(shapes, parts, strict=True)
    }
    return PhysicsFactors(**factors)


def _held_out(tasks: PhysicsFactors) -> Tensor:
    exponent = tasks.mass[:, 0].double().log() / math.log(BASES["mass"])
    return in_odd_cell((exponent / LIMIT + 1) / 2)


def _describe(tasks: PhysicsFactors) -> list[str]:
    """Geometric means over the parts of the robot, of the three that are felt most."""
    means = {
        name: getattr(tasks, name).flatten(1).log().mean(1).exp().tolist()
        for name in ("mass", "damping", "friction")
    }
    return [
        ", ".join(f"{name} ×{mean[task]:.2f}" for name, mean in means.items())
        for task in range(len(tasks.mass))
    ]
