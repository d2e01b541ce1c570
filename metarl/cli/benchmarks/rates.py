"""How fast worlds step on a GPU, beside MuJoCo Warp without us and beside MuJoCo's C engine.

Everything is physics alone: no observation, no reward, no policy. On Warp's CPU device it runs,
too, so that it can be tried where there is no GPU.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import mujoco_warp as mjw
import torch
import warp as wp

import envs
from envs.mujoco.env import MujocoEnv
from envs.sim.cpu import CpuSimulator
from envs.sim.warp import WarpSimulator
from metarl.errors import SettingError
from metarl.noise import Noise

NUM_WORLDS = (256, 1024, 4096, 8192, 16384)
NUM_STEPS = 100  # control steps of a measurement


def rates(name: str, device: torch.device, *, toy: bool = False) -> Iterator[dict[str, Any]]:
    """Yields a row for each number of worlds that fits, as soon as it is measured: control steps of
    all worlds a second of `warp` (ours), `bare` (MuJoCo Warp's own loop) and `cpu` (the C engine on
    all cores)."""
    num_worlds, num_steps = ((4,), 2) if toy else (NUM_WORLDS, NUM_STEPS)
    for worlds in num_worlds:
        row: dict[str, Any] = {"name": name, "num_worlds": worlds, "device": _named(device)}
        try:
            env = _started(name, worlds, envs.Machine(backend="warp", device=device))
        except SettingError as error:  # They don't fit.
            yield {**row, "error": str(error)}
            break
        assert isinstance(env.sim, WarpSimulator)
        row["warp"] = _rate(env.sim.step, env, num_steps, device)
        row["bare"] = _rate(_bare(env.sim, device), env, num_steps, device)
        row["share_of_bare"] = row["warp"] / row["bare"]
        env.close()
        yield row
    on_cpu = _started(name, num_worlds[0], envs.Machine())
    assert isinstance(on_cpu.sim, CpuSimulator)
    found = _rate(on_cpu.sim.step, on_cpu, max(num_steps // 10, 1), torch.device("cpu"))
    yield {
        "name": name,
        "num_worlds": num_worlds[0],
        "device": "cpu",
        "num_threads": on_cpu.sim.num_threads,
        "cpu": found,
    }


def _started(name: str, num_worlds: int, machine: envs.Machine) -> MujocoEnv[Any]:
    env: MujocoEnv[Any] = envs.make(name, num_worlds, machine=machine)
    env.set_tasks(env.prior.sample(num_worlds, torch.Generator().manual_seed(0)))
    env.reset(Noise(torch.Generator().manual_seed(1)).starts(env))
    return env


def _rate(
    step: Callable[[int], None], env: MujocoEnv[Any], num_steps: int, device: torch.device
) -> float:
    """Control steps of all worlds a second."""
    for _ in range(2):  # The first compiles and captures.
        step(env.frame_skip)
    _wait(device)
    begin = time.perf_counter()
    for _ in range(num_steps):
        step(env.frame_skip)
    _wait(device)
    return num_steps * env.num_worlds / (time.perf_counter() - begin)


def _bare(sim: WarpSimulator, device: torch.device) -> Callable[[int], None]:
    """MuJoCo Warp as its own benchmark steps it: one graph of the physics steps, nothing else."""
    with wp.ScopedDevice("cpu" if device.type == "cpu" else f"cuda:{device.index or 0}"):
        model = mjw.put_model(sim.model)
        model.opt.warn_overflow = 0
        data = mjw.make_data(
            sim.model,
            nworld=sim.num_worlds,
            nconmax=sim.buffers.contacts,
            njmax=sim.buffers.rows,
            nccdmax=sim.buffers.convex_contacts,
        )
        wp.to_torch(data.qpos).copy_(sim.qpos)
        graphs: dict[int, Any] = {}

    def step(num_substeps: int) -> None:
        with wp.ScopedDevice(data.qpos.device):
            if num_substeps not in graphs:
                mjw.step(model, data)
                with wp.ScopedCapture() as capture:
                    for _ in range(num_substeps):
                        mjw.step(model, data)
                graphs[num_substeps] = capture.graph
            wp.capture_launch(graphs[num_substeps])

    return step


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _named(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
