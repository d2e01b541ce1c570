"""What several seeds in one simulation save: an iteration of each, beside the same iterations one
seed after the other. Both have the same numbers."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from metarl.cli import build
from metarl.cli.benchmarks.interleaved import measure, speedup
from metarl.cli.configs import CONFIGS, composed
from metarl.rl.algorithms.together import TogetherSource
from metarl.run.iteration import RunState
from metarl.run.seeding import Generators
from metarl.run.shown import RETURNS
from metarl.run.together import iterate_together
from metarl.threads import one_thread

SEEDS = 4
ROWS = {
    "point_navigation_2d": (["env=point_navigation_2d", "algo=maml_ppo"], 1.5),
    "half_cheetah_vel": (["env=half_cheetah_vel", "algo=maml_ppo"], 1.0),
}
"""Words of the command line, and at least how many times as fast four seeds together should be."""

CPU = torch.device("cpu")


def run_seeds(
    rows: list[str], rounds: int, *, num_threads: int | None = None
) -> list[dict[str, Any]]:
    """Measures some of ROWS, prints a line each, and returns them as JSON-able dicts."""
    results = []
    for name in rows:
        words, bar = ROWS[name]
        words = [*words, f"sim.num_threads={num_threads or 'null'}"]
        both = {"together": (together, (words,)), "alone": (alone, (words,))}
        found = measure(both, num_rounds=rounds, num_threads=num_threads or 2)
        ours, plain = found["together"], found["alone"]
        results.append(
            {
                "row": name,
                "name": f"{SEEDS} seeds of {' '.join(ROWS[name][0])}, an iteration each",
                "together_s": ours.median,
                "one_after_another_s": plain.median,
                "speedup": speedup(ours, plain),
                "speedup_bar": bar,
                "together_mib": ours.peak_mib,
                "one_after_another_mib": plain.peak_mib,
                "rounds": rounds,
                "threads": num_threads,
            }
        )
        print(json.dumps(results[-1]), flush=True)
    return results


def together(words: list[str], seeds: int = SEEDS) -> Callable[[], Any]:
    """An iteration of all seeds, which gather in one environment."""
    config = _config(words)
    world = build.environment(config, num_worlds=1)
    generators = [Generators(seed) for seed in range(seeds)]
    learners: list[Any] = [build.learner(config, world, own, CPU) for own in generators]
    source = TogetherSource(
        [learner.source for learner in learners], partial(build.environment, config)
    )
    runs = {s: RunState(learners[s], generators[s], RETURNS) for s in range(seeds)}
    return _as_in_training(lambda: list(iterate_together(runs, source.gather).values()))


def alone(words: list[str], seeds: int = SEEDS) -> Callable[[], Any]:
    """An iteration of one seed after the other, each with an environment of its own."""
    config, runs = _config(words), []
    for seed in range(seeds):
        generators, env = Generators(seed), build.training_environment(config)
        runs.append(RunState(build.learner(config, env, generators, CPU), generators, RETURNS))
    return _as_in_training(lambda: [run.iterate() for run in runs])


def _config(words: list[str]) -> DictConfig:
    return OmegaConf.create(composed("train", words, [CONFIGS])[0])


def _as_in_training(step: Callable[[], Any]) -> Callable[[], Any]:
    def inner() -> Any:
        with one_thread():  # as the training loop does
            return step()

    return inner
