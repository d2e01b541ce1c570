"""One Gymnasium environment under a task, and how several are stepped for whoever asks.

Imports numpy and gymnasium only, because it also runs in a Python that has no more: `python
world.py FD` serves the worlds of the process that holds the other end of the socket FD
(envs/own/worlds.py). Where MuJoCo is needed, the environment itself has imported it.
"""

import copy
import difflib
import functools
import hashlib
import importlib
import importlib.util
import inspect
import io
import itertools
import math
import os
import pickle
import re
import signal
import sys
import sysconfig
import tokenize
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces

_SECONDS_TO_LOOK = 5.0
"""How long a process waits for a request before it looks whether who asks is still there."""


class WorldError(ValueError):
    """An environment of the user's own isn't as it must be, or its tasks don't fit it; the message
    names what was expected."""


class EnvironmentFailed(WorldError):
    """The code of the user's environment raised an error, which is the cause of this one; the
    message says what and where."""


class _Theirs:
    """Stands around calls of the user's code. Raises: EnvironmentFailed for what it raises; what is
    ours, and an action that isn't finite, passes.

    Args:
      doing: the beginning of the message, asked for only then: it stands around every step.
      but: what passes besides.
    """

    def __init__(self, doing: Callable[[], str], but: type[Exception] = WorldError) -> None:
        self._doing, self._but = doing, but

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        ours = (WorldError, FloatingPointError, MemoryError, self._but)
        if not isinstance(error, Exception) or isinstance(error, ours):
            return
        told = " ".join(" ".join(line.split()) for line in str(error).strip().splitlines()[:2])
        place = _place_in_users_code(error)
        raise EnvironmentFailed(
            f"{self._doing()}: {type(error).__name__}{': ' if told else ''}{told}{place}"
        ) from error


def _place_in_users_code(error: Exception) -> str:
    """The innermost line that isn't of an installed package; empty where all are."""
    frames = traceback.extract_tb(error.__traceback__)
    installed = tuple(sysconfig.get_paths()[key] for key in ("stdlib", "purelib", "platlib"))
    for frame in reversed(frames):
        if frame.filename != __file__ and not frame.filename.startswith((*installed, "<")):
            return f" ({frame.filename}, line {frame.lineno}, in {frame.name})"
    return ""


@dataclass(frozen=True, kw_only=True)
class TaskVariable:
    """One field of a task. Made by `attribute`, `model_field` or `reset_option`."""

    kind: Literal["attribute", "model_field", "reset_option"]
    paths: tuple[str, ...]
    """Where the number goes, seen from the unwrapped environment. It may go to several places, for
    instance mass and inertia."""
    how: Literal["between", "scale", "one_of"]
    values: tuple[tuple[float, ...], ...]
    """Lowest and highest, or all of `one_of`; each of k numbers. A word stands as its number in the
    list."""
    shape: tuple[int, ...]
    """The shape of one task's value: () or (k,)."""
    index: int | str | tuple[int | str, ...] | None
    """The place of one element; in a model's field the first part may be a name that the model
    has."""
    choices: tuple[Any, ...] = ()
    """What the environment gets for each of `one_of`: a number, truth value or word; a tuple for an
    array."""

    def meant(self, number: Any) -> Any:
        """What the environment gets for the number, or list of k numbers, that a task has."""
        row = tuple(np.ravel(number).tolist())
        if row in self.values and self.choices:
            choice = self.choices[self.values.index(row)]
            return np.array(choice) if self.shape else choice
        if any(isinstance(choice, str) for choice in self.choices):
            words = ", ".join(f"{i} ({choice})" for i, choice in enumerate(self.choices))
            raise WorldError(
                f"{', '.join(self.paths)} is choice {number!r}; expected one of {words}"
            )
        return np.array(number) if self.shape else number


