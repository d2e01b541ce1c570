"""What policy losses take out of trajectories, checked by hand on episodes of unequal length."""

import statistics

import pytest
import torch
from support.played import trajectories

from metarl.rl.baselines import linear_feature_baseline
from metarl.rl.data.batches import normalise, policy_batch
from metarl.rl.losses import reinforce
from metarl.rl.returns import discounted_returns
from metarl.rl.types import EpisodeLatent, Trajectories
from metarl.struct import map_tensors, replace

LENGTHS = torch.tensor([[2, 4, 1], [4, 4, 4]])
HORIZON = 4


@pytest.fixture
def episodes() -> Trajectories:
    """Two tasks of three episodes, those of the first ended early."""
    mask = torch.arange(HORIZON) < LENGTHS[..., None]
    last = torch.arange(HORIZON) == LENGTHS[..., None] - 1
    g = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    return Trajectories(
        obs=noise(2, 3, HORIZON + 1, 2),
        action=noise(2, 3, HORIZON, 1) * mask[..., None],
        log_prob=noise(2, 3, HORIZON) * mask,
        reward=noise(2, 3, HORIZON) * mask,
        terminated=last & (LENGTHS[..., None] < HORIZON),
        truncated=last & (LENGTHS[..., None] == HORIZON),
        diverged=torch.zeros_like(mask),
        mask=mask,
    )


@pytest.mark.parametrize("mean_over", ["steps", "episodes"])
def test_means_are_over_steps_or_over_episodes(episodes: Trajectories, mean_over: str) -> None:
    batch = policy_batch(episodes, discount=0.9, gae_lambda=1.0, mean_over=mean_over)
    log_prob = batch.log_prob + 1

    def mean(x: torch.Tensor, task: int) -> torch.Tensor:
        rows = x[task].unflatten(0, (3, HORIZON))
        parts = [row[:n] for row, n in zip(rows, LENGTHS[task], strict=True)]
        if mean_over == "steps":
            return torch.cat(parts).mean()
        return torch.stack([part.mean() for part in parts]).mean()

    for task in range(2):
        a = batch.advantage
        torch.testing.assert_close(mean(a, task), torch.zeros((), dtype=a.dtype))
        torch.testing.assert_close(mean(a.square(), task), torch.ones((), dtype=a.dtype))
        loss = reinforce(log_prob, a, batch.weight)[task]
        torch.testing.assert_close(loss, -mean(log_prob * a, task))
    assert (batch.advantage[~batch.mask] == 0).all()


def test_the_two_are_one_where_all_episodes_are_as_long(episodes: Trajectories) -> None:
    alike = map_tensors(lambda leaf: leaf[1:], episodes)
    steps, each = (
        policy_batch(alike, discount=0.9, gae_lambda=1.0, mean_over=mean_over)
        for mean_over in ("steps", "episodes")
    )
    torch.testing.assert_close(each.advantage, steps.advantage)


@pytest.mark.parametrize("gae_lambda", [0.6, 1.0])
def test_a_batch_step_by_step(episodes: Trajectories, gae_lambda: float) -> None:
    latent = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]).double()[..., None]
    t = replace(
        episodes, episode_latent=EpisodeLatent(value=latent, log_prob=torch.zeros(2, 3).double())
    )
    batch = policy_batch(t, discount=0.9, gae_lambda=gae_lambda)
    obs = torch.stack([torch.cat([t.step_obs[:, :, k], latent], -1) for k in range(HORIZON)], 2)
    returns = discounted_returns(t.reward, discount=0.9)
    value = linear_feature_baseline(obs, returns, t.mask)
    for task in range(2):
        found, expected = batch.advantage[task].tolist(), {}
        for episode in range(3):
            following = 0.0  # Nothing comes after an episode's end, of whichever kind.
            for k in reversed(range(int(LENGTHS[task, episode]))):
                ends = k == LENGTHS[task, episode] - 1
                later = 0.0 if ends else value[task, episode, k + 1].item()
                delta = t.reward[task, episode, k].item() + 0.9 * later
                delta -= value[task, episode, k].item()
                following = delta + 0.9 * gae_lambda * following
                row = episode * HORIZON + k
                expected[row] = following
                assert batch.obs[task, row].equal(obs[task, episode, k])
                assert batch.action[task, row].equal(t.action[task, episode, k])
                assert batch.log_prob[task, row].equal(t.log_prob[task, episode, k])
        mean, deviation = (of(expected.values()) for of in (statistics.fmean, statistics.pstdev))
        assert {row for row, is_step in enumerate(batch.mask[task]) if is_step} == set(expected)
        for row, advantage in expected.items():
            # 1e-8 counts: the baseline explains nearly all of so few steps.
            assert found[row] == pytest.approx((advantage - mean) / (deviation + 1e-8), rel=1e-6)


