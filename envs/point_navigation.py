"""Point navigation: walk to a hidden goal in the plane. The smallest environment on which adaptation can be seen.

The world is that of envs/point.py: the observation is the position x, y in m, the action the displacement of x, y.

    point_navigation_2d, _raw:  r = −‖p' − g‖₂;  ends where |Δx| < 0.01 m and |Δy| < 0.01 m after the step
    point_navigation_2d_corner: r = ‖p − g‖₂ − ‖p' − g‖₂ where ‖p'‖₁ ≥ 0.5 m and no other corner is nearer to p', else 0

with p and p' the positions before and after the step.

| environment | goal g | displacement | start | T | tasks |
|---|---|---|---|---|---|
| point_navigation_2d | U[−0.5, 0.5]² m | clip(0.1 a, ±0.1) m | 0, 0 | 100 | ∞, test 40 |
| point_navigation_2d_raw | U[−0.5, 0.5]² m | clip(a, ±0.1) m | 0, 0 | 100 | ∞, test 40 |
| point_navigation_2d_corner | (±2, ±2) m | clip(a, ±0.2) m | U[−0.2, 0.2]² m | 100 | the four |

`_raw` is another problem for a policy whose actions have standard deviation 1: there they are nearly always clipped.
In `_corner`, as published, stepping back and forth across the border of the goal's quadrant is paid at each step inwards, so
arriving isn't the best one can do; the scripted controller arrives, and evaluations show a bound above all returns beside it.

Sources: Finn et al. 2017 (cbfinn/maml_rl, maml_examples/point_env_randgoal.py, wrapped in rllab's `normalize`);
tristandeleu/pytorch-maml-rl (maml_rl/envs/navigation.py) for `_raw`; Rothfuss et al. 2019 (jonasrothfuss/ProMP,
point_env_2d_corner.py, sparse reward) for `_corner`. The same problems, except that training and test goals are our own and the
corners come in turn instead of at random.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from envs.point import PointWorld, Problem, smallest_distances
from envs.tasks import FewTasks, TaskPrior, by_range
from metarl.rl.types import EnvSpec
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


def point_navigation_2d(
    num_worlds: int,
    *,
    horizon: int = 100,
    action_scale: float = 1.0,
    num_train_tasks: int | None = None,
    num_test_tasks: int = 40,
    num_threads: int | None = None,  # no effect: torch's own threads do the work
    device: torch.device | str = "cpu",
) -> PointWorld[Goal]:
    tasks = goals(num_train_tasks, num_test_tasks)
    return _environment("point_navigation_2d", num_worlds, tasks, horizon, action_scale, device)


def point_navigation_2d_raw(
    num_worlds: int,
    *,
    horizon: int = 100,
    action_scale: float = 0.1,
    num_train_tasks: int | None = None,
    num_test_tasks: int = 40,
    num_threads: int | None = None,
    device: torch.device | str = "cpu",
) -> PointWorld[Goal]:
    tasks = goals(num_train_tasks, num_test_tasks)
    return _environment("point_navigation_2d_raw", num_worlds, tasks, horizon, action_scale, device)


def point_navigation_2d_corner(
    num_worlds: int,
    *,
    horizon: int = 100,
    action_scale: float = 0.2,
    num_threads: int | None = None,
    device: torch.device | str = "cpu",
) -> PointWorld[Goal]:
    return _environment("point_navigation_2d_corner", num_worlds, corners(), horizon, action_scale, device)


def _environment(
    name: str,
    num_worlds: int,
    tasks: TaskPrior[Goal] | FewTasks[Goal],
    horizon: int,
    action_scale: float,
    device: torch.device | str,
) -> PointWorld[Goal]:
    problem, words = _PROBLEMS["corner" if name.endswith("_corner") else "default"]
    family = "point_navigation_2d"
    spec = EnvSpec(
        name=name,
        family=family,
        variant=name[len(family) + 1 :] or "default",
        horizon=horizon,
        definition={
            "dynamics": f"clip({problem.step_size} a, +-{problem.step_size}) with a = action / action_scale",
            **words,
            "action_scale": float(action_scale),
            "prior": tasks.bounds,
            "split": tasks.split_definition(),
        },
    )
    return PointWorld(num_worlds, spec=spec, problem=problem, tasks=tasks, action_scale=action_scale, device=device)


def goals(num_train: int | None, num_test: int) -> TaskPrior[Goal]:
    """Goals U[−0.5, 0.5]² m."""
    return TaskPrior(
        draw=_draw_goal,
        num_uniforms=2,
        held_out=partial(by_range, "goal", -GOAL_RANGE, GOAL_RANGE),
        bounds={"goal": (-GOAL_RANGE, GOAL_RANGE)},
        describe=_describe_goal,
        num_train=num_train,
        num_test=num_test,
    )


def corners() -> FewTasks[Goal]:
    """(±2, ±2) m."""
    four = torch.cartesian_prod(torch.tensor([-CORNER, CORNER]), torch.tensor([-CORNER, CORNER]))
    return FewTasks(Goal(goal=four), bounds={"goal": (-CORNER, CORNER)}, describe=_describe_goal)


def oracle_return(goal: Tensor, horizon: int) -> Tensor:
    """[N] the best return of those who know the goal [N, 2].

    Going on past the arrival, which is within a step's length, would add nothing, so the end needs no term of its own.
    """
    return -smallest_distances(goal, STEP_SIZE, horizon).sum(1)


def corner_bound(goal: Tensor, horizon: int) -> Tensor:
    """[N] what no return of `corner_progress` exceeds: with s the length of a step, T steps and d the furthest start from g,

        min(s T, (d + s T) / 2)

    for P paid steps come nearer to g by s P at most, and by no more than d and what the T − P unpaid ones went away.
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


_PROBLEMS: dict[str, tuple[Problem[Goal], dict[str, Any]]] = {
    "default": (
        Problem(step_size=STEP_SIZE, goal=_goal, reward=distance_reward, arrived=_arrived, oracle=oracle_return),
        {"reward": "-|position - g|_2", "terminates": f"|dx| < {ARRIVED} and |dy| < {ARRIVED}"},
    ),
    "corner": (
        Problem(
            step_size=CORNER_STEP_SIZE,
            goal=_goal,
            reward=corner_progress,
            bound=corner_bound,
            start_half=CORNER_START,
            goal_radius=0.2,
            view=2.4,
        ),
        {
            "reward": f"progress to g where |position|_1 >= {UNPAID_RADIUS} and g is the nearest corner",
            "start": f"U[-{CORNER_START}, {CORNER_START}]^2",
        },
    ),
}
