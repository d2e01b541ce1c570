"""Checks of settings that learners share."""

import math
from collections.abc import Mapping

from metarl.errors import SettingError


def check_positive(values: Mapping[str, float | None]) -> None:
    """Raises: ValueError naming the first value that isn't finite and above 0; None passes."""
    for name, value in values.items():
        if value is not None and not 0 < value < math.inf:
            raise SettingError(
                f"{name} {value}: expected a {'finite ' if value == math.inf else ''}number above 0"
            )


def check_unit_interval(values: Mapping[str, float]) -> None:
    """Raises: ValueError naming the first value outside [0, 1]."""
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise SettingError(f"{name} {value}: expected a number from 0 to 1")