class World:
    """One environment. Takes a task into force at `reset`, and stands still at its last observation
    after its end.

    Attributes and model fields are always computed from the values that the environment was made
    with, so nothing compounds.

    Args:
      after_task: called with the unwrapped environment when the task's values are written, before
        the reset.
      name: of the environment, in messages.
      horizon: the environment's own time limit in control steps, which isn't in force; None if it
        has none.
      source: what made the environment, where that isn't an id of Gymnasium's.
    Raises: ValueError if a space or a variable's place doesn't fit, if two variables go to one
    place, or if a place doesn't hold its values over a reset.
    """

    def __init__(
        self,
        env: Any,
        variables: Mapping[str, TaskVariable],
        *,
        after_task: Callable[[Any], object] | None = None,
        name: str,
        horizon: int | None = None,
        source: Callable[..., Any] | None = None,
    ) -> None:
        self.source = source
        self.env = _checked_environment(env, name)
        self.name = name
        self.horizon = horizon
        self.observations = Observations(env.observation_space, name)
        self._variables = {
            name: self._numbered(name, variable) for name, variable in variables.items()
        }
        self._after_task = after_task
        self._places = [
            path
            for variable in self._variables.values()
            if variable.kind != "reset_option"
            for path in variable.paths
        ]
        present = {path: _read(self.unwrapped, path) for path in self._places}
        self._own = {path: _copy(value) for path, value in present.items()}
        self._own_kinds = {path: type(value) for path, value in present.items()}
        in_model = any(
            path.startswith("model.") and not path.startswith("model.opt.") for path in self._places
        )
        self._derives = in_model or (after_task is not None and self._physics() is not None)
        self._mujoco_data: Any = None
        self._ended: tuple[np.ndarray, tuple[bool, bool, bool], dict[str, float]] | None = None
        self._num_steps = 0
        self.not_finite: str | None = None
        """Why the present episode is diverged, if a number did it that isn't finite."""
        for extreme in (0, -1):
            self.write({name: value_of(variable, extreme) for name, variable in variables.items()})
        self._check_apart()

    @property
    def unwrapped(self) -> Any:
        return self.env.unwrapped

    @property
    def whole_numbers(self) -> list[str]:
        """The variables that go to places which hold whole numbers."""
        return [
            name
            for name, variable in self._variables.items()
            if any(_is_whole(self._own.get(path)) for path in variable.paths)
        ]

    def reset(self, task: Mapping[str, Any], seed: int) -> np.ndarray:
        """[O] float32: the first observation of an episode under the task, numbers or lists by
        name."""
        written = self.write(task)
        options = {
            path: variable.meant(task[name])
            for name, variable in self._variables.items()
            if variable.kind == "reset_option"
            for path in variable.paths
        }
        if physics := self._physics():
            # As mj_resetData does; whoever sets a state by hand leaves the last blow-up counted.
            physics[1].warning.number[_bad_state()] = 0
        with _Theirs(lambda: f"{self.name}.reset fails under the task {self._in_words(task)}"):
            returned = self.env.reset(seed=seed, options=options or None)
        if not (
            isinstance(returned, tuple) and len(returned) == 2 and isinstance(returned[1], Mapping)
        ):
            raise WorldError(
                f"{self.name}.reset returned {_kind(returned)}; Gymnasium expects an observation "
                "and an info"
            )
        for path in self.overwritten(written):
            raise WorldError(
                f"{path} was set to {written[path]} and is {_read(self.unwrapped, path)} after "
                "reset(); "
                "expected a place that the environment's own reset leaves alone"
            )
        self._num_steps = 0
        obs, physics = self._observation(returned[0]), self._physics()
        self._ended = None
        self._mujoco_data = physics and physics[1]
        if self._diverged(obs, 0.0):
            obs = np.zeros_like(obs)
            self._ended = obs, (True, False, True), {}
        return obs

    def step(
        self, action: Any
    ) -> tuple[np.ndarray, float, tuple[bool, bool, bool], dict[str, float]]:
        """Takes an action of the environment's own space. Returns: observation [O] float32, reward,
        (terminated, truncated, diverged), and the numbers in the environment's info."""
        if self._ended is not None:
            obs, ends, numbers = self._ended
            return obs, 0.0, ends, numbers
        self._num_steps += 1
        with _Theirs(lambda: f"{self.name}.step fails at step {self._num_steps}"):
            returned = self.env.step(action)
        if not (isinstance(returned, tuple) and len(returned) == 5):
            raise WorldError(
                f"{self.name}.step returned {_kind(returned)}; "
                "Gymnasium expects observation, reward, terminated, truncated and info"
            )
        obs, reward = self._observation(returned[0]), self._number("reward", returned[1])
        terminated, truncated = (
            bool(self._number(what, value))
            for what, value in zip(("terminated", "truncated"), returned[2:4], strict=True)
        )
        diverged, numbers = self._diverged(obs, reward), numbers_in(returned[4])
        if numbers.get("success", 0.0) not in (0.0, 1.0) and not diverged:
            raise WorldError(
                f"{self.name}.step has info['success'] = {numbers['success']:g}; expected 0 or 1 (False "
                "or True), for a success rate counts episodes; a share goes under another name"
            )
        if diverged:
            obs, reward, terminated, truncated, numbers = np.zeros_like(obs), 0.0, True, False, {}
        ends = (terminated, truncated, diverged)
        if terminated or truncated:
            self._ended = obs, ends, numbers
        return obs, reward, ends, numbers

    @property
    def has_controller(self) -> bool:
        """Whether it, or one of its wrappers, has a method `scripted_action`."""
        return self._controller() is not None

    def _controller(self) -> Any:
        methods = (getattr(layer, "scripted_action", None) for layer in _layers(self.env))
        return next((method for method in methods if callable(method)), None)

    def scripted_action(self) -> np.ndarray:
        """What its controller does now, of the environment's own action space; any action in a world
        that has ended.

        Raises: WorldError for what isn't one.
        """
        space = self.env.action_space
        if self._ended is not None:
            return np.zeros(space.shape or (), space.dtype) + getattr(space, "start", 0)
        with _Theirs(lambda: f"{self.name}.scripted_action fails at step {self._num_steps}"):
            action = np.asarray(self._controller()())
        # Beyond a bound it is the bound, as a learner's is.
        fits = (
            action.shape == space.shape
            and action.dtype.kind in "fiu"
            and bool(np.isfinite(action).all())
            if isinstance(space, spaces.Box)
            else space.contains(action)
        )
        if not fits:
            raise WorldError(
                f"{self.name}.scripted_action returned {_in_line(action)}; expected an action of "
                f"{space}"
            )
        return action

    def _observation(self, obs: Any) -> np.ndarray:
        flat, expected = self.observations.flat(obs), self.observations.low.shape
        if flat.shape != expected:
            raise WorldError(
                f"{self.name} has an observation of shape {flat.shape}; its space says {expected}"
            )
        return flat

    def _number(self, what: str, value: Any) -> float:
        number = number_in(value)
        if number is None:
            raise WorldError(
                f"{self.name}.step returned {what} {_in_line(value)}; Gymnasium expects one number or "
                "truth value"
            )
        return number

    def _physics(self) -> tuple[Any, Any] | None:
        """MuJoCo's model and data, where the environment has them."""
        mujoco = sys.modules.get("mujoco")
        model, data = getattr(self.unwrapped, "model", None), getattr(self.unwrapped, "data", None)
        is_mujoco = (
            mujoco is not None
            and isinstance(model, mujoco.MjModel)
            and isinstance(data, mujoco.MjData)
        )
        return (model, data) if is_mujoco else None

    def _diverged(self, obs: np.ndarray, reward: float) -> bool:
        self.not_finite = None
        # MuJoCo resets a world that blew up by itself; only its warnings tell.
        if self._mujoco_data is not None and self._mujoco_data.warning.number[_bad_state()].any():
            return True
        bad = np.flatnonzero(~np.isfinite(obs))
        if len(bad):
            self.not_finite = f"observation[{bad[0]}] of step {self._num_steps} is {obs[bad[0]]}"
        elif not np.isfinite(_float32(reward)):  # as learners get it
            self.not_finite = f"the reward of step {self._num_steps} is {reward:g}"
        return self.not_finite is not None

    def _numbered(self, name: str, variable: TaskVariable) -> TaskVariable:
        """The variable with the number of the body, joint, ... that its index names."""
        index = variable.index if isinstance(variable.index, tuple) else (variable.index,)
        if not isinstance(index[0], str):
            return variable
        physics = self._physics()
        if physics is None:
            raise WorldError(
                f"{name}: {self.name} has no MuJoCo model, in which {index[0]!r} could be"
            )
        numbers = {_number_of(index[0], path, physics[0]) for path in variable.paths}
        if len(numbers) > 1:
            raise WorldError(
                f"{name}: {index[0]!r} has several numbers in {', '.join(variable.paths)}; expected a "
                "variable for each"
            )
        numbered = (numbers.pop(), *index[1:])
        return replace(
            variable, index=numbered if isinstance(variable.index, tuple) else numbered[0]
        )

    def _check_apart(self) -> None:
        """Raises: ValueError if two variables go to one place, or to a whole and its part; there,
        only factors go together in any order."""
        goes = [
            (name, variable, (variable.kind == "reset_option", path))
            for name, variable in self._variables.items()
            for path in variable.paths
        ]
        for (name, one, place), (other_name, other, other_place) in itertools.combinations(goes, 2):
            if place != other_place:
                continue
            path = place[1]
            first, second = sorted((self._elements(v, path) for v in (one, other)), key=len)
            are_factors = one.how == other.how == "scale"
            if first == second or (second[: len(first)] == first and not are_factors):
                raise WorldError(
                    f"{name} and {other_name} both set {path}; expected one variable for each "
                    "place, or scale= for an array and for elements of it"
                )

    def _in_words(self, task: Mapping[str, Any]) -> str:
        return ", ".join(f"{name} {task[name]}" for name in self._variables)

    def _elements(self, variable: TaskVariable, path: str) -> tuple[int, ...]:
        """The index of what a variable sets at one of its paths, counted from the start; () for all
        of it."""
        index = variable.index
        if index is None:
            return ()
        shape = np.shape(np.atleast_1d(self._own[path]))
        places: tuple[Any, ...] = index if isinstance(index, tuple) else (index,)
        return tuple(place % size for place, size in zip(places, shape, strict=False))

    def overwritten(self, written: Mapping[str, Any]) -> list[str]:
        """The places that no longer hold what `write` says that they held."""
        return [
            path
            for path, value in written.items()
            if not np.array_equal(_read(self.unwrapped, path), value)
        ]

    def variables_of(self, paths: Sequence[str]) -> list[str]:
        """The variables that go to one of the paths."""
        return [
            name
            for name, variable in self._variables.items()
            if variable.kind != "reset_option" and not set(paths).isdisjoint(variable.paths)
        ]

    def write(self, task: Mapping[str, Any]) -> dict[str, Any]:
        """Writes all places but reset options; what each holds then."""
        values = {path: _copy(own) for path, own in self._own.items()}
        for name, variable in self._variables.items():
            for path in variable.paths if variable.kind != "reset_option" else ():
                values[path] = _changed(path, values[path], variable, variable.meant(task[name]))
                _check_physical(path, self._own[path], values[path])
        self._put(values)
        if self._after_task is not None:
            with _Theirs(
                lambda: f"after_task of {self.name} fails under the task {self._in_words(task)}"
            ):
                self._after_task(self.unwrapped)
        if self._derives:
            self._derive()
        return {path: _copy(_read(self.unwrapped, path)) for path in values}

    def _derive(self) -> None:
        """Lets MuJoCo compute anew what it derives from the model's numbers."""
        mujoco = sys.modules["mujoco"]
        try:
            mujoco.mj_setConst(*self._physics() or ())
        except mujoco.FatalError as error:
            places = ", ".join(path for v in self._variables.values() for path in v.paths)
            raise WorldError(
                f"MuJoCo can't work with {self.name} as its task sets {places}: {error}; expected "
                "values that go with the model, or another model"
            ) from error

    def _put(self, values: Mapping[str, Any]) -> None:
        for path, value in values.items():
            *owners, attribute = path.split(".")
            try:
                owner = functools.reduce(getattr, owners, self.unwrapped)
                setattr(owner, attribute, _as_it_was(self._own_kinds[path], value))
            except AttributeError as error:
                raise WorldError(
                    f"{path} of {self.name} can't be set ({error}); expected an attribute that "
                    "can, "
                    "not a property without setter"
                ) from error

    def made_by(self) -> str:
        """12 hex digits of what the environment is made of: the code of its classes and of what
        made it, as far as it can be read and isn't Gymnasium's, its MuJoCo model, and `made_of`, if
        it says that of itself. No task is in force afterwards.

        Comments don't count; of a model's numbers five digits do, so that it is the same on every
        machine.
        """
        self._put(self._own)
        found = hashlib.sha256()
        for code in _code_of(self.env, self.source, self._after_task):
            found.update(_words_of(code).encode())
        if (physics := self._physics()) is not None:
            if self._derives:
                self._derive()
            found.update(_numbers_of(physics[0]).encode())
        found.update(str(getattr(self.unwrapped, "made_of", "")).encode())
        return found.hexdigest()[:12]


