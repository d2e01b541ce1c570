"""The one protocol at which CPU and GPU simulation meet. Environments see W worlds of physics
through it and nothing else."""

from typing import Protocol

from torch import Tensor


class Simulator(Protocol):
    """W copies of one MuJoCo model. The tensors are *live*: they alias the simulator's memory, in
    its own dtype and device, change with every `step`, and are written in place only by `reset`.
    Copy (`.to(float32)`, `.clone()`) what must last."""

    num_worlds: int
    timestep: float  # s, of one physics substep
    time: Tensor  # [W] s
    qpos: Tensor  # [W, nq]
    qvel: Tensor  # [W, nv]
    ctrl: Tensor  # [W, nu]; write in place before `step`
    # [W] bool: the world blew up (NaN or MuJoCo's own silent reset) since its last reset
    diverged: Tensor
    # True only if no world has; where it takes a wait to know, it may be False all the same
    none_diverged: bool

    def step(self, num_substeps: int) -> None:
        """Advances every world by `num_substeps` physics steps under the present `ctrl`."""
        ...

    def reset(self, worlds: Tensor, qpos: Tensor, qvel: Tensor) -> None:
        """Sets state, and clears time, ctrl, warm start and `diverged`, where worlds [W] bool is
        True; qpos [W, nq], qvel [W, nv]."""
        ...

    def param(self, name: str) -> Tensor:
        """The per-world model field `name`, for instance body_mass [W, nbody]: a live tensor to
        write in place. Raises: ValueError if it wasn't named in `per_world` when the simulator was
        made."""
        ...

    def params_changed(self) -> None:
        """Recomputes what MuJoCo derives from the model fields (mj_setConst). Call once after
        writing to `param` tensors."""
        ...

    def field(self, name: str) -> Tensor:
        """The derived data field `name` of all worlds, for instance sensordata [W, nsensordata]: a
        live tensor to read, one substep behind qpos unless the simulator was told to keep them
        current. Raises: ValueError if it wasn't named in `fields` when the simulator was made."""
        ...

    def close(self) -> None: ...
