"""Puts model, simulator, MDP and tasks of one MuJoCo environment together."""

from collections.abc import Callable, Sequence
from typing import Any

import mujoco
import torch
from torch import Tensor

from envs.mdp import MDP, Drive, LinearDrive, MujocoEnv, definition
from envs.render import Mark
from envs.sim.cpu import CpuSimulator
from envs.sim.types import Simulator
from metarl.rl.types import EnvSpec, FixedSpeeds


def environment(
    num_worlds: int,
    *,
    name: str,
    family: str,
    model: mujoco.MjModel,
    model_name: str,
    mdp: MDP[Any, Any],
    tasks: Any,
    horizon: int,
    action_scale: float,
    frame_skip: int,
    numbers: dict[str, Any],
    per_world: Sequence[str] = (),
    fields: Sequence[str] = (),
    current_fields: bool = False,
    drive: Drive | None = None,
    actuate: Callable[[Tensor, Any, Tensor], Tensor] | None = None,
    place: Callable[[Tensor, Any], Tensor] | None = None,
    set_physics: Callable[[Simulator, Tensor, Any], None] | None = None,
    marks: Callable[[mujoco.MjData, Any], list[Mark]] | None = None,
    scripted: Callable[[Simulator, Any], Tensor] | None = None,
    known_returns: Callable[[Any], dict[str, Tensor]] | None = None,
    fixed_speeds: FixedSpeeds | None = None,
    num_threads: int | None = None,
    device: torch.device | str = "cpu",
) -> MujocoEnv[Any]:
    """The environment `name`, a variant of `family` (family_variant).

    Args:
      model_name: for the definition, for instance gymnasium/ant.xml.
      numbers: what else defines the problem, in JSON values: reward, start noise, ...
      per_world: the model fields that `set_physics` writes.
      fields, current_fields: the derived data fields that `mdp` reads, and whether it needs those of the end of the step.
      drive: how control moves the actuators; None: linearly over the range of each.
      actuate, place, set_physics: what a task changes besides the reward, see `MujocoEnv`.
      marks: what shows the task in a picture, see `MujocoEnv`.
      scripted, known_returns, fixed_speeds: what learners are compared with, see `MujocoEnv`.
    """
    sim = CpuSimulator(
        model,
        num_worlds,
        per_world=per_world,
        fields=fields,
        current_fields=current_fields,
        num_threads=num_threads,
    )
    spec = EnvSpec(
        name=name,
        family=family,
        variant=name[len(family) + 1 :] or "default",
        horizon=horizon,
        definition=definition(
            tasks,
            model=model_name,
            physics_step=sim.timestep,
            frame_skip=frame_skip,
            action_scale=action_scale,
            obs_size=mdp.obs_size,
            **numbers,
        ),
    )
    return MujocoEnv(
        spec=spec,
        sim=sim,
        mdp=mdp,
        tasks=tasks,
        drive=drive or LinearDrive(torch.tensor(model.actuator_ctrlrange).to(sim.ctrl)),
        frame_skip=frame_skip,
        action_scale=action_scale,
        actuate=actuate,
        place=place,
        set_physics=set_physics,
        marks=marks,
        scripted=scripted,
        known_returns=known_returns,
        fixed_speeds=fixed_speeds,
        device=device,
    )
