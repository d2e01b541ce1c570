"""Measures where the time of a training iteration goes: physics, the rest of collection, the
meta-update."""

import statistics
import time
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from envs.mujoco.env import MujocoEnv
from metarl.cli import build
from metarl.cli.configs import CONFIGS
from metarl.rl.data import rounds as rounds_module
from metarl.run.seeding import Generators
from metarl.threads import one_thread

SIZES = (
    *("env=half_cheetah_vel", "algo.meta_batch_size=40", "algo.episodes_per_task=20"),
    "algo.num_inner_steps=1",
)
BARS = {"maml_ppo": 0.33, "maml_trpo": 0.40}
"""The largest share of an iteration that may be spent outside physics, by algorithm."""


def run_iteration(rounds: int, *, num_threads: int | None) -> list[dict[str, Any]]:
    """Whole iterations of 40 tasks x 20 episodes x 200 steps, before and after one inner step, with
    each outer update."""
    rows = []
    for algo, bar in BARS.items():
        physics, collection, total = _measure(algo, rounds, num_threads)
        outside = statistics.median(1 - p / t for p, t in zip(physics, total, strict=True))
        rows.append(
            {
                "name": f"{algo} iteration",
                "seconds": statistics.median(total),
                "physics_s": statistics.median(physics),
                "collect_s": statistics.median(collection),
                "share_outside_physics": outside,
                "bar": bar,
            }
        )
        print(
            f"{algo:10} {rows[-1]['seconds']:6.2f} s an iteration, {rows[-1]['physics_s']:.2f} s "
            "of it physics, "
            f"{rows[-1]['collect_s']:.2f} s collection in all; outside physics {outside:.1%} (bar "
            f"{bar:.0%})"
        )
    return rows


def _measure(
    algo: str, rounds: int, num_threads: int | None
) -> tuple[list[float], list[float], list[float]]:
    """Seconds of each round in physics, in collection with physics, and in all."""
    GlobalHydra.instance().clear()  # the benchmark command's own, which is done composing
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose("train", [f"algo={algo}", *SIZES])
    config.sim.num_threads = num_threads
    env = build.training_environment(config)
    learner = build.learner(config, env, Generators(0), torch.device("cpu"))
    assert isinstance(env, MujocoEnv)
    simulator: Any = env.sim  # Not a Simulator: its `step` becomes a clock.
    physics, collection = _Stopwatch(simulator.step), _Stopwatch(rounds_module.collect)
    simulator.step, real_collect = physics, rounds_module.collect
    rounds_module.collect = collection
    total = _Stopwatch(learner.step)
    try:
        learner.step()  # the first one allocates
        for watch in (physics, collection, total):
            watch.rounds.clear()
        for _ in range(rounds):
            for watch in (physics, collection, total):
                watch.rounds.append(0.0)
            with one_thread():  # as the training loop does
                total()
    finally:
        rounds_module.collect = real_collect
        env.close()
    return physics.rounds, collection.rounds, total.rounds


class _Stopwatch:
    """A function that adds the time it takes to the present round."""

    def __init__(self, function: Any) -> None:
        self._function = function
        self.rounds: list[float] = [0.0]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        try:
            return self._function(*args, **kwargs)
        finally:
            if self.rounds:
                self.rounds[-1] += time.perf_counter() - start
