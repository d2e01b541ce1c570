"""How many tasks to differentiate together: the update of one iteration with several sizes of the
chunk, beside the size that is taken where none is said.

All sizes learn from the same episodes and begin with the same parameters, so they do the same work
up to rounding.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from omegaconf import OmegaConf

from metarl.cli import build
from metarl.cli.benchmarks.interleaved import measure, speedup
from metarl.cli.configs import CONFIGS, composed
from metarl.rl.algorithms.shared import GatheringLearner, run_alone
from metarl.run.seeding import Generators
from metarl.struct import map_tensors
from metarl.threads import one_thread

MAIN_JOB = ("env=half_cheetah_vel",)
ALGORITHMS = ("maml_ppo", "maml_trpo")


def run_chunks(
    sizes: Sequence[int], rounds: int, *, num_threads: int | None = None
) -> list[dict[str, Any]]:
    """Measures the update of an iteration of the main job by default and for each size, prints a
    line each, and returns them as JSON-able dicts.

    Args: num_threads: of the simulation. The update takes as many threads as in a training.
    """
    print(f"{'':36}{'seconds':>9}{'faster':>9}{'memory':>13}")
    results = []
    for algo in ALGORITHMS:
        words = (*MAIN_JOB, f"algo={algo}", f"sim.num_threads={num_threads or 'null'}")
        asked = list(dict.fromkeys((None, *sizes)))
        variants = {str(size): (update, (words, size)) for size in asked}
        found = measure(variants, num_rounds=rounds, num_threads=num_threads or 2)
        default = found[str(None)]
        for size, own in zip(asked, found.values(), strict=True):
            row = {
                "row": algo,
                "name": f"{algo} update, {size or 'default'} tasks at a time",
                "chunk": size,
                "seconds": own.median,
                "speedup": speedup(own, default),
                "added_mib": own.peak_mib,
                "rounds": rounds,
            }
            results.append(row)
            print(
                f"{row['name']:36}{own.median:9.3f}{row['speedup']:9.2f}{own.peak_mib:9.0f} MiB",
                flush=True,
            )
    return results


def update(words: Sequence[str], size: int | None) -> Callable[[], Any]:
    """The update of a first iteration, again and again from the same start, on episodes that don't
    depend on the size."""
    gathers = _learner(words)
    rollouts = gathers.source.gather(gathers.adapter())
    gathers.source.env.close()
    learner = _learner([*words, f"algo.chunk={size or 'null'}"])
    learner.source.env.close()
    start = map_tensors(torch.clone, learner.state_dict())

    def step() -> Any:
        learner.load_state_dict(start)
        with one_thread():  # as the training loop does
            return run_alone(learner.iteration(), lambda adapter: rollouts)

    return step


def _learner(words: Sequence[str]) -> GatheringLearner:
    config = OmegaConf.create(composed("train", list(words), [CONFIGS])[0])
    env = build.training_environment(config)
    learner = build.learner(config, env, Generators(0), torch.device("cpu"))
    assert isinstance(learner, GatheringLearner)
    return learner
