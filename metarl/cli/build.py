"""Makes the objects of a run from a composed config. No library code sees a config."""

import math
import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import torch
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf

import envs
from envs.sim.process import tune_process
from metarl.choices import expected
from metarl.cli.configs import shown
from metarl.cli.moved import present_name
from metarl.cli.own_code import own_faults
from metarl.errors import UserError
from metarl.noise import Noise
from metarl.report.algo_name import algo_name
from metarl.rl.algorithms.shared import Setting
from metarl.rl.data.collect import Streams
from metarl.rl.types import BatchedEnv, RLLearner, Sizes
from metarl.run.device import used
from metarl.run.global_streams import GlobalStreams
from metarl.run.memory import check_rollout_fits
from metarl.run.seeding import Generators
from metarl.types import ALONE, Ranks

_MANY_STEPS = 10_000_000
"""Control steps side by side from which on it is worth making a world to see how large they are."""


def device(name: str) -> torch.device:
    """cpu, cuda, cuda:1 or auto -> a torch device that exists here. Raises: UserError."""
    if name == "auto":
        return used(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    if not re.fullmatch("cpu|cuda(:[0-9]{1,3})?", name):
        raise UserError(f"device={name}: expected cpu, cuda or auto, or one of several as cuda:1")
    if name == "cpu":
        return torch.device(name)
    if not torch.cuda.is_available():
        raise UserError(
            f"device={name}: torch finds no CUDA device here; use device=cpu or device=auto"
        )
    found = torch.device(name)
    if found.index is not None and found.index >= (present := torch.cuda.device_count()):
        names = ", ".join(f"cuda:{index}" for index in range(present))
        raise UserError(f"device={name}: torch finds no such device here; there are cpu, {names}")
    return used(found)


def environment(
    config: DictConfig, num_worlds: int, machine: envs.Machine | None = None
) -> BatchedEnv:
    """The environment of the config's group `env` with this many worlds.

    Args: machine: where it runs; None: on MuJoCo's C engine, in which every problem is defined, as
      evaluations and videos do.
    """
    tune_process()  # Small worlds have no simulator that would.
    if machine is None:
        machine = envs.Machine(num_threads=config.sim.num_threads)
    if torch.device(machine.device).type == "cpu":
        check_memory(config, num_worlds)
    overrides = {
        key: value for key, value in config.env.items() if key not in ("name", "shows_task")
    }
    seen = shows_task(config.env)
    return envs.make(
        config.env.name, num_worlds=num_worlds, machine=machine, shows_task=seen, **overrides
    )


@contextmanager
def one_world(config: DictConfig) -> Iterator[BatchedEnv]:
    """One world of it, for what it says of itself: its problem, its tasks, its spaces. It is closed at
    the end, for a user's environment may hold processes, ports or a robot."""
    with closing(environment(config, num_worlds=1)) as env:
        yield env


def check_memory(config: DictConfig, num_worlds: int) -> None:
    """Raises: UserError if so many worlds can't be played side by side on a CPU of this machine."""
    if num_worlds == 1 or num_worlds * (config.env.get("horizon") or 1000) < _MANY_STEPS:
        return
    with one_world(config) as one:
        spaces = (one.observation_space, one.action_space)
        numbers = sum(math.prod(space.shape or ()) for space in spaces)
        check_rollout_fits(num_worlds, one.spec.horizon, numbers, one.spec.name)


def shows_task(env: DictConfig) -> bool:
    """Tells whether observations hold the task; null, or nothing as in files of older versions, is
    false."""
    return bool(env.get("shows_task"))


def sizes(config: DictConfig) -> Sizes:
    """Returns how many tasks, episodes and updates the config's algorithm asks for. Raises:
    ValueError for zero of them; UserError for a learner that doesn't say it."""
    settings = {
        str(key): value for key, value in _unnamed(config.algo).items() if key != "_target_"
    }
    made_of = get_object(config.algo._target_)
    if not callable(getattr(made_of, "sizes", None)):
        raise UserError(
            f"algo._target_={config.algo._target_}: has no sizes; expected a learner that says how many "
            "tasks, episodes and updates an iteration has, as docs/own_learner.md shows"
        )
    found: Sizes = made_of.sizes(**settings)
    return found


def _unnamed(algo: DictConfig) -> DictConfig:
    """The algorithm's settings without its name, which isn't for its constructor."""
    return OmegaConf.masked_copy(algo, [str(key) for key in algo if key != "name"])


def training_environment(
    config: DictConfig, on: torch.device | str = "cpu", num_worlds: int | None = None
) -> BatchedEnv:
    """The environment on the simulator of the config's group `sim`.

    Args:
      on: the learner's device, where MuJoCo Warp computes, too.
      num_worlds: None: one for every episode that a learner plays side by side.
    """
    backend = config.sim.backend
    if backend not in envs.BACKENDS:
        raise UserError(f"sim.backend={backend}: {expected(backend, envs.BACKENDS)}")
    machine = envs.Machine(
        backend=backend,
        num_threads=config.sim.num_threads,
        device=on if backend == "warp" else "cpu",
        max_contacts=config.sim.get("max_contacts"),
        graphs=config.sim.get("graphs", True),
    )
    return environment(config, num_worlds or sizes(config).num_worlds, machine)


def streams(
    generators: Generators, on: torch.device, prefix: str = "", ranks: Ranks = ALONE
) -> Streams:
    share = (ranks.rank, ranks.num)
    return Streams(
        tasks=generators(f"{prefix}tasks"),
        reset=Noise(generators(f"{prefix}reset"), share=share),
        policy=Noise(generators(f"{prefix}policy", on), device=on, share=share),
        ranks=ranks,
    )


def learner(
    config: DictConfig,
    env: BatchedEnv,
    generators: Generators,
    on: torch.device,
    ranks: Ranks = ALONE,
) -> RLLearner:
    """The meta-learner of the config's groups `algo` and `model`, untrained; all its tensors on the
    device `on`.

    Args: ranks: the processes that share its tasks; `env` then has this one's part of the worlds.
    """
    drawn = GlobalStreams(generators.seed, "init")  # as layers of torch's own do
    with drawn, own_faults(config.model._target_):
        model = maker(config.model)(
            observation_space=env.observation_space,
            action_space=env.action_space,
            generator=generators("init"),
        )
    of_run = streams(generators, on, ranks=ranks)
    setting = Setting(env=env, model=model.to(on), streams=of_run, device=on)
    with drawn, own_faults(config.algo._target_):
        made: RLLearner = algorithm(config)(setting=setting)
    return made


def algorithm(config: DictConfig) -> Callable[..., Any]:
    """The class of the config's algorithm with its settings."""
    return maker(_unnamed(config.algo))


def maker(group: DictConfig) -> Callable[..., Any]:
    """The group's `_target_` with its settings. What a run adds goes in by a call: Hydra would copy
    it into a config."""
    return instantiate(
        group, _target_=present_name(group._target_), _partial_=True, _convert_="all"
    )


def scheduled(config: DictConfig, inner_lr_decay: float) -> DictConfig:
    """The configuration with another rate from the second update on: `inner_lr_decay` times
    `algo.inner_lr`.

    Raises: UserError if the algorithm's updates have no such rate.
    """
    algo, asked = config.algo, f"inner_lr_decay={shown(inner_lr_decay)}"
    if "inner_lr_decay" not in algo:
        raise UserError(
            f"{asked}: {algo_name(config)} has no update with a rate that could decay; "
            "expected null"
        )
    if (rule := algo.get("inner_rule", "sgd")) != "sgd":
        name, does = (rule, "learns") if isinstance(rule, str) else (rule._target_, "has")
        raise UserError(
            f"{asked}: algo.inner_rule={name} {does} its rates; expected null, or sgd there"
        )
    return OmegaConf.merge(config, {"algo": {"inner_lr_decay": inner_lr_decay}})  # type: ignore[return-value]


def seeing(config: DictConfig, context_size: int) -> DictConfig:
    """The configuration of an agent that infers its task from so many steps of the trial.

    Raises: UserError if the algorithm doesn't.
    """
    if "evaluated_context" not in config.algo:
        raise UserError(
            f"context_size={context_size}: {algo_name(config)} infers no task from a "
            "context; expected null"
        )
    return OmegaConf.merge(config, {"algo": {"evaluated_context": context_size}})  # type: ignore[return-value]
