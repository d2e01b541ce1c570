"""Tasks of a user's own environment: what may differ between tasks, and the prior that a set of
such variables makes.

A variable says where a number goes (an attribute, fields of the MuJoCo model, a reset option) and
from where it is drawn.
"""

import functools
import hashlib
import itertools
import json
import keyword
import operator
from collections.abc import Mapping, Sequence
from typing import Any, Literal, SupportsIndex

import numpy as np
import torch
from torch import Tensor

from envs.own.world import TaskVariable
from envs.tasks import FewTasks, ListedTasks, Range, TaskPrior, by_range
from metarl.errors import SettingError
from metarl.struct import struct

Numbers = float | Sequence[float]
"""One number, or a list of k."""

Choice = bool | str | float | np.generic | Sequence[bool] | Sequence[float]
"""A truth value, a word or a number, or a list of k numbers or truth values."""

Index = SupportsIndex | str

NUM_TEST = 40
"""Held-out tasks of an evaluation, unless told otherwise."""


def attribute(
    *paths: str,
    between: tuple[Numbers, Numbers] | None = None,
    scale: tuple[Numbers, Numbers] | None = None,
    one_of: Sequence[Choice] | None = None,
    index: SupportsIndex | Sequence[SupportsIndex] | None = None,
) -> TaskVariable:
    """Attributes of the unwrapped environment, for instance "target_velocity"; they must hold what
    they are set to over a reset.

    Args:
      between: lowest and highest value; lists of k numbers for an array of k.
      scale: lowest and highest factor of the environment's own value, instead.
      one_of: all possible values, instead, two or more: numbers, truth values, words, or lists of
        k. Whole numbers stay whole; a word stands in a task as its number in the list.
      index: of the one element to set, a tuple (row, column) in a table; of a table an index of one
        number sets that row. None: one number goes to all elements alike, k numbers to the k
        elements.
    Raises: ValueError unless just one of between, scale and one_of is given, with lowest < highest.
    """
    return _variable(
        "attribute", paths, {"between": between, "scale": scale, "one_of": one_of}, index
    )


def model_field(
    *paths: str,
    between: tuple[Numbers, Numbers] | None = None,
    scale: tuple[Numbers, Numbers] | None = None,
    one_of: Sequence[Choice] | None = None,
    index: Index | Sequence[Index] | None = None,
) -> TaskVariable:
    """Fields of the MuJoCo model, for instance "body_mass" or "opt.gravity"; what MuJoCo derives
    from them is computed anew. Masses, inertias and the time step must stay above 0. Otherwise as
    `attribute`.

    Args:
      index: as in `attribute`, or the name that the model gives the body, joint, geom, ...:
        index="payload", index=("payload", 2).
    """
    fields = tuple(f"model.{path}" for path in paths)
    return _variable(
        "model_field", fields, {"between": between, "scale": scale, "one_of": one_of}, index
    )


def reset_option(
    name: str,
    *,
    between: tuple[Numbers, Numbers] | None = None,
    one_of: Sequence[Choice] | None = None,
) -> TaskVariable:
    """An entry of `reset(options=...)`: a float, one of the choices, or an array of k. Otherwise as
    `attribute`."""
    return _variable("reset_option", (name,), {"between": between, "one_of": one_of}, None)


