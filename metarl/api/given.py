"""What a user hands over from Python, checked and in our types: arrays, counts, episodes, an
environment.

All of it may be of any type, so each mistake is told by the name that the user knows it by.
"""

import operator
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from metarl.choices import did_you_mean
from metarl.errors import UserError
from metarl.struct import struct

Spaces = tuple[spaces.Box, spaces.Box | spaces.Discrete]


@struct
class Episode:
    """One episode of T steps, in the types of the training."""

    obs: Tensor  # [T + 1, O]
    action: Tensor  # [T, A], or [T] int64
    reward: Tensor  # [T]
    log_prob: Tensor  # [T] of the agent's policy
    terminated: bool  # else a time limit ended it
    latent: Tensor | None = None  # [L] what the policy held, where it holds something


def floats(value: Any, name: str) -> np.ndarray:
    """The value as an array of float32 of its own: an environment may write its next observation into
    the one it has returned. Raises: UserError for what holds other things than numbers,
    rows of several lengths, or a number that isn't finite."""
    if value is None:
        raise UserError(f"{name} is None; expected numbers, as an array")
    try:
        if np.asarray(value).dtype.kind in "cSU":  # numpy would make numbers of these, too
            raise TypeError
        with np.errstate(over="ignore"):
            found = np.asarray(value, dtype=np.float32).copy()
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{name} is {value!r:.60}; expected numbers, as an array") from error
    if not np.isfinite(found).all():
        raise UserError(
            f"{name} holds NaN or infinity, or a number too large for float32; expected finite numbers"
        )
    return found


def number(value: Any, name: str) -> float:
    """The value as one number, of an array of one, too. Raises: UserError as `floats`, and for
    several."""
    found = floats(value, name)
    if found.size != 1:
        raise UserError(f"{name} has the shape {found.shape}; expected one number")
    return float(found.item())


def whole(value: Any, name: str, *, least: int = 0, most: int = 2**63 - 1) -> int:
    """The value as a number of things, of numpy's types too. Raises: UserError for what is none, and
    beyond `least` and `most`."""
    try:
        found = -1 if isinstance(value, bool | np.bool_) else operator.index(value)
    except TypeError:
        found = -1
    if not least <= found <= most:
        bound = f"from {least} to {most}" if found > most else f"{least} or more"
        raise UserError(f"{name}={value!r:.60}: expected a whole number, {bound}")
    return found


def place(value: Any, name: str) -> Path:
    """The value as a path, ~ standing for the home. Raises: UserError for what names none."""
    try:
        if not str(value) or "\0" in str(value):
            raise ValueError("no name")
        found = Path(value).expanduser()
        found.exists()
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{name} is {value!r:.60}; expected the name of a file or folder"
        ) from error
    except OSError as error:
        raise UserError(f"{name} is {value!r:.60}: {error.strerror or error}") from error
    return found


def given_action(value: Any, space: spaces.Box | spaces.Discrete, name: str) -> Tensor:
    """One action [A], or [] int64, of the user's. Raises: UserError if it isn't one of the space's
    kind and shape."""
    if isinstance(space, spaces.Discrete):
        return torch.tensor(
            whole(value, name, least=int(space.start), most=int(space.start + space.n - 1))
        )
    found = floats(value, name)
    if found.shape != space.shape:
        raise UserError(f"{name} has the shape {found.shape}; expected {space.shape}")
    return torch.from_numpy(found)


def given_episode(
    episode: Mapping[str, Any],
    name: str,
    observation_space: spaces.Box,
    action_space: spaces.Box | spaces.Discrete,
    horizon: int,
) -> Episode:
    """An episode of the user's as the learner takes it. Raises: UserError naming what doesn't
    fit.

    Args: name: what the user knows it by, for instance episodes[0].
    """
    if not isinstance(episode, Mapping):
        raise UserError(
            f"{name} is a {type(episode).__name__}; expected a dict with obs, action and reward"
        )
    needed = ("obs", "action", "reward")
    known = (*needed, "terminated", "latent")
    for key in episode:
        if key not in known:
            hint = (
                "; an episode that isn't terminated was ended by a time limit"
                if key == "truncated"
                else did_you_mean(key, known)
            )
            raise UserError(f"{name} has {key!r}; expected {', '.join(known)}{hint}")
    if missing := [key for key in needed if key not in episode]:
        raise UserError(f"{name} has no {missing[0]}; expected obs, action and reward")
    reward = floats(episode["reward"], f"{name}.reward")
    steps = len(reward) if reward.ndim == 1 else 0
    if not 1 <= steps <= horizon:
        raise UserError(
            f"{name}.reward has the shape {reward.shape}; expected [T] of 1 to {horizon} steps"
        )
    found = {key: floats(episode[key], f"{name}.{key}") for key in ("obs", "action")}
    expected = {
        "obs": (steps + 1, *observation_space.shape),
        "action": (steps, *(action_space.shape or ())),
    }
    for key, array in found.items():
        if array.shape != expected[key]:
            raise UserError(
                f"{name}.{key} has the shape {array.shape}; expected {expected[key]} beside "
                f"{steps} rewards"
            )
    action = torch.from_numpy(found["action"])
    if isinstance(action_space, spaces.Discrete):
        wrong = [
            a for a in action.tolist() if not (a.is_integer() and action_space.contains(int(a)))
        ]
        if wrong:
            raise UserError(f"{name}.action has {wrong[0]:g}; expected actions of {action_space}")
        action = action.long()
    latent = episode.get("latent")
    return Episode(
        obs=torch.from_numpy(found["obs"]),
        action=action,
        reward=torch.from_numpy(reward),
        log_prob=torch.zeros(steps),  # which is found out when it is read
        terminated=_terminated(episode.get("terminated", False), f"{name}.terminated", steps),
        latent=None if latent is None else torch.from_numpy(floats(latent, f"{name}.latent")),
    )


