"""Tasks of a user's own environment: what may differ between tasks, and the prior that a set of such variables makes.

A variable says where a number goes (an attribute, fields of the MuJoCo model, a reset option) and from where it is drawn.
"""

import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from envs.tasks import FewTasks, TaskPrior, by_range
from metarl.struct import struct

Numbers = float | Sequence[float]
"""One number, or a list of k."""


@dataclass(frozen=True, kw_only=True)
class TaskVariable:
    """One field of a task. Made by `attribute`, `model_field` or `reset_option`."""

    kind: Literal["attribute", "model_field", "reset_option"]
    paths: tuple[str, ...]
    """From the unwrapped environment; one number may go to several places, for instance mass and inertia."""
    how: Literal["between", "scale", "one_of"]
    values: tuple[tuple[float, ...], ...]
    """Lowest and highest, or all of `one_of`; each of k numbers."""
    shape: tuple[int, ...]
    """() or (k,)."""
    index: int | None

    @property
    def num_uniforms(self) -> int:
        return 1 if self.how == "one_of" else len(self.values[0])

    @property
    def bounds(self) -> tuple[float, float]:
        return min(map(min, self.values)), max(map(max, self.values))

    def from_uniform(self, uniform: Tensor) -> Tensor:
        """[N, num_uniforms] in [0, 1) -> [N] or [N, k]."""
        values = torch.tensor(self.values, dtype=torch.float64)
        if self.how == "one_of":
            drawn = values[(uniform[:, 0] * len(values)).long()]
        else:
            drawn = values[0] + (values[1] - values[0]) * uniform
        return drawn.reshape(len(uniform), *self.shape)

    def definition(self) -> dict[str, Any]:
        """JSON values, for the spec."""
        return {
            "kind": self.kind,
            "paths": list(self.paths),
            "how": self.how,
            "values": [list(value) for value in self.values],
            "index": self.index,
        }


def attribute(
    *paths: str,
    between: tuple[Numbers, Numbers] | None = None,
    scale: tuple[Numbers, Numbers] | None = None,
    one_of: Sequence[Numbers] | None = None,
    index: int | None = None,
) -> TaskVariable:
    """Attributes of the unwrapped environment, for instance "target_velocity"; they must hold what they are set to over a reset.

    Args:
      between: lowest and highest value; lists of k numbers for an array of k.
      scale: lowest and highest factor of the environment's own value, instead.
      one_of: all possible values, instead.
      index: of the one element to set; None: a number goes to all elements, k numbers to the k elements.
    Raises: ValueError unless just one of between, scale and one_of is given, with lowest < highest.
    """
    return _variable("attribute", paths, {"between": between, "scale": scale, "one_of": one_of}, index)


def model_field(
    *paths: str,
    between: tuple[Numbers, Numbers] | None = None,
    scale: tuple[Numbers, Numbers] | None = None,
    one_of: Sequence[Numbers] | None = None,
    index: int | None = None,
) -> TaskVariable:
    """Fields of the MuJoCo model, for instance "body_mass" or "opt.gravity"; what MuJoCo derives from them is computed anew.
    Otherwise as `attribute`."""
    fields = tuple(f"model.{path}" for path in paths)
    return _variable("model_field", fields, {"between": between, "scale": scale, "one_of": one_of}, index)


def reset_option(
    name: str, *, between: tuple[Numbers, Numbers] | None = None, one_of: Sequence[Numbers] | None = None
) -> TaskVariable:
    """An entry of `reset(options=...)`: a float, or an array of k. Otherwise as `attribute`."""
    return _variable("reset_option", (name,), {"between": between, "one_of": one_of}, None)


def prior(
    variables: Mapping[str, TaskVariable], *, num_train: int | None, num_test: int, seed: int
) -> TaskPrior[Any] | FewTasks[Any]:
    """All variables drawn independently and uniformly. If all are `one_of`: every combination, with training = test."""
    # TaskPrior keeps training and test apart by the first number, which a choice would round away.
    in_order = dict(sorted(variables.items(), key=lambda item: item[1].how == "one_of"))
    if not in_order:
        raise ValueError("tasks is empty; expected a variable for each thing that differs between tasks")
    for name in in_order:
        if not name.isidentifier() or name.startswith("_"):
            raise ValueError(f"the task variable {name!r} isn't a name; expected letters, digits and underscores")
    bounds = {name: variable.bounds for name, variable in in_order.items()}
    if all(variable.how == "one_of" for variable in in_order.values()):
        return FewTasks(_combinations(in_order), bounds=bounds, describe=_describe)
    first, (lowest, highest) = next((name, variable.values) for name, variable in in_order.items())
    return TaskPrior(
        draw=functools.partial(_draw, in_order),
        num_uniforms=sum(variable.num_uniforms for variable in in_order.values()),
        held_out=functools.partial(by_range, first, lowest[0], highest[0]),
        bounds=bounds,
        describe=_describe,
        num_train=num_train,
        num_test=num_test,
        seed=seed,
    )


@functools.cache
def task_struct(names: tuple[str, ...]) -> type:
    """The struct with these fields, leaves [N] or [N, k] float64. The same names give the same class, also after unpickling."""
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
    columns = uniform.split([variable.num_uniforms for variable in variables.values()], dim=1)
    drawn = zip(variables.items(), columns, strict=True)
    return _rebuilt({name: variable.from_uniform(column) for (name, variable), column in drawn})


def _combinations(variables: Mapping[str, TaskVariable]) -> Any:
    rows = list(itertools.product(*(variable.values for variable in variables.values())))
    columns = zip(variables.items(), zip(*rows, strict=True), strict=True)
    return _rebuilt(
        {
            name: torch.tensor(column, dtype=torch.float64).reshape(len(rows), *variable.shape)
            for (name, variable), column in columns
        }
    )


def _describe(tasks: Any) -> list[str]:
    columns = {name: getattr(tasks, name).tolist() for name in tasks.__dataclass_fields__}
    return [
        ", ".join(f"{name} {_shown(value)}" for name, value in zip(columns, row, strict=True))
        for row in zip(*columns.values(), strict=True)
    ]


def _shown(value: Any) -> str:
    return f"({', '.join(map(_shown, value))})" if isinstance(value, list) else f"{value:.3g}"


def _variable(
    kind: Literal["attribute", "model_field", "reset_option"],
    paths: tuple[str, ...],
    given: Mapping[str, Any],
    index: int | None,
) -> TaskVariable:
    place = f"{kind}({', '.join(map(repr, paths))})"
    chosen = {how: values for how, values in given.items() if values is not None}
    if len(chosen) != 1 or not paths:
        raise ValueError(
            f"{place} has {', '.join(chosen) or 'no range'}; expected a path and one of {', '.join(given)}"
        )
    ((how, values),) = chosen.items()
    arrays = [np.asarray(value, dtype=float) for value in values]
    if not arrays or any(array.ndim > 1 or array.shape != arrays[0].shape for array in arrays):
        raise ValueError(f"{place} has {how}={values!r}; expected numbers, or lists of the same length")
    if not all(np.isfinite(array).all() for array in arrays):
        raise ValueError(f"{place} has {how}={values!r}; expected finite numbers")
    if how != "one_of" and (len(arrays) != 2 or not (arrays[0] < arrays[1]).all()):
        raise ValueError(f"{place} has {how}={values!r}; expected (lowest, highest) with lowest < highest")
    return TaskVariable(
        kind=kind,
        paths=paths,
        how=how,  # type: ignore[arg-type]
        values=tuple(tuple(array.reshape(-1).tolist()) for array in arrays),
        shape=arrays[0].shape,
        index=index,
    )
