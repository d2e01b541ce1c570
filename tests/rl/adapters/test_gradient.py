"""A subclass of the gradient learner's adapter adapts in its own way, in training too. Its inner
steps as such are tested by the algorithms that take them (tests/rl/algorithms/test_maml.py)."""

import pytest
import torch
from support.gradient_learners import N, make

from metarl.rl.adapters.gradient import GradientAdapter
from metarl.rl.adapters.together import TogetherAdapter
from metarl.rl.algorithms.maml_ppo import MamlPPO
from metarl.rl.data.rounds import gather
from metarl.rl.types import NotSteady, Step
from metarl.struct import replace


class HalfWay(GradientAdapter):
    """Goes half of each inner step."""

    def update(self, state, data, noise=None):
        after = super().update(state, data, noise)
        return replace(
            after,
            params={
                name: state.params[name].lerp(after.params[name], 0.5) for name in after.params
            },
        )


class Watching(GradientAdapter):
    """Counts what it observes."""

    observed = 0

    def observe(self, state, obs, act, step):
        self.observed += 1
        return state


class Still(GradientAdapter):
    """Stands still."""

    def act(self, state, obs, noise):
        return replace(super().act(state, obs, noise), action=torch.zeros(len(obs), 2))


def gathered(kind, num_updates=1):
    """Rollouts by the adapter of this class, with θ and tasks that are the same in each call."""
    learner = make(MamlPPO)
    source = learner.source
    tasks = source.env.prior.sample(N, source.streams.tasks)
    adapter = kind(learner._policy, learner.params.theta, learner.params.rule, learner._inner)
    return learner, gather(
        *(source.env, adapter, tasks, source.streams),
        num_tasks=N,
        num_updates=num_updates,
        device="cpu",
    )


def test_training_adapts_by_the_update_of_a_subclass():
    learner, plain = gathered(GradientAdapter)
    _, halved = gathered(HalfWay)
    assert torch.equal(plain.support[0].action, halved.support[0].action)
    assert not torch.equal(plain.query.action, halved.query.action)
    for name, theta in learner.params.theta.items():
        whole, half = (rollouts.traces[0].adapted[name] for rollouts in (plain, halved))
        torch.testing.assert_close(half, (theta + whole) / 2)
    batches = [rollouts.traces[0].batch for rollouts in (plain, halved)]
    assert torch.equal(batches[0].advantage, batches[1].advantage)


def test_learners_whose_adapter_is_a_subclass_act_by_themselves_side_by_side():
    learner = make(MamlPPO)
    settings = (learner._policy, learner.params.theta, learner.params.rule, learner._inner)
    obs = torch.rand(4, 2)
    for kind in (GradientAdapter, Watching):
        adapters = [kind(*settings), kind(*settings)]
        together = TogetherAdapter(adapters)
        state = together.begin(4, 1, None)
        act = together.act(state, obs, None)
        assert (state.joint is None) == (kind is Watching)
        if kind is Watching:
            step = Step(
                next_obs=obs,
                reward=torch.zeros(4),
                terminated=torch.zeros(4, dtype=torch.bool),
                truncated=torch.zeros(4, dtype=torch.bool),
                diverged=torch.zeros(4, dtype=torch.bool),
                terms={},
            )
            together.observe(state, obs, act, step)
            assert [adapter.observed for adapter in adapters] == [1, 1]


def test_what_says_how_an_adapter_acts_is_not_inherited_by_one_that_acts_otherwise():
    learner = make(MamlPPO)
    settings = (learner._policy, learner.params.theta, learner.params.rule, learner._inner)
    obs = torch.rand(4, 2)
    for kind, is_as_parent in ((HalfWay, True), (Watching, False), (Still, False)):
        adapter = kind(*settings)
        state = adapter.begin(4, 1, None)
        assert (adapter.as_module(state, obs[0]) is not None) == is_as_parent
        assert (adapter.joined([state, state]) is not None) == is_as_parent
        if is_as_parent:
            assert adapter.steady(state, obs).state.num_updates == 0
        else:
            with pytest.raises(NotSteady, match=f"{kind.__name__} may decide in Python"):
                adapter.steady(state, obs)
