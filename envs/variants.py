"""`envs.ALL` is a table of rows. Here is what `envs.make` asks of a row, and what all kinds of rows
share.

A family's module has a dict VARIANTS of its rows. Its rows are `envs.mujoco.variant.Variant` for
robots, `envs.small.point.PointVariant` for points in the plane, and `OneWorld` for a world of which
there is one variant. `UserFunction` makes a row of a user's function.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar, runtime_checkable

from envs.machine import Machine
from metarl.errors import SettingError
from metarl.rl.spec import EnvSpec
from metarl.rl.types import BatchedEnv, TaskDistribution


@runtime_checkable
class Row(Protocol):
    """Describes one variant of an environment and makes it."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings that can be overridden, and their defaults."""
        ...

    def make(
        self, name: str, num_worlds: int, machine: Machine, **overrides: Any
    ) -> BatchedEnv[Any]:
        """W = num_worlds worlds of this variant, called `name`. Each override is one of
        `settings`."""
        ...


@runtime_checkable
class CommonNumbers(Protocol):
    """Names the fields that rows of robots and of points share."""

    @property
    def horizon(self) -> int: ...
    @property
    def action_scale(self) -> float: ...
    @property
    def tasks(self) -> Callable[..., TaskDistribution[Any]]:
        """(num_train_tasks, num_test_tasks) -> the distribution of tasks; () -> it, where
        num_test_tasks is None."""
        ...

    @property
    def num_train_tasks(self) -> int | None:
        """The size of the fixed training set; None: training draws a new task each time."""
        ...

    @property
    def num_test_tasks(self) -> int | None:
        """How many tasks are held out; None: the tasks are so few that they are listed, and their
        number is no setting."""
        ...


def common_settings(row: CommonNumbers) -> dict[str, Any]:
    """Returns the settings that these rows have in common, and their defaults."""
    counts = () if row.num_test_tasks is None else ("num_train_tasks", "num_test_tasks")
    return {name: getattr(row, name) for name in ("horizon", "action_scale", *counts)}


CommonRow = TypeVar("CommonRow", bound=CommonNumbers)


def with_common_settings(row: CommonRow, values: Mapping[str, Any]) -> CommonRow:
    """Returns the row with those of `values` that are common settings. Raises: ValueError for no
    number of test tasks."""
    known = common_settings(row)
    if "num_test_tasks" in known and values.get("num_test_tasks", known["num_test_tasks"]) is None:
        raise SettingError("num_test_tasks is None; expected a whole number, 1 or more")
    chosen = {key: value for key, value in values.items() if key in known}
    return replace(row, **chosen)  # type: ignore[type-var]


def check_counts(row: CommonNumbers) -> None:
    """Raises: ValueError where a row has a number of training tasks and none of test tasks."""
    if row.num_test_tasks is None and row.num_train_tasks is not None:
        raise SettingError(
            f"num_train_tasks is {row.num_train_tasks} but num_test_tasks is None; expected two "
            "numbers, or None for both where "
            "the tasks are listed"
        )


def task_distribution(row: CommonNumbers) -> TaskDistribution[Any]:
    """Makes the distribution of the row's tasks."""
    counts = () if row.num_test_tasks is None else (row.num_train_tasks, row.num_test_tasks)
    made: TaskDistribution[Any] = row.tasks(*counts)
    return made


def spec_of(
    name: str,
    family: str,
    horizon: int,
    prior: TaskDistribution[Any],
    definition: Mapping[str, Any],
) -> EnvSpec:
    """Makes the spec of an environment from its definition, to which the prior and its split
    belong."""
    return EnvSpec(
        name=name,
        family=family,
        variant=variant_label(name, family),
        horizon=horizon,
        definition={**definition, "prior": prior.bounds, "split": prior.split_definition()},
    )


def variant_label(name: str, family: str) -> str:
    """Returns what a name says after the family's name: `maml` for half_cheetah_vel_maml of
    half_cheetah_vel, else `default`.

    It is a label for the reader. Nothing is decided by it.
    """
    return name.removeprefix(family).removeprefix("_") or "default"


@dataclass(frozen=True, kw_only=True)
class OneWorld:
    """Describes a world that has one variant: by its class and the settings of that."""

    world: Callable[..., Any]
    """(num_worlds, name=, device=, and all settings by keyword) -> the environment."""
    settings: Mapping[str, Any]
    """The settings that can be overridden, and their defaults."""

    def make(
        self, name: str, num_worlds: int, machine: Machine, **overrides: Any
    ) -> BatchedEnv[Any]:
        return self.world(
            num_worlds, name=name, device=machine.device, **{**self.settings, **overrides}
        )


@dataclass(frozen=True)
class UserFunction:
    """Makes a row of a user's function, which is called with num_worlds, num_threads=, device= and
    its settings by keyword."""

    function: Callable[..., BatchedEnv[Any]]

    @property
    def settings(self) -> dict[str, Any]:
        """The keywords of the function, because nothing else says what a user's function takes."""
        parameters = inspect.signature(self.function).parameters.values()
        # A checkpoint's settings may be a stranger's: an interpreter isn't theirs to choose.
        not_settings = ("num_threads", "device", "python")
        return {
            p.name: p.default
            for p in parameters
            if p.kind is p.KEYWORD_ONLY and p.name not in not_settings
        }

    def make(
        self, name: str, num_worlds: int, machine: Machine, **overrides: Any
    ) -> BatchedEnv[Any]:
        given = {"num_threads": machine.num_threads, "device": machine.device}
        try:
            inspect.signature(self.function).bind(num_worlds, **given, **overrides)
        except TypeError as error:
            raise SettingError(
                f"{name} can't be called with num_worlds, {', '.join([*given, *overrides])} ({error}); "
                "expected def f(num_worlds, *, <settings>, **machine)"
            ) from error
        return self.function(num_worlds, **given, **overrides)