_NO_NUMBERS = "USMmc"
"""Kinds of arrays that NumPy makes numbers of which nobody meant."""


_FLATTENED = (
    *(spaces.Dict, spaces.Tuple),
    *(spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary),
)


class Observations:
    """Observations as one row of numbers: a Box with one axis as it is, a Dict or Tuple flattened
    in the order of its parts, choices (Discrete, MultiDiscrete, MultiBinary) as one-hot.

    Args: name: of the environment, in messages.
    """

    def __init__(self, space: gymnasium.Space[Any], name: str) -> None:
        nested = isinstance(space, _FLATTENED)
        row = spaces.flatten_space(space) if nested else space
        if not isinstance(row, spaces.Box) or len(row.shape) != 1:
            raise WorldError(
                f"the observation space is {space}; expected a Box with one axis, or a Dict that "
                "can be flattened to it "
                "(gymnasium.wrappers.FlattenObservation makes one)"
            )
        self._space = space
        self._nested = nested
        self._shown = f"{name}'s observation"
        self.low = _float32(row.low)
        self.high = _float32(row.high)

    def flat(self, obs: Any) -> np.ndarray:
        """Returns the observation as [O] float32, a copy. Raises: ValueError naming the part that
        isn't of its space."""
        try:
            row = np.concatenate(_parts(self._space, obs, self._shown)) if self._nested else obs
            if np.asarray(row).dtype.kind in _NO_NUMBERS:
                raise TypeError("words, times or complex numbers")
            return _float32(row)
        except WorldError:
            raise
        except (RuntimeError, TypeError, ValueError) as error:  # what isn't an array of numbers
            raise WorldError(
                f"{self._shown} is {_in_line(obs)}; expected one of {self._space}"
            ) from error


