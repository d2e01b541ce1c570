"""The checks of settings: what each refuses, and that it names the setting and its value."""

import math

import pytest

from metarl.core import checks
from metarl.errors import SettingError

CHECKS = {
    checks.check_positive: ((1e-9, 7), (0, -1.0), "a number above 0"),
    checks.check_not_negative: ((0, 0.0, 3), (-1, -1e-9), "0 or more"),
    checks.check_counts: ((1, 40), (0, -3), "1 or more"),
    checks.check_unit_interval: ((0, 0.5, 1), (-0.1, 1.1), "a number from 0 to 1"),
    checks.check_shares: ((1e-9, 1), (0, 1.1), "a number above 0, at most 1"),
    checks.check_below_one: ((0, 0.99), (-0.1, 1), "a number from 0 to below 1"),
    checks.check_between_zero_and_one: ((0.01, 0.99), (0, 1), "a number between 0 and 1"),
}
"""What each lets pass, what it refuses, and what it says that it expected."""


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_first_value_out_of_range_is_named_with_what_was_expected(check):
    inside, outside, expected = CHECKS[check]
    check({f"value {value}": value for value in (*inside, None)})
    for value in outside:
        with pytest.raises(SettingError) as refused:
            check({"fine": inside[0], "wrong": value, "too": value})
        assert str(refused.value) == f"wrong {value}: expected {expected}"


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_are_refused_everywhere(check, value):
    with pytest.raises(SettingError, match=f"clip {value}: expected "):
        check({"clip": value})


def test_a_count_is_a_whole_number():
    checks.check_counts({"num_epochs": 2.0})
    with pytest.raises(SettingError, match="num_epochs 1.5: expected a whole number"):
        checks.check_counts({"num_epochs": 1.5})


def test_a_list_of_layers_is_named_whole():
    checks.check_layers({"head_sizes": [], "hidden_sizes": (1, 40)})
    checks.check_one_layer_or_more({"hidden_sizes": [1]})
    for check in (checks.check_layers, checks.check_one_layer_or_more):
        with pytest.raises(SettingError) as refused:
            check({"fine": [1], "head_sizes": (64, 0)})
        assert str(refused.value) == "head_sizes [64, 0]: expected layers of 1 unit or more each"
    with pytest.raises(SettingError) as refused:
        checks.check_one_layer_or_more({"hidden_sizes": ()})
    assert str(refused.value) == "hidden_sizes []: expected one layer or more"


def test_of_an_infinity_where_large_numbers_are_fine_it_says_what_is_wrong():
    with pytest.raises(SettingError, match="clip inf: expected 0 or more, and finite"):
        checks.check_not_negative({"clip": math.inf})