@pytest.mark.parametrize("mean_over", ["steps", "episodes"])
def test_what_a_blow_up_cuts_off_is_stood_for_by_its_value(
    episodes: Trajectories, mean_over: str
) -> None:
    """The first task's episode of two steps blew up at its second one; that of one step, too."""
    diverged = torch.zeros_like(episodes.mask)
    diverged[0, 0, 1] = diverged[0, 2, 0] = True
    t = replace(episodes, diverged=diverged)
    batch = policy_batch(t, discount=0.9, gae_lambda=0.6, mean_over=mean_over)
    untold = policy_batch(episodes, discount=0.9, gae_lambda=0.6, mean_over=mean_over)
    returns = discounted_returns(t.reward, discount=0.9)
    value = linear_feature_baseline(t.step_obs, returns, t.mask, ~t.diverged.any(-1))
    reward, v = t.reward[0].tolist(), value[0].tolist()
    raw = [reward[0][0] + 0.9 * v[0][1] - v[0][0]]
    following, whole = 0.0, []
    for k in reversed(range(4)):
        later = 0.0 if k == 3 else v[1][k + 1]
        following = reward[1][k] + 0.9 * later - v[1][k] + 0.9 * 0.6 * following
        whole.insert(0, following)
    raw, weights = raw + whole, [1, 1, 1, 1, 1] if mean_over == "steps" else [1, *[0.25] * 4]
    mean = sum(w * x for w, x in zip(weights, raw, strict=True)) / sum(weights)
    square = sum(w * (x - mean) ** 2 for w, x in zip(weights, raw, strict=True)) / sum(weights)
    rows = [0, 4, 5, 6, 7]
    assert batch.mask[0].nonzero().flatten().tolist() == rows
    assert batch.weight[0, rows].tolist() == weights
    expected = pytest.approx([(x - mean) / (square**0.5 + 1e-8) for x in raw], rel=1e-6)
    assert batch.advantage[0, rows].tolist() == expected
    assert not batch.weight[0, [1, 2, 3, 8]].any() and not batch.advantage[0, [1, 2, 3, 8]].any()
    assert batch.advantage[1].equal(untold.advantage[1])


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
@pytest.mark.parametrize("looks", [0.0, 8.0])
def test_a_step_that_leads_to_a_blow_up_earns_no_praise(share: float, looks: float) -> None:
    """Each step costs 1. The states before a blow-up are as others, or like none."""
    stream = torch.Generator().manual_seed(0)
    episodes, horizon, ends = 20, 100, 40
    obs = torch.randn(1, episodes, horizon + 1, 3, generator=stream).double()
    broken = torch.arange(episodes) < share * episodes
    obs[0, broken, ends - 10 : ends + 1] += looks
    mask = torch.ones(1, episodes, horizon, dtype=torch.bool)
    mask[0, broken, ends + 1 :] = False
    diverged, last = torch.zeros_like(mask), torch.zeros_like(mask)
    diverged[0, broken, ends] = True
    last[0, ~broken, -1] = True
    t = Trajectories(
        obs=obs,
        action=torch.zeros(1, episodes, horizon, 1).double(),
        reward=-(mask & ~diverged).double(),
        log_prob=torch.zeros(1, episodes, horizon).double(),
        terminated=diverged,
        truncated=last,
        diverged=diverged,
        mask=mask,
    )
    batch = policy_batch(t, discount=1.0, gae_lambda=1.0)
    advantage = batch.advantage.reshape(episodes, horizon)
    before = advantage[broken][:, [ends - 20, ends - 1]]
    assert (before.mean(0) < 0.5).all() and before.mean() < 0.3, before.mean(0)