class LocalWorlds:
    """Meets `envs.own.worlds.Worlds` in this process: the worlds are stepped one after the
    other."""

    def __init__(self, make_world: Callable[[], World], num_worlds: int) -> None:
        self.envs = [make_world() for _ in range(num_worlds)]
        self.num_worlds = num_worlds
        if len({id(world.unwrapped) for world in self.envs}) < num_worlds:
            raise WorldError(
                f"{self.envs[0].name}'s worlds share one environment; expected a source that makes "
                "another at each call"
            )

    def describe(self) -> dict[str, Any]:
        """Describes one world as `Worlds.describe` says, in plain values, which any Python can
        read."""
        world = self.envs[0]
        return {
            "obs_low": world.observations.low,
            "obs_high": world.observations.high,
            "action_space": _described(world.env.action_space),
            "whole_numbers": world.whole_numbers,
            "has_controller": world.has_controller,
            "horizon": world.horizon,
            "control_step": _above_0(*(getattr(world.unwrapped, n, None) for n in ("dt", "tau"))),
            "render_fps": _above_0(world.env.metadata.get("render_fps")),
        }

    def made_by(self) -> str:
        """See `World.made_by`. The next thing to do is a reset."""
        return self.envs[0].made_by()

    def reset(
        self, worlds: Sequence[int], tasks: Sequence[Mapping[str, Any]], seeds: Sequence[int]
    ) -> np.ndarray:
        first = [
            self.envs[i].reset(task, seed)
            for i, task, seed in zip(worlds, tasks, seeds, strict=True)
        ]
        return np.stack(first)

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        steps = [world.step(action) for world, action in zip(self.envs, actions, strict=True)]
        obs, rewards, ends, numbers = zip(*steps, strict=True)
        names = dict.fromkeys(name for of_world in numbers for name in of_world)
        rows = np.array([[of_world.get(name, 0.0) for of_world in numbers] for name in names])
        terms = dict(zip(names, rows, strict=True))
        return np.stack(obs), np.array(rewards), np.array(ends), terms

    def scripted_actions(self) -> np.ndarray:
        """What the controller of each does now, [W, ...] of the environment's own space."""
        return np.stack([world.scripted_action() for world in self.envs])

    def shared(self, task: Mapping[str, Any], other_task: Mapping[str, Any]) -> list[str]:
        """The variables whose value the first world loses when the last one gets another task."""
        first, last = self.envs[0], self.envs[-1]
        written = first.write(task)
        last.write(other_task)
        return first.variables_of(first.overwritten(written))

    def not_finite(self) -> list[str | None]:
        """Says for each world which number of its present episode wasn't finite."""
        return [world.not_finite for world in self.envs]

    def picture(self, world: int) -> np.ndarray:
        """[height, width, 3] uint8, as the environment draws itself."""
        return drawn_by_itself(self.envs[world].env)

    def close(self) -> None:
        for world in self.envs:
            world.env.close()


