"""Makes the objects of a run from a composed config, and brings them back from a checkpoint. No
library code sees a config."""

import os
import platform
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
import yaml
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf

import envs
import metarl
from envs.sim.process import tune_process
from metarl import zoo
from metarl.cli.configs import as_dict, merged, shown
from metarl.cli.moved import present_name
from metarl.cli.strangers import blamed_on, check_words, checked, field
from metarl.cli.words import command_line
from metarl.core import saved
from metarl.errors import UserError
from metarl.noise import Noise
from metarl.rl.algorithms.shared import Setting
from metarl.rl.data.collect import Streams
from metarl.rl.types import BatchedEnv, RLLearner, Sizes
from metarl.run import checkpoint
from metarl.run.seeding import Generators
from metarl.struct import replace, struct
from metarl.types import ALONE, MetaLearner, Ranks


@struct
class Loaded:
    """A checkpoint brought back to life."""

    path: Path
    content: dict[str, Any]
    config: DictConfig
    warnings: list[str]

    zoo_name: str | None = None
    """The name in the zoo, if it comes from the zoo: weights alone, in a folder that isn't the user's."""

    @property
    def run_folder(self) -> Path:
        """Where what is made of it belongs."""
        if self.zoo_name is not None:
            return Path("runs/zoo") / self.zoo_name
        return run_folder(self.path)


def run_folder(location: Path) -> Path:
    """A run folder, its checkpoints folder or a checkpoint file -> the run folder."""
    folder = location.parent if location.is_file() else location
    return folder.parent if folder.name == "checkpoints" else folder


def num_seeds_in(folder: Path) -> int:
    """How many seeds a folder holds the run folders of; 1 where it isn't such a folder."""
    try:
        config = OmegaConf.load(folder / "config.yaml")
    except (OSError, ValueError, yaml.YAMLError):
        return 1
    found = config.get("num_seeds") if isinstance(config, DictConfig) else None
    return found if isinstance(found, int) else 1