def prior(
    variables: Mapping[str, TaskVariable],
    *,
    num_train: int | None,
    num_test: int | None,
    seed: int | None,
) -> TaskPrior[Any] | FewTasks[Any]:
    """All variables drawn independently and uniformly. If all are `one_of`: every combination, with
    training = test; then there is nothing to split, and no size or seed of it may be given."""
    # TaskPrior keeps training and test apart by the first number, which a choice would round away.
    in_order = dict(sorted(variables.items(), key=lambda item: item[1].how == "one_of"))
    bounds = {name: _bounds(variable) for name, variable in in_order.items()}
    describe = functools.partial(_describe, in_order)
    if all(variable.how == "one_of" for variable in in_order.values()):
        few = FewTasks(_combinations(in_order), bounds=bounds, describe=describe)
        given = {"num_train_tasks": num_train, "num_test_tasks": num_test, "split_seed": seed}
        for name, value in given.items():
            if value is not None:
                raise SettingError(
                    f"{name} is {value}, but all task variables are one_of: training and test have "
                    f"the same {few.num_test} tasks; expected None, or a variable with `between`"
                )
        return few
    first, (lowest, highest) = next((name, variable.values) for name, variable in in_order.items())
    return TaskPrior(
        draw=functools.partial(_draw, in_order),
        num_uniforms=sum(_num_uniforms(variable) for variable in in_order.values()),
        held_out=functools.partial(by_range, first, lowest[0], highest[0]),
        bounds=bounds,
        describe=describe,
        constraint=functools.partial(_check_choices, in_order),
        num_train=num_train,
        num_test=NUM_TEST if num_test is None else num_test,
        seed=0 if seed is None else seed,
    )


def listed(
    variables: Mapping[str, TaskVariable],
    *,
    train: Sequence[Mapping[str, Any]],
    test: Sequence[Mapping[str, Any]],
    num_test: int | None,
) -> ListedTasks[Any]:
    """Tasks given one by one, each as a dict of the variables.

    Raises: SettingError naming a task that isn't of the variables, is in both lists, or twice among
    those for test.
    """
    rows = {"train_tasks": _listed(variables, train, "train_tasks")}
    rows["test_tasks"] = _listed(variables, test, "test_tasks")
    _refuse_twice(rows["test_tasks"][0])
    numbers = json.dumps({name: tasks for name, (tasks, _) in rows.items()}, sort_keys=True)
    words = {
        name: variable
        for name, variable in variables.items()
        if any(isinstance(choice, str) for choice in variable.choices)
    }
    return ListedTasks(
        train=rows["train_tasks"][1],
        test=rows["test_tasks"][1],
        num_test=len(test) if num_test is None else num_test,
        source=f"given, {hashlib.sha256(numbers.encode()).hexdigest()[:12]}",
        bounds={name: _bounds(variable) for name, variable in variables.items()},
        describe=functools.partial(_describe, variables),
        constraint=functools.partial(_check_choices, variables),
        kinds=functools.partial(_kinds, words) if words else None,
    )


def _refuse_twice(test: Sequence[Any]) -> None:
    """Raises: SettingError for a task that comes again: it would count as two in intervals over
    tasks."""
    rows: dict[str, int] = {}
    for row, task in enumerate(test):
        if (first := rows.setdefault(json.dumps(task), row)) < row:
            raise SettingError(
                f"test_tasks[{row}] is test_tasks[{first}] again; expected each once: more episodes "
                "of it are played with episodes_per_task"
            )


def _kinds(words: Mapping[str, TaskVariable], tasks: Any) -> list[str]:
    """The words of each task; of several variables with their names."""
    columns = [
        [_word(variable, value) for value in getattr(tasks, name).tolist()]
        for name, variable in words.items()
    ]
    if len(words) == 1:
        return columns[0]
    return [
        ", ".join(f"{name} {word}" for name, word in zip(words, of_task, strict=True))
        for of_task in zip(*columns, strict=True)
    ]


def _word(variable: TaskVariable, value: float) -> str:
    """A choice as it is shown, with quotes where another looks like it, as 1 beside "1"."""
    meant = variable.meant(value)
    alike = [choice for choice in variable.choices if str(choice) == str(meant)]
    return str(meant) if len(alike) == 1 else repr(meant)


def _listed(
    variables: Mapping[str, TaskVariable], tasks: Any, name: str
) -> tuple[list[list[list[float]]], Any]:
    """The numbers of each task by variable, and the struct of all."""
    if not isinstance(tasks, Sequence) or isinstance(tasks, str) or len(tasks) == 0:
        raise SettingError(f"{name} is {tasks!r:.60}; expected a list of tasks, one or more")
    numbers = [
        _numbers_of_task(variables, task, f"{name}[{row}]") for row, task in enumerate(tasks)
    ]
    return numbers, _of_rows(variables, numbers)