def _above_0(*values: Any) -> float | None:
    """The first that is a number above 0."""
    numbers = (v for v in values if isinstance(v, int | float | np.number) and 0 < v < math.inf)
    return next(map(float, numbers), None)


def value_of(variable: TaskVariable, which: int) -> Any:
    """The number or list that a task has for one of the variable's `values`."""
    value = list(variable.values[which])
    return value if variable.shape else value[0]


def make_world(
    source: str | Callable[..., Any],
    settings: Mapping[str, Any],
    variables: Mapping[str, TaskVariable],
    after_task: Callable[[Any], object] | None,
    name: str,
) -> World:
    """Makes one environment and gives it a task's places.

    Args:
      source: an id for gymnasium.make, `module:function`, `path/to/file.py:function`, or something
        to call.
      settings: its keyword arguments, of which the world gets a copy of its own.
    """
    horizon, make = None, source
    settings = _of_one_world(settings)
    module, _, function = source.rpartition(":") if isinstance(source, str) else ("", "", "")
    if not module and function.endswith(".py"):
        raise WorldError(f"{source} names no function; expected path/to/file.py:function")
    if not isinstance(source, str):
        with _Theirs(lambda: f"{name} can't be made"):
            env = source(**settings)
    elif module and hasattr(_imported(module), function):
        make = getattr(_imported(module), function)
        if not callable(make):
            raise WorldError(f"{source} is {_in_line(make)}; expected a class or a function")
        with _Theirs(lambda: f"{source} can't be made"):
            env = make(**settings)
    else:
        try:
            horizon = gymnasium.spec(function).max_episode_steps
            # -1: without TimeLimit; the horizon is ours.
            settings |= {"max_episode_steps": -1, "disable_env_checker": True}
            with _Theirs(lambda: f"{source} can't be made"):
                # A file has been read; by Gymnasium it can't be.
                env = gymnasium.make(function if module.endswith(".py") else source, **settings)
        except (gymnasium.error.Error, EnvironmentFailed) as failure:
            error = failure.__cause__ or failure
            if not isinstance(error, gymnasium.error.Error):
                raise
            if module and isinstance(error, gymnasium.error.NameNotFound):
                hint = _did_you_mean(function, dir(_imported(module)))
                raise WorldError(
                    f"{source} can't be made: {module} neither has {function!r} nor registers such "
                    f"an id{hint}"
                ) from error
            raise WorldError(f"{source} can't be made: {error}") from error
    return World(
        env,
        variables,
        after_task=after_task,
        name=name,
        horizon=horizon,
        source=make if callable(make) else None,
    )


def _layers(env: Any) -> Iterator[Any]:
    """An environment, what it wraps, and so on."""
    while env is not None:
        yield env
        env = env.env if isinstance(env, gymnasium.Wrapper) else None


def _code_of(env: Any, *functions: Callable[..., Any] | None) -> list[Any]:
    """The classes of an environment, from its wrappers to the bases of its own, and these
    functions, of an object that is called its classes; without what is Gymnasium's or metarl's."""
    found: list[Any] = [of for layer in _layers(env) for of in type(layer).__mro__]
    for function in functions:
        while isinstance(function, functools.partial):
            function = function.func
        has_code = function is None or isinstance(function, type) or inspect.isroutine(function)
        found += [function] if has_code else type(function).__mro__
    theirs = [of for of in found if of is not None and not _is_known(of)]
    return list({id(of): of for of in theirs}.values())  # Not each has a hash.


def _is_known(code: Any) -> bool:
    package = (getattr(code, "__module__", None) or "").partition(".")[0]
    return package in ("gymnasium", "metarl", "envs", "builtins", "typing", "collections", "abc")


def _words_of(code: Any) -> str:
    """The source of a class or a function without comments and without the layout of its lines;
    nothing where it can't be read."""
    try:
        lines = io.StringIO(inspect.getsource(code))
        layout = (tokenize.COMMENT, tokenize.NL, tokenize.ENCODING)
        words = [t.string for t in tokenize.generate_tokens(lines.readline) if t.type not in layout]
    except (OSError, TypeError, SyntaxError, tokenize.TokenError):
        return ""
    return "\n".join(words)


def _numbers_of(model: Any) -> str:
    """The arrays of a MuJoCo model."""
    texts = []
    for name in sorted(dir(model)):
        value = None if name.startswith("_") else getattr(model, name)
        if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
            rounded = value.dtype.kind == "f" and value.size <= _FEW
            numbers = (
                map("{:.5g}".format, value.flat)
                if rounded
                else [value.astype("f4").tobytes().hex()]
            )
            texts.append(f"{name} {value.shape} {' '.join(numbers)}")
    return "\n".join(texts)


_FEW = 10_000  # numbers; larger arrays are of meshes and textures, which are as the file has them


