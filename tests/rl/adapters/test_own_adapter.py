"""An adapter of a user's own whose states aren't values is told so in its first iteration."""

import pytest
import torch

import envs
from metarl.errors import SettingError
from metarl.noise import Noise
from metarl.rl.adapters.together import TogetherAdapter
from metarl.rl.data.collect import Streams
from metarl.rl.data.rounds import gather
from metarl.rl.types import Act, RLAdapter


class Further(RLAdapter):
    """Does more after every update; its state is how much."""

    def begin(self, num_tasks, episodes_per_task=1, noise=None):
        return torch.zeros(())

    def act(self, state, obs, noise):
        return Act(action=state.expand(len(obs), 2).clone())

    def update(self, state, data, noise=None):
        return state + 0.1


class OnItself(Further):
    def begin(self, num_tasks, episodes_per_task=1, noise=None):
        self.kept = torch.zeros(())
        return self.kept

    def act(self, state, obs, noise):
        return super().act(self.kept, obs, noise)

    def update(self, state, data, noise=None):
        self.kept = self.kept + 0.1
        return self.kept


class InPlace(Further):
    def observe(self, state, obs, act, step):
        return state.add_(0.1)


class Forgets(Further):
    def update(self, state, data, noise=None):
        state + 0.1


class Plain(Further):
    def act(self, state, obs, noise):
        return super().act(state, obs, noise).action


class Observes(Further):
    def observe(self, state, obs, act, step):
        pass


def play(adapter, num_learners=1):
    env = envs.make("point_navigation_2d", 4, horizon=3)
    generators = [torch.Generator().manual_seed(seed) for seed in range(3)]
    reset, policy = (Noise(*[generator] * num_learners) for generator in generators[1:])
    streams = Streams(tasks=generators[0], reset=reset, policy=policy)
    tasks = env.prior.sample(2, generators[0])
    return gather(env, adapter, tasks, streams, num_tasks=2, num_updates=1, device="cpu")


def test_one_whose_states_are_values_passes():
    rollouts = play(Further())
    assert rollouts.query.action.max() == pytest.approx(0.1)
    together = play(TogetherAdapter([Further(), Further()]), 2)
    assert together.query.action.max() == pytest.approx(0.1)


@pytest.mark.parametrize("num_learners", [1, 2])
@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        (OnItself, "OnItself acts otherwise after an update, from the same state"),
        (InPlace, "InPlace acts otherwise after an episode, from the same state"),
        (Forgets, "Forgets.update returned None; expected the state after it"),
        (Observes, "Observes.observe returned None; expected the state after it"),
        (Plain, r"Plain.act returned a tensor \[\d, 2\] of float32; expected an Act"),
    ],
)
def test_one_that_is_not_is_told(adapter, message, num_learners):
    learners = [adapter() for _ in range(num_learners)]
    with pytest.raises(SettingError, match=message):
        play(TogetherAdapter(learners) if num_learners > 1 else learners[0], num_learners)


class Slowly(Further):
    rounds_per_update = 3


def test_steps_of_rounds_that_nobody_sees_count():
    assert play(Slowly()).num_steps == 4 * 4 * 3  # four episodes of three steps, four times
    assert play(Further()).num_steps == 2 * 4 * 3
