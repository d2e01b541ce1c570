"""Sparse point navigation: a goal somewhere on a half circle, and no reward but near it. To explore
is to walk along the circle.

The world is that of envs/small/point.py: the observation is the position x, y in m, the action the
displacement clip(0.1 a, ±0.1) m.

    r = 1 − ‖p' − g‖₂ where that distance is at most 0.2 m, else 0,     g = (cos φ, sin φ) m

with p' the position after the step. Starts at 0, 0; never terminates.

| environment | task prior | T | action_scale | episodes in a trial, as published | training tasks |
|---|---|---|---|---|---|
| point_navigation_2d_sparse | φ ~ U[0, π] | 100 | 1 | 3 | ∞, test 40 |
| point_navigation_2d_sparse_pearl | φ ~ U[0, π] | 20 | 1 | – | the published 80, test 20 |

Sources: Zintgraf et al. 2020 (lmzintgraf/varibad, environments/navigation/point_robot.py); Rakelly
et al. 2019 (katerakelly/oyster, rlkit/envs/point_robot.py) for `_pearl`. How we differ: PEARL
trains on −‖p' − g‖₂ and pays the sparse reward in evaluation only; here the reward is always the
sparse one, and the step's term `distance` is there for those who train on it.
"""

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from envs.small.point import PointVariant, Problem, smallest_distances
from envs.tasks import ListedTasks, TaskPrior, check_count, uniform_prior
from metarl.errors import SettingError
from metarl.struct import struct

STEP_SIZE = 0.1  # m, along each axis, at action 1
PAID_RADIUS = 0.2  # m
NUM_PUBLISHED = 100  # goals of PEARL's


@struct
class GoalAngle:
    angle: Tensor  # [N] rad from the x axis, counterclockwise


def goal_angles(num_train: int | None, num_test: int) -> TaskPrior[GoalAngle]:
    """Angles U[0, π]."""
    return uniform_prior(
        "angle",
        0.0,
        math.pi,
        draw=_draw_angle,
        num_uniforms=1,
        describe=_describe_angle,
        num_train=num_train,
        num_test=num_test,
    )


def published_goal_angles(num_train: int, num_test: int) -> ListedTasks[GoalAngle]:
    """100 angles evenly from 0 to π in the order that NumPy shuffles them to after seed(1337), as
    PEARL does: the first for training, the rest for test."""
    check_count("num_train_tasks", num_train)
    if num_train >= NUM_PUBLISHED:
        raise SettingError(
            f"num_train_tasks is {num_train}; expected 1, ..., {NUM_PUBLISHED - 1} of "
            f"{NUM_PUBLISHED} goals"
        )
    angles = np.linspace(0.0, np.pi, NUM_PUBLISHED)
    np.random.RandomState(1337).shuffle(angles)
    angle = torch.from_numpy(angles.astype(np.float32)).clamp(max=math.pi)
    return ListedTasks(
        train=GoalAngle(angle=angle[:num_train]),
        test=GoalAngle(angle=angle[num_train:]),
        num_test=num_test,
        source=f"linspace(0, pi, {NUM_PUBLISHED}) shuffled by numpy RandomState(1337)",
        bounds={"angle": (0.0, math.pi)},
        describe=_describe_angle,
    )


def oracle_return(goal: Tensor, horizon: int) -> Tensor:
    """[N] the best return of those who know the goal [N, 2]: the reward falls with the distance, so
    the nearest is the best."""
    return _paid(smallest_distances(goal, STEP_SIZE, horizon)).sum(1)


def near_reward(before: Tensor, after: Tensor, goal: Tensor) -> Tensor:
    return _paid((after - goal).norm(dim=-1))


def _paid(distance: Tensor) -> Tensor:
    return (1 - distance) * (distance <= PAID_RADIUS)


def _goal(tasks: GoalAngle) -> Tensor:
    return torch.stack([tasks.angle.cos(), tasks.angle.sin()], dim=-1)


def _draw_angle(uniform: Tensor) -> GoalAngle:
    return GoalAngle(angle=(math.pi * uniform[:, 0]).float())


def _describe_angle(tasks: GoalAngle) -> list[str]:
    return [f"goal at {math.degrees(angle):.0f}°" for angle in tasks.angle.tolist()]


_SPARSE = PointVariant(
    family="point_navigation_2d_sparse",
    problem=Problem(
        step_size=STEP_SIZE,
        goal=_goal,
        reward=near_reward,
        oracle=oracle_return,
        goal_radius=PAID_RADIUS,
        ring=1.0,
        view=1.3,
    ),
    tasks=goal_angles,
    horizon=100,
    action_scale=1.0,
    num_train_tasks=None,
    num_test_tasks=40,
    definition={
        "reward": f"1 - |position - g|_2 where that is at most {PAID_RADIUS}, else 0",
        "goal": "on the unit half circle",
    },
)

VARIANTS: dict[str, PointVariant] = {
    "point_navigation_2d_sparse": _SPARSE,
    "point_navigation_2d_sparse_pearl": replace(
        _SPARSE, tasks=published_goal_angles, horizon=20, num_train_tasks=80, num_test_tasks=20
    ),
}
