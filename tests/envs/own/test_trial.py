"""What the first episodes of a user's environment find, before it is trained on."""

import warnings
from dataclasses import dataclass
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.wrappers import NormalizeObservation, NormalizeReward

from envs.own import attribute, own_environment, reset_option, trial
from metarl.noise import Noise
from tests.support.own_examples import Gain, Grid, Held, Paying, Point

SPEED = {"speed": attribute("speed", between=(0.5, 2.0))}


def made(source: Any = Point, *, horizon: int = 20, tasks: Any = SPEED, **arguments: Any) -> Any:
    return own_environment(source, 1, tasks=tasks, horizon=horizon, **arguments)


def point(**changed: Any) -> Any:
    return type("Changed", (Point,), changed)


def warned(**arguments: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made(**arguments)
    return [str(warning.message) for warning in caught]


def unseeded(self: Any, **given: Any) -> Any:
    self.place = np.random.default_rng().normal()
    return self.observed(), {}


def globally_seeded(self: Any, *, seed: int, options: Any) -> Any:
    np.random.seed(seed)  # noqa: NPY002
    self.place = 0.0
    return self.observed(), {}


def global_noise(self: Any, action: Any) -> float:
    return float(np.random.normal())  # noqa: NPY002


@pytest.mark.parametrize(
    ("source", "where"),
    [
        (point(reset=unseeded), "the reset"),
        (point(moved=global_noise), "step 1"),
        # Repeatable alone, but all worlds draw from one stream.
        (point(reset=globally_seeded, moved=global_noise, noise=0.0), "step 1"),
        (lambda: NormalizeObservation(Point()), "the reset"),
        (lambda: NormalizeReward(Point()), "step"),
    ],
)
def test_what_does_not_follow_its_seed_is_found(source: Any, where: str) -> None:
    with pytest.raises(
        ValueError,
        match=f"doesn't follow its seed: with the same seed and the same actions {where}.* gave",
    ) as e:
        made(source)
    assert "\n" not in str(e.value)
    env = made(source, repeatable=False)
    env.set_tasks(env.prior.test_tasks(1))
    env.reset(Noise(torch.Generator()).starts(env))


class Uncopied(Gain):
    def __deepcopy__(self, memo: Any) -> Any:
        raise TypeError("it holds a socket")


class Globally(Point):
    """Keeps a reset option, and what its task sets, where all can read them."""

    held: Any = {}

    @property
    def gain(self) -> float:
        return self.held.get("gain", 1.0)

    @gain.setter
    def gain(self, value: float) -> None:
        self.held["gain"] = value

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        self.held["option"] = options and options["goal"]
        return super().reset(seed=seed)

    def told(self) -> dict[str, Any]:
        return {}

    def moved(self, action: Any) -> float:
        return float(action[0]) * (self.held["option"] or 1.0)


GAIN = {"gain": attribute("params.value", between=(0.0, 3.0))}
ONE = Point()


@pytest.mark.parametrize("repeatable", [True, False])
@pytest.mark.parametrize(
    ("source", "tasks", "settings", "said"),
    [
        (Held, GAIN, None, r"gain \(params.value\)"),
        (partial(Paying, Gain()), {**SPEED, **GAIN}, None, r"gain \(params.value\)"),
        (Paying, GAIN, {"params": Uncopied()}, r"gain \(params.value\)"),
        (
            Globally,
            {**SPEED, "gain": attribute("gain", between=(0.0, 3.0))},
            None,
            r"gain \(gain\)",
        ),
    ],
)
def test_worlds_that_share_what_a_task_sets_are_refused(
    source: Any, tasks: Any, settings: Any, said: str, repeatable: bool
) -> None:
    with pytest.raises(ValueError, match=f"'s worlds share {said}: .* anew in __init__") as raised:
        made(source, tasks=tasks, settings=settings, repeatable=repeatable)
    assert "\n" not in str(raised.value)


def test_reset_option_that_reaches_other_worlds_is_refused() -> None:
    tasks = {**SPEED, "aim": reset_option("goal", between=(0.5, 1.0))}
    with pytest.raises(ValueError, match=r"Globally's worlds share aim \(goal\): .* anew"):
        made(Globally, tasks=tasks)


@pytest.mark.parametrize("tasks", [SPEED, {"goal": reset_option("goal", between=(0.5, 1.0))}])
def test_one_environment_for_all_worlds_is_refused(tasks: Any) -> None:
    with pytest.raises(ValueError, match="worlds share one environment; expected a source that"):
        made(lambda: ONE, tasks=tasks)


def test_settings_are_copied_for_each_world() -> None:
    params = Gain()
    env = own_environment(Paying, 3, tasks=GAIN, horizon=5, settings={"params": params})
    tasks = env.prior.test_tasks(3)
    env.set_tasks(tasks)
    env.reset(Noise(torch.Generator()).starts(env))
    assert env.step(torch.zeros(3, 1)).reward.tolist() == tasks.gain.float().tolist()
    assert params.value == 1.0


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"paid": lambda self: np.nan}, "the reward of step 1 is nan"),
        ({"paid": lambda self: 1e300}, r"the reward of step 1 is 1e\+300"),
        ({"paid": lambda self: np.nan if len(self.seen) == 3 else 0.0}, "the reward of step 3 is"),
        ({"observed": lambda self: np.array([np.nan])}, r"observation\[0\] of step 0 is nan"),
        (
            {"observed": lambda self: np.array([1 / self.speed if self.seen else 0.0]) * np.inf},
            r"observation\[0\] of step 0 is nan",
        ),
    ],
)
def test_numbers_that_are_not_finite_in_every_episode_are_refused(changed: Any, said: str) -> None:
    with pytest.raises(
        ValueError, match=f"Changed breaks off all episodes, .* between them: {said}"
    ) as raised:
        made(rewarded(**changed))
    assert "\n" not in str(raised.value)


