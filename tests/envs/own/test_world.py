"""One world: what the environment is given and what is taken from it, and how old habits are
answered."""

import re
import warnings
from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest
import torch
from gymnasium import spaces

from envs.own import attribute, model_field, own_environment, reset_option
from envs.own.world import EnvironmentFailed
from metarl.errors import NonFiniteAction
from metarl.noise import Noise
from tests.support.own_examples import Grid, Point

SPEED = {"speed": attribute("speed", between=(0.5, 2.0))}


def made(
    source: Any = Point,
    num_worlds: int = 1,
    *,
    horizon: int = 5,
    tasks: Any = SPEED,
    **arguments: Any,
) -> Any:
    env = own_environment(source, num_worlds, tasks=tasks, horizon=horizon, **arguments)
    env.set_tasks(env.prior.test_tasks(num_worlds))
    env.reset(Noise(torch.Generator().manual_seed(0)).starts(env))
    return env


def inside(env: Any, world: int = 0) -> Any:
    return env._worlds.envs[world].unwrapped


def point(**changed: Any) -> Any:
    return type("Changed", (Point,), changed)


def given(space: gymnasium.Space[Any], action: Any) -> Any:
    """What an environment with this action space gets for a learner's action."""
    env = made(
        point(action_space=space, moved=lambda self, action: 0.0),
        tasks={"goal": attribute("goal", between=(0, 1))},
    )
    env.step(torch.tensor([action]))
    (got,) = inside(env).seen
    assert space.contains(got)
    return got


@pytest.mark.parametrize(
    ("low", "high", "dtype", "pairs"),
    [
        # The middle is 150, half the width 50.
        (
            100.0,
            200.0,
            np.float32,
            {-1.0: 100.0, 1.0: 200.0, 0.0: 150.0, 0.5: 175.0, 3.0: 200.0, -7.0: 100.0},
        ),
        (-0.1, 0.1, np.float64, {-1.0: -0.1, 1.0: 0.1, 0.25: 0.025, 2.0: 0.1}),
        (-0.4, 0.4, np.float32, {1.0: np.float32(0.4), -0.5: np.float32(-0.2)}),
        (-1.0, 1.0, np.float32, {np.float32(0.3): np.float32(0.3), 1.5: 1.0}),
        # As wide as a box can be: the width isn't a finite number.
        (-1.7e308, 1.7e308, np.float64, {1.0: 1.7e308, -1.0: -1.7e308, 0.5: 0.85e308}),
        # Where (−2 + 2.6) / 2 + (2.6 + 2) / 2 isn't 2.6.
        (-2.0, 2.6, np.float64, {1.0: 2.6, -1.0: -2.0}),
        (1e308, 1.7e308, np.float64, {0.0: 1.35e308, 1.0: 1.7e308}),
        (-np.inf, np.inf, np.float64, {7.5: 7.5, -0.25: -0.25}),
        (0.0, np.inf, np.float32, {7.5: 7.5, -0.25: 0.0}),
    ],
)
def test_box_is_what_minus_one_to_one_stands_for(
    low: float, high: float, dtype: Any, pairs: Any
) -> None:
    for action, expected in pairs.items():
        got = given(spaces.Box(low, high, (1,), dtype), [float(action)])
        assert got.dtype == dtype
        # The bounds are exact; between them the sum is rounded once more than the expected number.
        assert got[0] == (
            expected if abs(action) >= 1 else pytest.approx(expected, rel=1e-15, abs=0)
        )


def test_learners_see_the_unit_box_and_stand_still_nearest_to_zero() -> None:
    space = spaces.Box(
        np.array([100, -0.5, -np.inf, -3]), np.array([200, 1.5, np.inf, 3]), dtype=np.float64
    )
    env = made(point(action_space=space))
    assert env.action_space.low.tolist() == [-1, -1, -np.inf, -1]
    assert env.action_space.high.tolist() == [1, 1, np.inf, 1]
    # 100 is the nearest to 0; the middle of the second is 0.5, half its width 1.
    assert env.references.stand_still().tolist() == [[-1.0, -0.5, 0.0, 0.0]]


