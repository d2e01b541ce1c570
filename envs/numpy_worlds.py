"""A BatchedEnv in numpy, as other libraries want it: tasks are dicts of numbers, and each world has
a random stream of its own."""

import dataclasses
import operator
from collections.abc import Mapping, Sequence
from typing import Any, SupportsIndex, TypeAlias, cast

import gymnasium
import numpy as np
import torch
import torch.utils._pytree as pytree

from metarl.choices import expected
from metarl.noise import Noise
from metarl.rl.types import BatchedEnv, Step
from metarl.surroundings import among_ordinary_tensors

Task: TypeAlias = Mapping[str, Any]
"""One task: for each field of the family's struct a number, or a list of them."""


Tasks: TypeAlias = str | Sequence[Task]
"""What an episode without a task of its own draws from: `train`, `test`, or a list of tasks."""


class NumpyWorlds:
    """A BatchedEnv in numpy, with the task of each world: a given one, or one that is drawn anew
    for each episode.

    Args: drawn_from: see `Tasks`; width, height: of a picture, in pixels.
    """

    @among_ordinary_tensors
    def __init__(
        self, env: BatchedEnv, drawn_from: Tasks, width: SupportsIndex, height: SupportsIndex
    ) -> None:
        self.env = env
        self._width = _pixels("width", width)
        self._height = _pixels("height", height)
        self._template = env.prior.test_tasks(1)
        self._given: list[Any] = [None] * env.num_worlds  # structs with leaves [1, ...]
        self._present: list[Any] = [None] * env.num_worlds
        self._columns: dict[str, np.ndarray] = {}  # the fields of the present tasks, [W, ...]
        self._listed = self._pool(drawn_from)

    def _pool(self, drawn_from: Tasks) -> list[Any] | None:
        """The tasks that episodes draw from; None for training tasks, which the prior draws."""
        told = f"tasks is {drawn_from!r}; expected train, test, or a list of tasks"
        if isinstance(drawn_from, str):
            if drawn_from not in ("train", "test"):
                raise ValueError(told)
            return None if drawn_from == "train" else self._rows(self.env.prior.test_tasks())
        if not isinstance(drawn_from, Sequence) or not drawn_from:
            raise ValueError(told)
        return [self._checked(cast(Task, task)) for task in drawn_from]

    def _rows(self, tasks: Any) -> list[Any]:
        num = len(pytree.tree_leaves(tasks)[0])
        return [pytree.tree_map(lambda leaf, i=i: leaf[i : i + 1], tasks) for i in range(num)]

    @among_ordinary_tensors
    def sample_tasks(self, num: int, seed: int) -> list[dict[str, Any]]:
        if num < 1:
            raise ValueError(f"num is {num}; expected at least 1 task")
        return task_dicts(self.env.prior.sample(num, torch.Generator().manual_seed(seed)))

    @among_ordinary_tensors
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
        if options is not None and not isinstance(options, Mapping):
            raise ValueError(f"options is {options!r}; expected a dict with {' or '.join(known)}")
        for key in options or {}:
            if key not in known:
                raise ValueError(f"reset option {key!r}; {expected(key, known)}")
        for key, value in (options or {}).items():
            self.set_tasks([value] * len(every) if key == "task" else value, every)

    @among_ordinary_tensors
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
            self._present[world] = self._drawn(of_task) if given is None else given
            uniform[world] = Noise(of_start).uniform(1, self.env.num_uniforms, dtype=torch.float64)[
                0
            ]
        present = pytree.tree_map(lambda *rows: torch.cat(rows), *self._present)
        self.env.set_tasks(present)
        # Numbers of Python's precision, as `task_dicts` has them.
        self._columns = {
            field.name: np.array(getattr(present, field.name).tolist())
            for field in dataclasses.fields(present)
        }
        worlds = None if first else torch.tensor([stream is not None for stream in streams])
        return self.env.reset(uniform, worlds).cpu().numpy()

    @among_ordinary_tensors
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
        found = torch.tensor(action, dtype=torch.int64 if discrete else torch.float32)
        if action.dtype.itemsize > 4 and not discrete and not found.isfinite().all():
            # Finite in float64 and beyond float32: clipped, as all that is too large.
            found = torch.where(torch.tensor(np.isfinite(action)), found.nan_to_num(), found)
        return self.env.step(found)

    def task(self, world: int) -> dict[str, Any] | None:
        """The task of a world's present episode as `sample_tasks` gives it; None before the first
        reset."""
        present = self._present[world]
        return None if present is None else task_dicts(present)[0]

    def info(self, world: int) -> dict[str, Any]:
        """What is told of a world at every reset and step: its task, a number or an array for each
        field."""
        of_world = {name: column[world] for name, column in self._columns.items()}
        return {
            "task": {
                name: value.copy() if value.ndim else value.item()
                for name, value in of_world.items()
            }
        }

    def tasks_of(self, worlds: np.ndarray) -> dict[str, np.ndarray]:
        """The fields of the tasks in the worlds of the mask [W] bool, zero elsewhere: [W, ...]
        each."""
        found = {}
        for name, column in self._columns.items():
            found[name] = np.zeros_like(column)
            found[name][worlds] = column[worlds]
        return found

    def picture(self, world: int) -> Any:
        if self._present[world] is None:
            raise RuntimeError("render() before reset()")
        return self.env.render(world, width=self._width, height=self._height)

    def _drawn(self, generator: torch.Generator) -> Any:
        if self._listed is None:
            return self.env.prior.sample(1, generator)
        return self._listed[int(torch.randint(len(self._listed), (), generator=generator))]

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


def _pixels(name: str, value: Any) -> int:
    try:
        found = 0 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        found = 0
    if found < 1:
        raise ValueError(f"{name} is {value!r}; expected a whole number of pixels, at least 1")
    return found


def seed_from(stream: np.random.Generator) -> int:
    return int(stream.integers(2**62))