def _of_one_world(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A copy: worlds that held one object would have one task. What can't be copied they share,
    which the trial refuses if a task sets it."""
    try:
        return copy.deepcopy(dict(settings))
    except Exception:  # An object that can't be copied says so by any exception.
        return dict(settings)


def _imported(module: str) -> Any:
    if module.endswith(".py"):
        file = Path(module).expanduser().absolute()
        if not file.is_file():
            raise WorldError(f"there is no file {module}; expected path/to/file.py:function")
        return _of_file(file)
    try:
        with _Theirs(lambda: f"{module} can't be imported", but=ModuleNotFoundError):
            return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise  # something that the module needs
        raise WorldError(
            f"there is no module {module!r} on Python's path; expected module:function"
        ) from error


@functools.cache
def _of_file(file: Path) -> Any:
    """The module that the file, an absolute path, is."""
    # Another of the same name may be there already.
    name = f"{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"
    found = importlib.util.spec_from_file_location(name, file)
    assert found is not None and found.loader is not None, "the name ends in .py"
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module  # where inspect looks for the code of its classes
    with _Theirs(lambda: f"{file} can't be imported", but=ModuleNotFoundError):
        found.loader.exec_module(module)
    return module


def numbers_in(info: Any) -> dict[str, float]:
    """The single numbers and truth values of an info by name. What others call is_success is
    `success`."""
    if not isinstance(info, Mapping):
        return {}
    numbers = {
        name: number for name, value in info.items() if (number := number_in(value)) is not None
    }
    if "is_success" in numbers:
        numbers.setdefault("success", numbers["is_success"])
    return numbers


def number_in(value: Any) -> float | None:
    """A number, a truth value, or an array that holds just one, as a float; None for all else."""
    if isinstance(value, float | int):
        return float(value)
    if isinstance(value, str) or not hasattr(value, "__array__"):
        return None
    try:
        array = np.asarray(value)
    except (RuntimeError, TypeError):  # a tensor with gradient, or on a GPU
        return None
    return float(array.item()) if array.size == 1 and array.dtype.kind in "biuf" else None


def _parts(space: Any, value: Any, place: str) -> list[np.ndarray]:
    """The rows of an observation's parts. Raises: ValueError if a part is missing or isn't of its
    space."""
    if isinstance(space, spaces.Dict):
        keys = list(space.spaces)
        if not isinstance(value, Mapping) or any(key not in value for key in keys):
            shown = f"has keys {list(value)}" if isinstance(value, Mapping) else "is no dict"
            raise WorldError(f"{place} {shown}; expected keys {keys}")
        inner = [(space[key], value[key], f"{place}[{key!r}]") for key in keys]
    elif isinstance(space, spaces.Tuple):
        if not isinstance(value, tuple | list) or len(value) != len(space.spaces):
            raise WorldError(
                f"{place} is {_in_line(value)}; expected a tuple of {len(space.spaces)} parts"
            )
        inner = [(space[i], part, f"{place}[{i}]") for i, part in enumerate(value)]
    else:
        row: Any = spaces.flatten(space, _of_space(space, value, place))
        return [row]
    return [row for part in inner for row in _parts(*part)]


def _of_space(space: Any, value: Any, place: str) -> Any:
    """The value as an array of the space's shape. A number that stands for a choice must be one of
    them: `spaces.flatten` takes others for another choice, or another component's."""
    num_choices = _num_choices(space)
    if num_choices is None and not isinstance(space, spaces.Box):
        return value
    array = np.asarray(value)
    if array.size == 1 == math.prod(space.shape):
        array = array.reshape(space.shape)
    fits = array.shape == space.shape and array.dtype.kind in "biuf"
    if fits and num_choices is not None:
        choice = array - getattr(space, "start", 0)
        fits = bool(((choice >= 0) & (choice < num_choices) & (choice == np.floor(choice))).all())
    if not fits:
        raise WorldError(f"{place} is {_in_line(value)}; expected one of {space}")
    return array if num_choices is None else array.astype(space.dtype)


def _num_choices(space: Any) -> Any:
    """How many there are, of each component; None where numbers aren't choices."""
    if isinstance(space, spaces.Discrete):
        return space.n
    if isinstance(space, spaces.MultiDiscrete):
        return space.nvec
    return 2 if isinstance(space, spaces.MultiBinary) else None


def _in_line(value: Any) -> str:
    return " ".join(repr(value).split())


def _described(space: Any) -> dict[str, Any]:
    """What is in an action space, and how it is shown."""
    content = {
        name: getattr(space, name)
        for name in ("low", "high", "n", "nvec", "start")
        if hasattr(space, name)
    }
    dtype = None if space.dtype is None else np.dtype(space.dtype).str
    return {
        "kind": type(space).__name__,
        "shown": str(space),
        "dtype": dtype,
        "shape": space.shape,
        **content,
    }


def _checked_environment(env: Any, name: str) -> Any:
    if not isinstance(env, gymnasium.Env):
        raise WorldError(
            f"{name} is made as {_kind(env)} ({type(env).__module__}); expected a gymnasium.Env"
        )
    for space in ("observation_space", "action_space"):
        if not isinstance(getattr(env, space, None), gymnasium.Space):
            raise WorldError(f"{name} has no {space}; Gymnasium expects a gymnasium.Space")
    for layer in _layers(env):
        for argument in ("seed", "options"):
            if not _takes(layer.reset, argument):
                raise WorldError(
                    f"{type(layer).__name__}.reset takes no {argument} ({name}); "
                    "Gymnasium expects reset(self, *, seed=None, options=None)"
                )
    return env


def _takes(function: Callable[..., Any], argument: str) -> bool:
    parameters = inspect.signature(function).parameters
    return argument in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _kind(value: Any) -> str:
    return f"{len(value)} values" if isinstance(value, tuple) else f"a {type(value).__name__}"


@functools.cache
def _bad_state() -> slice:
    """Returns where MuJoCo counts its warnings of a state that isn't finite."""
    kinds = sys.modules["mujoco"].mjtWarning
    return slice(int(kinds.mjWARN_BADQPOS), int(kinds.mjWARN_BADCTRL) + 1)


def _float32(values: Any) -> np.ndarray:
    # What is too large becomes infinite: without bound in a space, diverged in an observation.
    with np.errstate(over="ignore"):
        return np.array(values, dtype=np.float32)


def _is_whole(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "iub"
    return isinstance(value, int | np.integer)


def _read(root: Any, path: str) -> Any:
    present = root
    for name in path.split("."):
        if not hasattr(present, name):
            inner = path.removeprefix("model.model.")
            hint = (
                f"; expected model_field({inner!r})"
                if inner != path
                else _did_you_mean(name, dir(present))
            )
            raise WorldError(
                f"{type(present).__name__} has no {name!r}, where a task variable was to go to "
                f"{path}{hint}"
            )
        present = getattr(present, name)
    return present


def _did_you_mean(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _copy(value: Any) -> Any:
    return np.array(value) if isinstance(value, np.ndarray | list | tuple) else value


def _as_it_was(kind: type, value: Any) -> Any:
    """A list or tuple that is worked on as an array is given back as such."""
    if isinstance(value, np.ndarray) and kind in (list, tuple):
        return kind(value.tolist())
    return _copy(value)


_OBJECTS = {
    "actuator": "ACTUATOR",
    "body": "BODY",
    "cam": "CAMERA",
    "dof": "JOINT",
    "eq": "EQUALITY",
    "geom": "GEOM",
    "jnt": "JOINT",
    "light": "LIGHT",
    "mat": "MATERIAL",
    "pair": "PAIR",
    "sensor": "SENSOR",
    "site": "SITE",
    "tendon": "TENDON",
}
"""How fields of a model begin, and what their rows are of, in MuJoCo's words."""


def _number_of(named: str, path: str, model: Any) -> int:
    """The row of a model's field that belongs to what the model has under a name."""
    mujoco = sys.modules["mujoco"]
    kind = path.removeprefix("model.").partition("_")[0]
    if kind not in _OBJECTS:
        raise WorldError(
            f"{path} has no rows with names; expected a number instead of index={named!r}"
        )
    what = getattr(mujoco.mjtObj, f"mjOBJ_{_OBJECTS[kind]}")
    found = mujoco.mj_name2id(model, what, named)
    if found < 0:
        num = len(getattr(model, f"name_{'jnt' if kind == 'dof' else kind}adr"))
        known = [name for i in range(num) if (name := mujoco.mj_id2name(model, what, i))]
        raise WorldError(
            f"the model has no {_OBJECTS[kind].lower()} {named!r}; expected one of "
            f"{', '.join(known) or 'those with a name, of which there are none'}"
            f"{_did_you_mean(named, known)}"
        )
    if kind != "dof":
        return int(found)
    of_one = (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE)
    if int(model.jnt_type[found]) not in map(int, of_one):
        raise WorldError(
            f"the joint {named!r} has several degrees of freedom; expected the number of one for {path}"
        )
    return int(model.jnt_dofadr[found])


def _changed(path: str, own: Any, variable: TaskVariable, value: Any) -> Any:
    """`own` with the task's value in place, or times it."""
    if not isinstance(own, np.ndarray):
        return _changed_scalar(path, own, variable, value)
    element: Any = ... if variable.index is None else variable.index
    if isinstance(value, str) or own.dtype.kind not in "biuf":
        raise WorldError(f"{path} holds {own.dtype}; expected numbers, not {value!r}")
    if own.dtype.kind == "b" and variable.how != "one_of":
        raise WorldError(
            f"{path} holds truth values; expected one_of= with such, not {variable.how}"
        )
    changed = own.astype(float)
    try:
        changed[element] = own[element] * np.asarray(value) if variable.how == "scale" else value
    except (IndexError, ValueError) as error:
        shape = own.shape if variable.index is None else f"{own.shape} at index {variable.index}"
        raise WorldError(
            f"{path} has shape {shape}; a value of shape {np.shape(value)} doesn't fit"
        ) from error
    if own.dtype.kind in "iub" and not np.array_equal(changed, changed.round()):
        raise WorldError(f"{path} holds {own.dtype}; expected whole numbers, not {value}")
    with np.errstate(invalid="ignore", over="ignore"):
        found = changed.astype(own.dtype)
    if own.dtype.kind in "iub" and not np.array_equal(found, changed):
        raise WorldError(f"{path} holds {own.dtype}, into which {value} doesn't go")
    return found


def _check_physical(path: str, own: Any, changed: Any) -> None:
    """Raises: WorldError where a mass, an inertia or a time step that was above 0 no longer is, and
    for a field that says how a MuJoCo model is built: written to, it ends Python."""
    if not path.startswith("model."):
        return
    field = path.removeprefix("model.")
    if field in _ABOVE_0:
        bad = np.argwhere((np.asarray(own) > 0) & ~(np.asarray(changed) > 0))
        if len(bad):
            place = ", ".join(map(str, bad[0].tolist()))
            value = np.asarray(changed)[tuple(bad[0])]
            raise WorldError(
                f"{path}{f'[{place}]' if place else ''} would be {value:g}; expected a task variable "
                "that leaves it above 0"
            )
    elif "." not in field and _is_whole(own) and _BUILT.search(field):
        raise WorldError(
            f"{path} says how the model is built, and can't differ between tasks; expected a field "
            "of its physics, such as body_mass, geom_friction or opt.gravity"
        )


_ABOVE_0 = ("body_mass", "body_inertia", "opt.timestep")
_BUILT = re.compile(r"(_type|trntype|dyntype|gaintype|biastype|objtype|reftype|id|adr|num)$")


def _changed_scalar(path: str, own: Any, variable: TaskVariable, value: Any) -> Any:
    if variable.index is not None or (own is None and variable.how == "scale"):
        raise WorldError(
            f"{path} is {own!r}; expected an array for index={variable.index}, or a number to scale"
        )
    if own is None or (isinstance(own, str) and isinstance(value, str)):
        return value
    if not isinstance(own, int | float | np.number | np.bool_):
        raise WorldError(f"{path} is a {type(own).__name__}; expected a number, an array or None")
    if isinstance(value, str):
        raise WorldError(f"{path} is the number {own!r}; expected numbers, not {value!r}")
    if isinstance(value, np.ndarray):
        raise WorldError(
            f"{path} is the number {own!r}; a value of shape {value.shape} doesn't fit"
        )
    changed = own * value if variable.how == "scale" else value
    if isinstance(own, bool | np.bool_):
        if variable.how != "one_of" or changed not in (0, 1):
            not_this = f"{changed:g}" if variable.how == "one_of" else variable.how
            raise WorldError(
                f"{path} is the truth value {own}; expected one_of=(False, True), not {not_this}"
            )
        return bool(changed)
    # What is a whole number stays one: it may be an index.
    return (
        int(changed)
        if isinstance(own, int | np.integer) and float(changed).is_integer()
        else float(changed)
    )


def drawn_by_itself(env: gymnasium.Env[Any, Any]) -> np.ndarray:
    """[height, width, 3] uint8, what the environment's own `render` gives, asked for rgb_array if
    nothing else was chosen when it was made. Raises: RuntimeError saying why it gives nothing."""
    inner, name = env.unwrapped, type(env.unwrapped).__name__
    if inner.render_mode is None and "rgb_array" in inner.metadata.get("render_modes", ()):
        inner.render_mode = "rgb_array"
    try:
        drawn = env.render()
    # The user's code, or a drawing library that isn't installed: no type is common to them.
    except Exception as error:
        raise RuntimeError(f"{name} can't be drawn: {type(error).__name__}: {error}") from error
    picture = np.asarray(drawn) if drawn is not None else np.zeros(0)
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        found = "None" if drawn is None else f"{picture.dtype} {picture.shape}"
        raise RuntimeError(
            f"{name} can't be drawn: in render_mode={inner.render_mode!r} its render() gives "
            f"{found}; expected uint8 "
            "[height, width, 3], as with settings={'render_mode': 'rgb_array'}"
        )
    return picture


def packed(message: Any) -> bytes:
    """A pickle without names of modules that differ between versions of NumPy."""
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=4).dump(message)
    return buffer.getvalue()


class _Pickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, np.generic):
            return type(value), (value.item(),)
        if type(value) is np.ndarray and not value.dtype.hasobject:
            # A bytearray, because an array on bytes couldn't be written.
            return np.ndarray, (value.shape, value.dtype.str, bytearray(value.tobytes()))
        return NotImplemented


def serve(connection: Connection, make_worlds: Callable[[], LocalWorlds]) -> None:
    """Answers each request (method, arguments) with (None, result), or (exception's name, message
    with traceback)."""
    # Ctrl-C is for the process that asks; when it ends, so does this one. Its end of the connection
    # may outlive it: processes that it has forked since have it, too.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asks = os.getppid()
    worlds: LocalWorlds | None = None
    try:
        while True:
            while not connection.poll(_SECONDS_TO_LOOK):
                if os.getppid() != asks:
                    return
            method, arguments = pickle.loads(connection.recv_bytes())
            if method == "close":
                return
            try:
                worlds = make_worlds() if worlds is None else worlds
                answer: tuple[Any, ...] = (None, getattr(worlds, method)(*arguments))
            except Exception as error:
                answer = (type(error).__name__, str(error), traceback.format_exc())
            connection.send_bytes(packed(answer))
    except (EOFError, OSError):
        return  # Nobody asks any more: after Ctrl-C perhaps not even for the answer on its way.
    finally:
        if worlds is not None:
            worlds.close()  # It may hold a robot, whoever has gone.


def main(file_descriptor: int) -> None:
    """Serves the worlds that the first message describes: names, numbers and lists, since our
    classes have no name here."""
    # Python put this file's folder first, whose names would hide the user's modules.
    sys.path[0] = ""
    connection = Connection(file_descriptor)
    asked = pickle.loads(connection.recv_bytes())
    sys.path.extend(asked["path"])
    serve(connection, lambda: _described_worlds(asked))


def _described_worlds(asked: Mapping[str, Any]) -> LocalWorlds:
    make = functools.partial(
        make_world,
        _named(asked["source"]),
        pickle.loads(asked["settings"]),
        {name: TaskVariable(**fields) for name, fields in asked["variables"].items()},
        _named(asked["after_task"]),
        asked["name"],
    )
    worlds = LocalWorlds(make, asked["num_worlds"])
    if "mujoco" in sys.modules:
        # A world that blows up is told of as diverged; MUJOCO_LOG.TXT and the terminal needn't have
        # it, too.
        sys.modules["mujoco"].set_mju_user_warning(lambda message: None)
    return worlds


def _named(what: Any) -> Any:
    """What a pair (module, qualified name) names; all else is itself."""
    if not isinstance(what, tuple):
        return what
    module, qualified_name = what
    return functools.reduce(getattr, qualified_name.split("."), importlib.import_module(module))


if __name__ == "__main__":
    main(int(sys.argv[1]))
