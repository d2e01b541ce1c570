"""The one protocol at which CPU and GPU simulation meet. Environments see W worlds of physics
through it and nothing else."""

from typing import Protocol

import mujoco
import torch
from torch import Tensor


class Simulator(Protocol):
    """W copies of one MuJoCo model. The tensors are *live*: they alias the simulator's memory, in
    its own dtype and device, change with every `step`, and are written in place only by `reset`.
    Copy (`.to(float32)`, `.clone()`) what must last.

    Whoever works with them shall not ask for values, so that on a GPU a step waits for nothing: no
    `if` on a tensor, no `.item()`, no index that is a bool tensor or a list.
    """

    model: mujoco.MjModel
    num_worlds: int
    timestep: float  # s, of one physics substep
    device: torch.device  # where the tensors lie
    time: Tensor  # [W] s
    qpos: Tensor  # [W, nq]
    qvel: Tensor  # [W, nv]
    ctrl: Tensor  # [W, nu]; write in place before `step`
    # [W] bool: the world blew up (NaN or huge numbers, in a control, too) since its last reset
    diverged: Tensor
    # True only if no world has; where it takes a wait to know, it may be False all the same
    none_diverged: bool

    def step(self, num_substeps: int) -> None:
        """Advances every world by `num_substeps` physics steps under the present `ctrl`."""
        ...

    def rest(self, worlds: Tensor) -> None:
        """Steps may leave these worlds, [W] bool, as they are until their next reset; where all
        worlds take their steps together that saves nothing, and they go on."""
        ...

    def reset(self, worlds: Tensor, qpos: Tensor, qvel: Tensor) -> None:
        """Sets state, and clears time, ctrl, warm start and `diverged`, where worlds [W] bool is
        True; qpos [W, nq], qvel [W, nv], all three on `device`."""
        ...

    def param(self, name: str) -> Tensor:
        """The per-world model field `name`, for instance body_mass [W, nbody]: a live tensor to
        write in place. Raises: ValueError if it wasn't named in `per_world` when the simulator was
        made."""
        ...

    def params_changed(self) -> None:
        """Recomputes what MuJoCo derives from the model fields (mj_setConst). Call once after
        writing to `param` tensors. Leaves every `field` as it is."""
        ...

    def field(self, name: str) -> Tensor:
        """The derived data field `name` of all worlds, for instance sensordata [W, nsensordata]: a
        live tensor to read, one substep behind qpos unless the simulator was told to keep them
        current. Rotation matrices are [W, n, 9] or [W, n, 3, 3]: reshape them. Raises: ValueError
        if it wasn't named in `fields` when the simulator was made."""
        ...

    def check(self) -> None:
        """Looks for what one must wait for a device to know. Called between rollouts.

        Raises: SettingError if a buffer was too small, naming it and its size.
        """
        ...

    def host_data(self, world: int) -> tuple[mujoco.MjModel, mujoco.MjData]:
        """Returns a model and an MjData of one world in the CPU's memory, with all derived fields
        at its present state, for rendering."""
        ...

    def close(self) -> None: ...


def check_reset(sim: Simulator, worlds: Tensor, qpos: Tensor, qvel: Tensor) -> None:
    """Raises: ValueError unless the arguments of `reset` have the shapes of `sim`."""
    if worlds.shape != (sim.num_worlds,) or worlds.dtype != torch.bool:
        raise ValueError(
            f"worlds is {worlds.dtype} {tuple(worlds.shape)}; expected bool ({sim.num_worlds},)"
        )
    for name, value, live in (("qpos", qpos, sim.qpos), ("qvel", qvel, sim.qvel)):
        if value.shape != live.shape:
            raise ValueError(f"{name} has shape {tuple(value.shape)}; expected {tuple(live.shape)}")


def chosen_param(params: dict[str, Tensor], name: str) -> Tensor:
    """Returns one of the fields that `Simulator.param` has. Raises: ValueError naming them."""
    if name not in params:
        there = sorted(params) or "none"
        raise ValueError(f"model field {name!r} isn't per world; per_world named {there}")
    return params[name]


def chosen_field(fields: dict[str, Tensor], name: str) -> Tensor:
    """Returns one of the fields that `Simulator.field` has. Raises: ValueError naming them."""
    if name not in fields:
        there = sorted(fields) or "none"
        raise ValueError(f"data field {name!r} isn't kept; fields named {there}")
    return fields[name]
