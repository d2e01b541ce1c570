"""Task distributions: a prior over tasks and its split into training and held-out tasks."""

import dataclasses
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, Literal, TypeVar

import numpy as np
import torch
import torch.utils._pytree as pytree
from torch import Tensor

from metarl.errors import SettingError
from metarl.struct import map_tensors

Tasks = TypeVar("Tasks")

Range = tuple[float | Sequence[float], float | Sequence[float]]
"""Lowest and highest value of a field."""

_CELLS = 2**22  # cells of [0, 1); float32 rounds a task by less than half of one
_NUM_CHECKED = 200  # tasks of either side, when a prior is made


@dataclass(frozen=True)
class PublishedTest:
    """Held-out tasks that others evaluated on, in place of our own."""

    uniform: Callable[[int], Tensor]
    """num -> the numbers [num, num_uniforms] float64 that make the first `num` of them."""
    source: str
    """Where they come from, for the definition."""


def check_count(name: str, value: object, more: str = "", *, least: int = 1) -> None:
    """Raises: SettingError unless it is a whole number, `least` or more. Args: more: what else it
    may be, in words."""
    is_whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not is_whole or value < least:  # type: ignore[operator]
        raise SettingError(f"{name} is {value!r}; expected a whole number, {least} or more{more}")


class TaskPrior(Generic[Tasks]):
    """A continuous prior, given as the map from uniform numbers to tasks.

    Training and test tasks can't meet: one of the uniform numbers is the centre of an even cell of
    [0, 1) for training and of an odd one for test (2²² cells, so the prior is changed by less than
    10⁻⁶ of its width).

    Args:
      draw: uniform numbers [N, num_uniforms] float64 -> tasks with leaves [N, ...], one to one in
        that number.
      held_out: tasks -> [N] bool, whether they are of an odd cell: `by_range`, or `in_odd_cell` of
        the number worked out from the task; or whether they are of the kind that `draw_test` makes.
      draw_test: the same as `draw` for held-out tasks, where they are of another kind than those
        for training.
      split_number: which of the uniform numbers that is.
      published_test: held-out tasks of others, each moved to the next odd cell; None draws our own.
      bounds: the prior's range of each field, inclusive, as numbers or as one for each element;
        tasks outside are refused.
      num_train: size of the fixed training set; None draws a new task each time.
      num_test: how many held-out tasks `test_tasks` gives by default.
      constraint: raises ValueError for tasks that no bounds tell from those of the prior.
      seed: of the split, not of the run: all runs share their tasks.
    """

    def __init__(
        self,
        *,
        draw: Callable[[Tensor], Tasks],
        num_uniforms: int,
        held_out: Callable[[Tasks], Tensor],
        bounds: Mapping[str, Range],
        describe: Callable[[Tasks], list[str]],
        num_train: int | None,
        num_test: int,
        constraint: Callable[[Tasks], None] | None = None,
        seed: int = 0,
        draw_test: Callable[[Tensor], Tasks] | None = None,
        split_number: int = 0,
        published_test: PublishedTest | None = None,
    ) -> None:
        if num_train is not None:
            check_count("num_train_tasks", num_train, ", or None for a new task each time")
        check_count("num_test_tasks", num_test)
        self.split: Literal["fixed", "infinite", "none"] = (
            "infinite" if num_train is None else "fixed"
        )
        self.num_train: int | None = num_train
        self.num_test = num_test
        self.num_held_out: int | None = None
        self.seed = seed
        self._draw = draw
        self._draw_test = draw_test or draw
        self._held_out = held_out
        self._split_number = split_number
        self._num_uniforms = num_uniforms
        self.bounds = dict(bounds)
        self._describe = describe
        self._published_test = published_test
        self._constraint = constraint
        self._example = self.test_tasks(1)
        self._train = (
            None if num_train is None else self._drawn(num_train, _stream(seed, "train"), odd=False)
        )
        if num_train is None:
            self._check_split()

    def sample(self, num: int, generator: torch.Generator) -> Tasks:
        """Training tasks, leaves [num, ...]. From a fixed set each task comes once before any comes
        twice."""
        _check_generator(generator)
        if self._train is None or self.num_train is None:
            return self._drawn(num, generator, odd=False)
        order = _rounds(num, self.num_train, generator)
        return map_tensors(lambda leaf: leaf[order], self._train)

    def train_tasks(self) -> Tasks | None:
        """The whole fixed training set, leaves [num_train, ...]; None if training draws from the
        prior."""
        return self._train

    def test_tasks(self, num: int | None = None) -> Tasks:
        num = self.num_test if num is None else num
        if self._published_test is not None:
            return self._tasks(self._published_test.uniform(num), odd=True)
        return self._drawn(num, _stream(self.seed, "test"), odd=True)

    def is_held_out(self, tasks: Tasks) -> Tensor:
        """[num] bool. With a fixed training set: not in it. Else: on the other side of the split
        than all that training draws."""
        return self._held_out(tasks) if self._train is None else ~_contained(tasks, self._train)

    def describe(self, tasks: Tasks) -> list[str]:
        return self._describe(tasks)

    def check(self, tasks: Tasks, num: int) -> None:
        """Raises ValueError unless these are `num` tasks of this family within the prior's
        range."""
        check_tasks(tasks, num, self._example, self.bounds)
        if self._constraint is not None:
            self._constraint(tasks)

    def split_definition(self) -> dict[str, object]:
        """JSON values that fix which tasks are for training and which for test."""
        return {
            "kind": self.split,
            "num_train": self.num_train,
            "num_test": self.num_test,
            "seed": self.seed,
            **({} if self._published_test is None else {"test": self._published_test.source}),
        }

    def _check_split(self) -> None:
        """Raises: SettingError if training tasks can't be told from held-out ones: float32 has too
        few numbers in a range that is narrow and far from 0."""
        generator = _stream(self.seed, "check")
        for odd in (False, True):
            told = self._held_out(self._drawn(_NUM_CHECKED, generator, odd=odd))
            if bool((told != odd).any()):
                raise SettingError(
                    f"the tasks' range {self._ranges()} is too narrow so far from 0: training and "
                    "held-out tasks can't be told apart in single precision; expected a wider range, "
                    "a number that is added to it elsewhere, or a fixed training set "
                    "(num_train_tasks)"
                )

    def _ranges(self) -> str:
        return ", ".join(f"{name} {low} to {high}" for name, (low, high) in self.bounds.items())

    def _drawn(self, num: int, generator: torch.Generator, *, odd: bool) -> Tasks:
        uniform = torch.rand(num, self._num_uniforms, dtype=torch.float64, generator=generator)
        return self._tasks(uniform, odd=odd)

    def _tasks(self, uniform: Tensor, *, odd: bool) -> Tasks:
        """Tasks of these numbers, which are moved to even cells or to odd ones."""
        number = uniform[:, self._split_number]
        number.copy_((2 * torch.floor(number * (_CELLS // 2)) + odd + 0.5) / _CELLS)
        return self._draw_test(uniform) if odd else self._draw(uniform)


def in_odd_cell(number: Tensor) -> Tensor:
    """[N] bool, from uniform numbers [N] that may be half a cell off, as they are when worked out
    from float32."""
    return (number.double() * _CELLS).floor().clamp(0, _CELLS - 1).long() % 2 == 1


def by_range(name: str, lowest: float, highest: float, tasks: object) -> Tensor:
    """[N] bool: `in_odd_cell`, where the first number of the tasks' field `name` is lowest +
    (highest − lowest) times it."""
    value: Tensor = getattr(tasks, name)
    return in_odd_cell((value.double().reshape(len(value), -1)[:, 0] - lowest) / (highest - lowest))


def uniform_prior(
    name: str,
    lowest: float,
    highest: float,
    *,
    draw: Callable[[Tensor], Tasks],
    num_uniforms: int,
    describe: Callable[[Tasks], list[str]],
    num_train: int | None,
    num_test: int,
) -> TaskPrior[Tasks]:
    """Makes the prior of tasks that have one field, `name`, with numbers U[lowest, highest]. The
    first of them tells whether a task is held out."""
    return TaskPrior(
        draw=draw,
        num_uniforms=num_uniforms,
        held_out=partial(by_range, name, lowest, highest),
        bounds={name: (lowest, highest)},
        describe=describe,
        num_train=num_train,
        num_test=num_test,
    )


class ListedTasks(Generic[Tasks]):
    """Tasks given one by one: a list for training and another for test. Who asks for more of them
    gets them again in turn.

    Args:
      train, test: leaves [M, ...]; no task may be in both.
      num_test: how many of `test` the default is.
      source: where the lists come from, for the definition.
      constraint: raises ValueError for tasks that no bounds tell from those of the lists.
      kinds: of which kind each task is, in words, where results say it of each kind apart.
    """

    def __init__(
        self,
        *,
        train: Tasks,
        test: Tasks,
        num_test: int,
        source: str,
        bounds: Mapping[str, Range],
        describe: Callable[[Tasks], list[str]],
        constraint: Callable[[Tasks], None] | None = None,
        kinds: Callable[[Tasks], list[str]] | None = None,
    ) -> None:
        self._constraint = constraint
        self.kinds = kinds
        listed = _length(test)
        check_count("num_test_tasks", num_test)
        if num_test > listed:
            raise SettingError(
                f"num_test_tasks is {num_test}; expected 1, ..., {listed}, as many as are listed"
            )
        if bool(_contained(test, train).any()):
            raise SettingError(
                "a test task is also a training task; expected two lists without common tasks"
            )
        self.split: Literal["fixed", "infinite", "none"] = "fixed"
        self._train = train
        self._test = test
        self.bounds = dict(bounds)
        self._describe = describe
        self.num_held_out: int | None = listed
        self._source = source
        self.num_train: int | None = _length(train)
        self.num_test = num_test

    def sample(self, num: int, generator: torch.Generator) -> Tasks:
        """Training tasks, leaves [num, ...]. Each task comes once before any comes twice."""
        _check_generator(generator)
        order = _rounds(num, _length(self._train), generator)
        return map_tensors(lambda leaf: leaf[order], self._train)

    def train_tasks(self) -> Tasks | None:
        """The whole training list, leaves [num_train, ...]."""
        return self._train

    def test_tasks(self, num: int | None = None) -> Tasks:
        order = torch.arange(self.num_test if num is None else num) % _length(self._test)
        return map_tensors(lambda leaf: leaf[order], self._test)

    def is_held_out(self, tasks: Tasks) -> Tensor:
        """Tells [num] which tasks aren't in the training list."""
        return ~_contained(tasks, self._train)

    def describe(self, tasks: Tasks) -> list[str]:
        return self._describe(tasks)

    def check(self, tasks: Tasks, num: int) -> None:
        check_tasks(tasks, num, self._train, self.bounds)
        if self._constraint is not None:
            self._constraint(tasks)

    def split_definition(self) -> dict[str, object]:
        return {
            "kind": "listed",
            "num_train": self.num_train,
            "num_test": self.num_test,
            "source": self._source,
        }


class FewTasks(Generic[Tasks]):
    """Tasks so few that training and test have the same ones, in turn: task i of a list is number i
    modulo their count. Fewer than all of them are some at random."""

    def __init__(
        self,
        tasks: Tasks,
        *,
        bounds: Mapping[str, Range],
        describe: Callable[[Tasks], list[str]],
    ):
        self.split: Literal["fixed", "infinite", "none"] = "none"
        self._all = tasks
        self.bounds = dict(bounds)
        self._describe = describe
        self.num_test = pytree.tree_leaves(tasks)[0].shape[0]
        self.num_train: int | None = self.num_test
        self.num_held_out: int | None = None

    def sample(self, num: int, generator: torch.Generator) -> Tasks:
        """Returns the tasks in turn, so that every meta-batch is balanced; what doesn't make a
        whole round is drawn, without repetition."""
        _check_generator(generator)
        whole = num - num % self.num_test
        drawn = (
            torch.randperm(self.num_test, generator=generator)[: num - whole]
            if whole < num
            else torch.arange(0)
        )
        order = torch.cat([torch.arange(whole) % self.num_test, drawn])
        return map_tensors(lambda leaf: leaf[order], self._all)

    def train_tasks(self) -> Tasks | None:
        return self._all

    def test_tasks(self, num: int | None = None) -> Tasks:
        if num is not None and num < self.num_test:
            # Some of them at random, always the same: the first ones may be all of a kind.
            order = torch.randperm(self.num_test, generator=torch.Generator().manual_seed(0))[:num]
        else:
            order = torch.arange(self.num_test if num is None else num) % self.num_test
        return map_tensors(lambda leaf: leaf[order], self._all)

    def is_held_out(self, tasks: Tasks) -> Tensor:
        return ~_contained(tasks, self._all)

    def describe(self, tasks: Tasks) -> list[str]:
        return self._describe(tasks)

    def check(self, tasks: Tasks, num: int) -> None:
        check_tasks(tasks, num, self._all, self.bounds)
        other = (~_contained(tasks, self._all)).nonzero().flatten()
        if len(other):
            (name, leaf), *_ = fields_of(
                map_tensors(lambda leaf: leaf[other[:1].to(leaf.device)], tasks)
            ).items()
            known = ", ".join(str(value) for value in fields_of(self._all)[name].tolist())
            raise ValueError(f"{name} is {leaf[0].tolist()}; expected one of {known}")

    def split_definition(self) -> dict[str, object]:
        return {"kind": self.split, "num_train": self.num_train, "num_test": self.num_test}


def check_tasks(tasks: object, num: int, example: object, bounds: Mapping[str, Range]) -> None:
    """Raises ValueError unless `tasks` is a struct like `example` with leaves [num, ...] within
    `bounds`."""
    if type(tasks) is not type(example):
        raise ValueError(
            f"tasks are {type(tasks).__name__}; this environment has {type(example).__name__}"
        )
    like = fields_of(example)
    for name, value in fields_of(tasks).items():
        if value.shape[:1] != (num,):
            raise ValueError(
                f"{name} has shape {tuple(value.shape)}; expected one task for each of {num} worlds"
            )
        if value.shape[1:] != like[name].shape[1:] or value.dtype != like[name].dtype:
            expected = f"{like[name].dtype} {(num, *like[name].shape[1:])}"
            raise ValueError(f"{name} is {value.dtype} {tuple(value.shape)}; expected {expected}")
        dtype = value.dtype if value.is_floating_point() else torch.float64
        limits = bounds.get(name, (-math.inf, math.inf))
        lowest, highest = (
            torch.as_tensor(limit, dtype=dtype, device=value.device) for limit in limits
        )
        bad = ~((value >= lowest) & (value <= highest))
        if bool(bad.any()):
            least, most = (limit.expand_as(bad)[bad][0].item() for limit in (lowest, highest))
            raise ValueError(
                f"{name} is {value[bad][0].item():g}; expected a value in [{least:g}, {most:g}]"
            )


def fields_of(tasks: object) -> dict[str, Tensor]:
    """The fields of a struct of tasks by name."""
    return {field.name: getattr(tasks, field.name) for field in dataclasses.fields(tasks)}  # type: ignore[arg-type]


def _check_generator(generator: object) -> None:
    """Raises ValueError for None, with which torch would draw from the stream of all the process."""
    if not isinstance(generator, torch.Generator):
        raise ValueError(
            f"generator is {generator!r}; expected a torch.Generator, such as "
            "torch.Generator().manual_seed(0)"
        )


def _rounds(num: int, num_tasks: int, generator: torch.Generator) -> Tensor:
    """[num] indices: permutations of 0, ..., num_tasks − 1 one after the other."""
    rounds = -(-num // num_tasks)
    return torch.cat([torch.randperm(num_tasks, generator=generator) for _ in range(rounds)])[:num]


def _length(tasks: object) -> int:
    return int(pytree.tree_leaves(tasks)[0].shape[0])


def _contained(tasks: object, among: object) -> Tensor:
    """[N] bool: which of N tasks are equal to one of `among`."""
    known = set(_rows(among))
    return torch.tensor([row in known for row in _rows(tasks)], dtype=torch.bool)


def _rows(tasks: object) -> list[bytes]:
    """Returns the numbers of each task as bytes. Equal tasks have equal bytes, because adding 0
    makes 0 of -0."""
    leaves = [leaf.cpu().double().reshape(len(leaf), -1) for leaf in pytree.tree_leaves(tasks)]
    return [row.tobytes() for row in (torch.cat(leaves, dim=1) + 0.0).numpy()]


def _stream(seed: int, name: str) -> torch.Generator:
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