def _numbers_of_task(
    variables: Mapping[str, TaskVariable], task: Any, place: str
) -> list[list[float]]:
    """The numbers of one task, a list for each variable."""
    if not isinstance(task, Mapping) or set(task) != set(variables):
        raise SettingError(f"{place} is {task!r:.80}; expected a dict with {', '.join(variables)}")
    found = []
    for name, variable in variables.items():
        value = _choice(task[name])
        if variable.how == "one_of":
            if value not in variable.choices:
                choices = ", ".join(map(str, variable.choices))
                raise SettingError(f"{name} of {place} is {value!r}; expected one of {choices}")
            found.append(list(variable.values[variable.choices.index(value)]))
            continue
        try:
            numbers = np.array(value)
        except ValueError:  # lists of different lengths
            numbers = np.array(None)
        if numbers.dtype.kind not in "iuf" or numbers.shape != variable.shape:
            kind = f"a list of {variable.shape[0]} numbers" if variable.shape else "a number"
            raise SettingError(f"{name} of {place} is {value!r}; expected {kind}")
        row, (lowest, highest) = numbers.reshape(-1).astype(float), variable.values
        if not ((row >= lowest) & (row <= highest)).all():
            low, high = (_shown(np.array(v).reshape(variable.shape)[()]) for v in variable.values)
            raise SettingError(f"{name} of {place} is {value!r}; expected {low} to {high}")
        found.append(row.tolist())
    return found


def check_variables(tasks: object) -> None:
    """Raises: SettingError unless these are task variables by name, at least one."""
    expected = "a variable for each thing that differs between tasks"
    if not isinstance(tasks, Mapping):
        raise SettingError(f"tasks is {tasks!r}; expected a dict with {expected}")
    if not tasks:
        raise SettingError(f"tasks is empty; expected {expected}")
    for name, variable in tasks.items():
        if not _is_field(name):
            raise SettingError(
                f"the task variable {name!r} isn't a name; expected letters, digits and underscores"
            )
        expect(
            isinstance(variable, TaskVariable),
            f"the task variable {name!r}",
            variable,
            "attribute(...), model_field(...) or reset_option(...)",
        )


def _is_field(name: object) -> bool:
    return (
        isinstance(name, str)
        and name.isidentifier()
        and not keyword.iskeyword(name)
        and not name.startswith("_")
    )


@functools.cache
def task_struct(names: tuple[str, ...]) -> type:
    """The struct with these fields, leaves [N] or [N, k] float64. The same names give the same
    class, also after unpickling."""
    content = {
        "__annotations__": dict.fromkeys(names, Tensor),
        "__module__": __name__,
        "__qualname__": f"OwnTasks[{', '.join(names)}]",
        "__reduce__": lambda tasks: (_rebuilt, ({name: getattr(tasks, name) for name in names},)),
    }
    return struct(type("OwnTasks", (), content))


def _rebuilt(fields: dict[str, Tensor]) -> Any:
    return task_struct(tuple(fields))(**fields)


def _draw(variables: Mapping[str, TaskVariable], uniform: Tensor) -> Any:
    columns = uniform.split([_num_uniforms(variable) for variable in variables.values()], dim=1)
    drawn = zip(variables.items(), columns, strict=True)
    return _rebuilt({name: _from_uniform(variable, column) for (name, variable), column in drawn})


def _combinations(variables: Mapping[str, TaskVariable]) -> Any:
    rows = list(itertools.product(*(variable.values for variable in variables.values())))
    return _of_rows(variables, rows)


def _of_rows(variables: Mapping[str, TaskVariable], rows: Sequence[Sequence[Any]]) -> Any:
    """The struct of tasks that are given by the numbers of each variable."""
    columns = zip(variables.items(), zip(*rows, strict=True), strict=True)
    return _rebuilt(
        {
            name: torch.tensor(column, dtype=torch.float64).reshape(len(rows), *variable.shape)
            for (name, variable), column in columns
        }
    )


