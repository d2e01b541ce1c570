"""How PEARL's agent meets a new task: guesses from the prior, then from all that the trial has
shown."""

import gymnasium
import numpy as np
import pytest
import torch
from support.played import trajectories

from metarl.nn.task_posterior import product
from metarl.noise import Noise
from metarl.rl.adapters.posterior import PosteriorAdapter
from metarl.rl.models.pearl import PearlModel
from metarl.rl.types import Act, Step
from metarl.struct import replace

OBS = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
ACTIONS = gymnasium.spaces.Box(np.float32([-2, 0]), np.float32([2, 1]))


def model(**settings):
    sizes = {
        "latent_size": 3,
        "encoder_sizes": [8],
        "hidden_sizes": [8],
        "context_has_next_obs": False,
    }
    return PearlModel(OBS, ACTIONS, generator=torch.Generator().manual_seed(0), **sizes | settings)


def noise(seed=0):
    return Noise(torch.Generator().manual_seed(seed))


def expected_belief(of, *episodes, world):
    """The product of the factors of a world's steps that count."""
    factors = []
    for t in episodes:
        action = of.actions.to_unit(t.action)
        found = of.factors(t.step_obs, action, t.reward, t.next_obs)
        counts = (t.mask & ~t.diverged).flatten(0, 1)[world]
        factors.append([leaf.flatten(0, 1)[world][counts] for leaf in (found.mean, found.variance)])
    mean, variance = (torch.cat(leaves) for leaves in zip(*factors, strict=True))
    return product(replace(found, mean=mean, variance=variance))


@pytest.mark.parametrize("context_has_next_obs", [False, True])
def test_belief_is_the_product_over_all_steps_of_the_trial(generator, context_has_next_obs):
    of = model(context_has_next_obs=context_has_next_obs)
    adapter = PosteriorAdapter(of, exploration_episodes=1)
    lengths = [[4, 2], [1, 4]]
    first, second = (trajectories(generator, 2, 2, 4, lengths=lengths) for _ in range(2))
    first.diverged[1, 1, 3] = True
    state = adapter.begin(2, 2, noise())
    assert state.belief.kl_to_standard().tolist() == [0.0] * 4
    after = adapter.update(adapter.update(state, first, noise()), second, noise())
    for world in range(4):
        expected = expected_belief(of, first, second, world=world)
        torch.testing.assert_close(after.belief.mean[world], expected.mean)
        torch.testing.assert_close(after.belief.variance[world], expected.variance)
        torch.testing.assert_close(adapter.belief(after).mean[world], expected.mean)
        deviation = adapter.belief(after).deviation[world]
        torch.testing.assert_close(deviation * deviation, expected.variance)


def test_first_guesses_come_from_the_prior_and_are_drawn_anew(generator):
    adapter = PosteriorAdapter(model(), exploration_episodes=2)
    states = [adapter.begin(300, 1, noise(1))]
    for _ in range(2):
        states.append(
            adapter.update(states[-1], trajectories(generator, 300, 1, 3), noise(1 + len(states)))
        )
    for prior in states[:2]:
        assert prior.belief.kl_to_standard().abs().max() == 0
        assert prior.z.std().item() == pytest.approx(1.0, abs=0.1)
    assert not torch.equal(states[0].z, states[1].z)
    assert states[2].belief.kl_to_standard().min() > 0


def test_the_reward_that_training_gets_in_place_of_it_is_not_seen(generator):
    adapter, data = (
        PosteriorAdapter(model(), exploration_episodes=1),
        trajectories(generator, 2, 1, 4),
    )
    seen = adapter.update(adapter.begin(2), data)
    other = adapter.update(adapter.begin(2), replace(data, measured={"cost": data.reward + 1}))
    assert torch.equal(seen.belief.mean, other.belief.mean)


def test_a_context_of_the_training_size_is_drawn_from_the_own_steps_alone(generator):
    """With one step to draw from, 5 draws are that step five times."""
    of = model()
    adapter = PosteriorAdapter(of, exploration_episodes=1, context_size=5)
    data = trajectories(generator, 3, 1, 4, lengths=[[1], [4], [1]])
    after = adapter.update(adapter.begin(3, 1, noise()), data, noise())
    for world in (0, 2):
        once = expected_belief(of, data, world=world)
        torch.testing.assert_close(after.belief.variance[world], once.variance / 5)
        torch.testing.assert_close(after.belief.mean[world], once.mean)


