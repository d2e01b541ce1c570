"""Brings a run back from its checkpoint: whole, and checked against what its configuration makes
now; what doesn't fit is refused in a line."""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from metarl import zoo
from metarl.cli import own_code, run_config
from metarl.cli.build import learner, one_world, shows_task, sizes
from metarl.cli.configs import as_dict, merged, shown
from metarl.cli.strangers import blamed_on, check_words, checked, field
from metarl.cli.words import command_line
from metarl.core import saved
from metarl.errors import UserError
from metarl.report.run_places import in_order, num_seeds_in
from metarl.rl.absent_env import AbsentEnv
from metarl.rl.spec import EnvSpec
from metarl.rl.types import BatchedEnv, RLLearner
from metarl.run import checkpoint
from metarl.run.iteration import check_loaded
from metarl.run.rows import read_rows
from metarl.run.seeding import Generators
from metarl.struct import replace, struct
from metarl.types import MetaLearner


@struct
class Loaded:
    """A checkpoint brought back to life."""

    path: Path
    content: dict[str, Any]
    config: DictConfig
    warnings: list[str]

    zoo_name: str | None = None
    """The name in the zoo, or that of a file packed as its files are: weights alone, in a folder
    that no run has."""
    with_env: bool = True
    """Whether its environment is made; else the file says what the agent sees and does."""

    @property
    def run_folder(self) -> Path:
        """Where what is made of it belongs."""
        if self.zoo_name is not None:
            return Path("runs/zoo") / self.zoo_name
        return run_folder(self.path.parent)  # the file itself may be gone meanwhile


def run_folder(location: Path) -> Path:
    """A run folder, its checkpoints folder or a checkpoint file -> the run folder."""
    folder = location.parent if location.is_file() else location
    return folder.parent if folder.name == "checkpoints" else folder


def trained_learner(loaded: Loaded, generators: Generators, on: torch.device) -> RLLearner:
    """The checkpoint's learner, for evaluation and rendering; the environment that it was made for is
    closed."""
    with world_of(loaded) as env:
        built = learner(loaded.config, env, generators, on)
    built.load_state_dict(loaded.content["learner"])
    return built


@contextmanager
def world_of(loaded: Loaded) -> Iterator[BatchedEnv]:
    """One world of the environment that the checkpoint was trained on; without one, what the file
    says of it.

    Raises: UserError if the file doesn't say it, as those of earlier versions.
    """
    if loaded.with_env:
        with one_world(loaded.config) as env:
            yield env
    else:
        with blamed_on(loaded.path, "interface"):
            if "interface" not in loaded.content:
                raise UserError(
                    f"{loaded.path} doesn't say what its agent sees and does, for an earlier version "
                    "wrote it; expected with_env=True, where its environment is there"
                )
            absent = AbsentEnv(field(loaded.content, "interface", dict, "spaces and a spec"))
        yield absent


def names_world(env: DictConfig | None) -> bool:
    """Whether the command line gives another environment by its name, env=<name>, instead of only
    settings of the same one, env.shows_task=true."""
    return env is not None and "name" in env


def elsewhere(loaded: Loaded, env: DictConfig | None) -> DictConfig:
    """The checkpoint's configuration with another environment than it was trained on, if one is
    given: by its name, or the same one with another `shows_task`.

    Raises: UserError if the learner can't see or act there.
    """
    if env is None or (not names_world(env) and env.shows_task is None):
        return loaded.config
    asked = env if names_world(env) else merged(loaded.config.env, env)
    sees = shows_task(loaded.config.env)
    if shows_task(asked) != sees:
        whose = f"the policy in {loaded.path} {'sees' if sees else 'does not see'} the task"
        raise UserError(
            f"env.shows_task={shown(not sees)}: {whose}; expected {shown(sees)}, as it was trained"
        )
    config = merged(loaded.config, {"env": None}, {"env": {**asked, "shows_task": sees}})
    with one_world(config) as world, one_world(loaded.config) as trained_on:
        for kind in ("observation_space", "action_space"):
            found, expected = getattr(world, kind), getattr(trained_on, kind)
            if found != expected:
                raise UserError(
                    f"env={world.spec.name}: its {kind} is {found}; the learner was trained with "
                    f"{expected}"
                )
        horizon, then = world.spec.horizon, trained_on.spec.horizon
    if config.algo.get("inner_loss") == "dice" and horizon != then:
        raise UserError(
            f"env.horizon={horizon}: inner_loss=dice learns from episodes of {then} steps, as in "
            "training"
        )
    return config