def _num_uniforms(variable: TaskVariable) -> int:
    return 1 if variable.how == "one_of" else len(variable.values[0])


def _bounds(variable: TaskVariable) -> Range:
    """The lowest and the highest value, of each element where each has a range of its own."""
    if variable.how != "one_of" and variable.shape:
        return variable.values[0], variable.values[1]
    return min(map(min, variable.values)), max(map(max, variable.values))


def _from_uniform(variable: TaskVariable, uniform: Tensor) -> Tensor:
    """[N, num_uniforms] in [0, 1) -> [N] or [N, k]."""
    values = torch.tensor(variable.values, dtype=torch.float64)
    if variable.how == "one_of":
        drawn = values[(uniform[:, 0] * len(values)).long()]
    else:
        drawn = values[0] + (values[1] - values[0]) * uniform
    return drawn.reshape(len(uniform), *variable.shape)


def _check_choices(variables: Mapping[str, TaskVariable], tasks: Any) -> None:
    """Raises: ValueError for a value that is none of the choices."""
    for name, variable in variables.items():
        if variable.how != "one_of":
            continue
        values = torch.tensor(variable.values, dtype=torch.float64)  # [M, k]
        given = getattr(tasks, name).double()
        is_known = (given.reshape(-1, 1, values.shape[1]) == values).all(-1).any(-1)
        if not is_known.all():
            choices = values.reshape(-1, *variable.shape).tolist()
            raise ValueError(
                f"{name} is {given[~is_known][0].tolist()}; expected one of "
                f"{', '.join(map(str, choices))}"
            )


def _describe(variables: Mapping[str, TaskVariable], tasks: Any) -> list[str]:
    columns = {name: getattr(tasks, name).tolist() for name in variables}
    # A factor of what the environment has, which isn't in its unit.
    sign = {name: "×" if variable.how == "scale" else "" for name, variable in variables.items()}
    return [
        ", ".join(
            f"{name} {sign[name]}{_shown(variables[name].meant(value))}"
            for name, value in zip(columns, row, strict=True)
        )
        for row in zip(*columns.values(), strict=True)
    ]