@pytest.mark.parametrize("mean_over", ["steps", "episodes"])
def test_a_task_all_of_whose_worlds_blow_up_at_once_teaches_nothing(
    episodes: Trajectories, mean_over: str
) -> None:
    first = torch.zeros_like(episodes.mask)
    first[0, :, 0] = True
    t = replace(episodes, mask=episodes.mask.clone(), diverged=first)
    t.mask[0] = first[0]
    latent = EpisodeLatent(value=torch.zeros(2, 3, 1).double(), log_prob=torch.zeros(2, 3).double())
    t = replace(t, reward=t.reward * t.mask * ~first, episode_latent=latent)
    batch = policy_batch(t, discount=0.9, gae_lambda=0.6, mean_over=mean_over)
    assert not batch.advantage[0].any() and not batch.weight[0].any()
    assert batch.episode_advantage is not None and not batch.episode_advantage[0].any()
    assert reinforce(batch.log_prob, batch.advantage, batch.weight)[0] == 0
    assert batch.advantage[1].isfinite().all() and batch.advantage[1].any()


def test_latents_are_judged_by_returns_without_a_discount(episodes: Trajectories) -> None:
    latent, log_prob = torch.zeros(2, 3, 1).double(), torch.zeros(2, 3).double()
    with_latents = replace(episodes, episode_latent=EpisodeLatent(value=latent, log_prob=log_prob))
    batch = policy_batch(with_latents, discount=0.5, gae_lambda=1.0)
    assert batch.episode_advantage is not None
    for task in range(2):
        returns = [
            sum(reward[:n].tolist())
            for reward, n in zip(episodes.reward[task], LENGTHS[task], strict=True)
        ]
        mean, deviation = statistics.fmean(returns), statistics.pstdev(returns)
        # 1e-8 beside the deviation, which is near 1.
        expected = pytest.approx([(x - mean) / deviation for x in returns], rel=1e-7)
        assert batch.episode_advantage[task].tolist() == expected


@pytest.mark.parametrize("num", [3, 5, 20])
def test_what_is_all_the_same_is_judged_by_nothing(num: int) -> None:
    """Fifteen steps of -0.1 in every episode: their mean is not what each of them has."""
    returns = torch.full((2, num, 15), -0.1).sum(-1)
    assert not normalise(returns, torch.ones_like(returns)).any()
    returns[1, 0] += 1e-4  # more than rounding
    found = normalise(returns, torch.ones_like(returns))
    assert not found[0].any() and found[1].all()


def test_a_latent_whose_episode_blew_up_is_judged_by_nothing(generator):
    """Its return is cut short, which would be praise where rewards are negative."""
    played = trajectories(generator, 1, 4, 6)
    played.diverged[0, 3, 5] = True
    played.reward[0, 3] = 100.0
    latent = EpisodeLatent(value=torch.zeros(1, 4, 1), log_prob=torch.zeros(1, 4))
    batch = policy_batch(replace(played, episode_latent=latent), discount=0.9, gae_lambda=1.0)
    whole = played.returns[0, :3]
    expected = (whole - whole.mean()) / whole.std(correction=0)
    torch.testing.assert_close(batch.episode_advantage[0, :3], expected, rtol=1e-4, atol=1e-5)
    assert batch.episode_advantage[0, 3] == 0