def test_episode_that_breaks_off_at_one_end_of_a_range_alone_is_taken() -> None:
    made(rewarded(paid=lambda self: np.inf if self.speed == 0.5 else 0.0))
    made(rewarded(paid=lambda self: np.inf if self.speed == 2.0 else 0.0))


def test_breaks_in_some_episodes_are_told_with_their_number() -> None:
    """Also where the first episodes, at the lowest and the highest values, all break off."""
    with pytest.warns(
        UserWarning, match=r"breaks off 3 of 6 episodes: the reward of step 1 is nan"
    ):
        made(rewarded(paid=lambda self: np.nan if self.speed == 0.5 else 0.0))
    with pytest.warns(
        UserWarning, match=r"breaks off 4 of 6 episodes: the reward of step 1 is nan"
    ):
        made(rewarded(paid=lambda self: np.nan if self.speed in (0.5, 2.0) else 0.0))


def test_a_break_later_on_is_told_once_with_its_step_and_task() -> None:
    slow = rewarded(paid=lambda self: np.nan if len(self.seen) == 55 else 0.0)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        env = made(slow, horizon=60)
        env.set_tasks(env.prior.test_tasks(1))
        for _ in range(2):
            env.reset(Noise(torch.Generator()).starts(env))
            for _ in range(60):
                env.step(torch.zeros(1, 1))
    (words,) = [str(one.message) for one in told if "breaks off an episode" in str(one.message)]
    assert "the reward of step 55 is nan, under the task speed " in words


def rewarded(paid: Any = lambda self: 0.0, **changed: Any) -> Any:
    """A point with other rewards."""

    def step(self: Any, action: Any) -> Any:
        obs, _, terminated, truncated, info = Point.step(self, action)
        return obs, paid(self), terminated, truncated, info

    def reset(self: Any, **given: Any) -> Any:
        self.seen.clear()
        return Point.reset(self, **given)

    return point(step=step, reset=reset, **changed)


def test_variable_that_changes_nothing_is_said_by_name() -> None:
    (message,) = warned(tasks={**SPEED, "colour": reset_option("colour", between=(0.0, 1.0))})
    assert "Point: colour (colour) changes nothing" in message
    assert "the same 20 steps" in message
    assert warned() == []


def test_variable_that_shows_late_or_only_beside_another_is_not_warned_of() -> None:
    def reset(self: Any, **given: Any) -> Any:
        self.seen.clear()
        return Point.reset(self, **given)

    late = point(reset=reset, moved=lambda self, action: float(len(self.seen) > 80), noise=0.0)
    assert warned(source=late, horizon=100) == []
    # At its lowest the other one hides it.
    hidden = point(moved=lambda self, action: self.goal * float(action[0]), speed=1.0)
    assert (
        warned(source=hidden, tasks={"goal": attribute("goal", between=(0.0, 1.0)), **SPEED}) == []
    )


def test_hook_sets_what_derives_from_an_attribute() -> None:
    class Derived(Point):
        length, half_length = 1.0, 0.5

        def moved(self, action: Any) -> float:
            return self.half_length * float(action[0])

    def halve(env: Any) -> None:
        env.half_length = env.length / 2

    tasks = {"length": attribute("length", between=(0.5, 2.0))}
    (message,) = warned(source=Derived, tasks=tasks)
    assert "length (length) changes nothing" in message
    assert "after_task=" in message
    assert warned(source=Derived, tasks=tasks, after_task=halve) == []
    env = made(Derived, tasks=tasks, after_task=halve)
    env.set_tasks(env.prior.test_tasks(1))
    env.reset(Noise(torch.Generator()).starts(env))
    inner = env._worlds.envs[0].unwrapped
    assert inner.half_length == inner.length / 2 == env.prior.test_tasks(1).length.item() / 2
    assert env.spec.definition["after_task"]["function"].endswith("halve")


def test_hook_may_change_what_a_task_sets() -> None:
    def whole(env: Any) -> None:
        env.speed = 1.0 + (env.speed > 1.0)

    env = made(after_task=whole)
    env.set_tasks(env.prior.test_tasks(1))
    env.reset(Noise(torch.Generator()).starts(env))
    assert env._worlds.envs[0].unwrapped.speed in (1.0, 2.0)


