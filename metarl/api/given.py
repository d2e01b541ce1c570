"""What a user hands over from Python, checked and in our types: arrays, counts, episodes, an
environment.

All of it may be of any type, so each mistake is told by the name that the user knows it by.
"""

import operator
from collections.abc import Mapping
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


def floats(value: Any, name: str) -> np.ndarray:
    """The value as an array of float32. Raises: UserError for what holds other things than numbers,
    rows of several lengths, or a number that isn't finite."""
    if value is None:
        raise UserError(f"{name} is None; expected numbers, as an array")
    try:
        found = np.asarray(value, dtype=np.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{name} is {value!r:.60}; expected numbers, as an array") from error
    if not np.isfinite(found).all():
        raise UserError(f"{name} holds NaN or infinity; expected finite numbers")
    return found


def whole(value: Any, name: str) -> int:
    """The value as a number of things, of numpy's types too. Raises: UserError for what is none."""
    try:
        found = -1 if isinstance(value, bool | np.bool_) else operator.index(value)
    except TypeError:
        found = -1
    if found < 0:
        raise UserError(f"{name}={value!r:.60}: expected a whole number, 0 or more")
    return found


def given_episode(
    episode: Mapping[str, Any],
    index: int,
    observation_space: spaces.Box,
    action_space: spaces.Box | spaces.Discrete,
    horizon: int,
) -> Episode:
    """An episode of the user's as the learner takes it. Raises: UserError naming what doesn't
    fit."""
    name = f"episodes[{index}]"
    if not isinstance(episode, Mapping):
        raise UserError(
            f"{name} is a {type(episode).__name__}; expected a dict with obs, action and reward"
        )
    needed = ("obs", "action", "reward")
    known = (*needed, "terminated")
    for key in episode:
        if key not in known:
            raise UserError(
                f"{name} has {key!r}; expected {', '.join(known)}{did_you_mean(key, known)}"
            )
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
    return Episode(
        obs=torch.from_numpy(found["obs"]),
        action=action,
        reward=torch.from_numpy(reward),
        log_prob=torch.zeros(steps),  # which is found out when it is read
        terminated=bool(episode.get("terminated", False)),
    )


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
            f"{expected[0]}"
        )
    if not _same_actions(done, expected[1]):
        raise UserError(
            f"the environment's action_space is {done}; the agent was trained with {expected[1]}"
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