def test_meaning_of_actions_is_part_of_the_spec_only_where_it_is_not_the_number_itself() -> None:
    def hash_of(space: Any) -> str:
        return made(point(action_space=space)).spec.spec_hash

    same = {hash_of(spaces.Box(-1, 1, (1,), dtype)) for dtype in (np.float32, np.float64)}
    assert len(same | {hash_of(spaces.Box(-np.inf, np.inf, (1,), np.float32))}) == 1
    assert hash_of(spaces.Box(-2, 2, (1,), np.float32)) not in same
    assert "actions" not in made().spec.definition
    assert made(point(action_space=spaces.Box(-2, 2, (1,), np.float64))).spec.definition[
        "actions"
    ] == {
        "from": [-1.0, 1.0],
        "low": [-2.0],
        "high": [2.0],
    }


def test_choices_are_numbers_of_combinations() -> None:
    env = made(Grid, tasks={"goal": attribute("goal", one_of=(0, 4))})
    assert env.action_space == spaces.Discrete(9)
    assert env.references.stand_still is None
    step = env.step(torch.tensor([5]))  # (1, 2): stays, one up
    assert step.next_obs[0, :10].tolist() == [0, 0, 1, 0, 0, 0, 0, 0, 1, 0]
    two = spaces.MultiDiscrete([[2, 3], [2, 2]], start=[[1, 0], [0, 5]])
    got = given(two, 23)
    assert got.tolist() == [[2, 2], [1, 6]]
    assert given(spaces.MultiBinary(3), 6).tolist() == [1, 1, 0]
    assert given(spaces.Discrete(4), 3) == 3


def test_dict_is_flattened_in_the_order_of_its_keys() -> None:
    env = made(Grid, tasks={"goal": attribute("goal", one_of=(0, 4))})
    assert env.observation_space.shape == (11,)
    assert env.reset(Noise(torch.Generator()).starts(env)).tolist() == [
        [0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0]
    ]


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(0, 255, (3,), np.uint8),
        spaces.Box(-5, 5, (1,), np.int64),
        spaces.Box(-1, 1, (2, 2)),
        spaces.Discrete(3, start=1),
        spaces.Text(3),
    ],
)
def test_other_action_spaces_are_refused(space: Any) -> None:
    with pytest.raises(
        ValueError, match=r"the action space is .*; expected a Box with one axis or Discrete from 0"
    ):
        made(point(action_space=space))


def test_too_many_combinations_are_refused() -> None:
    with pytest.raises(ValueError, match=r"10000 combinations; expected at most 4096"):
        made(point(action_space=spaces.MultiDiscrete([10] * 4)))


@pytest.mark.parametrize(
    "wrapped",
    [
        np.bool_,
        bool,
        float,
        np.array,
        lambda value: np.array([value]),
        lambda value: np.array([[float(value)]]),
    ],
)
@pytest.mark.parametrize("name", ["success", "is_success"])
def test_success_arrives_in_every_form(wrapped: Any, name: str) -> None:
    env = made(point(told=lambda self: {name: wrapped(abs(self.place) > 1)}))
    for wanted in (0.0, 3.0):
        inside(env).place = wanted
        assert env.step(torch.zeros(1, 1)).terms["success"].tolist() == [float(wanted > 1)]


def test_success_that_only_the_last_step_tells_is_found() -> None:
    def told(self: Any) -> dict[str, Any]:
        return {"success": np.bool_(True)} if len(self.seen) % 3 == 0 else {}

    env = made(
        point(
            told=told,
            reset=lambda self, **given: (self.seen.clear(), Point.reset(self, **given))[1],
        ),
        horizon=3,
    )
    env.reset(Noise(torch.Generator()).starts(env))
    flags = [env.step(torch.zeros(1, 1)).terms["success"].item() for _ in range(3)]
    assert flags == [0.0, 0.0, 1.0]


def test_world_that_starts_beyond_all_numbers_is_diverged_from_its_first_step() -> None:
    env = made(point(), 2)
    inside(env, 1).breaks = None
    type(inside(env, 1)).observed = lambda self: np.array(
        [1e39 if hasattr(self, "breaks") else self.place]
    )
    first = env.reset(Noise(torch.Generator()).starts(env))  # 1e39 isn't a float32
    step = env.step(torch.zeros(2, 1))
    assert first[1] == step.next_obs[1] == 0
    assert step.diverged.tolist() == step.terminated.tolist() == [False, True]
    assert step.reward[1] == 0


