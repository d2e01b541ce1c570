"""What a source of tasks must do, tried out on two tasks before any training: mistakes in code of a
user's own would else be errors far from where they were made, or wrong numbers."""

import json
from typing import Any

import torch
from torch import Tensor

from metarl.described import described, short
from metarl.errors import SettingError
from metarl.fewshot.types import DataSpec, Episodes, Examples, Split, TaskSize, TaskSource

KINDS = ("classification", "regression")


def check_spec(source: Any) -> None:
    """Raises: SettingError unless the source says what its problem is."""
    name, spec = type(source).__name__, getattr(source, "spec", None)
    if not isinstance(spec, DataSpec):
        raise SettingError(f"{name}.spec is {described(spec)}; expected a DataSpec")
    if spec.kind not in KINDS:
        raise SettingError(
            f"{spec.name}: spec.kind is {spec.kind!r}; expected {' or '.join(KINDS)}"
        )
    shape = spec.input_shape
    if not isinstance(shape, tuple) or not all(isinstance(n, int) and n > 0 for n in shape):
        raise SettingError(
            f"{spec.name}: spec.input_shape is {shape!r}; expected a tuple of positive integers, "
            "(D,) or (C, H, W)"
        )
    values = spec.num_values
    if not isinstance(values, int) or (values == 0) != (spec.kind == "classification"):
        raise SettingError(
            f"{spec.name}: spec.num_values is {values!r}; expected the outputs of a regression, or "
            "0 of a classification"
        )
    try:
        json.dumps(spec.definition)
    except TypeError as error:
        raise SettingError(
            f"{spec.name}: spec.definition can't be written as JSON ({error}); expected numbers, "
            "strings, lists and dicts"
        ) from error


def check_moved(moved: Any, source: TaskSource) -> None:
    """Raises: SettingError unless what `to` returned is a source."""
    if moved is None or not callable(getattr(moved, "sample", None)):
        raise SettingError(
            f"{type(source).__name__}.to returned {described(moved)}; expected the source on that "
            "device, or itself where there is nothing to move"
        )


def check_draws(source: TaskSource, size: TaskSize, split: Split) -> None:
    """Draws two tasks of the split twice from equal generators.

    Raises: SettingError naming the data and what isn't as it must be.
    """
    drawn = [source.sample(2, size, torch.Generator().manual_seed(0), split) for _ in range(2)]
    where = f"{source.spec.name}, split {split}: "
    for one in drawn:
        if not isinstance(one, Episodes):
            raise SettingError(f"{where}sample returned {described(one)}; expected Episodes")
    for part, count in (("support", size.shots), ("query", size.queries)):
        _check_part(source.spec, getattr(drawn[0], part), count, size.ways, f"{where}{part}")
    first, again = (
        [leaf for part in (one.support, one.query) for leaf in (part.x, part.y)] for one in drawn
    )
    if not all(map(torch.equal, first, again)):
        raise SettingError(
            f"{where}sample draws other tasks from an equal generator; expected all its random "
            "numbers from the generator that it is given, or learners can't be compared"
        )


def _check_part(spec: DataSpec, part: Any, count: int, ways: int, where: str) -> None:
    if not isinstance(part, Examples) or not all(isinstance(t, Tensor) for t in (part.x, part.y)):
        held = described(part) if not isinstance(part, Examples) else f"x {described(part.x)}"
        raise SettingError(f"{where} is {held}; expected Examples of tensors x and y")
    is_classes = spec.kind == "classification"
    num = count * ways if is_classes else count
    expected_y = [2, num] if is_classes else [2, num, spec.num_values]
    for name, leaf, shape, dtype in (
        ("x", part.x, [2, num, *spec.input_shape], torch.float32),
        ("y", part.y, expected_y, torch.int64 if is_classes else torch.float32),
    ):
        if list(leaf.shape) != shape or leaf.dtype != dtype:
            raise SettingError(
                f"{where}.{name} of 2 tasks is {described(leaf)}; expected {shape} of {short(dtype)} "
                f"({'ways times ' * is_classes}{count} examples; spec.input_shape {spec.input_shape}"
                f"{'' if is_classes else f', num_values {spec.num_values}'})"
            )
        if leaf.requires_grad:
            raise SettingError(f"{where}.{name} requires a gradient; expected data")
        if not leaf.isfinite().all():
            raise SettingError(f"{where}.{name} holds NaN or infinity; expected finite numbers")
    if is_classes:
        _check_labels(part.y, count, ways, where)


def _check_labels(y: Tensor, count: int, ways: int, where: str) -> None:
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= ways:
        raise SettingError(
            f"{where}.y has labels from {low} to {high}; expected 0 to {ways - 1}, a task's own "
            f"numbers of its {ways} classes"
        )
    for task in y:
        counts = torch.bincount(task, minlength=ways).tolist()
        if any(found != count for found in counts):
            raise SettingError(
                f"{where}.y of a task has {', '.join(map(str, counts))} examples of its classes; "
                f"expected {count} of each"
            )