def test_without_noise_a_context_and_the_guess_from_it_are_drawn_by_one_stream(generator):
    """One draw after the other, not the same numbers twice."""
    of = model()
    adapter = PosteriorAdapter(of, exploration_episodes=1, context_size=5)
    data = trajectories(generator, 3, 1, 4)
    after = adapter.update(adapter.begin(3), data)
    stream = noise(1)  # that of a guess after one episode
    stream.uniform(3, 5, dtype=torch.float64)
    expected = after.belief.at(stream.normal(*after.z.shape))
    torch.testing.assert_close(after.z, expected)


def test_draws_of_a_context_are_uniform_over_the_steps_that_count(generator):
    of = model(latent_size=1)
    adapter = PosteriorAdapter(of, exploration_episodes=1, context_size=1)
    num = 4000
    one = trajectories(generator, 1, 1, 4, lengths=[[3]])
    data = replace(
        one,
        **{
            k: getattr(one, k).expand(num, *getattr(one, k).shape[1:])
            for k in ("obs", "action", "reward", "mask", "diverged")
        },
    )
    after = adapter.update(adapter.begin(num, 1, noise()), data, noise(3))
    singles = of.factors(
        one.step_obs, of.actions.to_unit(one.action), one.reward, one.next_obs
    ).mean[0, 0, :, 0]
    shares = [
        (after.belief.mean[:, 0] - single).abs().lt(1e-6).float().mean().item()
        for single in singles[:3]
    ]
    assert shares == pytest.approx([1 / 3] * 3, abs=0.03)  # four standard errors


def test_a_trial_of_which_no_step_counts_leaves_the_prior(generator):
    adapter, data = (
        PosteriorAdapter(model(), exploration_episodes=1),
        trajectories(generator, 2, 1, 2),
    )
    data.diverged[0] = True
    for size in (None, 3):
        sized = PosteriorAdapter(model(), exploration_episodes=1, context_size=size)
        after = sized.update(adapter.begin(2), data, noise())
        assert after.belief.kl_to_standard()[0] == 0 and after.z.isfinite().all()


def test_without_noise_actions_are_modes_but_the_guess_is_a_draw_that_repeats(generator):
    of = model()
    adapter, obs = (
        PosteriorAdapter(of, exploration_episodes=1),
        torch.randn(3, 2, generator=generator),
    )
    state = adapter.begin(3)
    assert torch.equal(state.z, adapter.begin(3).z) and state.z.abs().min() > 0
    act = adapter.act(state, obs, None)
    torch.testing.assert_close(
        act.action, of.actions.to_env(of.outputs(obs, state.z)["mean"].tanh())
    )


def test_densities_are_over_the_actions_of_the_environment(generator):
    """The box has an area of 4 · 1, [−1, 1]² one of 4: half of each width, log 2 + log ½ = 0 in
    all; a box twice as wide in both directions has a density of a quarter."""
    wide = gymnasium.spaces.Box(np.float32([-4, -1]), np.float32([4, 1]))
    both = [
        PearlModel(
            OBS,
            space,
            latent_size=3,
            encoder_sizes=[8],
            hidden_sizes=[8],
            context_has_next_obs=False,
            generator=torch.Generator().manual_seed(0),
        )
        for space in (ACTIONS, wide)
    ]
    obs = torch.randn(3, 2, generator=generator)
    acts = []
    for of in both:
        adapter = PosteriorAdapter(of, exploration_episodes=1)
        acts.append(adapter.act(adapter.begin(3), obs, noise(4)))
    torch.testing.assert_close(acts[0].log_prob - acts[1].log_prob, torch.full((3,), 4.0).log())
    assert ACTIONS.contains(acts[0].action[0].numpy()) and wide.contains(acts[1].action[0].numpy())
    torch.testing.assert_close(
        both[0].actions.to_unit(acts[0].action), both[1].actions.to_unit(acts[1].action)
    )


def watched(adapter, data):
    """An episode of each task step by step: (state before the update, deviations [T, W], the last
    step)."""
    state = adapter.begin(len(data.mask), 1, noise())
    return watched_from(state, adapter, data)