def load(location: str, found: Loaded | None = None) -> Loaded:
    """The newest whole checkpoint of a run folder, or one checkpoint file.

    Args: found: what `read` gave, where that was called; a checkpoint without its environment isn't
    compared with it.
    Raises: UserError if there is none, it is damaged, or the environment it was trained on is
    defined otherwise now.
    """
    loaded = found or read(location)
    if "env" not in loaded.content:
        raise UserError(
            f"the checkpoint {loaded.path} is of few-shot learning, whose evaluation is "
            + (
                f"metarl.load({location.removeprefix(zoo.PREFIX)!r}).evaluate() in Python"
                if loaded.zoo_name is not None
                else f"the end of its training: {command_line('fewshot', resume=location)}"
            )
        )
    spec, built, generators = untrained(loaded.config, loaded.path, world_of(loaded))
    with blamed_on(loaded.path, "content"):
        check_spec(
            loaded, field(loaded.content, "env", str, "a name"), spec.spec_hash, "environment"
        )
    if (then := loaded.content.get("made_by", spec.made_by)) != spec.made_by:
        loaded.warnings.append(
            f"the code or the model of {spec.name} has changed since this training (then {then}, "
            f"now {spec.made_by}), though its definition is the same: returns needn't compare"
        )
    say_changes(loaded)
    loaded = whole(loaded, built, generators)
    try_out(loaded, built, generators, count="env_steps")
    return loaded


def load_saying(location: str) -> Loaded:
    """`load`, which says on stderr what is to be known of what it found."""
    loaded = load(location)
    for warning in loaded.warnings:
        print(f"{warning}; using {loaded.path}", file=sys.stderr)
    return loaded


def read(location: str, *, with_env: bool = True) -> Loaded:
    """The newest whole checkpoint of a run folder, one checkpoint file, `zoo:<name>`, or a file that
    was packed as those of the zoo, whatever it was trained on.

    Args: with_env: False leaves its environment out, see `Loaded`.
    Raises: UserError if there is none or it is damaged.
    """
    if location.startswith(zoo.PREFIX):
        name = location.removeprefix(zoo.PREFIX)
        return _loaded(zoo.path(name), zoo.read(name), [], zoo_name=name, with_env=with_env)
    place = checkpoint.named(Path(location).expanduser())
    if location in zoo.names() and not place.exists():
        raise UserError(f"no checkpoint at {location}; did you mean {zoo.PREFIX}{location}?")
    above = place.parent if place.name == checkpoint.BEST else place
    if (num_seeds := num_seeds_in(above)) > 1:
        place = above
        seeds = ", ".join(folder.name for folder in in_order(place.glob("seed*"))[:3])
        raise UserError(
            f"{place} holds {num_seeds} seeds; expected one of its folders: {seeds}, ..."
        )
    found = checkpoint.resolve(place)
    if zoo.is_packed(found):
        own = f"{found.resolve().parent.name}/{found.stem}"
        return _loaded(found, zoo.read_file(found), [], zoo_name=own, with_env=with_env)
    if found.is_file():
        path, content = found, checkpoint.load(found)
        warnings: list[str] = []
    else:
        path, content, warnings = checkpoint.load_newest(found)
        warnings += _told_of_a_newer(path, content)
    return _loaded(path, content, warnings, with_env=with_env)