def device(name: str) -> torch.device:
    """cpu, cuda, cuda:1 or auto -> a torch device that exists here. Raises: UserError."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
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
    return found


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
    overrides = {
        key: value for key, value in config.env.items() if key not in ("name", "shows_task")
    }
    seen = shows_task(config.env)
    return envs.make(
        config.env.name, num_worlds=num_worlds, machine=machine, shows_task=seen, **overrides
    )


def shows_task(env: DictConfig) -> bool:
    """Tells whether observations hold the task; null, or nothing as in files of older versions, is
    false."""
    return bool(env.get("shows_task"))


def sizes(config: DictConfig) -> Sizes:
    """Returns how many tasks, episodes and updates the config's algorithm asks for. Raises:
    ValueError for zero of them."""
    settings = {
        str(key): value for key, value in _unnamed(config.algo).items() if key != "_target_"
    }
    found: Sizes = get_object(config.algo._target_).sizes(**settings)
    return found


def algo_name(config: DictConfig) -> str:
    """The algorithm as the command line calls it: its `name`, where several files of configs/algo
    choose one class; else the last module of its `_target_`, metarl.rl.algorithms.rl2_ppo.RL2PPO.
    """
    module = str(config.algo._target_).rpartition(".")[0].rpartition(".")[2]
    return str(config.algo.get("name") or module)


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
        raise UserError(f"sim.backend={backend}: expected {' or '.join(envs.BACKENDS)}")
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
    model = maker(config.model)(
        observation_space=env.observation_space,
        action_space=env.action_space,
        generator=generators("init"),
    )
    of_run = streams(generators, on, ranks=ranks)
    setting = Setting(env=env, model=model.to(on), streams=of_run, device=on)
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


def trained_learner(loaded: Loaded, generators: Generators, on: torch.device) -> RLLearner:
    """The checkpoint's learner, for evaluation and rendering: its environment has one world
    only."""
    built = learner(loaded.config, environment(loaded.config, num_worlds=1), generators, on)
    built.load_state_dict(loaded.content["learner"])
    return built


def elsewhere(loaded: Loaded, env: DictConfig | None) -> DictConfig:
    """The checkpoint's configuration with another environment than it was trained on, if one is
    given: by its name, or the same one with another `shows_task`.

    Raises: UserError if the learner can't see or act there.
    """
    if env is None or ("name" not in env and env.shows_task is None):
        return loaded.config
    asked = env if "name" in env else merged(loaded.config.env, env)
    sees = shows_task(loaded.config.env)
    if shows_task(asked) != sees:
        whose = f"the policy in {loaded.path} {'sees' if sees else 'does not see'} the task"
        raise UserError(
            f"env.shows_task={shown(not sees)}: {whose}; expected {shown(sees)}, as it was trained"
        )
    config = merged(loaded.config, {"env": None}, {"env": {**asked, "shows_task": sees}})
    world, trained_on = environment(config, num_worlds=1), environment(loaded.config, num_worlds=1)
    for kind in ("observation_space", "action_space"):
        found, expected = getattr(world, kind), getattr(trained_on, kind)
        if found != expected:
            raise UserError(
                f"env={world.spec.name}: its {kind} is {found}; the learner was trained with "
                f"{expected}"
            )
    if config.algo.get("inner_loss") == "dice" and world.spec.horizon != trained_on.spec.horizon:
        raise UserError(
            f"env.horizon={world.spec.horizon}: inner_loss=dice learns from episodes of "
            f"{trained_on.spec.horizon} steps, as in training"
        )
    return config


def load(location: str) -> Loaded:
    """The newest whole checkpoint of a run folder, or one checkpoint file.

    Raises: UserError if there is none, it is damaged, or the environment it was trained on is
    defined otherwise now.
    """
    loaded = read(location)
    if "env" not in loaded.content:
        raise UserError(
            f"the checkpoint {loaded.path} is of few-shot learning: "
            f"{command_line('fewshot', resume=location)}"
        )
    env, built, generators = untrained(loaded.config, loaded.path)
    with blamed_on(loaded.path, "content"):
        check_spec(
            loaded, field(loaded.content, "env", str, "a name"), env.spec.spec_hash, "environment"
        )
    loaded = whole(loaded, built, generators)
    try_out(loaded, built, generators, count="env_steps")
    return loaded


def read(location: str) -> Loaded:
    """The newest whole checkpoint of a run folder, one checkpoint file, or `zoo:<name>`, whatever
    it was trained on.

    Raises: UserError if there is none or it is damaged.
    """
    if location.startswith(zoo.PREFIX):
        return _of_the_zoo(location.removeprefix(zoo.PREFIX))
    place = checkpoint.named(Path(location).expanduser())
    if location in zoo.names() and not place.exists():
        raise UserError(f"no checkpoint at {location}; did you mean {zoo.PREFIX}{location}?")
    above = place.parent if place.name == checkpoint.BEST else place
    if (num_seeds := num_seeds_in(above)) > 1:
        place = above
        seeds = ", ".join(sorted(folder.name for folder in place.glob("seed*"))[:3])
        raise UserError(
            f"{place} holds {num_seeds} seeds; expected one of its folders: {seeds}, ..."
        )
    found = checkpoint.resolve(place)
    if found.is_file():
        path, content = found, checkpoint.load(found)
        warnings: list[str] = []
    else:
        path, content, warnings = checkpoint.load_newest(found)
    command = "fewshot" if "dataset" in content else "train"
    return Loaded(
        path=path,
        content=content,
        config=checked(content.get("config"), path, command),
        warnings=warnings,
    )


def _of_the_zoo(name: str) -> Loaded:
    path, content = zoo.path(name), zoo.read(name)
    command = "fewshot" if "dataset" in content else "train"
    return Loaded(
        path=path,
        content=content,
        config=checked(content.get("config"), path, command),
        warnings=[],
        zoo_name=name,
    )


def whole(loaded: Loaded, built: MetaLearner, generators: Generators) -> Loaded:
    """A checkpoint as it is; to the weights of the zoo comes what a new run of the same
    configuration would begin with."""
    if loaded.zoo_name is None:
        return loaded
    learner = zoo.completed(loaded.content.get("learner"), built.state_dict())
    content = {**loaded.content, "learner": learner, "generators": generators.state_dict()}
    return replace(loaded, content=content)


def changed(config: DictConfig, settings: Mapping[str, Any]) -> DictConfig:
    """The configuration with some settings changed."""
    return merged(config, dict(settings))


def untrained(config: DictConfig, file: Path) -> tuple[BatchedEnv, RLLearner, Generators]:
    """What the configuration in a file makes, in one world, so that no command finds later that it
    can't be made.

    Raises: UserError naming the file and what doesn't fit.
    """
    with blamed_on(file, "config"):
        sizes(config)
        env, generators = environment(config, num_worlds=1), Generators(config.seed)
        return env, learner(config, env, generators, torch.device("cpu")), generators


def try_out(loaded: Loaded, built: MetaLearner, generators: Generators, *, count: str) -> None:
    """Brings the checkpoint back into a learner and streams made for it, so that no command finds
    later that it can't.

    Args: count: what it counts, see `metarl.run.logging.Shown`.
    Raises: UserError naming what doesn't fit.
    """
    with blamed_on(loaded.path, "content"):
        for name in ("iteration", count):
            field(loaded.content, name, int, "a whole number")
        check_words(loaded.content.get("follow_iterations", []), "follow_iterations")
        saved.check(loaded.content.get("seconds", 0.0), 0.0, "seconds")
    with blamed_on(loaded.path, "learner"):
        built.load_state_dict(field(loaded.content, "learner", dict, "the learner's state"))
    with blamed_on(loaded.path, "generators"):
        generators.load_state_dict(
            field(loaded.content, "generators", dict, "the states of random streams")
        )


def check_spec(loaded: Loaded, name: str, present_hash: str, kind: str) -> None:
    """Raises: UserError if the problem that the checkpoint was trained on is defined otherwise
    now."""
    if present_hash != loaded.content.get("spec_hash"):
        raise UserError(
            f"the checkpoint {loaded.path} belongs to {name} with spec hash "
            f"{loaded.content.get('spec_hash')}, "
            f"but {name} has the hash {present_hash} now: the {kind}'s definition has changed"
        )


def provenance(config: DictConfig, env: BatchedEnv) -> dict[str, Any]:
    """What every checkpoint and result carries: the problem, the settings, the code and the library
    versions."""
    return {
        "env": env.spec.name,
        "variant": env.spec.variant,
        "spec_hash": env.spec.spec_hash,
        **origin(config),
    }


def origin(config: DictConfig) -> dict[str, Any]:
    """The settings, the code and the library versions."""
    return {
        "config": as_dict(config, resolve=True),
        "follow_iterations": follow_iterations(config),
        "commit": commit(),
        "versions": versions(),
    }


def follow_iterations(config: DictConfig) -> list[str]:
    """The keys whose value is `${iterations}`, such as where a schedule ends: a resume with more
    iterations moves them, too."""
    found: list[str] = []

    def search(tree: Any, prefix: str = "") -> None:
        for key, value in tree.items():
            if isinstance(value, dict):
                search(value, f"{prefix}{key}.")
            elif value == "${iterations}":
                found.append(f"{prefix}{key}")

    search(as_dict(config, resolve=False))
    return found


def commit() -> str | None:
    """The commit of metarl's own checkout, `-dirty` if files differ from it; None if metarl doesn't
    run from a checkout.

    A virtual environment may lie in the checkout of another project, whose commit says nothing
    about us.
    """
    root = Path(metarl.__file__).resolve().parents[1]
    ours = ("metarl/__init__.py", "pyproject.toml")
    try:
        if Path(_git(root, "rev-parse", "--show-toplevel")).resolve() != root:
            return None
        # An error if the repository doesn't know them
        _git(root, "ls-files", "--error-unmatch", *ours)
        if tomllib.loads((root / ours[1]).read_text()).get("project", {}).get("name") != "metarl":
            return None
        return _git(root, "describe", "--always", "--dirty", "--abbrev=12")
    except (OSError, subprocess.SubprocessError, tomllib.TOMLDecodeError):
        return None


_OF_A_REPOSITORY = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_COMMON_DIR",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
)
"""What git sets for the hooks of a repository, and would send us to that one."""


def _git(folder: Path, *words: str) -> str:
    environment = {
        name: value for name, value in os.environ.items() if name not in _OF_A_REPOSITORY
    }
    command = ["git", "-C", str(folder), *words]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=10, env=environment
    )
    return done.stdout.strip()


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    optional = {"mujoco_warp": "mujoco-warp", "warp": "warp-lang"}  # named if they computed here
    used = [package for module, package in optional.items() if module in sys.modules]
    for package in ("metarl", "torch", "mujoco", "gymnasium", "numpy", *used):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
