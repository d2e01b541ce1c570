"""An environment that isn't here. A checkpoint says what its agent sees and does, so that the agent
acts and adapts where nothing simulates: on the computer of a robot, for instance."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, NoReturn

import torch
from gymnasium import spaces
from torch import Tensor

from metarl.rl.spec import EnvSpec
from metarl.rl.types import BatchedEnv, Step


class AbsentEnv(BatchedEnv[Any]):
    """What a learner is made for, without tasks, episodes and steps.

    Args: values: as `packed` gave them. Raises: ValueError for anything else.
    """

    num_worlds = 1
    num_uniforms = 0
    prior: Any

    def __init__(self, values: Mapping[str, Any]) -> None:
        missing = {"spec", "observation_space", "action_space", "num_train"} - {*values}
        if missing:
            raise ValueError(f"it has no {', '.join(sorted(missing))}")
        self.spec = _spec(values["spec"])
        observation, action = _space(values["observation_space"]), _space(values["action_space"])
        if not isinstance(observation, spaces.Box):
            raise ValueError(f"the observation space is {observation}; expected a Box")
        self.observation_space, self.action_space = observation, action
        self.prior = _AbsentPrior(values["num_train"])

    def set_tasks(self, tasks: Any) -> None:
        self._refuse()

    def reset(self, uniform: Tensor, worlds: Tensor | None = None) -> Tensor:
        self._refuse()

    def step(self, action: Tensor) -> Step:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise RuntimeError(f"{self.spec.name} isn't here: nobody can play in it")


class _AbsentPrior:
    """Nobody knows its tasks here."""

    def __init__(self, num_train: Any) -> None:
        if num_train is not None and (type(num_train) is not int or num_train < 1):
            raise ValueError(f"num_train is {num_train!r}; expected a number of tasks, or None")
        self.num_train: int | None = num_train

    def train_tasks(self) -> Any:
        return None


def packed(env: BatchedEnv[Any]) -> dict[str, Any]:
    """What an `AbsentEnv` is made of, as numbers, strings and tensors, for a file."""
    spec = {field.name: getattr(env.spec, field.name) for field in fields(EnvSpec)}
    return {
        "spec": spec,
        "observation_space": _packed_space(env.observation_space),
        "action_space": _packed_space(env.action_space),
        "num_train": env.prior.num_train,
    }


def _packed_space(space: spaces.Box | spaces.Discrete) -> dict[str, Any]:
    if isinstance(space, spaces.Discrete):
        return {"n": int(space.n), "start": int(space.start)}
    return {"low": torch.from_numpy(space.low), "high": torch.from_numpy(space.high)}


def _space(values: Any) -> spaces.Box | spaces.Discrete:
    """What `_packed_space` was given. Raises: ValueError for anything else."""
    match values:
        case {"n": int(n), "start": int(start)} if n > 0:
            return spaces.Discrete(n, start=start)
        case {"low": Tensor() as low, "high": Tensor() as high} if low.shape == high.shape:
            return spaces.Box(low.numpy(), high.numpy(), dtype=low.numpy().dtype.type)
    raise ValueError(
        "a space is neither low and high, two tensors of the same shape, nor n and start, two whole "
        "numbers"
    )


_KINDS = {str: "a word", int: "a number of steps", dict: "a dict"}


def _spec(values: Any) -> EnvSpec:
    kinds = {"name": str, "family": str, "variant": str, "horizon": int, "definition": dict}
    if not isinstance(values, Mapping):
        raise ValueError(f"spec is a {type(values).__name__}; expected a dict")
    for name, kind in kinds.items():
        if type(values.get(name)) is not kind:
            raise ValueError(f"spec.{name} is {values.get(name)!r}; expected {_KINDS[kind]}")
    if values["horizon"] < 1:
        raise ValueError(f"spec.horizon is {values['horizon']}; expected 1 or more")
    return EnvSpec(**{name: values[name] for name in kinds}, made_by=values.get("made_by"))
