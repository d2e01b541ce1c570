"""How far MuJoCo Warp is from MuJoCo's C engine, environment by environment.

Both start from the same float32 states and get the same actions. Over many steps chaos makes much
of little, so the measure is one control step, from states all along the C engine's trajectory;
what becomes of 20 steps stands beside it, and what of them is chaos: the C engine against itself,
from starts that differ by float32's rounding.
"""

import gc
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

import envs
from envs.mujoco.env import MujocoEnv
from metarl.noise import Noise
from metarl.rl.types import Step

Env = MujocoEnv[Any]

TOLERANCE = {"qpos": 1e-5, "reward": 2e-5}
"""The tolerance of one control step. float32 has 7 digits, so a length near 1 m is off by 1e-7; the
stiff contacts of a control step make 10 to 100 times that."""
EXCEPTIONS = {
    "arm_pick_place": (
        {"qpos": 1e-3, "reward": 2e-5},
        "where a cylinder stands upright, which points of its rim touch is a free choice",
    )
}
"""Other tolerances, and why."""


def parity(
    name: str, *, device: torch.device | str = "cpu", num_worlds: int = 8, num_steps: int = 20
) -> dict[str, Any]:
    """Measures one environment.

    Returns: JSON-able, with the largest |difference| over worlds of `qpos` and `reward` after
      `one_step` (over all states of the trajectory) and after `num_steps`, there also the median
      world's (`qpos_median`) and the C engine's against itself (`qpos_rounded`); how many flags
      (terminated, diverged) differ; the simulator's buffers and what of them was used at most.
    """
    c, rounded = (envs.make(name, num_worlds, num_threads=1) for _ in range(2))
    warp = envs.make(
        name, num_worlds, machine=envs.Machine(backend="warp", device=device, num_threads=1)
    )
    for env in (c, rounded, warp):
        env.set_tasks(env.prior.sample(num_worlds, torch.Generator().manual_seed(0)))
        env.reset(Noise(torch.Generator().manual_seed(1)).starts(env))
    put(c, warp.sim.qpos, warp.sim.qvel)
    actions = _actions(c, num_steps)
    states, flags = [], 0
    for action in actions:
        states.append((c.sim.qpos.float(), c.sim.qvel.float()))
        steps = [env.step(action.to(env.device)) for env in (c, warp, rounded)]
        flags += _flags_differ(steps[0], steps[1])
    row: dict[str, Any] = {
        "env": name,
        "device": str(warp.sim.device),
        "num_worlds": num_worlds,
        "num_steps": num_steps,
        "qpos": _largest(c.sim.qpos, warp.sim.qpos),
        "qpos_median": float(_difference(c.sim.qpos, warp.sim.qpos).amax(1).median()),
        "qpos_rounded": _largest(c.sim.qpos, rounded.sim.qpos),
        "reward": _largest(steps[0].reward, steps[1].reward),
        "flags_differ": flags,
        **_buffers(warp),
        "one_step": one_step(c, warp, states, actions),
    }
    for env in (c, warp, rounded):
        env.close()
    gc.collect()
    return row


def one_step(
    c: Env, warp: Env, states: Sequence[tuple[Tensor, Tensor]], actions: Tensor
) -> dict[str, float]:
    """The largest |differences| after one control step from each of the states."""
    worst = {"qpos": 0.0, "qvel": 0.0, "reward": 0.0}
    for (qpos, qvel), action in zip(states, actions, strict=True):
        for env in (c, warp):
            put(env, qpos, qvel)
        ours, theirs = (env.step(action.to(env.device)).reward for env in (warp, c))
        found = {
            "qpos": _largest(c.sim.qpos, warp.sim.qpos),
            "qvel": _largest(c.sim.qvel, warp.sim.qvel),
            "reward": _largest(ours, theirs),
        }
        worst = {key: max(value, found[key]) for key, value in worst.items()}
    return worst


def put(env: Env, qpos: Tensor, qvel: Tensor) -> None:
    """Sets the state of all worlds, whatever they were doing."""
    sim = env.sim
    everywhere = torch.ones(sim.num_worlds, dtype=torch.bool, device=sim.device)
    sim.reset(everywhere, qpos.to(sim.qpos), qvel.to(sim.qvel))
    env._measured = env.mdp.measure(sim)


def _actions(env: Env, num_steps: int) -> Tensor:
    shape = (num_steps, env.num_worlds, *env.action_space.shape)
    uniform = torch.rand(shape, generator=torch.Generator().manual_seed(5))
    return (2 * uniform - 1) * torch.from_numpy(env.action_space.high)


def _difference(a: Tensor, b: Tensor) -> Tensor:
    """|a − b|, 0 where a world has blown up in both."""
    return (a.double().cpu() - b.double().cpu()).abs().nan_to_num(0.0)


def _largest(a: Tensor, b: Tensor) -> float:
    return float(_difference(a, b).max())


def _flags_differ(a: Step, b: Step) -> int:
    pairs = ((a.terminated, b.terminated), (a.diverged, b.diverged))
    return sum(int((left.cpu() != right.cpu()).sum()) for left, right in pairs)


def _buffers(env: Env) -> dict[str, Any]:
    sim: Any = env.sim
    sim.check()
    return {"buffers": vars(sim.buffers), "solver": sim.replaced_solver}
