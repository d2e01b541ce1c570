"""What an arm is asked to do: reach a place in the air, or grasp an object and perhaps carry it to
one.

Objects for training and for test differ in kind: of 4 shapes × 4 bands of width, each shape is held
out in one band and each band for one shape, so a held-out object has a known shape and a known
width that never came together.
"""

from functools import partial

import torch
from torch import Tensor

from envs.tasks import Range, TaskPrior, by_range
from metarl.struct import struct

SHAPES = ("box", "cylinder", "sphere", "capsule")
HALF_WIDTH = (0.016, 0.028)  # m, in NUM_BANDS bands
NUM_BANDS = 4
HALF_LENGTH = (0.018, 0.04)  # m
MASS = (0.05, 0.4)  # kg
FRICTION = (0.6, 1.2)
START = ((0.4, -0.15, -0.4), (0.6, 0.15, 0.4))  # x, y in m, yaw in rad
REACH_GOAL = ((0.35, -0.25, 0.05), (0.6, 0.25, 0.35))  # m
CARRY_GOAL = ((0.4, -0.2, 0.15), (0.6, 0.2, 0.3))  # m


@struct
class Reach:
    goal: Tensor  # [N, 3] m, of the point between the fingers


@struct
class Grasp:
    shape: Tensor  # [N] int64, of SHAPES
    half_width: Tensor  # [N] m, across the fingers' way: half a box's side, or the radius
    # [N] m, half the height of a box or cylinder, or of a capsule's straight part; a sphere has
    # none
    half_length: Tensor
    mass: Tensor  # [N] kg
    friction: Tensor  # [N] sliding friction of the object with everything
    start: Tensor  # [N, 3] x, y in m and yaw in rad


@struct
class PickPlace:
    shape: Tensor  # [N], this and the next as in Grasp
    half_width: Tensor
    half_length: Tensor
    mass: Tensor
    friction: Tensor
    start: Tensor
    goal: Tensor  # [N, 3] m, of the object's centre


def reach_tasks(num_train: int | None, num_test: int) -> TaskPrior[Reach]:
    """Goals uniform in the box REACH_GOAL."""
    return TaskPrior(
        draw=_draw_reach,
        num_uniforms=3,
        held_out=partial(by_range, "goal", REACH_GOAL[0][0], REACH_GOAL[1][0]),
        bounds={"goal": REACH_GOAL},
        describe=_describe_goal,
        num_train=num_train,
        num_test=num_test,
    )


def grasp_tasks(num_train: int | None, num_test: int) -> TaskPrior[Grasp]:
    """Objects of the training or the held-out kinds, everything else uniform."""
    return TaskPrior(
        draw=_draw_training_grasp,
        draw_test=_draw_test_grasp,
        num_uniforms=8,
        held_out=_is_of_held_out_kind,
        bounds=_OBJECT,
        describe=_describe_object,
        num_train=num_train,
        num_test=num_test,
    )


def pick_place_tasks(num_train: int | None, num_test: int) -> TaskPrior[PickPlace]:
    """Objects as in `grasp_tasks`, and goals uniform in the box CARRY_GOAL."""
    return TaskPrior(
        draw=_draw_training_pick_place,
        draw_test=_draw_test_pick_place,
        num_uniforms=11,
        held_out=_is_of_held_out_kind,
        bounds={**_OBJECT, "goal": CARRY_GOAL},
        describe=_describe_pick_place,
        num_train=num_train,
        num_test=num_test,
    )


def is_held_out_kind(shape: Tensor, half_width: Tensor) -> Tensor:
    """[N] bool: objects of this shape and width are for test only."""
    low, high = HALF_WIDTH
    band = ((half_width.double() - low) / (high - low) * NUM_BANDS).floor().clamp(0, NUM_BANDS - 1)
    return (shape + band) % NUM_BANDS == NUM_BANDS - 1


def resting_height(tasks: Grasp | PickPlace) -> Tensor:
    """[N] m, of the object's centre above the table at the start: boxes and cylinders stand,
    capsules lie."""
    stands = tasks.shape < SHAPES.index("sphere")
    return torch.where(stands, tasks.half_length, tasks.half_width)


_OBJECT: dict[str, Range] = {
    "shape": (0, len(SHAPES) - 1),
    "half_width": HALF_WIDTH,
    "half_length": HALF_LENGTH,
    "mass": MASS,
    "friction": FRICTION,
    "start": START,
}
_KINDS = torch.cartesian_prod(torch.arange(len(SHAPES)), torch.arange(NUM_BANDS))  # shape, band
_HELD_OUT = _KINDS.sum(1) % NUM_BANDS == NUM_BANDS - 1


def _draw_reach(uniform: Tensor) -> Reach:
    return Reach(goal=_between(REACH_GOAL, uniform))


def _draw_training_grasp(uniform: Tensor) -> Grasp:
    return Grasp(**_object(uniform, _KINDS[~_HELD_OUT]))


def _draw_test_grasp(uniform: Tensor) -> Grasp:
    return Grasp(**_object(uniform, _KINDS[_HELD_OUT]))


def _draw_training_pick_place(uniform: Tensor) -> PickPlace:
    return PickPlace(
        **_object(uniform, _KINDS[~_HELD_OUT]), goal=_between(CARRY_GOAL, uniform[:, 8:])
    )


def _draw_test_pick_place(uniform: Tensor) -> PickPlace:
    return PickPlace(
        **_object(uniform, _KINDS[_HELD_OUT]), goal=_between(CARRY_GOAL, uniform[:, 8:])
    )


def _is_of_held_out_kind(tasks: Grasp | PickPlace) -> Tensor:
    return is_held_out_kind(tasks.shape, tasks.half_width)


def _object(uniform: Tensor, kinds: Tensor) -> dict[str, Tensor]:
    """The fields of an object of one of `kinds` [K, 2], each as likely, from uniform numbers [N, 8
    or more]."""
    shape, band = kinds[(uniform[:, 1] * len(kinds)).long()].unbind(1)
    within = uniform[:, 0].clamp(1e-6, 1 - 1e-6)  # float32 rounds no width into the next band
    return {
        "shape": shape,
        "half_width": _between(HALF_WIDTH, (band + within) / NUM_BANDS),
        "half_length": _between(HALF_LENGTH, uniform[:, 2]),
        "mass": _between(MASS, uniform[:, 3]),
        "friction": _between(FRICTION, uniform[:, 4]),
        "start": _between(START, uniform[:, 5:8]),
    }


def _between(limits: Range, uniform: Tensor) -> Tensor:
    low, high = (torch.as_tensor(limit, dtype=torch.float64) for limit in limits)
    return (low + (high - low) * uniform).float()


def _describe_goal(tasks: Reach | PickPlace) -> list[str]:
    return [f"goal ({x:.2f}, {y:+.2f}, {z:.2f}) m" for x, y, z in tasks.goal.tolist()]


def _describe_object(tasks: Grasp | PickPlace) -> list[str]:
    rows = zip(
        tasks.shape.tolist(),
        tasks.half_width.tolist(),
        tasks.mass.tolist(),
        tasks.friction.tolist(),
        strict=True,
    )
    return [
        f"{SHAPES[shape]} {2000 * half_width:.0f} mm, {1000 * mass:.0f} g, friction {friction:.2f}"
        for shape, half_width, mass, friction in rows
    ]


def _describe_pick_place(tasks: PickPlace) -> list[str]:
    pairs = zip(_describe_object(tasks), _describe_goal(tasks), strict=True)
    return [f"{thing}, {goal}" for thing, goal in pairs]
