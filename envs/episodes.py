"""What every environment keeps besides its dynamics: the task of each world, its step count, and
the checks on what comes in."""

import math
from typing import Any, Generic, TypeVar

import gymnasium
import torch
from torch import Tensor

from metarl.errors import NonFiniteAction, SettingError
from metarl.rl.types import BatchedEnv
from metarl.struct import choose_rows, map_tensors

Tasks = TypeVar("Tasks")


class Episodes(Generic[Tasks]):
    """Keeps tasks and step counts of W worlds. New tasks come into force world by world, at the
    world's next reset.

    Args:
      env: whose worlds they are; it has its spec, prior, spaces and numbers already.
      device: where the environment computes.
    """

    def __init__(self, env: BatchedEnv[Tasks], device: torch.device) -> None:
        num_worlds, horizon, action_space = env.num_worlds, env.spec.horizon, env.action_space
        if num_worlds < 1:
            raise ValueError(f"num_worlds is {num_worlds}; expected at least 1")
        check_horizon(horizon)
        self.num_worlds = num_worlds
        self.horizon = horizon
        self.device = device
        self._uniform_shape = (num_worlds, env.num_uniforms)
        # Steps since each world's reset: those in the tensor, which is left alone between resets,
        # and those that all worlds took since. When they are as many as _first_limit, a world is at
        # its time limit.
        self._counted = torch.zeros(num_worlds, dtype=torch.int64, device=device)
        self._not_counted = 0
        self._first_limit = horizon
        self._nowhere = torch.zeros(num_worlds, dtype=torch.bool, device=device)
        self._distribution = env.prior
        self._action_space: gymnasium.Space[Any] = action_space
        self._discrete = isinstance(action_space, gymnasium.spaces.Discrete)
        self._action_shape = (num_worlds, *(action_space.shape or ()))
        self._expected_action = (
            f"{'int64' if self._discrete else 'floating point'} {self._action_shape}"
        )
        self._next: Tasks | None = None
        self._present: Tasks | None = None

    def set_tasks(self, tasks: Tasks) -> None:
        self._distribution.check(tasks, self.num_worlds)
        self._next = map_tensors(lambda leaf: leaf.to(self.device, copy=True), tasks)

    @property
    def tasks(self) -> Tasks:
        """The task each world has in its present episode, leaves [W, ...]."""
        if self._present is None:
            raise RuntimeError("step() before reset(): call set_tasks(tasks), then reset(uniform)")
        return self._present

    @property
    def num_steps(self) -> Tensor:
        """Steps since each world's reset, [W] int64."""
        return self._counted + self._not_counted

    @property
    def remembered(self) -> tuple[Tasks, Tensor]:
        """All that a step takes from here: `tasks` and `num_steps`. They may be set to tensors of
        somebody else's, who keeps them as steps leave them."""
        return self.tasks, self.num_steps

    @remembered.setter
    def remembered(self, remembered: tuple[Tasks, Tensor]) -> None:
        self._present, self._counted = remembered
        self._not_counted = 0
        self._first_limit = 0  # They may hold any number, so from here on each step looks.

    def begin(self, uniform: Tensor, worlds: Tensor | None) -> Tensor:
        """Starts new episodes where `worlds` [W] bool is True, everywhere if None. Returns that
        mask.

        Raises: ValueError unless `uniform` are the random numbers [W, num_uniforms] that a reset
        takes.
        """
        if self._next is None:
            raise RuntimeError("reset() before set_tasks(): no world has a task yet")
        self._check_uniform(uniform)
        everywhere = worlds is None
        if worlds is None:
            worlds = torch.ones(self.num_worlds, dtype=torch.bool, device=self.device)
            self._present = self._next
        else:
            if worlds.shape != (self.num_worlds,) or worlds.dtype != torch.bool:
                raise ValueError(
                    f"worlds is {worlds.dtype} {tuple(worlds.shape)}; expected bool "
                    f"({self.num_worlds},)"
                )
            if self._present is None:
                raise RuntimeError("the first reset() must be of all worlds (worlds=None)")
            worlds = worlds.to(self.device)
            self._present = choose_rows(worlds, self._next, self._present)
        self._counted = self.num_steps.masked_fill(worlds, 0)
        self._not_counted = 0
        if everywhere:
            self._first_limit = self.horizon
        elif self.device.type == "cpu":
            self._first_limit = self.horizon - int(self._counted.max())
        else:
            self._first_limit = 0  # To know it would be a wait; from here on each step looks.
        return worlds

    def _check_uniform(self, uniform: Tensor) -> None:
        expected = (
            f"float64 {self._uniform_shape} in [0, 1), as metarl.noise.Noise.starts(env) draws it"
        )
        if not isinstance(uniform, Tensor):
            raise ValueError(
                f"uniform is a {type(uniform).__name__}; expected a torch.Tensor {expected}"
            )
        if uniform.shape != self._uniform_shape or uniform.dtype != torch.float64:
            raise ValueError(
                f"uniform is {uniform.dtype} {tuple(uniform.shape)}; expected {expected}"
            )
        outside = ~((uniform >= 0) & (uniform < 1))
        if bool(outside.any()):
            raise ValueError(f"uniform holds {uniform[outside][0].item()}; expected {expected}")

    def advance(self, terminated: Tensor | None = None) -> Tensor:
        """Counts one step of every world. Returns [W] bool: the time limit is reached, and the
        world didn't terminate."""
        self._not_counted += 1
        if self._not_counted < self._first_limit:
            return self._nowhere.clone()
        at_limit = self.num_steps >= self.horizon
        return at_limit if terminated is None else at_limit & ~terminated

    def checked(self, action: Tensor) -> Tensor:
        """The action on this device, or ValueError if it is no action for W worlds of this action
        space."""
        if self._present is None:
            raise RuntimeError("step() before reset(): call set_tasks(tasks), then reset(uniform)")
        if not isinstance(action, Tensor):
            raise ValueError(
                f"action is a {type(action).__name__}; expected a torch.Tensor "
                f"{self._expected_action}"
            )
        right_kind = (
            action.dtype == torch.int64 if self._discrete else action.dtype.is_floating_point
        )
        if action.shape != self._action_shape or not right_kind:
            raise ValueError(
                f"action is {action.dtype} {tuple(action.shape)}; expected {self._expected_action}"
            )
        if action.dtype.itemsize < 4:
            action = action.float()  # in half precision the costs of actions would be coarse
        action = action.to(self.device)
        # On a GPU the check would wait for the device at every step; there a NaN shows as a
        # diverged world.
        if action.device.type == "cpu":
            _check_values(action, self._action_space)
        return action


def check_horizon(horizon: object) -> None:
    if isinstance(horizon, bool) or not isinstance(horizon, int) or horizon < 1:
        raise SettingError(
            f"horizon is {horizon!r}; expected a whole number of control steps, at least 1"
        )


def check_action_scale(action_scale: float) -> None:
    is_number = isinstance(action_scale, int | float) and not isinstance(action_scale, bool)
    if not (is_number and math.isfinite(action_scale) and action_scale > 0):
        raise SettingError(f"action_scale is {action_scale!r}; expected a positive number")


def _check_values(action: Tensor, space: gymnasium.Space[Any]) -> None:
    if isinstance(space, gymnasium.spaces.Discrete):
        bad = (action < 0) | (action >= int(space.n))
        expected, kind = f"0, ..., {int(space.n) - 1}", ValueError
    else:
        if math.isfinite(action.sum()):  # Then all are; one sum takes a fifth of the time.
            return
        bad = ~torch.isfinite(action)
        expected, kind = "finite numbers", NonFiniteAction
    if bool(bad.any()):
        world = int(bad.reshape(len(action), -1).any(-1).nonzero()[0])
        raise kind(f"the action of world {world} is {action[world].tolist()}; expected {expected}")