def _terminated(value: Any, name: str, steps: int) -> bool:
    """Whether the episode terminated: said once, or for each of its steps."""
    found = np.asarray(value)
    if found.dtype.kind not in "biuf" or not np.isin(found, (0, 1)).all():
        raise UserError(f"{name} is {value!r:.60}; expected true or false")
    if found.shape not in ((), (1,), (steps,)):
        raise UserError(
            f"{name} has the shape {found.shape}; expected true or false, or one for each of "
            f"{steps} steps"
        )
    flags = found.reshape(-1).astype(bool)
    if flags[:-1].any():
        raise UserError(f"{name} is true before the last of {steps} steps; expected one episode")
    return bool(flags[-1])


def check_spaces(env: Any, expected: Spaces) -> None:
    """Raises: UserError unless it is a Gymnasium environment that the policy can see and act in."""
    if not isinstance(env, gymnasium.Env):
        raise UserError(
            f"env is a {type(env).__name__}; expected a Gymnasium environment of one world, as "
            "gymnasium.make gives it"
        )
    seen, done = env.observation_space, env.action_space
    if not isinstance(seen, spaces.Box) or seen.shape != expected[0].shape:
        raise UserError(
            f"the environment's observation_space is {seen}; the agent was trained with "
            f"{expected[0]}{_flattening(seen, expected[0])}"
        )
    _warn_of_other_bounds(seen, expected[0])
    if not _same_actions(done, expected[1]):
        raise UserError(
            f"the environment's action_space is {done}; the agent was trained with {expected[1]}"
            f"{_rescaling(done, expected[1])}"
        )


def _warn_of_other_bounds(found: spaces.Box, expected: spaces.Box) -> None:
    """Warns of observations that may be in other units than in training, as far as bounds tell."""
    bounds = np.stack([found.low, found.high, expected.low, expected.high]).reshape(4, -1)
    are_close = np.isclose(bounds[:2], bounds[2:], rtol=1e-3, atol=1e-6).all(0)
    places = np.flatnonzero(np.isfinite(bounds).all(0) & ~are_close)
    if len(places):
        low, high, low_then, high_then = bounds[:, places[0]]
        warnings.warn(
            f"observation[{places[0]}] of the environment lies from {low:g} to {high:g}, in training "
            f"from {low_then:g} to {high_then:g}: is it in another unit?",
            stacklevel=4,
        )


def _flattening(found: Any, expected: spaces.Box) -> str:
    """What makes the parts of an observation fit; nothing where they don't fit otherwise."""
    if not isinstance(found, spaces.Space) or not found.is_np_flattenable:
        return ""
    if spaces.utils.flatten_space(found).shape != expected.shape:
        return ""
    return (
        "; gymnasium.wrappers.FlattenObservation(env) puts its parts one after the other, as they "
        "were in a training on an environment of your own"
    )


def _rescaling(found: Any, expected: spaces.Space[Any]) -> str:
    """What makes actions between other bounds fit; nothing where they don't fit otherwise."""
    if not isinstance(found, spaces.Box) or not isinstance(expected, spaces.Box):
        return ""
    if found.shape != expected.shape or not found.is_bounded():
        return ""
    low, high = (f"{bound.flat[0].item():g}" for bound in (expected.low, expected.high))
    return (
        f"; gymnasium.wrappers.RescaleAction(env, {low}, {high}) lets these stand for its bounds, as "
        "they did in a training on an environment of your own"
    )


def _same_actions(found: Any, expected: spaces.Box | spaces.Discrete) -> bool:
    if isinstance(expected, spaces.Discrete):
        return isinstance(found, spaces.Discrete) and bool(found == expected)
    return (
        isinstance(found, spaces.Box)
        and found.shape == expected.shape
        and np.allclose(found.low, expected.low)
        and np.allclose(found.high, expected.high)
    )