def _told_of_a_newer(path: Path, content: dict[str, Any]) -> list[str]:
    """What to say where the rows of a run go on to an iteration whose checkpoint isn't there, though
    it was to be saved: somebody has renamed or moved it, and what is used is older than they think."""
    folder, run = path.parent, run_folder(path.parent)
    iteration, config = content.get("iteration"), content.get("config")
    rows = read_rows(run / "metrics.jsonl") if folder != run else []
    if not rows or not isinstance(iteration, int) or not isinstance(config, dict):
        return []
    done = rows[-1]["iteration"] + 1
    if done <= iteration:
        return []
    now = config | run_config.numbers(run / "config.yaml", ("checkpoint_every", "iterations"))
    every, iterations = (now.get(key) for key in ("checkpoint_every", "iterations"))
    if not (isinstance(every, int) and isinstance(iterations, int) and every > 0):
        return []
    due = done if done >= iterations else done // every * every
    if due <= iteration or checkpoint.path_of(folder, due).exists():
        return []
    known = {checkpoint.BEST, *(file.name for file in checkpoint.list_checkpoints(folder))}
    others = sorted(file.name for file in folder.glob("*.pt") if file.name not in known)
    beside = f" (other files there: {', '.join(others[:3])})" if others else ""
    return [
        f"{folder} has no checkpoint of iteration {due}, to which metrics.jsonl goes{beside}; the "
        f"newest is of iteration {iteration}"
    ]


def _loaded(
    path: Path,
    content: dict[str, Any],
    warnings: list[str],
    zoo_name: str | None = None,
    *,
    with_env: bool,
) -> Loaded:
    command = "fewshot" if "dataset" in content else "train"
    return Loaded(
        path=path,
        content=content,
        config=checked(content.get("config"), path, command, with_env=with_env),
        warnings=warnings,
        zoo_name=zoo_name,
        with_env=with_env,
    )


def whole(loaded: Loaded, built: MetaLearner, generators: Generators) -> Loaded:
    """A checkpoint as it is; to the weights of the zoo comes what a new run of the same
    configuration would begin with."""
    if loaded.zoo_name is None:
        return loaded
    learner = zoo.completed(loaded.content.get("learner"), built.state_dict())
    content = {**loaded.content, "learner": learner, "generators": generators.state_dict()}
    return replace(loaded, content=content)


def untrained(
    config: DictConfig, file: Path, world: AbstractContextManager[BatchedEnv] | None = None
) -> tuple[EnvSpec, RLLearner, Generators]:
    """The problem, learner and streams that the configuration in a file makes, so that no command
    finds later that they can't be made.

    Args: world: of its environment; None: one that the configuration makes.
    Raises: UserError naming the file and what doesn't fit.
    """
    with blamed_on(file, "config"):
        sizes(config)
        generators = Generators(config.seed)
        with world or one_world(config) as env:
            return env.spec, learner(config, env, generators, torch.device("cpu")), generators


def try_out(loaded: Loaded, built: MetaLearner, generators: Generators, *, count: str) -> None:
    """Brings the checkpoint back into a learner and streams made for it, so that no command finds
    later that it can't.

    Args: count: what it counts, see `metarl.run.shown.Shown`.
    Raises: UserError naming what doesn't fit.
    """
    with blamed_on(loaded.path, "content"):
        for name in ("iteration", count):
            field(loaded.content, name, int, "a whole number")
        check_words(loaded.content.get("follow_iterations", []), "follow_iterations")
        saved.check(loaded.content.get("seconds", 0.0), 0.0, "seconds")
    with blamed_on(loaded.path, "learner"):
        state = field(loaded.content, "learner", dict, "the learner's state")
        built.load_state_dict(state)
        check_loaded(built, state)
    with blamed_on(loaded.path, "generators"):
        generators.load_state_dict(
            field(loaded.content, "generators", dict, "the states of random streams")
        )


def say_changes(loaded: Loaded) -> None:
    """Adds to its warnings what code of the user's own isn't as it was; files of earlier versions
    don't tell it."""
    now = own_code.own_code(as_dict(loaded.config, resolve=True))
    loaded.warnings.extend(own_code.changes(loaded.content.get("own_code", {}), now))


def check_spec(loaded: Loaded, name: str, present_hash: str, kind: str) -> None:
    """Raises: UserError if the problem that the checkpoint was trained on is defined otherwise
    now."""
    if present_hash != loaded.content.get("spec_hash"):
        raise UserError(
            f"the checkpoint {loaded.path} belongs to {name} with spec hash "
            f"{loaded.content.get('spec_hash')}, "
            f"but {name} has the hash {present_hash} now: the {kind}'s definition has changed"
        )
