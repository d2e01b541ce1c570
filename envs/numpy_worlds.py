"""A BatchedEnv in numpy, as other libraries want it: tasks are dicts of numbers, and each world has
a random stream of its own."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import gymnasium
import numpy as np
import torch
import torch.utils._pytree as pytree

from metarl.choices import expected
from metarl.noise import Noise
from metarl.rl.types import BatchedEnv, Step
from metarl.surroundings import ordinary_tensors

Task: TypeAlias = Mapping[str, Any]
"""One task: for each field of the family's struct a number, or a list of them."""


class NumpyWorlds:
    """A BatchedEnv in numpy, with the task of each world: a given one, or a new one for each
    episode."""

    @ordinary_tensors()
    def __init__(self, env: BatchedEnv, width: int, height: int) -> None:
        for name, pixels in (("width", width), ("height", height)):
            if isinstance(pixels, bool) or not isinstance(pixels, int) or pixels < 1:
                raise ValueError(
                    f"{name} is {pixels!r}; expected a whole number of pixels, at least 1"
                )
        self.env = env
        self._width = width
        self._height = height
        self._template = env.prior.test_tasks(1)
        self._given: list[Any] = [None] * env.num_worlds  # structs with leaves [1, ...]
        self._present: list[Any] = [None] * env.num_worlds

    @ordinary_tensors()
    def sample_tasks(self, num: int, seed: int) -> list[dict[str, Any]]:
        if num < 1:
            raise ValueError(f"num is {num}; expected at least 1 task")
        return task_dicts(self.env.prior.sample(num, torch.Generator().manual_seed(seed)))

    @ordinary_tensors()
    def set_tasks(self, tasks: Sequence[Task | None], worlds: Sequence[int]) -> None:
        if len(tasks) != len(worlds):
            raise ValueError(f"{len(tasks)} tasks; expected one for each of {len(worlds)} worlds")
        given = list(self._given)
        for task, world in zip(tasks, worlds, strict=True):
            given[world] = None if task is None else self._checked(task)
        self._given = given  # all of them, or where one is refused none

    def take_options(
        self, options: Mapping[str, Any] | None, known: Sequence[str] = ("task",)
    ) -> None:
        """Args: known: `task`, the same for all worlds, and perhaps `tasks`, one for each."""
        every = range(self.env.num_worlds)
        for key in options or {}:
            if key not in known:
                raise ValueError(f"reset option {key!r}; {expected(key, known)}")
        for key, value in (options or {}).items():
            self.set_tasks([value] * len(every) if key == "task" else value, every)

    @ordinary_tensors()
    def reset(self, streams: Sequence[np.random.Generator | None]) -> np.ndarray:
        """Starts an episode where there is a stream, which is asked for two seeds: of the task
        (even if it is given), and of the start. So a given task doesn't change the starts."""
        first = self._present[0] is None
        if first and any(stream is None for stream in streams):
            raise RuntimeError("the first reset() must be of all worlds, without reset_mask")
        uniform = torch.zeros(self.env.num_worlds, self.env.num_uniforms, dtype=torch.float64)
        for world, stream in enumerate(streams):
            if stream is None:
                continue
            of_task, of_start = (torch.Generator().manual_seed(seed_from(stream)) for _ in range(2))
            given = self._given[world]
            self._present[world] = self.env.prior.sample(1, of_task) if given is None else given
            uniform[world] = Noise(of_start).uniform(1, self.env.num_uniforms, dtype=torch.float64)[
                0
            ]
        self.env.set_tasks(pytree.tree_map(lambda *rows: torch.cat(rows), *self._present))
        worlds = None if first else torch.tensor([stream is not None for stream in streams])
        return self.env.reset(uniform, worlds).cpu().numpy()

    @ordinary_tensors()
    def step(self, action: np.ndarray) -> Step:
        if self._present[0] is None:
            raise RuntimeError("step() before reset()")
        space = self.env.action_space
        shape = (self.env.num_worlds, *(space.shape or ()))
        discrete = isinstance(space, gymnasium.spaces.Discrete)
        if action.shape != shape or action.dtype.kind not in ("iu" if discrete else "iuf"):
            kind = "whole numbers" if discrete else "numbers"
            raise ValueError(
                f"action is {action.dtype} {action.shape[1:]} for each of {len(action)} worlds; "
                f"expected {kind} {shape[1:]} for each of {shape[0]}"
                if action.ndim
                else f"action is {action.dtype} (); expected {kind} {shape}"
            )
        return self.env.step(torch.tensor(action, dtype=torch.int64 if discrete else torch.float32))

    def info(self, world: int) -> dict[str, Any]:
        """What `reset` tells of a world: its task."""
        task = task_dicts(self._present[world])[0]
        return {
            "task": {
                name: np.array(value) if isinstance(value, list) else value
                for name, value in task.items()
            }
        }

    def picture(self, world: int) -> Any:
        return self.env.render(world, width=self._width, height=self._height)

    def _checked(self, task: Task) -> Any:
        """The struct with leaves [1, ...] of a task. Raises: ValueError naming what is missing,
        unknown or out of range."""
        fields = {
            field.name: getattr(self._template, field.name)
            for field in dataclasses.fields(self._template)
        }
        if not isinstance(task, Mapping) or set(task) != set(fields):
            raise ValueError(f"task is {task!r}; expected a dict with {', '.join(fields)}, or None")
        leaves = {}
        for name, like in fields.items():
            try:
                value = np.array(task[name])
                if value.dtype.kind == "c":
                    raise TypeError
                leaves[name] = torch.as_tensor(value, dtype=like.dtype)[None]
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"{name} is {task[name]!r}; expected numbers of shape {tuple(like.shape[1:])}"
                ) from error
            if leaves[name].shape != like.shape:
                found, expected = tuple(leaves[name].shape[1:]), tuple(like.shape[1:])
                raise ValueError(
                    f"{name} is {task[name]!r} of shape {found}; expected shape {expected}"
                )
            if not like.is_floating_point() and (value != value.round()).any():
                raise ValueError(f"{name} is {task[name]!r}; expected whole numbers")
        tasks = type(self._template)(**leaves)
        self.env.prior.check(tasks, 1)
        return tasks


def task_dicts(tasks: Any) -> list[dict[str, Any]]:
    """A struct of N tasks -> N dicts of numbers and lists, which pickle, compare and go into
    JSON."""
    columns = {
        field.name: getattr(tasks, field.name).tolist() for field in dataclasses.fields(tasks)
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def seed_from(stream: np.random.Generator) -> int:
    return int(stream.integers(2**62))
