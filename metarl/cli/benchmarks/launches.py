"""What happens between two control steps of a training: how many kernels are launched, what waits
for the device, and how long the host takes, by torch's profiler."""

import time
from collections.abc import Mapping
from typing import Any

import torch
from omegaconf import OmegaConf
from torch.profiler import ProfilerActivity, profile

from metarl.cli import build
from metarl.cli.configs import CONFIGS, composed
from metarl.noise import Noise
from metarl.run.seeding import Generators

_LAUNCHES = ("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cuLaunchKernelEx")
_WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")


def launches(name: str, device: torch.device, *, toy: bool = False) -> dict[str, Any]:
    """Measures acting and stepping of maml_ppo's training on the environment `name` and MuJoCo Warp.

    Returns: per control step the `launches` of kernels, `graphs`, `copies` and `waits`, the host's
      time in µs (`host`) and the whole time (`all`), which profiling lengthens, and that without
      profiling (`unprofiled`).
    """
    sizes_of_toy = ["algo.meta_batch_size=2", "algo.episodes_per_task=2"] * toy
    words = ["algo=maml_ppo", "sim=warp", f"env={name}", *sizes_of_toy]
    config = OmegaConf.create(composed("train", words, [CONFIGS])[0])
    num_steps, generators = 2 if toy else 20, Generators(0)
    env = build.training_environment(config, device)
    adapter = build.learner(config, env, generators, device).adapter()
    sizes, noise = build.sizes(config), Noise(generators("policy", device), device=device)
    env.set_tasks(env.prior.sample(env.num_worlds, generators("tasks")))
    obs = env.reset(Noise(generators("reset")).starts(env)).to(device)
    state = adapter.begin(sizes.num_tasks, sizes.episodes_per_task, noise)

    def play() -> None:
        nonlocal obs, state
        for _ in range(num_steps):
            act = adapter.act(state, obs, noise)
            step = env.step(act.action)
            state = adapter.observe(state, obs, act, step)
            obs = step.next_obs.to(device)

    play()
    unprofiled = _microseconds(play, device, num_steps)[1]
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as found:
        host, whole = _microseconds(play, device, num_steps)
    counts = {event.key: event.count / num_steps for event in found.key_averages()}
    env.close()
    return {
        "name": name,
        "device": str(device),
        "num_worlds": env.num_worlds,
        "launches": _total(counts, *_LAUNCHES),
        "graphs": _total(counts, "cudaGraphLaunch"),
        "copies": _total(counts, "cudaMemcpyAsync"),
        "waits": _total(counts, *_WAITS),
        "operations": sum(n for key, n in counts.items() if key.startswith("aten::")),
        "host": host,
        "all": whole,
        "unprofiled": unprofiled,
    }


def _total(counts: Mapping[str, float], *keys: str) -> float:
    return sum(counts.get(key, 0.0) for key in keys)


def _microseconds(play: Any, device: torch.device, num_steps: int) -> tuple[float, float]:
    """(until the host was done, until the device was done), per control step."""
    begin = time.perf_counter()
    play()
    host = time.perf_counter() - begin
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return host * 1e6 / num_steps, (time.perf_counter() - begin) * 1e6 / num_steps