def _shown(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"({', '.join(map(_shown, value.tolist()))})"
    return str(value) if isinstance(value, bool | str) else f"{value:.3g}"


def definition(variable: TaskVariable) -> dict[str, Any]:
    """Returns what the spec says of the variable, as JSON values."""
    are_numbers = all(_is_number(part) for choice in variable.choices for part in _parts(choice))
    return {
        "kind": variable.kind,
        "paths": list(variable.paths),
        "how": variable.how,
        "values": [
            list(value)
            for value in (variable.values if are_numbers else map(_parts, variable.choices))
        ],
        "index": list(variable.index) if isinstance(variable.index, tuple) else variable.index,
    }


def _variable(
    kind: Literal["attribute", "model_field", "reset_option"],
    paths: tuple[Any, ...],
    given: Mapping[str, Any],
    index: Index | Sequence[Index] | None,
) -> TaskVariable:
    place = f"{kind}({', '.join(map(repr, paths))})"
    for path in paths:
        expect(isinstance(path, str), f"a path of {kind}", path, "a word")
    if len(set(paths)) < len(paths):
        raise SettingError(f"{place} has a path twice; expected it once")
    ranges = {how: values for how, values in given.items() if values is not None}
    if len(ranges) != 1 or not paths:
        raise SettingError(
            f"{place} has {', '.join(ranges) or 'no range'}; expected a path and one of "
            f"{', '.join(given)}"
        )
    ((how, values),) = ranges.items()
    has = f"{place} has {how}={values!r}"
    if (
        isinstance(values, str | Mapping)
        or not isinstance(values, Sequence | np.ndarray)
        or len(values) == 0
    ):
        raise SettingError(
            f"{has}; expected {'a list of choices' if how == 'one_of' else '(lowest, highest)'}"
        )
    choices = tuple(_choice(value) for value in values)
    arrays = _numbers(choices, has) if how == "one_of" else [np.array(choice) for choice in choices]
    if any(
        array.ndim > 1 or array.shape != arrays[0].shape or array.dtype.kind not in "iuf"
        for array in arrays
    ):
        kinds = "numbers, truth values or words" if how == "one_of" else "numbers"
        raise SettingError(f"{has}; expected {kinds}, or lists of the same length")
    if not all(np.isfinite(array).all() for array in arrays):
        raise SettingError(f"{has}; expected finite numbers")
    if how != "one_of" and (len(arrays) != 2 or not (arrays[0] < arrays[1]).all()):
        one = "" if not arrays[0].ndim else " in each element; index= sets one element alone"
        raise SettingError(f"{has}; expected (lowest, highest) with lowest < highest{one}")
    if how == "one_of" and not 1 < len(choices) == len(set(choices)):
        raise SettingError(f"{has}; expected two choices or more, each of them once")
    return TaskVariable(
        kind=kind,
        paths=paths,
        how=how,  # type: ignore[arg-type]
        values=tuple(tuple(array.astype(float).reshape(-1).tolist()) for array in arrays),
        shape=arrays[0].shape,
        index=_index(f"index of {place}", index, may_be_named=kind == "model_field"),
        choices=choices if how == "one_of" else (),
    )


def _index(
    name: str, index: Any, *, may_be_named: bool
) -> int | str | tuple[int | str, ...] | None:
    def of_axis(place: Any, axis: int = 0) -> int | str:
        if may_be_named and isinstance(place, str) and axis == 0:
            return place
        try:
            return whole_number(name, place)
        except SettingError:
            named = ", or the name of a body, joint, ... first" if may_be_named else ""
            raise SettingError(
                f"{name} is {index!r}; expected a whole number, or a tuple of one for each axis{named}"
            ) from None

    if index is None:
        return None
    if isinstance(index, Sequence) and not isinstance(index, str) and len(index) > 0:
        return tuple(of_axis(place, axis) for axis, place in enumerate(index))
    return of_axis(index)


def _choice(value: Any) -> Any:
    """Python's own numbers, truth values and words; a tuple of floats or truth values for a
    list."""
    plain = value.tolist() if isinstance(value, np.ndarray | np.generic | Tensor) else value
    if not isinstance(plain, list | tuple):
        return plain
    parts = tuple(_choice(part) for part in plain)
    return tuple(float(part) if _is_number(part) else part for part in parts)


def _numbers(choices: tuple[Any, ...], place: str) -> list[np.ndarray]:
    """The number, or array of them, that a task has for each choice: its own, or its place in the
    list if there are words."""
    if any(isinstance(choice, str) for choice in choices):
        if not all(isinstance(choice, bool | str) or _is_number(choice) for choice in choices):
            raise SettingError(f"{place}; expected words and numbers, or lists of numbers")
        return [np.array(float(i)) for i in range(len(choices))]
    if len({isinstance(part, bool) for choice in choices for part in _parts(choice)}) > 1:
        raise SettingError(
            f"{place}; expected numbers or truth values, not both, because True is also 1"
        )
    arrays = [np.array(choice) for choice in choices]
    return [array.astype(float) if array.dtype.kind == "b" else array for array in arrays]


def _parts(choice: Any) -> tuple[Any, ...]:
    return choice if isinstance(choice, tuple) else (choice,)


def whole_number(name: str, value: Any, expected: str = "a whole number") -> int:
    """Python's own int of a whole number, also of NumPy's. Raises: SettingError for all else, truth
    values among it."""
    try:
        found = None if isinstance(value, bool | np.bool_) else operator.index(value)
    except TypeError:
        found = None
    if found is None:
        raise SettingError(f"{name} is {value!r}; expected {expected}")
    return found


def expect(fits: bool, name: str, value: Any, expected: str) -> None:
    """Raises: SettingError unless the value fits."""
    if not fits:
        raise SettingError(f"{name} is {value!r}; expected {expected}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
