"""An environment whose observations end with the task: what an oracle sees, a policy that is told
what others must find out.

Any algorithm trains on it as on any other environment. It is another problem, with a spec hash of
its own; tasks, their split, dynamics and rewards stay what they are.
"""

from typing import Any, cast

import gymnasium
import numpy as np
import torch
from torch import Tensor

from envs.tasks import fields_of
from metarl.errors import SettingError
from metarl.rl.types import BatchedEnv, References, Step, StepsInParts, TaskDistribution
from metarl.struct import choose_rows, replace


class ShowsTask:
    """Meets `metarl.rl.types.BatchedEnv`. What isn't said here is the wrapped environment's own.

    | obs | meaning | unit |
    |---|---|---|
    | 0, ..., O − 1 | those of the wrapped environment | its |
    | O, ... | the fields of the world's task one after the other, each in [−1, 1] | half the prior's width, from its middle |

    A field that the prior doesn't vary is 0; an angle isn't made continuous where it begins again.

    Args: env: any, with flat observations, and tasks with `bounds` of all their fields, as those of
    envs/tasks.py have them. Raises: ValueError naming what is missing.
    """

    def __init__(self, env: BatchedEnv[Any]) -> None:
        name, space = env.spec.name, env.observation_space
        if len(space.shape) != 1:
            raise SettingError(
                f"{name} has observations of shape {space.shape}; expected one axis, to show the "
                "task behind it"
            )
        _check_bounds(name, env.prior)
        # Nobody asks for parts of its steps where there are none.
        self._env = cast("StepsInParts[Any]", env)
        self._bounds = env.prior.bounds
        self._next: Tensor | None = None
        self._shown: Tensor | None = None
        size = self._seen(env.prior.test_tasks(1)).shape[1]
        self.spec = replace(
            env.spec,
            variant=f"{env.spec.variant}, task shown",
            definition={**env.spec.definition, "shows_task": True},
        )
        self.observation_space = gymnasium.spaces.Box(
            np.concatenate([space.low, np.full(size, -1, np.float32)]),
            np.concatenate([space.high, np.full(size, 1, np.float32)]),
            dtype=np.float32,
        )

    def set_tasks(self, tasks: Any) -> None:
        self._env.set_tasks(tasks)
        self._next = self._seen(tasks)

    def reset(self, uniform: Tensor, worlds: Tensor | None = None) -> Tensor:
        obs = self._env.reset(uniform, worlds)
        assert self._next is not None, "the environment refuses a reset before it has tasks"
        coming = self._next.to(obs.device)
        # A new task holds from the world's next reset.
        self._shown = (
            coming if worlds is None else choose_rows(worlds.to(obs.device), coming, self._shown)
        )
        return self._with_task(obs)

    def step(self, action: Tensor) -> Step:
        return self._shown_in(self._env.step(action))

    def outcome(self) -> Step:
        return self._shown_in(self._env.outcome())

    @property
    def remembered(self) -> Any:
        return self._env.remembered, self._shown

    @remembered.setter
    def remembered(self, remembered: Any) -> None:
        self._env.remembered, self._shown = remembered

    @property
    def references(self) -> References[Any]:
        """The references of the wrapped environment without learners, which would be told here what
        they must find out."""
        known = self._env.references
        return References(
            stand_still=known.stand_still,
            scripted=known.scripted,
            known_returns=known.known_returns,
            fixed_speeds=known.fixed_speeds,
        )

    def __getattr__(self, name: str) -> Any:
        # A copy in the making has no environment yet, and ways of its own.
        if name == "_env" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._env, name)

    def _shown_in(self, step: Step) -> Step:
        return replace(step, next_obs=self._with_task(step.next_obs))

    def _with_task(self, obs: Tensor) -> Tensor:
        assert self._shown is not None, "the environment refuses a step before a reset"
        return torch.cat([obs, self._shown], dim=-1)

    def _seen(self, tasks: Any) -> Tensor:
        """[N, D] float32 in [−1, 1], of tasks with leaves [N, ...]."""
        columns = []
        for name, value in fields_of(tasks).items():
            lowest, highest = (
                torch.as_tensor(bound, dtype=torch.float64) for bound in self._bounds[name]
            )
            middle, half = (lowest + highest) / 2, (highest - lowest) / 2
            scaled = (value.cpu().double() - middle) / torch.where(half > 0, half, torch.inf)
            # float32 may round the prior's edge to its other side.
            columns.append(scaled.clamp(-1, 1).reshape(len(value), -1))
        return torch.cat(columns, dim=1).float()


def _check_bounds(name: str, tasks: TaskDistribution[Any]) -> None:
    bounds = tasks.bounds
    for field in fields_of(tasks.test_tasks(1)):
        if field not in bounds or not np.isfinite(np.asarray(bounds[field], dtype=float)).all():
            raise SettingError(
                f"{name} can't show its tasks: {field} is within {bounds.get(field)}; expected "
                "finite bounds, which it is shown by"
            )
