"""What somebody's code has returned, in words."""

import pytest
import torch

from metarl.described import described


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (torch.zeros(2, 3), "a tensor [2, 3] of float32"),
        (torch.tensor(1), "a tensor [] of int64"),
        (None, "None"),
        ([1, 2], "a list"),
        (torch.nn.Linear, "the class Linear"),
        (1.5, "a float"),
    ],
)
def test_a_value_is_told_by_what_it_is(value, words):
    assert described(value) == words
