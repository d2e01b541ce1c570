"""What a user hands over is checked, and named as the user knows it."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from metarl.api.given import floats, given_episode, number, place, whole
from metarl.errors import UserError


@pytest.mark.parametrize("value", [2, np.int64(2), np.uint8(2), torch.tensor(2)])
def test_counts_of_any_type_are_counts(value: Any) -> None:
    assert whole(value, "episodes") == 2 and type(whole(value, "episodes")) is int


@pytest.mark.parametrize("value", [-1, 1.5, 2.0, "2", True, None, [2], np.zeros(3), np.bool_(1)])
def test_what_is_no_count_is_named(value: Any) -> None:
    with pytest.raises(UserError, match="^episodes=.*: expected a whole number, 0 or more$"):
        whole(value, "episodes")


@pytest.mark.parametrize("value", [[1, 2.5], (True, False), np.zeros((2, 2)), torch.ones(3), 1])
def test_arrays_of_any_type_are_arrays(value: Any) -> None:
    found = floats(value, "x")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.asarray(value))


@pytest.mark.parametrize(
    "value",
    ["a", {}, [[1], [2, 3]], ["a"], ["1"], [1j], torch.ones(3, requires_grad=True), object()],
)
def test_what_is_no_array_of_numbers_is_named(value: Any) -> None:
    with pytest.raises(UserError, match="^x is .*; expected numbers, as an array$"):
        floats(value, "x")


def test_nothing_is_named_as_such() -> None:
    with pytest.raises(UserError, match="^x is None; expected numbers, as an array$"):
        floats(None, "x")


@pytest.mark.parametrize("value", [np.nan, [0, np.inf], [None], 1e39])
def test_what_is_not_finite_is_named(value: Any) -> None:
    with pytest.raises(UserError, match="^x holds NaN or infinity"):
        floats(value, "x")


def test_a_word_that_an_episode_does_not_have_is_named() -> None:
    """`rewards` beside `reward` would be taken no notice of."""
    episode = {"obs": np.zeros((2, 1)), "action": [0], "reward": [0.0], "rewards": [1.0]}
    with pytest.raises(UserError, match=r"episodes\[0\] has 'rewards'; .* did you mean reward\?"):
        given_episode(episode, "episodes[0]", spaces.Box(-1, 1, (1,)), spaces.Discrete(3), 5)


def test_an_episode_of_discrete_actions_has_whole_ones() -> None:
    box, discrete = spaces.Box(-1, 1, (1,)), spaces.Discrete(3)
    episode = {"obs": np.zeros((3, 1)), "action": [0, 2], "reward": [0.0, 1.0]}
    found = given_episode(episode, "episodes[0]", box, discrete, 5)
    assert found.action.tolist() == [0, 2] and found.action.dtype == torch.int64
    for action in (0.7, 3, -1):
        with pytest.raises(
            UserError, match=rf"episodes\[4\].action has {action}; expected actions"
        ):
            given_episode({**episode, "action": [0, action]}, "episodes[4]", box, discrete, 5)


def test_a_seed_that_torch_does_not_take_is_named() -> None:
    with pytest.raises(UserError, match="^seed=.*: expected a whole number, from 0 to 92233"):
        whole(2**63, "seed")


@pytest.mark.parametrize("value", [2, np.float32(2), np.array([2.0]), torch.tensor([[2.0]])])
def test_an_array_of_one_is_a_number(value: Any) -> None:
    assert number(value, "reward") == 2.0


def test_several_are_no_number() -> None:
    with pytest.raises(UserError, match=r"^reward has the shape \(2,\); expected one number$"):
        number([1.0, 2.0], "reward")


EPISODE = {"obs": np.zeros((4, 1)), "action": [0, 2, 1], "reward": [0.0, 1.0, 2.0]}


@pytest.mark.parametrize(
    ("said", "terminated"),
    [
        (True, True),
        (np.bool_(False), False),
        ([False] * 3, False),
        (np.array([0, 0, 1]), True),
        (torch.tensor([False, False, True]), True),
    ],
)
def test_the_end_of_an_episode_is_said_once_or_for_each_step(said: Any, terminated: bool) -> None:
    box, discrete = spaces.Box(-1, 1, (1,)), spaces.Discrete(3)
    found = given_episode({**EPISODE, "terminated": said}, "episodes[0]", box, discrete, 5)
    assert found.terminated is terminated


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"terminated": "False"}, "terminated is 'False'; expected true or false"),
        (
            {"terminated": [False] * 2},
            r"terminated has the shape \(2,\); expected true or false, or",
        ),
        ({"terminated": [True, False, False]}, "terminated is true before the last of 3 steps"),
        (
            {"truncated": True},
            "has 'truncated'; .* that isn't terminated was ended by a time limit",
        ),
    ],
)
def test_an_end_that_no_episode_has_is_named(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        given_episode(
            {**EPISODE, **wrong}, "episodes[0]", spaces.Box(-1, 1, (1,)), spaces.Discrete(3), 5
        )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "path is None; expected the name of a file or folder"),
        ("", "path is ''; expected the name of a file or folder"),
        ("a\0b", r"path is 'a.x00b'; expected the name of a file or folder"),
        (3.5, "path is 3.5; expected the name of a file or folder"),
        ("~nobody_of_this_name/x", "path is '~nobody_of_this_name/x'; expected the name"),
        ("x" * 5000, "path is 'xxx.*: File name too long"),
    ],
)
def test_what_names_no_place_is_told(value: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        place(value, "path")