def test_success_that_comes_late_is_said_or_declared() -> None:
    def told(self: Any) -> dict[str, Any]:
        return {"success": True} if self.place > 1e4 else {}

    for terms in ((), ("success",), "success"):
        env = made(point(told=told), terms=terms)
        inside(env).place = 2e4
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            step = env.step(torch.zeros(1, 1))
        assert [str(warning.message)[:32] for warning in caught] == (
            [] if terms else ["Changed told of success only now"]
        )
        assert step.terms.get("success", torch.zeros(1)).item() == bool(terms)


def test_info_that_holds_no_single_number_is_left_out() -> None:
    told = {
        "list": [1.0],
        "word": "1",
        "two": np.zeros(2),
        "none": None,
        "words": np.array(["1"]),
        "flag": np.True_,
    }
    assert list(made(point(told=lambda self: told)).step(torch.zeros(1, 1)).terms) == ["flag"]


def test_reward_of_one_element_and_flags_of_numpy_are_taken() -> None:
    def step(self: Any, action: Any) -> Any:
        obs, reward, terminated, _, info = Point.step(self, action)
        return obs.tolist(), np.array([reward]), np.bool_(terminated), np.array([False]), info

    plain, other = made(), made(point(step=step))
    action = torch.tensor([[0.5]])
    assert torch.equal(plain.step(action).reward, other.step(action).reward)
    assert torch.equal(plain.step(action).next_obs, other.step(action).next_obs)


@pytest.mark.parametrize(
    "reward", [None, "1.0", [1.0], np.array([]), torch.ones(1, requires_grad=True), np.ones((2, 1))]
)
def test_reward_that_is_not_one_number_is_refused(reward: Any) -> None:
    step = (np.zeros(1), reward, False, False, {})
    with pytest.raises(ValueError, match="returned reward .*; Gymnasium expects one number") as e:
        made(point(step=lambda self, action: step))
    assert "\n" not in str(e.value)


def test_numbers_too_large_for_single_precision_are_diverged() -> None:
    env = made(point(told=lambda self: {}), 2)
    type(inside(env)).step = lambda self, action: ((np.zeros(1), self.paid, False, False, {}))
    inside(env, 0).paid, inside(env, 1).paid = 1e300, 3e38  # the largest float32 is 3.4e38
    step = env.step(torch.zeros(2, 1))
    assert step.diverged.tolist() == step.terminated.tolist() == [True, False]
    assert step.reward.tolist() == [0.0, np.float32(3e38)]


NESTED = spaces.Dict(
    {
        "kind": spaces.Discrete(3),
        "cells": spaces.MultiDiscrete([2, 5]),
        "on": spaces.MultiBinary(2),
        "two": spaces.Tuple((spaces.Box(-1, 1, (1,), np.float64), spaces.Discrete(2, start=4))),
    }
)
SEEN = {"kind": 2, "cells": np.array([1, 3]), "on": [0, 1], "two": (0.5, 5)}


def test_nested_observation_is_what_gymnasium_flattens() -> None:
    env = made(point(observation_space=NESTED, observed=lambda self: SEEN))
    row = env.step(torch.zeros(1, 1)).next_obs[0].tolist()
    # Sorted by name: cells (2 and 5 choices), kind, on, two (a number, 2 choices).
    assert row == [0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 1, 0.5, 0, 1]


