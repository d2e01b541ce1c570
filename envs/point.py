"""Point navigation in the plane: walk to a goal that isn't shown. The smallest environment on which adaptation can be seen.

| obs | meaning | unit |
|---|---|---|
| 0–1 | position x, y; starts at 0, 0 | m |

| action | meaning | unit |
|---|---|---|
| 0–1 | displacement of x, y: clip(0.1 a, ±0.1) | m |

    r = −‖position after the step − g‖₂,     g ~ U[−0.5, 0.5]²,     100 steps

Terminates where |Δx| < 0.01 m and |Δy| < 0.01 m after the step. The goal isn't observed.

Source: Finn et al. 2017 (cbfinn/maml_rl, maml_examples/point_env_randgoal.py, wrapped in rllab's `normalize`); the same problem,
except that training and test goals are our own. Other code bases clip the raw action to ±0.1: another problem.
"""

from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from envs.episodes import Episodes, check_action_scale
from envs.tasks import TaskPrior
from metarl.rl.types import EnvSpec, RLAdapter, Step
from metarl.struct import struct

STEP_SIZE = 0.1  # m, along each axis, at action 1
GOAL_RANGE = 0.5  # m
ARRIVED = 0.01  # m, along each axis


@struct
class Goal:
    goal: Tensor  # [N, 2] m


class PointNavigation:
    """W points in the plane, in torch on any device. Meets `metarl.rl.types.BatchedEnv`."""

    def __init__(
        self,
        num_worlds: int,
        *,
        horizon: int = 100,
        action_scale: float = 1.0,
        num_train_tasks: int | None = None,
        num_test_tasks: int = 40,
        num_threads: int | None = None,  # no effect: torch's own threads do the work
        device: torch.device | str = "cpu",
    ) -> None:
        check_action_scale(action_scale)
        self.num_worlds, self.device = num_worlds, torch.device(device)
        self.tasks = goals(num_train_tasks, num_test_tasks)
        self.spec = EnvSpec(
            name="point_navigation_2d",
            family="point_navigation_2d",
            variant="default",
            horizon=horizon,
            definition={
                "dynamics": f"clip({STEP_SIZE} a, +-{STEP_SIZE}) with a = action / action_scale",
                "reward": "-|position - g|_2",
                "terminates": f"|dx| < {ARRIVED} and |dy| < {ARRIVED}",
                "action_scale": float(action_scale),
                "prior": self.tasks.bounds,
                "split": self.tasks.split_definition(),
            },
        )
        self._action_scale = float(action_scale)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = gymnasium.spaces.Box(-self._action_scale, self._action_scale, (2,), np.float32)
        self._episodes: Episodes[Goal] = Episodes(
            num_worlds, horizon=horizon, distribution=self.tasks, action_space=self.action_space, device=self.device
        )
        self._position = torch.zeros(num_worlds, 2, device=self.device)

    def set_tasks(self, tasks: Goal) -> None:
        self._episodes.set_tasks(tasks)

    def reset(self, generator: torch.Generator, worlds: Tensor | None = None) -> Tensor:
        """Every episode starts at 0, 0: the generator is not used."""
        worlds = self._episodes.begin(worlds)
        self._position = self._position.masked_fill(worlds[:, None], 0.0)
        return self._position.clone()

    def step(self, action: Tensor) -> Step:
        control = (self._episodes.checked(action).float() / self._action_scale).clamp(-1.0, 1.0)
        self._position = self._position + STEP_SIZE * control
        to_goal = self._position - self._episodes.tasks.goal
        distance = to_goal.norm(dim=-1)
        terminated = (to_goal.abs() < ARRIVED).all(-1)
        return Step(
            next_obs=self._position.clone(),
            reward=-distance,
            terminated=terminated,
            truncated=self._episodes.advance() & ~terminated,
            diverged=torch.zeros_like(terminated),
            terms={"distance": distance},
        )

    def stand_still_action(self) -> Tensor:
        return torch.zeros(self.num_worlds, 2, device=self.device)

    def scripted_action(self) -> None:
        """None: the oracle's return is known."""

    def known_returns(self, tasks: Goal, num_episodes: int) -> dict[str, Tensor]:
        """`oracle`: the axes don't hinder each other, so going as far as a step goes along each is the best."""
        return {"oracle": oracle_return(tasks.goal, self.spec.horizon)}

    def reference_learners(self) -> dict[str, RLAdapter[Any]]:
        return {}

    def render(self, world: int, *, width: int = 320, height: int = 240) -> np.ndarray:
        """The goal in green and the point in blue, 1.2 m high, or as much as shows the point; the start is the cross."""
        position = self._position[world].cpu().numpy()
        half = max(0.6, 1.1 * float(np.abs(position).max()))  # m, half the picture's height
        x = (np.arange(width) + 0.5 - width / 2) * (2 * half / height)
        y = -(np.arange(height) + 0.5 - height / 2) * (2 * half / height)
        picture = np.full((height, width, 3), 255, np.uint8)
        picture[np.abs(y) < half / 150, :] = 200
        picture[:, np.abs(x) < half / 150] = 200
        goal = self._episodes.tasks.goal[world].cpu().numpy()
        for centre, radius, colour in ((goal, 0.06, (60, 170, 80)), (position, 0.04, (40, 80, 200))):
            inside = np.hypot(x[None, :] - centre[0], y[:, None] - centre[1]) < radius * half / 0.6
            picture[inside] = colour
        return picture

    def close(self) -> None:
        """Nothing to release."""


def oracle_return(goal: Tensor, horizon: int) -> Tensor:
    """[N] the best return of those who know the goal [N, 2]: −Σₜ ‖rest after t steps‖ up to the end, which arriving makes.

    After t steps of ±0.1 m along each axis |g| − 0.1 t is left of |g|, at least 0. Going on past the arrival, which is within
    a step's length, adds nothing.
    """
    steps = torch.arange(1, horizon + 1, device=goal.device)
    rest = (goal.abs()[:, None] - STEP_SIZE * steps[:, None]).clamp(min=0.0)  # [N, T, 2]
    return -rest.norm(dim=-1).sum(1)


def goals(num_train: int | None, num_test: int) -> TaskPrior[Goal]:
    """Goals U[−0.5, 0.5]² m."""
    return TaskPrior(
        draw=_draw_goal,
        num_uniforms=2,
        bounds={"goal": (-GOAL_RANGE, GOAL_RANGE)},
        describe=_describe_goal,
        num_train=num_train,
        num_test=num_test,
    )


def _draw_goal(uniform: Tensor) -> Goal:
    return Goal(goal=(GOAL_RANGE * (2 * uniform - 1)).float())


def _describe_goal(tasks: Goal) -> list[str]:
    return [f"goal ({x:+.2f}, {y:+.2f}) m" for x, y in tasks.goal.tolist()]
