"""What a locomotion task asks for: a velocity, a direction along x, a heading in the plane, or a
place. Shared by all robots."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

import mujoco
import numpy as np
import torch
from torch import Tensor

from envs.mujoco.render import Mark
from envs.tasks import (
    FewTasks,
    ListedTasks,
    PublishedTest,
    TaskPrior,
    by_range,
    check_count,
    in_odd_cell,
    uniform_prior,
)
from metarl.struct import struct

Tasks = TypeVar("Tasks")


@struct
class TargetVelocity:
    target_velocity: Tensor  # [N] m/s, forward


@struct
class Direction:
    direction: Tensor  # [N] 1 forward, -1 backward


@struct
class Heading:
    heading: Tensor  # [N] rad from the x axis, counterclockwise


@struct
class Place:
    place: Tensor  # [N, 2] m


def velocities(
    highest: float,
    num_train: int | None,
    num_test: int,
    *,
    lowest: float = 0.0,
    published_test: PublishedTest | None = None,
) -> TaskPrior[TargetVelocity]:
    """Target velocities U[lowest, highest] m/s."""
    return TaskPrior(
        draw=partial(_draw_velocity, lowest, highest),
        num_uniforms=1,
        held_out=partial(by_range, "target_velocity", lowest, highest),
        bounds={"target_velocity": (lowest, highest)},
        describe=_describe_velocity,
        num_train=num_train,
        num_test=num_test,
        published_test=published_test,
    )


def published_velocities(
    highest: float, num_train: int, num_test: int
) -> ListedTasks[TargetVelocity]:
    """The velocities that NumPy draws after seed(1337), as PEARL does: the first for training,
    those that follow for test."""
    check_count("num_train_tasks", num_train)
    drawn = np.random.RandomState(1337).uniform(0.0, highest, num_train + 1000)
    velocity = torch.from_numpy(drawn.astype(np.float32))
    return ListedTasks(
        train=TargetVelocity(target_velocity=velocity[:num_train]),
        test=TargetVelocity(target_velocity=velocity[num_train:]),
        num_test=num_test,
        source="numpy RandomState(1337).uniform",
        bounds={"target_velocity": (0.0, highest)},
        describe=_describe_velocity,
    )


def directions() -> FewTasks[Direction]:
    """Forward and backward, in turn."""
    tasks = Direction(direction=torch.tensor([1.0, -1.0], dtype=torch.float32))
    return FewTasks(tasks, bounds={"direction": (-1.0, 1.0)}, describe=_describe_direction)


def headings(num_train: int | None, num_test: int) -> TaskPrior[Heading]:
    """Headings U[0, 2π)."""
    return uniform_prior(
        "heading",
        0.0,
        2 * math.pi,
        draw=_draw_heading,
        num_uniforms=1,
        describe=_describe_heading,
        num_train=num_train,
        num_test=num_test,
    )


def few_headings(*heading: float) -> FewTasks[Heading]:
    """The given headings, in turn."""
    tasks = Heading(heading=torch.tensor(heading, dtype=torch.float32))
    return FewTasks(
        tasks, bounds={"heading": (min(heading), max(heading))}, describe=_describe_heading
    )


def places_on_disc(radius: float, num_train: int | None, num_test: int) -> TaskPrior[Place]:
    """Places uniform on the disc about the start."""
    draw, held_out = partial(_draw_on_disc, radius), partial(_on_disc_held_out, radius)
    return _places(draw, held_out, radius, num_train, num_test, partial(_check_on_disc, radius))


def places_in_square(half: float, num_train: int | None, num_test: int) -> TaskPrior[Place]:
    """Places uniform on the square of ±half m about the start."""
    held_out = partial(by_range, "place", -half, half)
    return _places(partial(_draw_in_square, half), held_out, half, num_train, num_test)


def velocity_reward(x: Tensor, velocity: Tensor, tasks: TargetVelocity) -> Tensor:
    """Pays −|v − g|, [W], for x [W] in m and velocity [W] in m/s along x."""
    return -(velocity - tasks.target_velocity).abs()


def direction_reward(x: Tensor, velocity: Tensor, tasks: Direction) -> Tensor:
    """Pays d v, [W]."""
    return tasks.direction * velocity


def forward_reward(x: Tensor, velocity: Tensor, tasks: object) -> Tensor:
    """Pays v, [W], whatever the task, which changes something else."""
    return velocity


@dataclass(frozen=True)
class TaskReward(Generic[Tasks]):
    """Says what a robot that runs along x is paid for its task."""

    function: Callable[[Tensor, Tensor, Tasks], Tensor]
    """(x [W] in m, velocity [W] in m/s along x, tasks) -> [W]."""
    formula: str
    """The reward as it reads in a definition."""


VELOCITY = TaskReward(velocity_reward, "-|v - g|")
DIRECTION = TaskReward(direction_reward, "d v")
FORWARD = TaskReward(forward_reward, "v")


def along(heading: Tensor, velocity: Tensor) -> Tensor:
    """Returns the part [W] of velocity [W, 2] along heading [W]."""
    return heading.cos() * velocity[:, 0] + heading.sin() * velocity[:, 1]


def heading_arrow(data: mujoco.MjData, task: Heading) -> list[Mark]:
    """An arrow on the floor, from beside the robot's root in the direction to go."""
    x, y = data.qpos[:2]
    cos, sin = float(task.heading.cos()), float(task.heading.sin())
    start, end = (x + 0.6 * cos, y + 0.6 * sin, 0.05), (x + 1.8 * cos, y + 1.8 * sin, 0.05)
    return [Mark(start=start, end=end, radius=0.05, is_arrow=True)]