def test_an_observation_that_is_a_choice_is_one_hot() -> None:
    env = made(point(observation_space=spaces.Discrete(4, start=1), observed=lambda self: 3))
    assert env.observation_space.shape == (4,)
    assert env.step(torch.zeros(1, 1)).next_obs[0].tolist() == [0, 0, 1, 0]
    made(point(observation_space=spaces.Discrete(4), observed=lambda self: 3))
    with pytest.raises(ValueError, match=r"observation is 4; expected one of Discrete\(4\)"):
        made(point(observation_space=spaces.Discrete(4), observed=lambda self: 4)).step(
            torch.zeros(1, 1)
        )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"kind": -1}, r"observation\['kind'\] is -1; expected one of Discrete\(3\)"),
        ({"kind": 7}, r"observation\['kind'\] is 7; expected one of Discrete\(3\)"),
        ({"kind": 0.5}, r"observation\['kind'\] is 0.5; expected one of Discrete\(3\)"),
        ({"kind": None}, r"observation\['kind'\] is None; expected one of Discrete\(3\)"),
        # The second component's first choice, if it were taken.
        ({"cells": np.array([2, 3])}, r"'cells'\] is array\(\[2, 3\]\); expected one of MultiD"),
        ({"on": [0, 2]}, r"observation\['on'\] is \[0, 2\]; expected one of MultiBinary\(2\)"),
        (
            {"two": (0.5, 6)},
            r"observation\['two'\]\[1\] is 6; expected one of Discrete\(2, start=4",
        ),
        ({"two": (0.5,)}, r"observation\['two'\] is \(0.5,\); expected a tuple of 2 parts"),
        ({"two": ([0.5, 1], 5)}, r"observation\['two'\]\[0\] is \[0.5, 1\]; expected one of Box"),
        (None, r"has keys \['kind'\]; expected keys \['cells', 'kind', 'on', 'two'\]"),
        ("no", r"Changed's observation is no dict; expected keys \['cells', 'kind', 'on', 'two'\]"),
    ],
)
def test_part_of_an_observation_that_its_space_does_not_have_is_named(
    changed: Any, message: str
) -> None:
    obs = {"kind": 2} if changed is None else "no" if changed == "no" else {**SEEN, **changed}
    with pytest.raises(ValueError, match=message):
        made(point(observation_space=NESTED, observed=lambda self: obs))


@pytest.mark.parametrize("obs", ["far", ["0.5"], [1 + 2j], [[1.0], [1.0, 2.0]], {"place": 1.0}])
def test_observation_that_is_no_row_of_numbers_is_refused(obs: Any) -> None:
    with pytest.raises(ValueError, match="Changed's observation is .*; expected one of Box"):
        made(point(observed=lambda self: obs))


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("__init__", "Changed can't be made: "),
        ("reset", r"Changed.reset fails under the task speed 0\.5: "),
        ("step", "Changed.step fails at step 1: "),
    ],
)
def test_an_error_of_the_environments_own_code_is_told_with_its_line(
    where: str, message: str
) -> None:
    def broken(self: Any, *_: Any, **__: Any) -> Any:
        raise KeyError("motor")

    place = rf"\({re.escape(__file__)}, line {broken.__code__.co_firstlineno + 1}, in broken\)"
    with pytest.raises(EnvironmentFailed, match=f"^{message}KeyError: 'motor' {place}$") as raised:
        made(point(**{where: broken}))
    assert isinstance(raised.value.__cause__, KeyError)


def test_an_action_that_is_not_finite_is_the_learners() -> None:
    """Whose training it ends as a divergence, also where an environment of ours is inside."""

    def step(self: Any, action: Any) -> Any:
        raise NonFiniteAction("action[0] is nan")

    with pytest.raises(NonFiniteAction):
        made(point(step=step))


PLACE = {"aim": np.zeros(3), "table": np.zeros((2, 2)), "z": 1.0}


@pytest.mark.parametrize(
    ("one", "other", "place"),
    [
        (attribute("z", between=(1, 2)), attribute("z", scale=(5, 6)), "z"),
        (attribute("z", scale=(1, 2)), attribute("z", scale=(5, 6)), "z"),
        (attribute("aim", between=(1, 2)), attribute("aim", index=1, scale=(5, 6)), "aim"),
        (
            attribute("aim", index=-1, between=(1, 2)),
            attribute("aim", index=2, scale=(1, 2)),
            "aim",
        ),
        (
            attribute("table", index=(0, 1), between=(1, 2)),
            attribute("table", index=(-2, -1), scale=(1, 2)),
            "table",
        ),
        (
            attribute("table", index=0, between=(1, 2)),
            attribute("table", index=(0, 1), scale=(1, 2)),
            "table",
        ),
        (attribute("z", "aim", between=(1, 2)), attribute("goal", "aim", scale=(1, 2)), "aim"),
        (reset_option("far", between=(1, 2)), reset_option("far", one_of=(1, 2)), "far"),
    ],
)
def test_two_variables_of_one_place_are_refused(one: Any, other: Any, place: str) -> None:
    with pytest.raises(ValueError, match=f"^a and b both set {place}; expected one variable for"):
        made(point(**PLACE), tasks={"a": one, "b": other})


