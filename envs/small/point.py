"""A point in the plane that walks to a goal which isn't shown: the world itself, which the problems
in point_navigation.py and point_sparse.py share.

| obs | meaning | unit |
|---|---|---|
| 0–1 | position x, y | m |

| action | meaning | unit |
|---|---|---|
| 0–1 | displacement of x, y: step_size clip(a / action_scale, ±1) | m |
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import gymnasium
import numpy as np
import torch
from torch import Tensor

from envs.episodes import Episodes, check_action_scale
from envs.machine import Machine
from envs.small.drawing import BLUE, GREEN
from envs.variants import (
    check_counts,
    common_settings,
    spec_of,
    task_distribution,
    with_common_settings,
)
from metarl.rl.spec import EnvSpec
from metarl.rl.types import BatchedEnv, References, Step, TaskDistribution

Tasks = TypeVar("Tasks")


@dataclass(frozen=True, kw_only=True)
class Problem(Generic[Tasks]):
    """Tells one problem from another. Positions and goals are [W, 2] in m."""

    step_size: float
    """The furthest that a step goes along each axis, in m."""
    goal: Callable[[Tasks], Tensor]
    reward: Callable[[Tensor, Tensor, Tensor], Tensor]
    """(position before, position after, goal) -> [W]."""
    arrived: Callable[[Tensor], Tensor] | None = None
    """(position after − goal) -> [W] bool: the episode ends; None: it never does."""
    start_half: float = 0.0
    """Starts are uniform on the square of ± this many m."""
    oracle: Callable[[Tensor, int], Tensor] | None = None
    """(goal [N, 2], steps) -> [N] the best return of those who know the goal; None: not known."""
    bound: Callable[[Tensor, int], Tensor] | None = None
    """(goal [N, 2], steps) -> [N] what no return exceeds, where the best one isn't known."""
    goal_radius: float = 0.06
    """The goal's radius in pictures, in m."""
    ring: float = 0.0
    """The radius in m of a circle about 0, 0 in pictures, where all goals lie; 0: none."""
    view: float = 0.6
    """Half the height of pictures, in m."""