def place_disc(radius: float, data: mujoco.MjData, task: Place) -> list[Mark]:
    """A disc on the floor around the place to go to, and a thin pole on it."""
    x, y = task.place.tolist()
    return [
        Mark(start=(x, y, 0.0), end=(x, y, 0.01), radius=radius),
        Mark(start=(x, y, 0.0), end=(x, y, 1.0), radius=0.02),
    ]


def _places(
    draw: partial[Place],
    held_out: partial[Tensor],
    furthest: float,
    num_train: int | None,
    num_test: int,
    constraint: Callable[[Place], None] | None = None,
) -> TaskPrior[Place]:
    return TaskPrior(
        draw=draw,
        num_uniforms=2,
        held_out=held_out,
        bounds={"place": (-furthest, furthest)},
        describe=_describe_place,
        num_train=num_train,
        num_test=num_test,
        constraint=constraint,
    )


def _check_on_disc(radius: float, tasks: Place) -> None:
    distance = torch.linalg.vector_norm(tasks.place, dim=-1)
    outside = distance > radius * (1 + 1e-6)  # float32's rounding
    if bool(outside.any()):
        x, y = tasks.place[outside][0].tolist()
        raise ValueError(
            f"place is ({x:g}, {y:g}), {distance[outside][0]:g} m away; expected at most "
            f"{radius:g} m"
        )


def _draw_velocity(lowest: float, highest: float, uniform: Tensor) -> TargetVelocity:
    return TargetVelocity(target_velocity=(lowest + (highest - lowest) * uniform[:, 0]).float())


def _draw_heading(uniform: Tensor) -> Heading:
    return Heading(heading=(2 * math.pi * uniform[:, 0]).float())


def _draw_on_disc(radius: float, uniform: Tensor) -> Place:
    # The root spreads them evenly over the area.
    r, angle = radius * uniform[:, 0].sqrt(), 2 * math.pi * uniform[:, 1]
    return Place(place=torch.stack([r * angle.cos(), r * angle.sin()], dim=1).float())


def _on_disc_held_out(radius: float, tasks: Place) -> Tensor:
    return in_odd_cell((torch.linalg.vector_norm(tasks.place.double(), dim=-1) / radius).square())


def _draw_in_square(half: float, uniform: Tensor) -> Place:
    return Place(place=(half * (2 * uniform - 1)).float())


def _describe_velocity(tasks: TargetVelocity) -> list[str]:
    return [f"target {velocity:.2f} m/s" for velocity in tasks.target_velocity.tolist()]


def _describe_direction(tasks: Direction) -> list[str]:
    return ["forward" if direction > 0 else "backward" for direction in tasks.direction.tolist()]


def _describe_heading(tasks: Heading) -> list[str]:
    return [f"heading {math.degrees(heading):.0f}°" for heading in tasks.heading.tolist()]


def _describe_place(tasks: Place) -> list[str]:
    return [f"to ({x:+.2f}, {y:+.2f}) m" for x, y in tasks.place.tolist()]