def test_variables_of_other_elements_or_kinds_go_together() -> None:
    tasks = {
        "first": attribute("aim", index=0, between=(1, 2)),
        "last": attribute("aim", index=-1, between=(3, 4)),
        "right": attribute("table", index=(0, 1), between=(1, 2)),
        "left": attribute("table", index=(0, 0), between=(1, 2)),
        "z": attribute("z", between=(1, 2)),
        "option": reset_option("z", between=(5, 6)),
    }
    with pytest.warns(UserWarning, match="changes nothing"):
        env = made(point(**PLACE), tasks=tasks)
    aim = inside(env).aim
    assert 1 < aim[0] < 2 and aim[1] == 0 and 3 < aim[2] < 4
    with pytest.raises(
        ValueError, match=r"attribute\('z', 'z'\) has a path twice; expected it once"
    ):
        attribute("z", "z", scale=(1, 2))


def test_seeds_and_sizes_of_numpy_are_taken() -> None:
    whole = np.int64
    env = own_environment(
        Point,
        whole(2),
        tasks=SPEED,
        horizon=whole(5),
        num_train_tasks=whole(3),
        num_test_tasks=whole(4),
        split_seed=whole(1),
    )
    plain = own_environment(
        Point, 2, tasks=SPEED, horizon=5, num_train_tasks=3, num_test_tasks=4, split_seed=1
    )
    assert env.spec.spec_hash == plain.spec.spec_hash


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"step": lambda self, action: Point.step(self, action)[:4]},
            "Changed.step returned 4 values; Gymnasium expects observation, reward, terminated, "
            "truncated and info",
        ),
        (
            {"reset": lambda self, **given: Point.reset(self, **given)[0]},
            "Changed.reset returned a ndarray; Gymnasium expects an observation and an info",
        ),
        (
            {"reset": lambda self: Point.reset(self)},
            r"Changed.reset takes no seed \(Changed\); Gymnasium expects reset\(self, \*, seed=None, options=None\)",
        ),
        ({"reset": lambda self, seed=None: Point.reset(self)}, "Changed.reset takes no options"),
        (
            {"step": lambda self, action: (np.zeros(1), np.zeros(3), False, False, {})},
            r"Changed.step returned reward array\(\[0., 0., 0.\]\); Gymnasium expects one number",
        ),
        (
            {"step": lambda self, action: (np.zeros(1), 0.0, None, False, {})},
            "Changed.step returned terminated None; Gymnasium expects one number or truth value",
        ),
        (
            {"observed": lambda self: np.zeros(2)},
            r"Changed has an observation of shape \(2,\); its space says \(1,\)",
        ),
        (
            {"observation_space": None},
            "Changed has no observation_space; Gymnasium expects a gymnasium.Space",
        ),
        (
            {"speed": property(lambda self: 1.0)},
            "speed of Changed can't be set .*property without setter",
        ),
    ],
)
def test_old_habits_are_answered_in_a_line(changed: dict[str, Any], message: str) -> None:
    def ignoring(self: Any) -> None:
        self.goal, self.noise, self.seen = 0.0, 0.1, []

    if "speed" in changed:
        changed = {**changed, "__init__": ignoring}
    with pytest.raises(ValueError, match=message) as raised:
        made(point(**changed))
    assert "\n" not in str(raised.value)


