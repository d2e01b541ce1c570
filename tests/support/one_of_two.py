"""One of the processes that share tiny runs in float64, or the only one; writes what they became.

python one_of_two.py <file>    with the variables that torchrun sets
"""

import sys
from typing import Any

import torch
from omegaconf import OmegaConf

from metarl.cli import build
from metarl.cli.configs import CONFIGS, composed
from metarl.errors import SettingError
from metarl.run import distributed
from metarl.run.iteration import RunState
from metarl.run.seeding import Generators
from metarl.run.shown import RETURNS
from metarl.struct import map_tensors
from metarl.types import Ranks

CPU = torch.device("cpu")
GRADIENT = [
    *("algo.meta_batch_size=4", "algo.episodes_per_task=2", "model.hidden_sizes=[6]"),
    "algo.num_inner_steps=2",
]
# Worlds fall over at different times, those of one process all before those of the other.
TRIALS = [
    *("env=hopper_rand_params", "env.horizon=60", "algo.meta_batch_size=4"),
    *("model.head_sizes=[6]", "algo.num_minibatches=2"),
]
CASES = {
    "maml_ppo": [
        *("env=point_navigation_2d", "env.horizon=12", "algo=maml_ppo", *GRADIENT),
        "algo.num_epochs=2",
    ],
    "maml_trpo": [
        *("env=point_navigation_2d", "env.horizon=12", "algo=maml_trpo", *GRADIENT),
        *("algo.judged_updates=all", "algo.exploration_coefficient=0.1"),
    ],
    "reptile": ["env=point_navigation_2d", "env.horizon=12", "algo=reptile", *GRADIENT],
    "rl2_ppo": [
        *("algo=rl2_ppo", *TRIALS, "algo.trials_per_task=1", "algo.num_epochs=2"),
        "model.memory.hidden_size=6",
    ],
    "memoryless_ppo": ["algo=memoryless_ppo", *TRIALS, "algo.episodes_per_task=1"],
    "rl2_offpolicy": [
        *("env=point_navigation_2d", "env.horizon=6", "algo=rl2_offpolicy"),
        *("algo.meta_batch_size=4", "algo.initial_trials=4", "algo.updates_per_iteration=1"),
        *("algo.batch_size=2", "model.memory.hidden_size=4", "model.head_sizes=[4]"),
    ],
    "grbal": [
        *("env=point_navigation_2d", "env.horizon=12", "algo=grbal", "algo.meta_batch_size=2"),
        *("algo.planner.horizon=3", "algo.planner.num_candidates=6", "algo.planner.num_elites=2"),
        *("algo.batch_size=4", "algo.num_gradient_steps=2", "algo.num_past=3"),
        *("algo.num_future=3", "model.hidden_sizes=[6]"),
    ],
}


IN_SINGLE = ("rl2_offpolicy",)
"""Those whose data is float32 whatever the parameters are."""


class InDouble:
    """An environment whose observations and rewards are in float64."""

    def __init__(self, env: Any) -> None:
        self._env = env

    def __getattr__(self, name: str) -> Any:
        return getattr(self._env, name)

    def reset(self, *args: Any) -> Any:
        return self._env.reset(*args).double()

    def step(self, action: Any) -> Any:
        in_double = lambda x: x.double() if x.is_floating_point() else x
        return map_tensors(in_double, self._env.step(action))


def run(case: str, ranks: Ranks, iterations: int = 2) -> dict[str, Any]:
    """The metrics of some iterations, and the state after them."""
    config, generators = configured(case), Generators(0)
    env: Any = build.environment(config, build.sizes(config).num_worlds // ranks.num)
    if case not in IN_SINGLE:
        env = InDouble(env)
        torch.set_default_dtype(torch.float64)
    try:
        learner = build.learner(config, env, generators, CPU, ranks)
        found = RunState(learner, generators, RETURNS)
        metrics = [found.iterate() for _ in range(iterations)]
        distributed.check_alike(learner, ranks)
    finally:
        torch.set_default_dtype(torch.float32)
    streams = found.content()["generators"]
    return {"metrics": metrics, "learner": learner.state_dict(), "streams": streams}


def configured(case: str) -> Any:
    return OmegaConf.create(composed("train", CASES[case], [CONFIGS])[0])


def failing(ranks: Ranks) -> str:
    """What a process says when the policy of the last one acts by NaN."""
    config, generators = configured("maml_ppo"), Generators(0)
    env = build.environment(config, build.sizes(config).num_worlds // ranks.num)
    learner: Any = build.learner(config, env, generators, CPU, ranks)
    if ranks.rank == ranks.num - 1:
        with torch.no_grad():
            learner.params.theta["log_std"].fill_(float("nan"))
    try:
        RunState(learner, generators, RETURNS).iterate()
    except FloatingPointError as error:
        return str(error)
    return "nothing failed"


def unlike(ranks: Ranks) -> str:
    """What a process says when the last one has moved its parameters alone."""
    config, generators = configured("maml_ppo"), Generators(0)
    env = build.environment(config, build.sizes(config).num_worlds // ranks.num)
    learner: Any = build.learner(config, env, generators, CPU, ranks)
    with torch.no_grad():
        learner.params.theta["trunk.layers.1.bias"].add_(0.01 * ranks.rank)
    try:
        distributed.check_alike(learner, ranks)
    except SettingError as error:
        return str(error)
    return "nothing failed"


if __name__ == "__main__":
    torch.set_num_threads(1)
    with distributed.joined() as ranks:
        found: dict[str, Any] = {case: run(case, ranks) for case in CASES}
        said = {"failing": failing(ranks), "unlike": unlike(ranks)}
        torch.save({**found, **said}, f"{sys.argv[1]}{ranks.rank}")