def test_hook_reaches_what_mujoco_derives() -> None:
    def heavier(env: Any) -> None:
        env.model.body_mass[1] = 10 * env.model.opt.timestep / 0.002

    env = own_environment(
        "Hopper-v5",
        1,
        tasks={"dt": attribute("model.opt.timestep", between=(0.001, 0.004))},
        horizon=5,
        after_task=heavier,
    )
    env.set_tasks(env.prior.test_tasks(1))
    env.reset(Noise(torch.Generator()).starts(env))
    model = env._worlds.envs[0].unwrapped.model
    assert model.body_subtreemass[1] == pytest.approx(model.body_mass[1:].sum(), rel=1e-12)


def test_count_between_two_numbers_is_refused_where_a_fraction_fails() -> None:
    with pytest.raises(
        ValueError,
        match=r"Hopper-v5 fails where skip is 2.48 \(frame_skip is a whole number\): mj_step.*; expected one_of=\[...\] with whole numbers",
    ):
        own_environment(
            "Hopper-v5", 1, tasks={"skip": attribute("frame_skip", between=(1, 5))}, horizon=5
        )
    env = own_environment(
        "Hopper-v5", 5, tasks={"skip": attribute("frame_skip", one_of=range(1, 6))}, horizon=5
    )
    env.set_tasks(env.prior.test_tasks(5))
    env.reset(Noise(torch.Generator()).starts(env))
    env.step(torch.zeros(5, 3))
    assert [env._worlds.envs[i].unwrapped.frame_skip for i in range(5)] == [1, 2, 3, 4, 5]
    # A whole number that only happens to be one is taken.
    made(point(__init__=lambda self: (Point.__init__(self), setattr(self, "speed", 1))[0]))


def test_cart_pole_and_plain_python_are_task_distributions() -> None:
    def derive(env: Any) -> None:
        env.polemass_length = env.masspole * env.length
        env.total_mass = env.masspole + env.masscart

    tasks = {
        "length": attribute("length", between=(0.3, 0.9)),
        "push": attribute("force_mag", scale=(0.5, 2.0)),
    }
    env = own_environment("CartPole-v1", 3, tasks=tasks, after_task=derive)
    assert env.spec.horizon == 500
    assert env.action_space == gymnasium.spaces.Discrete(2)
    env.set_tasks(env.prior.test_tasks(3))
    first = env.reset(Noise(torch.Generator().manual_seed(0)).starts(env))
    step = env.step(torch.tensor([0, 1, 1]))
    theirs = gymnasium.make("CartPole-v1").unwrapped
    theirs.length, theirs.force_mag = (
        env.prior.test_tasks(3).length[1].item(),
        10 * env.prior.test_tasks(3).push[1].item(),
    )
    derive(theirs)
    uniform = torch.rand(3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    seed = int(uniform[1] * 2**31)
    np.testing.assert_array_equal(first[1], theirs.reset(seed=seed)[0])
    np.testing.assert_array_equal(step.next_obs[1], theirs.step(1)[0])

    grid = own_environment(
        Grid, 2, tasks={"surface": attribute("surface", one_of=("grass", "ice"))}, horizon=10
    )
    grid.set_tasks(grid.prior.test_tasks(2))
    grid.reset(Noise(torch.Generator()).starts(grid))
    cells = grid.step(torch.tensor([2, 2])).next_obs[:, :10].reshape(2, 2, 5).argmax(-1)
    assert cells.tolist() == [[1, 3], [0, 4]]  # one cell on grass, two on ice


def test_observations_outside_of_their_space_are_told() -> None:
    narrow = point(observation_space=gymnasium.spaces.Box(-0.01, 0.01, (1,), np.float32))
    (message,) = warned(source=narrow)
    assert "at place 0 of its" in message and "expected -0.01 to 0.01" in message


@dataclass
class Maker:
    """Makes points; it compares by its content, so it has no hash."""

    speed: float = 1.0

    def __call__(self) -> Any:
        return Point(self.speed)


@dataclass
class Hook:
    """Sets what derives from a task; it has no hash either."""

    factor: float = 2.0

    def __call__(self, env: Any) -> None:
        env.speed = self.factor * env.speed


def test_a_source_without_a_hash_is_played_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_tried", {})
    source, played = Maker(), []
    monkeypatch.setattr(trial, "play", lambda *a, real=trial.play: played.append(1) or real(*a))
    specs = [made(source, after_task=Hook()).spec for _ in range(2)]
    assert specs[0].spec_hash == specs[1].spec_hash
    assert (once := len(played)) > 0
    assert made(source, after_task=Hook()).spec.made_by == specs[0].made_by
    assert len(played) == once
    source.speed = 3.0  # Another environment now.
    assert made(source, after_task=Hook()).spec.spec_hash != specs[0].spec_hash
    assert len(played) > once


def test_the_code_of_an_object_that_is_called_is_that_of_its_class() -> None:
    class Other(Maker):
        pass

    plain, hooked, other = (
        made(source, after_task=hook).spec.made_by
        for source, hook in ((Maker(), None), (Maker(), Hook()), (Other(), None))
    )
    assert len({plain, hooked, other}) == 3