def watched_from(state, adapter, data):
    """The same of an episode that begins in this state."""
    deviations = []
    for t in range(data.mask.shape[-1]):
        act = Act(action=data.action[:, 0, t])
        step = Step(
            next_obs=data.next_obs[:, 0, t],
            reward=data.reward[:, 0, t],
            terminated=data.terminated[:, 0, t],
            truncated=data.truncated[:, 0, t],
            diverged=data.diverged[:, 0, t],
            terms={},
        )
        deviations.append(adapter.measure(state, data.step_obs[:, 0, t], act, step))
        state = adapter.observe(state, data.step_obs[:, 0, t], act, step)
    return state, torch.stack([row["task deviation"] for row in deviations]), (act, step)


def test_what_is_known_of_the_task_is_measured_step_by_step(generator):
    """After the last step of an episode it is the posterior that the next one begins with."""
    of = model()
    adapter = PosteriorAdapter(of, exploration_episodes=1, is_watched=True)
    data = trajectories(generator, 2, 1, 4, lengths=[[4], [2]])
    state, found, last = watched(adapter, data)
    assert (found.diff(dim=0) <= 0).all() and found[0].max() < 1
    assert found[1, 1] == found[3, 1]  # What comes after the end tells nothing.
    after = adapter.update(state, data, noise())
    torch.testing.assert_close(found[-1], after.belief.variance.sqrt().mean(-1))
    torch.testing.assert_close(after.precision, after.belief.variance.reciprocal())
    unwatched = PosteriorAdapter(of, exploration_episodes=1)
    assert unwatched.measure(state, data.step_obs[:, 0, 0], *last) == {}


def test_a_step_whose_physics_blew_up_says_nothing_of_the_task(generator):
    adapter = PosteriorAdapter(model(), exploration_episodes=1, is_watched=True)
    data = trajectories(generator, 2, 1, 4)
    data.diverged[0, 0, 3] = True
    state, found, _ = watched(adapter, data)
    assert (found[3] < found[2]).tolist() == [False, True]
    after = adapter.update(state, data, noise())
    torch.testing.assert_close(state.precision, after.belief.variance.reciprocal())


def test_a_guess_can_be_drawn_anew(generator):
    adapter = PosteriorAdapter(model(), exploration_episodes=1)
    state = adapter.update(adapter.begin(1, 1, noise()), trajectories(generator, 1, 1, 4), noise())
    draws = torch.stack([adapter.redraw(state, noise(seed)).z[0] for seed in range(2000)])
    torch.testing.assert_close(draws.mean(0), state.belief.mean[0], atol=0.1, rtol=0)
    torch.testing.assert_close(draws.var(0), state.belief.variance[0], atol=0.1, rtol=0.1)


def test_when_adaptation_is_over_what_was_seen_counts_however_little_it_was(generator):
    """Recorded episodes may be fewer than a trial explores for."""
    of = model()
    adapter = PosteriorAdapter(of, exploration_episodes=2)
    start = adapter.begin(1, 1, noise())
    assert not adapter.concluded(start).z.any()  # the likeliest of the prior
    seen = trajectories(generator, 1, 1, 4)
    after = adapter.update(start, seen, noise())
    assert after.belief.kl_to_standard().item() == 0
    concluded = adapter.concluded(after)
    expected = expected_belief(of, seen, world=0)
    torch.testing.assert_close(concluded.belief.mean[0], expected.mean)
    torch.testing.assert_close(concluded.belief.variance[0], expected.variance)
    torch.testing.assert_close(concluded.z[0], expected.mean)
    longer = adapter.update(after, trajectories(generator, 1, 1, 4), noise())
    assert adapter.concluded(longer).belief is longer.belief


def test_the_task_is_known_in_the_next_episode_as_at_the_end_of_the_last(generator):
    adapter = PosteriorAdapter(model(), exploration_episodes=1, is_watched=True)
    state = adapter.begin(2, 1, noise())
    for lengths in ([[4], [2]], [[4], [4]]):
        data = trajectories(generator, 2, 1, 4, lengths=lengths)
        state, *_ = watched_from(state, adapter, data)
        state = adapter.update(state, data, noise())
        torch.testing.assert_close(state.precision, state.belief.variance.reciprocal())
