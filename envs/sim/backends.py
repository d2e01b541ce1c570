"""Makes the simulator that a machine asks for."""

from collections.abc import Sequence

import mujoco

from envs.machine import Machine
from envs.sim.cpu import CpuSimulator
from envs.sim.types import Simulator
from metarl.errors import SettingError


def simulator(
    machine: Machine,
    model: mujoco.MjModel,
    num_worlds: int,
    *,
    per_world: Sequence[str] = (),
    fields: Sequence[str] = (),
    current_fields: bool = False,
) -> Simulator:
    """W = num_worlds worlds of `model` on `machine`. See `CpuSimulator` for the other arguments.

    Raises: SettingError if the machine's back-end isn't installed, or can't run here.
    """
    if machine.backend == "cpu":
        return CpuSimulator(
            model,
            num_worlds,
            per_world=per_world,
            fields=fields,
            current_fields=current_fields,
            num_threads=machine.num_threads,
        )
    # Only here: its import takes seconds, and not everyone has it.
    try:
        from envs.sim.warp import WarpSimulator
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("mujoco_warp", "warp"):
            raise
        raise SettingError(
            "backend 'warp' needs MuJoCo Warp: pip install 'metarl[warp]'"
        ) from error
    return WarpSimulator(
        model,
        num_worlds,
        per_world=per_world,
        fields=fields,
        current_fields=current_fields,
        device=machine.device,
        max_contacts=machine.max_contacts,
    )
