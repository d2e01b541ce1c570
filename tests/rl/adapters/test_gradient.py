"""A subclass of the gradient learner's adapter adapts in its own way, in training too. Its inner
steps as such are tested by the algorithms that take them (tests/rl/algorithms/test_maml.py)."""

import pytest
import torch
from support.gradient_learners import N, make

from metarl.core import params as P
from metarl.nn.heads import GaussianPolicy
from metarl.noise import Noise
from metarl.rl.adapters.gradient import GradientAdapter
from metarl.rl.adapters.together import TogetherAdapter
from metarl.rl.algorithms.maml_ppo import MamlPPO
from metarl.rl.data.rounds import gather
from metarl.rl.types import NotSteady, Step
from metarl.struct import replace

CONTEXT = {"latent_size": {}, "noise_size": {"context_size": 2}}
"""What a policy that holds something has beside it."""


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


@pytest.mark.parametrize("kind", ["latent_size", "noise_size"])
def test_what_is_held_can_be_drawn_anew_and_said(generator, kind):
    policy = GaussianPolicy(2, 2, (5, 4), **{kind: 2}, **CONTEXT[kind], generator=generator)
    params = P.detached(dict(policy.named_parameters()))
    adapter = GradientAdapter(policy, params, {}, make(MamlPPO)._inner)
    before = adapter.begin(3, 4, None)
    assert not before.episode_latent.value.any()
    drawn = adapter.redraw(before, Noise(generator))
    assert drawn.episode_latent.value.std() > 0.5
    density = torch.distributions.Normal(0, 1).log_prob(drawn.episode_latent.value).sum(-1)
    torch.testing.assert_close(drawn.episode_latent.log_prob, density)
    said = adapter.with_episode_latent(before, drawn.episode_latent.value[:, :3])
    torch.testing.assert_close(said.episode_latent.log_prob, density[:, :3])
    obs = torch.randn(9, 2, generator=generator)
    rows = obs.unflatten(0, (3, 3))
    both = torch.cat([rows, torch.zeros(3, 1, 2)], dim=1).flatten(0, 1)
    expected = adapter.act(drawn, both, None).action.unflatten(0, (3, 4))[:, :3].flatten(0, 1)
    torch.testing.assert_close(adapter.act(said, obs, None).action, expected)


def test_what_draws_no_latent_says_so(generator):
    policy = GaussianPolicy(2, 2, (5, 4), generator=generator)
    params = P.detached(dict(policy.named_parameters()))
    adapter = GradientAdapter(policy, params, {}, make(MamlPPO)._inner)
    state = adapter.begin(3, 4, None)
    assert adapter.redraw(state, Noise(generator)) is state
    with pytest.raises(ValueError, match="GradientAdapter draws no latent"):
        adapter.with_episode_latent(state, torch.zeros(3, 4, 1))


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
