"""Checks of settings that learners and models share: what a number may be, and the words for one
that isn't. NaN is refused by all; None, which stands for no number, by none."""

import math
from collections.abc import Callable, Mapping, Sequence

from metarl.errors import SettingError

Values = Mapping[str, float | None]
"""Settings, by the names that users know."""


def check_positive(values: Values) -> None:
    """Raises: SettingError naming the first value that isn't finite and above 0."""
    _check(values, lambda x: 0 < x < math.inf, "a number above 0")


def check_not_negative(values: Values) -> None:
    """Raises: SettingError naming the first value that isn't finite and 0 or more."""
    _check(values, lambda x: 0 <= x < math.inf, "0 or more")


def check_counts(values: Values) -> None:
    """Raises: SettingError naming the first value that isn't a whole number, or is below 1."""
    _check(values, lambda x: 1 <= x < math.inf, "1 or more")
    _check(values, lambda x: x % 1 == 0, "a whole number")


def check_unit_interval(values: Values) -> None:
    """Raises: SettingError naming the first value outside [0, 1]."""
    _check(values, lambda x: 0 <= x <= 1, "a number from 0 to 1")


def check_shares(values: Values) -> None:
    """Raises: SettingError naming the first value outside (0, 1]."""
    _check(values, lambda x: 0 < x <= 1, "a number above 0, at most 1")


def check_below_one(values: Values) -> None:
    """Raises: SettingError naming the first value outside [0, 1)."""
    _check(values, lambda x: 0 <= x < 1, "a number from 0 to below 1")


def check_between_zero_and_one(values: Values) -> None:
    """Raises: SettingError naming the first value outside (0, 1)."""
    _check(values, lambda x: 0 < x < 1, "a number between 0 and 1")


def check_layers(sizes: Mapping[str, Sequence[int]]) -> None:
    """Raises: SettingError naming the first list of layers in which one has no unit."""
    for name, units in sizes.items():
        if any(size < 1 for size in units):
            raise SettingError(f"{name} {list(units)}: expected layers of 1 unit or more each")


def check_one_layer_or_more(sizes: Mapping[str, Sequence[int]]) -> None:
    """Raises: SettingError naming the first list that is empty, or in which a layer has no unit."""
    check_layers(sizes)
    for name, units in sizes.items():
        if not units:
            raise SettingError(f"{name} []: expected one layer or more")


def _check(values: Values, is_inside: Callable[[float], bool], expected: str) -> None:
    for name, value in values.items():
        if value is not None and not is_inside(value):
            finite = ", and finite" if value == math.inf else ""
            raise SettingError(f"{name} {value}: expected {expected}{finite}")
