"""Point navigation: walk to a hidden goal in the plane. The smallest environment on which
adaptation can be seen.

The world is that of envs/small/point.py: the observation is the position x, y in m, the action the
displacement of x, y.

    point_navigation_2d, _raw:   r = −‖p' − g‖₂;
                                 ends where |Δx| < 0.01 m and |Δy| < 0.01 m after the step
    point_navigation_2d_corner:  r = ‖p − g‖₂ − ‖p' − g‖₂ where ‖p'‖₁ ≥ 0.5 m and no other corner
                                 is nearer to p', else 0

with p and p' the positions before and after the step.

| environment | task prior | displacement | start | T | action_scale | training tasks |
|---|---|---|---|---|---|---|
| point_navigation_2d | g ~ U[−0.5, 0.5]² m | clip(0.1 a, ±0.1) m | 0, 0 | 100 | 1 | ∞, test 40 |
| point_navigation_2d_raw | g ~ U[−0.5, 0.5]² m | clip(a, ±0.1) m | 0, 0 | 100 | 0.1 | ∞, test 40 |
| point_navigation_2d_corner | g = (±2, ±2) m | clip(a, ±0.2) m | U[−0.2, 0.2]² m | 100 | 0.2 | the four |

`_raw` is another problem for a policy whose actions have standard deviation 1: there they are
nearly always clipped. In `_corner`, as published, stepping back and forth across the border of the
goal's quadrant is paid at each step inwards, so arriving isn't the best one can do; the scripted
controller arrives, and evaluations show a bound above all returns beside it.

Sources: Finn et al. 2017 (cbfinn/maml_rl, maml_examples/point_env_randgoal.py, wrapped in rllab's
`normalize`); tristandeleu/pytorch-maml-rl (maml_rl/envs/navigation.py) for `_raw`; Rothfuss et al.
2019 (jonasrothfuss/ProMP, point_env_2d_corner.py, sparse reward) for `_corner`. The same problems,
except that training and test goals are our own and the corners come in turn instead of at random.
"""

from dataclasses import replace

import torch
from torch import Tensor

from envs.small.point import PointVariant, Problem, smallest_distances
from envs.tasks import FewTasks, TaskPrior, uniform_prior
from metarl.struct import struct

STEP_SIZE = 0.1  # m, along each axis
GOAL_RANGE = 0.5  # m
ARRIVED = 0.01  # m, along each axis
CORNER = 2.0  # m
CORNER_STEP_SIZE = 0.2  # m
CORNER_START = 0.2  # m
UNPAID_RADIUS = 0.5  # m, of the 1-norm


@struct
class Goal:
    goal: Tensor  # [N, 2] m


def goals(num_train: int | None, num_test: int) -> TaskPrior[Goal]:
    """Goals U[−0.5, 0.5]² m."""
    return uniform_prior(
        "goal",
        -GOAL_RANGE,
        GOAL_RANGE,
        draw=_draw_goal,
        num_uniforms=2,
        describe=_describe_goal,
        num_train=num_train,
        num_test=num_test,
    )


def corners() -> FewTasks[Goal]:
    """The four goals (±2, ±2) m."""
    side = torch.tensor([-CORNER, CORNER], dtype=torch.float32)
    four = torch.cartesian_prod(side, side)
    return FewTasks(Goal(goal=four), bounds={"goal": (-CORNER, CORNER)}, describe=_describe_goal)


def oracle_return(goal: Tensor, horizon: int) -> Tensor:
    """[N] the best return of those who know the goal [N, 2].

    Going on past the arrival, which is within a step's length, would add nothing, so the end needs
    no term of its own.
    """
    return -smallest_distances(goal, STEP_SIZE, horizon).sum(1)


def corner_bound(goal: Tensor, horizon: int) -> Tensor:
    """[N] what no return of `corner_progress` exceeds: with s the length of a step, T steps and d
    the furthest start from g,

        min(s T, (d + s T) / 2)

    for P paid steps come nearer to g by s P at most, and by no more than d and what the T − P
    unpaid ones went away.
    """
    step = 2**0.5 * CORNER_STEP_SIZE
    furthest = (goal.abs() + CORNER_START).norm(dim=-1)
    return ((furthest + step * horizon) / 2).clamp(max=step * horizon)


def distance_reward(before: Tensor, after: Tensor, goal: Tensor) -> Tensor:
    return -(after - goal).norm(dim=-1)


def corner_progress(before: Tensor, after: Tensor, goal: Tensor) -> Tensor:
    progress = (before - goal).norm(dim=-1) - (after - goal).norm(dim=-1)
    # No other corner is nearer: the point lies in the goal's quadrant or on its border.
    paid = (after.abs().sum(-1) >= UNPAID_RADIUS) & (after * goal >= 0).all(-1)
    return progress * paid


def _arrived(to_goal: Tensor) -> Tensor:
    return (to_goal.abs() < ARRIVED).all(-1)


def _goal(tasks: Goal) -> Tensor:
    return tasks.goal


def _draw_goal(uniform: Tensor) -> Goal:
    return Goal(goal=(GOAL_RANGE * (2 * uniform - 1)).float())


def _describe_goal(tasks: Goal) -> list[str]:
    return [f"goal ({x:+.2f}, {y:+.2f}) m" for x, y in tasks.goal.tolist()]


_ANYWHERE = PointVariant(
    family="point_navigation_2d",
    problem=Problem(
        step_size=STEP_SIZE,
        goal=_goal,
        reward=distance_reward,
        arrived=_arrived,
        oracle=oracle_return,
    ),
    tasks=goals,
    horizon=100,
    action_scale=1.0,
    num_train_tasks=None,
    num_test_tasks=40,
    definition={
        "reward": "-|position - g|_2",
        "terminates": f"|dx| < {ARRIVED} and |dy| < {ARRIVED}",
    },
)

VARIANTS: dict[str, PointVariant] = {
    "point_navigation_2d": _ANYWHERE,
    "point_navigation_2d_raw": replace(_ANYWHERE, action_scale=0.1),
    "point_navigation_2d_corner": PointVariant(
        family="point_navigation_2d",
        problem=Problem(
            step_size=CORNER_STEP_SIZE,
            goal=_goal,
            reward=corner_progress,
            bound=corner_bound,
            start_half=CORNER_START,
            goal_radius=0.2,
            view=2.4,
        ),
        tasks=corners,
        horizon=100,
        action_scale=0.2,
        definition={
            "reward": f"progress to g where |position|_1 >= {UNPAID_RADIUS} "
            "and g is the nearest corner",
            "start": f"U[-{CORNER_START}, {CORNER_START}]^2",
        },
    ),
}