@dataclass(frozen=True, kw_only=True)
class PointVariant:
    """Holds everything that defines a problem of points in the plane, except its name. Meets
    `envs.variants.Row`."""

    family: str
    problem: Problem[Any]
    tasks: Callable[..., Any]
    """(num_train_tasks, num_test_tasks) -> the distribution of tasks; () -> it, where
    num_test_tasks is None."""
    horizon: int
    """Steps in an episode."""
    action_scale: float
    """The action space is [−action_scale, action_scale]."""
    num_train_tasks: int | None = None
    """The size of the fixed training set; None: training draws a new task each time."""
    num_test_tasks: int | None = None
    """How many tasks are held out; None: the tasks are so few that they are listed, and their
    number is no setting."""
    definition: Mapping[str, Any]
    """The rest of the problem's definition (JSON values), besides the step size and the other
    fields: reward, end, ..."""

    def __post_init__(self) -> None:
        check_counts(self)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that can be overridden, and their defaults."""
        return common_settings(self)

    def make(
        self, name: str, num_worlds: int, machine: Machine, **overrides: Any
    ) -> "PointWorld[Any]":
        """W = num_worlds worlds of this variant, called `name`. Each override is one of
        `settings`."""
        row = with_common_settings(self, overrides)
        tasks, step_size = task_distribution(row), row.problem.step_size
        spec = spec_of(
            name,
            row.family,
            row.horizon,
            tasks,
            {
                "dynamics": f"clip({step_size} a, +-{step_size}) with a = action / action_scale",
                **row.definition,
                "action_scale": float(row.action_scale),
            },
        )
        return PointWorld(
            num_worlds,
            spec=spec,
            problem=row.problem,
            tasks=tasks,
            action_scale=row.action_scale,
            device=machine.device,
        )


class PointWorld(BatchedEnv[Tasks]):
    """W points in the plane, in torch on any device."""

    def __init__(
        self,
        num_worlds: int,
        *,
        spec: EnvSpec,
        problem: Problem[Tasks],
        tasks: TaskDistribution[Tasks],
        action_scale: float,
        device: torch.device | str = "cpu",
    ) -> None:
        check_action_scale(action_scale)
        self.num_worlds = num_worlds
        self.device = torch.device(device)
        self.spec = spec
        self.prior = tasks
        self._problem = problem
        self._action_scale = float(action_scale)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = gymnasium.spaces.Box(
            -self._action_scale, self._action_scale, (2,), np.float32
        )
        self.num_uniforms = 2 if problem.start_half > 0 else 0  # else every episode starts at 0, 0
        self._episodes = Episodes(self, self.device)
        self._position = torch.zeros(num_worlds, 2, dtype=torch.float32, device=self.device)

    @property
    def references(self) -> References[Tasks]:
        # Where the oracle's return is known, a controller that goes straight on shows nothing new.
        return References(
            stand_still=lambda: torch.zeros_like(self._position),
            scripted=self._straight_on if self._problem.oracle is None else None,
            known_returns=self._known_returns,
        )

    def set_tasks(self, tasks: Tasks) -> None:
        self._episodes.set_tasks(tasks)

    def reset(self, uniform: Tensor, worlds: Tensor | None = None) -> Tensor:
        worlds = self._episodes.begin(uniform, worlds)
        start = torch.zeros_like(self._position)
        if self.num_uniforms > 0:
            start = (self._problem.start_half * (2 * uniform - 1)).to(start)
        self._position = torch.where(worlds[:, None], start, self._position)
        return self._position.clone()

    def step(self, action: Tensor) -> Step:
        control = (self._episodes.checked(action).float() / self._action_scale).clamp(-1.0, 1.0)
        before, goal = self._position, self._problem.goal(self._episodes.tasks)
        after = before + self._problem.step_size * control
        # An action that isn't finite, which nobody looks for on a GPU.
        diverged = ~after.isfinite().all(-1)
        self._position = after.masked_fill(diverged[:, None], 0.0)
        to_goal = self._position - goal
        terminated = diverged
        if self._problem.arrived is not None:
            terminated = terminated | self._problem.arrived(to_goal)
        reward = self._problem.reward(before, self._position, goal)
        return Step(
            next_obs=self._position.clone(),
            reward=reward.masked_fill(diverged, 0.0),
            terminated=terminated,
            truncated=self._episodes.advance(terminated),
            diverged=diverged,
            terms={"distance": to_goal.norm(dim=-1)},
        )

    def _straight_on(self) -> Tensor:
        """Returns the actions that lead straight to the goal."""
        to_goal = self._problem.goal(self._episodes.tasks) - self._position
        furthest = to_goal.abs().amax(-1, keepdim=True).clamp(min=self._problem.step_size)
        return to_goal / furthest * self._action_scale

    def _known_returns(self, tasks: Tasks, num_episodes: int) -> dict[str, Tensor]:
        known = {"oracle": self._problem.oracle, "upper_bound": self._problem.bound}
        goal = self._problem.goal(tasks)
        return {
            name: value(goal, self.spec.horizon)
            for name, value in known.items()
            if value is not None
        }

    def render(self, world: int, *, width: int = 320, height: int = 240) -> np.ndarray:
        """The goal in green and the point in blue; the cross is 0, 0. All pictures have one scale:
        a point that is outside stands at the border as a ring, on its side."""
        position = self._position[world].cpu().numpy()
        half = self._problem.view  # m, half the picture's shorter side
        pixel = 2 * half / min(width, height)
        x = (np.arange(width) + 0.5 - width / 2) * pixel
        y = -(np.arange(height) + 0.5 - height / 2) * pixel
        picture = np.full((height, width, 3), 255, np.uint8)
        picture[np.abs(y) < half / 150, :] = 200
        picture[:, np.abs(x) < half / 150] = 200
        if self._problem.ring > 0:
            picture[np.abs(np.hypot(x[None, :], y[:, None]) - self._problem.ring) < half / 150] = (
                200
            )
        goal = self._problem.goal(self._episodes.tasks)[world].cpu().numpy()
        radius = 0.067 * half
        furthest = pixel * np.array([width, height]) / 2 - radius
        shown = position.clip(-furthest, furthest)
        from_goal, from_point = (
            np.hypot(x[None, :] - at[0], y[:, None] - at[1]) for at in (goal, shown)
        )
        picture[from_goal < self._problem.goal_radius] = GREEN
        hole = 0.6 * radius if (shown != position).any() else 0.0
        picture[(from_point < radius) & (from_point >= hole)] = BLUE
        return picture


def smallest_distances(goal: Tensor, step_size: float, horizon: int) -> Tensor:
    """[N, T] the smallest distance to the goal [N, 2] that can be had after t = 1, ..., T steps
    from 0, 0.

    After t steps |g| − step_size t is left of |g| along each axis, at least 0, and the axes don't
    hinder each other; so one way of going has them all. The best return follows for any reward that
    only falls with the distance.
    """
    steps = torch.arange(1, horizon + 1, device=goal.device)
    return (goal.abs()[:, None] - step_size * steps[:, None]).clamp(min=0.0).norm(dim=-1)
