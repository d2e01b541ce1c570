"""What learners are compared with: known returns are passed on, a scripted controller is played,
reference learners learn."""

from types import SimpleNamespace

import gymnasium
import pytest
import torch

from metarl.noise import Noise
from metarl.rl.data.collect import Streams
from metarl.rl.evaluation.curve import controller_outcomes
from metarl.rl.evaluation.references import reference_outcomes, stand_still_outcomes
from metarl.rl.types import Act, References, RLAdapter, Step
from metarl.struct import replace, struct


@struct
class Prize:
    prize: torch.Tensor  # [N] what action 1 pays


class Counter:
    """Two steps; action 1 pays the world's prize, action 0 nothing. The observation is the number
    of steps made."""

    spec = SimpleNamespace(horizon=2)
    observation_space = gymnasium.spaces.Box(0, 2, (1,))
    num_uniforms = 0

    def __init__(self, num_worlds, *, known=None, scripted=True, learners=None, tells=False):
        """tells: it has `success` at the second step where the prize is worth taking."""
        self.tells = tells
        self.num_worlds, self.known, self.scripted, self.learners = (
            num_worlds,
            known or {},
            scripted,
            learners or {},
        )

    def set_tasks(self, tasks):
        self.tasks = tasks

    def reset(self, uniform):
        self.num_steps = 0
        return torch.zeros(self.num_worlds, 1)

    def check(self):
        return

    def rest(self, worlds):
        return

    def step(self, action):
        self.num_steps += 1
        ended = torch.full((self.num_worlds,), self.num_steps >= 2)
        none = torch.zeros(self.num_worlds, dtype=torch.bool)
        return Step(
            next_obs=torch.full((self.num_worlds, 1), float(self.num_steps)),
            reward=action.float() * self.tasks.prize,
            terminated=none,
            truncated=ended,
            diverged=none,
            terms={"success": (self.num_steps - 1) * (self.tasks.prize > 0).float()}
            if self.tells
            else {},
        )

    @property
    def references(self):
        """Its scripted controller takes the prize in the second step only."""
        acts = {
            "stand_still": lambda: torch.zeros(self.num_worlds, dtype=torch.int64),
            "scripted": lambda: torch.full((self.num_worlds,), self.num_steps),
        }
        return References(
            **(acts if self.scripted else {}),
            known_returns=lambda tasks, num_episodes: {
                name: value(tasks, num_episodes) for name, value in self.known.items()
            },
            learners={3: self.learners}.__getitem__,
        )


class TriesOnce(RLAdapter[int]):
    """Takes the prize from its second episode on."""

    def begin(self, num_tasks, episodes_per_task=1, noise=None):
        return 0

    def act(self, state, obs, noise):
        if noise is not None:
            assert noise.device.type == "cpu"
            noise.uniform(1)  # not the learner's stream: `found` sees that it is left alone
        return Act(action=torch.full((len(obs),), int(state > 0)))

    def update(self, state, data, noise=None):
        return state + 1


PRIZES = Prize(prize=torch.tensor([3.0, -1.0]))


def found(env, num_updates=2):
    streams = Streams(
        tasks=torch.Generator().manual_seed(0),
        reset=Noise(torch.Generator().manual_seed(0)),
        policy=Noise(torch.Generator().manual_seed(0)),
    )
    before = streams.policy.alone.get_state(), streams.tasks.get_state()
    returns = reference_outcomes(env, PRIZES, streams, num_tasks=2, num_updates=num_updates)
    assert torch.equal(before[0], streams.policy.alone.get_state())
    assert torch.equal(before[1], streams.tasks.get_state())
    return returns


def test_known_returns_are_passed_on_and_may_differ_by_episode():
    def better_and_better(tasks, num_episodes):
        return tasks.prize[:, None] * torch.arange(num_episodes)

    env = Counter(
        4, known={"oracle": lambda tasks, _: 2 * tasks.prize, "bayes_optimal": better_and_better}
    )
    returns = found(env)
    assert returns["oracle"].returns.tolist() == [6.0, -2.0]
    assert returns["bayes_optimal"].returns.tolist() == [
        [[0.0], [3.0], [6.0]],
        [[0.0], [-1.0], [-2.0]],
    ]


def test_scripted_controller_is_asked_at_every_step_of_every_world():
    assert found(Counter(4))["scripted"].returns.tolist() == [
        [3.0, 3.0],
        [-1.0, -1.0],
    ]  # the second step's prize


def test_success_is_counted_of_all_who_play_where_the_environment_tells_it():
    env = Counter(4, learners={"tries_once": TriesOnce()}, tells=True)
    outcomes = found(env)
    assert outcomes["scripted"].success.tolist() == [[True, True], [False, False]]
    assert outcomes["tries_once"].success.tolist() == [[[True] * 2] * 3, [[False] * 2] * 3]
    assert found(Counter(4))["scripted"].success is None


def test_success_after_the_end_of_an_episode_does_not_count():
    env = Counter(4, tells=True)
    env.spec = SimpleNamespace(
        horizon=3
    )  # one step more than it ends after; at the third all are past their end
    still = torch.zeros(4, dtype=torch.int64)
    late = Prize(prize=torch.tensor([-1.0, -1.0]))

    def act():
        if env.num_steps == 2:
            env.prior = Prize(prize=torch.ones(4))
        return still

    outcomes = controller_outcomes(env, late, act, Noise(torch.Generator()), num_tasks=2)
    assert not outcomes.success.any()


def test_reference_learners_play_the_trial_as_any_learner_does():
    returns = found(Counter(4, learners={"tries_once": TriesOnce()}))["tries_once"].returns
    assert returns.tolist() == [
        [[0.0] * 2, [6.0] * 2, [6.0] * 2],
        [[0.0] * 2, [-2.0] * 2, [-2.0] * 2],
    ]


def test_an_environment_without_references_has_no_rows():
    env = Counter(4, scripted=False)
    assert found(env) == {}
    assert stand_still_outcomes(env, PRIZES, Noise(torch.Generator()), num_tasks=2) is None


def test_known_returns_of_another_shape_are_refused_by_name():
    env = Counter(4, known={"oracle": lambda tasks, _: torch.zeros(2, 5)})
    with pytest.raises(ValueError, match=r"oracle has shape \(2, 5\); expected \(2,\) or \(2, 3\)"):
        found(env)


def test_rewards_after_the_end_of_an_episode_do_not_count():
    class Short(Counter):
        spec = SimpleNamespace(horizon=3)

        def step(self, action):
            ends = torch.tensor([True, False])
            return replace(super().step(action), terminated=ends, truncated=torch.zeros_like(ends))

    still = lambda: torch.ones(2, dtype=torch.int64)
    found = controller_outcomes(Short(2), PRIZES, still, Noise(torch.Generator()), num_tasks=2)
    assert found.returns.tolist() == [[3.0], [-3.0]]
    assert found.steps.reward.tolist() == [[[3.0, 0.0, 0.0]], [[-1.0] * 3]]
