"""What happens between two control steps of a training: how many kernels are launched, what waits
for the device, and how long the host takes, by torch's profiler. Once step by step, and once replayed
from CUDA graphs."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from omegaconf import OmegaConf
from torch.profiler import ProfilerActivity, profile

from metarl.cli import build
from metarl.cli.configs import CONFIGS, composed
from metarl.rl.data.collect import repeat_tasks
from metarl.rl.data.graphed import graphed
from metarl.run.seeding import Generators

_LAUNCHES = ("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cuLaunchKernelEx")
_WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")


def launches(name: str, device: torch.device, *, toy: bool = False) -> list[dict[str, Any]]:
    """Measures acting and stepping of maml_ppo's training on the environment `name` and MuJoCo Warp.

    Returns: a row for steps one by one and one for `graphs`, if there are any on this device. Per
      control step they have the `launches` of kernels, the `graph_launches`, `copies` and `waits`,
      the host's time in µs (`host`) and the whole time (`all`), which profiling lengthens, and that
      without profiling (`unprofiled`).
    """
    num_steps = 2 if toy else 20
    words = ["algo=maml_ppo", "sim=warp", f"env={name}", f"env.horizon={num_steps}"]
    words += ["algo.meta_batch_size=2", "algo.episodes_per_task=2"] * toy
    config = OmegaConf.create(composed("train", words, [CONFIGS])[0])
    generators = Generators(0)
    env = build.training_environment(config, device)
    adapter = build.learner(config, env, generators, device).adapter()
    sizes, streams = build.sizes(config), build.streams(generators, device)
    state = adapter.begin(sizes.num_tasks, sizes.episodes_per_task, streams.policy)
    tasks = repeat_tasks(env.prior.sample(sizes.num_tasks, streams.tasks), sizes.episodes_per_task)

    def start() -> torch.Tensor:
        env.set_tasks(tasks)
        return env.reset(streams.reset.starts(env)).to(device)

    def step_by_step(obs: torch.Tensor) -> None:
        for _ in range(num_steps):
            act = adapter.act(state, obs, streams.policy)
            obs = env.step(act.action).next_obs.to(device)

    found = {False: _measured(start, step_by_step, device, num_steps)}
    rollout = graphed(env, adapter, state, start(), streams.policy)
    if rollout is not None:
        rollout.play(state, start())  # It may find that there are none.
        if env.graphs:
            replayed = lambda obs: rollout.play(state, obs)
            found[True] = _measured(start, replayed, device, num_steps)
    env.close()
    of_all = {"name": name, "device": str(device), "num_worlds": env.num_worlds}
    return [{**of_all, "graphs": graphs, **row} for graphs, row in found.items()]


def _measured(
    start: Callable[[], torch.Tensor],
    play: Callable[[torch.Tensor], Any],
    device: torch.device,
    num_steps: int,
) -> dict[str, float]:
    """The numbers of one way to play episodes of so many steps."""
    play(start())
    unprofiled = _microseconds(play, start(), device, num_steps)[1]
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    obs = start()
    with profile(activities=activities) as found:
        host, whole = _microseconds(play, obs, device, num_steps)
    counts = {event.key: event.count / num_steps for event in found.key_averages()}
    # Measuring waits twice itself.
    own_waits = 2 / num_steps if device.type == "cuda" else 0.0
    return {
        "launches": _total(counts, *_LAUNCHES),
        "graph_launches": _total(counts, "cudaGraphLaunch"),
        "copies": _total(counts, "cudaMemcpyAsync"),
        "waits": _total(counts, *_WAITS) - own_waits,
        "operations": sum(n for key, n in counts.items() if key.startswith("aten::")),
        "host": host,
        "all": whole,
        "unprofiled": unprofiled,
    }


def _total(counts: Mapping[str, float], *keys: str) -> float:
    return sum(counts.get(key, 0.0) for key in keys)


def _microseconds(
    play: Callable[[torch.Tensor], Any], obs: torch.Tensor, device: torch.device, num_steps: int
) -> tuple[float, float]:
    """(until the host was done, until the device was done), per control step."""
    _wait_for(device)
    begin = time.perf_counter()
    play(obs)
    host = time.perf_counter() - begin
    _wait_for(device)
    return host * 1e6 / num_steps, (time.perf_counter() - begin) * 1e6 / num_steps


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
