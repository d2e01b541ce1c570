"""Gymnasium's own environment, stepped world by world from given states: what ours are held to."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium
import mujoco
import numpy as np
import torch
from torch import Tensor

import envs
from metarl.noise import Noise


@dataclass(frozen=True)
class Recording:
    """T steps of W worlds of a Gymnasium environment; arrays are [T, W, ...], `info` by name."""

    start: np.ndarray  # [W, nq] qpos
    control: np.ndarray
    qpos: np.ndarray
    qvel: np.ndarray
    obs: np.ndarray
    info: dict[str, np.ndarray]

    def first(self, num_steps: int) -> "Recording":
        steps = (values[:num_steps] for values in (self.control, self.qpos, self.qvel, self.obs))
        return Recording(
            self.start, *steps, {key: values[:num_steps] for key, values in self.info.items()}
        )


def record(
    gymnasium_id: str,
    name: str,
    *,
    num_worlds: int,
    num_steps: int,
    change_model: Callable[[mujoco.MjModel, int], None] | None = None,
    forces_lag: int | None = None,
    **options: Any,
) -> Recording:
    """Random controls, a third of them at the limits, from the starts of our environment `name`
    after `reset` with seed 4.

    Args:
      change_model: (Gymnasium's model, world) writes the fields of that world; what MuJoCo derives
        from them follows.
      forces_lag: records contact `forces` too, of the state so many physics steps before the end of
        each control step.
      options: of `gymnasium.make`.
    """
    env = envs.make(name, num_worlds, action_scale=1.0)
    env.set_tasks(env.prior.test_tasks(num_worlds))
    env.reset(Noise(torch.Generator().manual_seed(4)).starts(env))
    start, start_velocity = env.sim.qpos.numpy().copy(), env.sim.qvel.numpy().copy()
    shape = (num_steps, num_worlds, *env.action_space.shape)
    control = torch.randn(shape, generator=torch.Generator().manual_seed(3)).clamp(-1, 1)
    control = (
        (64 * control).round() / 64
    ).numpy()  # so that multiplying by an action scale of 10 and dividing rounds nothing
    theirs = gymnasium.make(gymnasium_id, max_episode_steps=num_steps + 1, **options)
    highest = theirs.unwrapped.model.actuator_ctrlrange[
        :, 1
    ]  # the action space has it rounded to float32
    worlds = []
    for world in range(num_worlds):
        theirs.reset(seed=0)
        model, data = theirs.unwrapped.model, theirs.unwrapped.data
        if change_model is not None:
            change_model(model, world)
            mujoco.mj_setConst(model, data)
        mujoco.mj_resetData(model, data)
        theirs.unwrapped.set_state(start[world], start_velocity[world])
        steps = []
        for action in control[:, world]:
            before = copy.copy(data) if forces_lag else data
            before.ctrl[:] = action * highest
            obs, _, _, _, info = theirs.step(action * highest)
            if forces_lag is not None:
                substeps = theirs.unwrapped.frame_skip - forces_lag if forces_lag else 0
                info["forces"] = contact_forces(model, before, substeps)
            steps.append({**info, "obs": obs, "qpos": data.qpos.copy(), "qvel": data.qvel.copy()})
        worlds.append({key: np.stack([step[key] for step in steps]) for key in steps[0]})
    info = {key: np.stack([world[key] for world in worlds], axis=1) for key in worlds[0]}
    return Recording(start, control, *(info.pop(key) for key in ("qpos", "qvel", "obs")), info)


def contact_forces(model: mujoco.MjModel, data: mujoco.MjData, num_substeps: int) -> np.ndarray:
    """[6 nbody] cfrc_ext in the state that `num_substeps` more physics steps lead to; leaves data
    alone."""
    later = copy.copy(data)
    for _ in range(num_substeps):
        mujoco.mj_step(model, later)
    mujoco.mj_forward(model, later)
    mujoco.mj_rnePostConstraint(model, later)
    return later.cfrc_ext.flatten()


@dataclass(frozen=True)
class Replay:
    """What our environment made of the recording's controls; arrays are [T, W, ...]."""

    qpos: np.ndarray
    qvel: np.ndarray
    obs: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    terms: dict[str, np.ndarray]


def replay(name: str, recording: Recording, tasks: Any = None) -> Replay:
    """Our environment `name` from the same starts, stepped on past the ends of its episodes; the
    first test tasks by default."""
    num_worlds = recording.start.shape[0]
    env = envs.make(name, num_worlds)
    env.set_tasks(env.prior.test_tasks(num_worlds) if tasks is None else tasks)
    env.reset(Noise(torch.Generator().manual_seed(4)).starts(env))
    assert np.array_equal(env.sim.qpos.numpy(), recording.start)
    steps = []
    for control in recording.control:
        step = env.step(torch.from_numpy(control) * float(env.action_space.high[0]))
        kept = {"qpos": env.sim.qpos.clone(), "qvel": env.sim.qvel.clone(), "obs": step.next_obs}
        steps.append({**kept, "reward": step.reward, "terminated": step.terminated, **step.terms})
    terms = {key: _stacked([step[key] for step in steps]) for key in steps[0]}
    kept = [terms.pop(key) for key in ("qpos", "qvel", "obs", "reward", "terminated")]
    return Replay(*kept, terms)


def _stacked(values: list[Tensor]) -> np.ndarray:
    return torch.stack(values).numpy()
