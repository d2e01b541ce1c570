"""One copy of a user's Gymnasium environment under a task, in a form that Gymnasium's vector environments can step for us.

Model fields and attributes are always computed from the values that the copy was made with, so nothing compounds.
"""

import difflib
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import mujoco
import numpy as np

from envs.own.tasks import TaskVariable
from envs.sim.cpu import DIVERGED


class World(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Takes `task` into force at `reset`. Never ends towards the vector environment, which would reset it by itself: info["how"]
    is [terminated, truncated, diverged, *terms], and after its end the world stands still at its last observation.

    Args:
      terms: which numbers of the environment's info are handed on.
    Raises: ValueError if a variable's place isn't there, can't hold its values, or doesn't hold them over a reset.
    """

    def __init__(
        self, env: gymnasium.Env[Any, Any], variables: Mapping[str, TaskVariable], terms: Sequence[str] = ()
    ) -> None:
        super().__init__(env)
        self.task: dict[str, Any] = {}  # number or list by name
        self._variables, self._terms = variables, terms
        self._places = [
            path for variable in variables.values() if variable.kind != "reset_option" for path in variable.paths
        ]
        self._own = {path: _copy(_read(self.unwrapped, path)) for path in self._places}
        self._derives = any(path.startswith("model.") and not path.startswith("model.opt.") for path in self._places)
        self._last: tuple[Any, np.ndarray] | None = None
        for extreme in (0, -1):
            self._set({name: _task_value(variable, extreme) for name, variable in variables.items()})

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        written = self._set(self.task)
        given = {
            path: np.array(self.task[name]) if variable.shape else self.task[name]
            for name, variable in self._variables.items()
            if variable.kind == "reset_option"
            for path in variable.paths
        }
        obs, _ = self.env.reset(seed=seed, options=given or None)
        for path, value in written.items():
            if not np.array_equal(_read(self.unwrapped, path), value):
                raise ValueError(
                    f"{path} was set to {value} and is {_read(self.unwrapped, path)} after reset(); "
                    "expected a place that the environment's own reset leaves alone"
                )
        self._last = None
        return obs, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if self._last is not None:
            obs, how = self._last
            return obs, 0.0, False, False, {"how": how}
        obs, reward, terminated, truncated, info = self.env.step(action)
        diverged = self._diverged(obs, reward)
        if diverged:
            obs, reward, terminated, truncated, info = np.zeros_like(obs), 0.0, True, False, {}
        terms = [info.get(name, 0.0) for name in self._terms]
        how = np.array([terminated, truncated, diverged, *terms], dtype=float)
        if terminated or truncated:
            self._last = obs, how
        return obs, float(reward), False, False, {"how": how}

    def try_out(self) -> list[str]:
        """Plays one step. Returns: what numbers the environment's info has."""
        self.task = {name: _task_value(variable, 0) for name, variable in self._variables.items()}
        self.reset(seed=0)
        self.action_space.seed(0)
        info = self.env.step(self.action_space.sample())[4]
        return [name for name, value in info.items() if isinstance(value, int | float | np.number)]

    def _diverged(self, obs: Any, reward: Any) -> bool:
        # MuJoCo resets a world that blew up by itself; only its warnings tell.
        data = getattr(self.unwrapped, "data", None)
        warned = isinstance(data, mujoco.MjData) and bool((data.warning.number[DIVERGED] > 0).any())
        return warned or not (np.isfinite(obs).all() and np.isfinite(reward))

    def _set(self, task: Mapping[str, Any]) -> dict[str, Any]:
        """Writes all places but reset options; what each holds then."""
        values = {path: _copy(own) for path, own in self._own.items()}
        for name, variable in self._variables.items():
            for path in variable.paths if variable.kind != "reset_option" else ():
                values[path] = _changed(path, values[path], variable, task[name])
        for path, value in values.items():
            *owners, name = path.split(".")
            setattr(functools.reduce(getattr, owners, self.unwrapped), name, _copy(value))
        if self._derives:
            mujoco.mj_setConst(self.unwrapped.model, self.unwrapped.data)  # type: ignore[attr-defined]
        return values


def _task_value(variable: TaskVariable, which: int) -> Any:
    value = list(variable.values[which])
    return value if variable.shape else value[0]


def _read(root: Any, path: str) -> Any:
    present = root
    for name in path.split("."):
        if not hasattr(present, name):
            close = difflib.get_close_matches(name, dir(present), n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            raise ValueError(f"{type(present).__name__} has no {name!r}{hint}; a task variable was to go to {path}")
        present = getattr(present, name)
    return present


def _copy(value: Any) -> Any:
    return np.array(value) if isinstance(value, np.ndarray | list | tuple) else value


def _changed(path: str, own: Any, variable: TaskVariable, value: Any) -> Any:
    """`own` with the task's value in place, or times it."""
    if not isinstance(own, np.ndarray):
        return _changed_scalar(path, own, variable, value)
    element = slice(None) if variable.index is None else variable.index
    changed = own.astype(float)
    try:
        changed[element] = own[element] * np.asarray(value) if variable.how == "scale" else value
    except (IndexError, ValueError) as error:
        shape = own.shape if variable.index is None else f"{own.shape} at index {variable.index}"
        raise ValueError(f"{path} has shape {shape}; a value of shape {np.shape(value)} doesn't fit") from error
    if own.dtype.kind in "iub" and not np.array_equal(changed, changed.round()):
        raise ValueError(f"{path} holds {own.dtype}; expected whole numbers, not {value}")
    return changed.astype(own.dtype)


def _changed_scalar(path: str, own: Any, variable: TaskVariable, value: Any) -> Any:
    if variable.index is not None or (own is None and variable.how == "scale"):
        raise ValueError(f"{path} is {own!r}; expected an array for index={variable.index}, or a number to scale")
    if own is not None and not isinstance(own, int | float | np.number):
        raise ValueError(f"{path} is a {type(own).__name__}; expected a number, an array or None")
    if isinstance(value, list):
        if own is not None:
            raise ValueError(f"{path} is the number {own!r}; a value of shape {np.shape(value)} doesn't fit")
        return np.array(value)
    changed = own * value if variable.how == "scale" else value
    # What is a whole number stays one: it may be an index.
    return int(changed) if isinstance(own, int | np.integer) and float(changed).is_integer() else float(changed)
