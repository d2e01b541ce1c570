"""A batched environment of a user's own is played when it is made, and told what is wrong with
it."""

import gymnasium
import numpy as np
import pytest
import torch

import envs
from envs.batched_trial import try_batched
from envs.episodes import Episodes
from envs.tasks import TaskPrior, by_range
from envs.variants import spec_of
from metarl.errors import SettingError
from metarl.rl.types import BatchedEnv, Step
from metarl.struct import replace, struct


@struct
class Speed:
    speed: torch.Tensor  # [W]


class Drift(BatchedEnv[Speed]):
    """A point that drifts with the speed of its task, and is pushed by the action."""

    def __init__(self, num_worlds, *, horizon=10, num_threads=None, device="cpu"):
        self.num_worlds, self.device, self.num_uniforms = num_worlds, torch.device(device), 1
        self.prior = TaskPrior(
            draw=lambda u: Speed(speed=u[:, 0].float()),
            num_uniforms=1,
            held_out=lambda task: by_range("speed", 0.0, 1.0, task),
            bounds={"speed": (0.0, 1.0)},
            describe=lambda tasks: [f"{x:.2f} m/s" for x in tasks.speed.tolist()],
            num_train=None,
            num_test=4,
        )
        self.spec = spec_of("drift", "drift", horizon, self.prior, {"reward": "-|x|"})
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
        self.episodes = Episodes(self, self.device)
        self.x = torch.zeros(num_worlds)

    def set_tasks(self, tasks):
        self.episodes.set_tasks(tasks)

    def reset(self, uniform, worlds=None):
        begun = self.episodes.begin(uniform, worlds)
        self.x = torch.where(begun, uniform[:, 0].float(), self.x)
        return self.x[:, None].clone()

    def step(self, action):
        action = self.episodes.checked(action)[:, 0]
        self.x = self.x + 0.1 * (self.episodes.tasks.speed + action)
        never = torch.zeros(self.num_worlds, dtype=torch.bool)
        return Step(
            next_obs=self.x[:, None].clone(),
            reward=-self.x.abs(),
            terminated=never,
            truncated=self.episodes.advance(never),
            diverged=never,
            terms={},
        )


def changed(**fields):
    """A Drift whose steps have other fields."""

    class Changed(Drift):
        def step(self, action):
            step = super().step(action)
            return replace(step, **{name: made(self, step) for name, made in fields.items()})

    return Changed


class FirstTask(Drift):
    def set_tasks(self, tasks):
        super().set_tasks(replace(tasks, speed=tasks.speed[:1].expand(self.num_worlds)))


class Unseeded(Drift):
    def reset(self, uniform, worlds=None):
        return super().reset(torch.rand_like(uniform), worlds)


class Doubles(Drift):
    def reset(self, uniform, worlds=None):
        return super().reset(uniform, worlds).double()


class Tuple(Drift):
    def step(self, action):
        step = super().step(action)
        return step.next_obs, step.reward


class Clamps(Drift):
    def step(self, action):
        return super().step(action.clamp_(-1, 1))


class NoReset(Drift):
    reset = BatchedEnv.reset


@pytest.mark.parametrize("num_worlds", [1, 5])
def test_one_that_keeps_to_the_rules_passes(num_worlds):
    try_batched(Drift(num_worlds))


@pytest.mark.parametrize("name", ["bandit", "half_cheetah_vel", "gridworld_5x5"])
def test_ours_keep_to_them(name):
    try_batched(envs.make(name, 4))


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (
            FirstTask,
            "worlds of FirstTask depend on each other: in another order next_obs of step 1",
        ),
        (Unseeded, "Unseeded isn't repeatable: from the same .* the first observation is another"),
        (
            Doubles,
            r"Doubles.reset returned a tensor \[5, 1\] of float64 as the observations; expec",
        ),
        (Clamps, "Clamps.step changes the action that it is given; expected a copy of its own"),
        (Tuple, "Tuple.step returned a tuple; expected a Step of metarl.rl.types"),
        (
            changed(reward=lambda env, step: step.reward.mean()),
            r"Changed.step returned a tensor \[\] of float32 as reward; expected a tensor \[5\] of f",
        ),
        (
            changed(reward=lambda env, step: step.reward[:, None]),
            r"returned a tensor \[5, 1\] of flo",
        ),
        (
            changed(terminated=lambda env, step: step.terminated.int()),
            r"int32 as terminated; expec",
        ),
        (
            changed(next_obs=lambda env, step: step.next_obs[:, :0]),
            r"\[5, 0\] of float32 as next_obs",
        ),
        (
            changed(reward=lambda env, step: step.reward / (torch.arange(5) != 3)),
            "Changed.step returned reward with NaN or infinity in world 3; expected finite numbers",
        ),
        (changed(terms=lambda env, step: {"x": step.reward[:2]}), r"as terms\['x'\]; expected a"),
    ],
)
def test_one_that_breaks_one_is_told(made, message):
    with pytest.raises(SettingError, match=message):
        try_batched(made(5))


def test_a_method_that_is_not_there_is_named():
    with pytest.raises(NotImplementedError, match="NoReset has no method reset"):
        try_batched(NoReset(2))
    with pytest.raises(RuntimeError, match="Drift has no method render"):
        Drift(2).render(0)


def drift(num_worlds, **machine):
    return FirstTask(num_worlds, **machine)


def test_it_is_asked_as_soon_as_it_is_made(monkeypatch):
    with pytest.raises(SettingError, match="worlds of FirstTask depend on each other"):
        envs.make(f"{__name__}:drift", 3)


class Counted(Drift):
    num_made = 0

    def __init__(self, num_worlds, **machine):
        super().__init__(num_worlds, **machine)
        Counted.num_made += 1


def counted(num_worlds, *, horizon=10, speed=1.0, **machine):
    return Counted(num_worlds, horizon=horizon, **machine)


def test_it_is_asked_once_in_a_process():
    # Of each environment one more is made, which is played.
    for settings, num_made in (
        ({}, 2),
        ({}, 3),
        ({"horizon": 5}, 5),
        ({"horizon": 5}, 6),
        ({"speed": 2.0}, 8),  # which the spec doesn't tell
    ):
        envs.make(f"{__name__}:counted", 3, **settings)
        assert Counted.num_made == num_made
    for _ in range(2):  # What was refused is asked again.
        with pytest.raises(SettingError, match="worlds of FirstTask depend on each other"):
            envs.make(f"{__name__}:drift", 3)