def test_what_is_no_environment_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"dict is made as a dict \(builtins\); expected a gymnasium.Env"
    ):
        made(dict)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("Hoper-v5", "Hoper-v5 can't be made: Environment `Hoper` doesn't exist"),
        (
            "no_such_module:Env",
            "there is no module 'no_such_module' on Python's path; expected module:function",
        ),
        ("tests.support.own_examples:NoSuch-v0", "NoSuch-v0 can't be made"),
        (
            "tests.support.own_examples:Piont",
            "own_examples neither has 'Piont' nor registers such an id; did you mean Point",
        ),
        ("tests.support.own_lines:np", "own_lines:np is <module.*; expected a class or a function"),
    ],
)
def test_names_of_nothing_are_answered_in_a_line(source: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made(source)


def test_names_of_classes_and_ids_of_modules_are_taken() -> None:
    assert inside(made("tests.support.own_examples:Point")).__class__ is Point
    gymnasium.register("OwnPoint-v0", Point, max_episode_steps=7)
    assert (
        own_environment("tests.support.own_examples:OwnPoint-v0", 1, tasks=SPEED).spec.horizon == 7
    )


def test_truth_values_and_words_arrive_as_they_are() -> None:
    tasks = {
        "surface": attribute("surface", one_of=("grass", "ice")),
        "slippery": attribute("slippery", one_of=(True, False)),
        "goal": attribute("goal", one_of=(3, 4)),
    }
    env = made(Grid, 8, tasks=tasks)
    assert env.prior.describe(env.prior.test_tasks(8))[:4] == [
        "surface grass, slippery True, goal 3",
        "surface grass, slippery True, goal 4",
        "surface grass, slippery False, goal 3",
        "surface grass, slippery False, goal 4",
    ]
    worlds = [inside(env, i) for i in range(8)]
    assert [world.surface for world in worlds] == ["grass"] * 4 + ["ice"] * 4
    assert [world.slippery for world in worlds] == [True, True, False, False] * 2
    assert {type(world.goal) for world in worlds} == {int}
    assert env.spec.definition["tasks"]["slippery"]["values"] == [[True], [False]]
    assert env.spec.definition["tasks"]["surface"]["values"] == [["grass"], ["ice"]]
    assert env.spec.definition["tasks"]["goal"]["values"] == [[3.0], [4.0]]


def test_attribute_that_is_a_truth_value_stays_one() -> None:
    env = made(Grid, 2, tasks={"slippery": attribute("slippery", one_of=(0, 1))})
    assert [inside(env, i).slippery for i in range(2)] == [False, True]
    assert {type(inside(env, i).slippery) for i in range(2)} == {bool}


def test_reset_options_are_of_the_kind_that_was_written() -> None:
    tasks = {
        "level": reset_option("level", one_of=(1, 2)),
        "name": reset_option("name", one_of=("a", "b")),
        "flags": reset_option("flags", one_of=([True, False], [False, True])),
        "shift": reset_option("shift", between=(0.0, 1.0)),
    }
    with pytest.warns(UserWarning, match="changes nothing"):
        env = made(tasks=tasks)
    options = inside(env).options
    assert type(options["level"]) is int
    assert options["name"] in ("a", "b")
    assert options["flags"].dtype == bool
    assert 0 < options["shift"] < 1


@pytest.mark.parametrize(
    ("one_of", "message"),
    [
        ((True, 2), "expected numbers or truth values, not both, because True is also 1"),
        (("a", [1, 2]), "expected words and numbers, or lists of numbers"),
        ("ice", "expected a list of choices"),
        ((), "expected a list of choices"),
        (([1, 2], [1]), "expected numbers, truth values or words, or lists of the same length"),
    ],
)
def test_other_choices_are_refused(one_of: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        attribute("x", one_of=one_of)


def test_ranges_are_of_numbers() -> None:
    with pytest.raises(
        ValueError, match=r"attribute\('x'\) has between=\(False, True\); expected numbers"
    ):
        attribute("x", between=(False, True))


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ({"s": attribute("surface", one_of=(1, 2))}, "surface is a str; expected a number"),
        (
            {"g": attribute("goal", one_of=("a", "b"))},
            "goal is the number 0; expected numbers, not 'a'",
        ),
    ],
)
def test_words_go_to_words_and_numbers_to_numbers(tasks: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made(Grid, tasks=tasks)


def test_a_share_of_success_is_refused() -> None:
    """In the first episodes already: whatever is above 0 would count as solved."""
    with pytest.raises(ValueError, match=r"info\['success'\] = 0.05; expected 0 or 1"):
        made(point(told=lambda self: {"success": 0.05}), terms=("success",))


def test_numbers_that_do_not_go_into_a_place_are_refused() -> None:
    small = point(levels=np.array([3, 4], dtype=np.uint8))
    with pytest.raises(ValueError, match="levels holds uint8, into which 300 doesn't go"):
        made(small, tasks={"level": attribute("levels", one_of=(10, 300))})
    with pytest.raises(ValueError, match=r"open is the truth value False; expected one_of="):
        made(point(open=False), tasks={"open": attribute("open", between=(0, 2))})
    with pytest.raises(
        ValueError, match=r"fails where level is 0.37.*holds int64; expected one_of"
    ):
        made(point(levels=np.array([3, 4])), tasks={"level": attribute("levels", between=(0, 1))})


@pytest.mark.parametrize("given", [{"between": (0, 1)}, {"scale": (0.0, 1.0)}])
def test_truth_values_have_no_range(given: Any) -> None:
    for source, message in (
        (
            point(open=False),
            r"open is the truth value False; expected one_of=\(False, True\), not ",
        ),
        (point(open=np.array([True])), "open holds truth values; expected one_of= with such, not "),
    ):
        with pytest.raises(ValueError, match=message + next(iter(given))) as raised:
            made(source, tasks={"open": attribute("open", **given)})
        assert str(raised.value).count("expected") == 1


@pytest.mark.parametrize("kind", [list, tuple])
def test_lists_and_tuples_stay_what_they_are(kind: Any) -> None:
    """The environment may add to them, which joins lists and adds up arrays."""
    env = made(
        point(aim=kind([0.0, 0.0])),
        tasks={"aim": attribute("aim", between=([1.0, 3.0], [2.0, 4.0]))},
    )
    aim = inside(env).aim
    assert type(aim) is kind and 1 < aim[0] < 2 and 3 < aim[1] < 4


def test_each_element_of_a_vector_has_bounds_of_its_own() -> None:
    tasks = {"gains": attribute("aim", between=([0.001, 100.0], [0.002, 200.0]))}
    env = made(point(aim=np.zeros(2)), tasks=tasks)
    drawn = env.prior.test_tasks(1)
    replaced = type(drawn)(gains=torch.tensor([[150.0, 150.0]], dtype=torch.float64))
    with pytest.raises(ValueError, match=r"gains is 150; expected a value in \[0.001, 0.002\]"):
        env.set_tasks(replaced)


def test_a_choice_beside_a_range_is_held_to_its_choices() -> None:
    tasks = {
        "speed": attribute("speed", between=(0.5, 2.0)),
        "goal": attribute("goal", one_of=(0.0, 0.25, 1.0)),
    }
    env = made(tasks=tasks)
    given_tasks = env.prior.test_tasks(1)
    env.prior.check(given_tasks, 1)
    given_tasks.goal[0] = 0.5
    with pytest.raises(ValueError, match=r"goal is 0\.5; expected one of 0\.0, 0\.25, 1\.0"):
        env.prior.check(given_tasks, 1)
    pairs = {**tasks, "goal": attribute("pair", one_of=([0.0, 1.0], [2.0, 3.0]))}
    wide = made(type("Paired", (Point,), {"pair": np.zeros(2)}), tasks=pairs)
    mixed = wide.prior.test_tasks(1)
    wide.prior.check(mixed, 1)
    mixed.goal[0] = torch.tensor([0.0, 3.0])
    with pytest.raises(ValueError, match=r"goal is \[0\.0, 3\.0\]; expected one of \[0\.0, 1\.0\]"):
        wide.prior.check(mixed, 1)


class Ball(gymnasium.Env):
    """A ball that MuJoCo has compiled as simple: its centre of mass can't leave its middle."""

    observation_space = spaces.Box(-np.inf, np.inf, (7,), np.float32)
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self) -> None:
        self.model = mujoco.MjModel.from_xml_string(
            "<mujoco><worldbody><body name='ball'><freejoint/><geom size='.1'/></body></worldbody></mujoco>"
        )
        self.data = mujoco.MjData(self.model)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        mujoco.mj_resetData(self.model, self.data)
        return self.data.qpos.astype(np.float32), {}

    def step(self, action: Any) -> Any:
        mujoco.mj_step(self.model, self.data)
        return self.data.qpos.astype(np.float32), 0.0, False, False, {}


def test_what_mujoco_cannot_derive_is_told_with_the_field() -> None:
    tasks = {"offset": model_field("body_ipos", index=("ball", 0), between=(0.01, 0.05))}
    with pytest.raises(ValueError, match=r"MuJoCo can't work with .*body_ipos: .*simple"):
        own_environment(Ball, 1, tasks=tasks, horizon=5)
