"""A batched environment of a user's own, played for a few steps as soon as it is made: what it does
otherwise than `BatchedEnv` says would be an error of torch's far from here, or silent."""

from collections.abc import Callable
from contextlib import closing
from typing import Any

import gymnasium
import torch
from torch import Tensor

from metarl.described import described, short
from metarl.errors import SettingError
from metarl.noise import Noise
from metarl.rl.types import BatchedEnv, Step
from metarl.struct import map_tensors

NUM_TRIED = 3
"""Worlds that are enough to see whether they depend on each other."""
_STEPS = 3

Course = list[tuple[str, Tensor]]
"""What was seen, each behind its name: the first observation, then the fields of the steps."""


_tried: set[tuple[Any, ...]] = set()


def try_batched_once(
    env: BatchedEnv[Any], made_with: str, make: Callable[[int], BatchedEnv[Any]]
) -> None:
    """`try_batched` of another one like `env`, for this one must not have begun an episode yet; once in a
    process, for a command makes an environment several times.

    Args:
      made_with: all that may differ between environments of one class and one spec.
      make: makes one as `env` with so many worlds.
    """
    # Without a spec it is refused below.
    key = (type(env), made_with, getattr(getattr(env, "spec", None), "spec_hash", None))
    if key in _tried:
        return
    with closing(make(NUM_TRIED)) as another:
        try_batched(another)
    _tried.add(key)


def try_batched(env: BatchedEnv[Any]) -> None:
    """Plays the same episode in all worlds twice, and once with the worlds in reversed order.

    Raises: SettingError naming what the environment returned, or which rule it breaks: shapes, types
    and finite numbers; the same episode from the same tasks, uniform numbers and actions; worlds
    that don't depend on each other.
    """
    name, generator = type(env).__name__, torch.Generator().manual_seed(0)
    count = env.num_worlds
    for part in ("spec", "prior", "observation_space", "action_space", "num_uniforms"):
        if not hasattr(env, part):
            raise SettingError(
                f"{name} has no {part}; expected what metarl.rl.types.BatchedEnv has"
            )
    tasks = env.prior.sample(count, generator)
    uniform = Noise(generator).starts(env)
    actions = [_action(env, generator) for _ in range(_STEPS)]
    first = _course(env, tasks, uniform, actions)
    again = _course(env, tasks, uniform, actions)
    _check_same(
        first, again, f"{name} isn't repeatable: from the same tasks, uniform numbers and actions"
    )
    if count > 1:
        turned = lambda leaf: leaf.flip(0)
        order = [turned(action) for action in actions]
        found = _course(env, map_tensors(turned, tasks), turned(uniform), order)
        turned_back = [(what, turned(leaf)) for what, leaf in found]
        _check_same(first, turned_back, f"worlds of {name} depend on each other: in another order")


def _course(env: BatchedEnv[Any], tasks: Any, uniform: Tensor, actions: list[Tensor]) -> Course:
    name, count = type(env).__name__, env.num_worlds
    seen = (count, *env.observation_space.shape)
    env.set_tasks(tasks)
    obs = env.reset(uniform)
    _check(f"{name}.reset", "the observations", obs, seen, torch.float32)
    course = [("the first observation", obs.clone())]
    for number, action in enumerate(actions, 1):
        given = action.clone()
        step = env.step(given)
        if not torch.equal(given, action):
            raise SettingError(
                f"{name}.step changes the action that it is given; expected a copy of its own "
                "(clamp, not clamp_), for what was done is recorded afterwards"
            )
        if not isinstance(step, Step):
            raise SettingError(
                f"{name}.step returned {described(step)}; expected a Step of metarl.rl.types"
            )
        _check(f"{name}.step", "next_obs", step.next_obs, seen, torch.float32)
        _check(f"{name}.step", "reward", step.reward, (count,), torch.float32)
        for end in ("terminated", "truncated", "diverged"):
            _check(f"{name}.step", end, getattr(step, end), (count,), torch.bool)
        for term, value in step.terms.items():
            _check(f"{name}.step", f"terms[{term!r}]", value, (count,), None)
        fields = ("next_obs", "reward", "terminated", "truncated")
        course += [(f"{what} of step {number}", getattr(step, what).clone()) for what in fields]
    return course


def _action(env: BatchedEnv[Any], generator: torch.Generator) -> Tensor:
    space, count = env.action_space, env.num_worlds
    if isinstance(space, gymnasium.spaces.Discrete):
        return torch.randint(int(space.n), (count,), generator=generator).to(_device(env))
    low, high = (torch.as_tensor(end).clamp(-1, 1) for end in (space.low, space.high))
    # A quarter to either side: a policy's noise doesn't end at the bounds.
    share = 1.5 * torch.rand(count, *space.shape, generator=generator) - 0.25
    return (low + (high - low) * share).float().to(_device(env))


def _check(
    method: str, what: str, value: Any, shape: tuple[int, ...], dtype: torch.dtype | None
) -> None:
    fits = isinstance(value, Tensor) and value.shape == shape
    if not fits or (dtype is not None and value.dtype != dtype):
        kind = f" of {short(dtype)}" if dtype is not None else ""
        raise SettingError(
            f"{method} returned {described(value)} as {what}; expected a tensor {list(shape)}{kind}, a "
            "row for each world"
        )
    if value.is_floating_point() and not value.isfinite().all():
        wrong = ~value.isfinite().reshape(len(value), -1).all(1)
        world = int(wrong.int().argmax())
        raise SettingError(
            f"{method} returned {what} with NaN or infinity in world {world}; expected finite numbers "
            "(0, and diverged, where the physics blew up)"
        )


def _check_same(first: Course, again: Course, otherwise: str) -> None:
    for (what, one), (_, other) in zip(first, again, strict=True):
        if not torch.allclose(one.double(), other.double(), rtol=1e-4, atol=1e-5):
            raise SettingError(f"{otherwise} {what} is another one")


def _device(env: BatchedEnv[Any]) -> Any:
    """Where it takes actions; not every one says it."""
    return getattr(env, "device", "cpu")
