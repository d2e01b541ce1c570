"""What changes within an episode, by hand, for episodes of different lengths."""

import pytest
import torch

from metarl.rl.algorithms.shared import rollout_metrics
from metarl.rl.data.rounds import Rollouts
from metarl.rl.evaluation.within_episode import first_and_last_tenth, mean_in_tenths, profile
from metarl.rl.types import Trajectories
from metarl.run.shown import RETURNS
from metarl.struct import replace


def of_lengths(*lengths: int, horizon: int) -> torch.Tensor:
    """[1, E, T]"""
    return torch.arange(horizon) < torch.tensor(lengths)[None, :, None]


def test_tenths_are_of_an_episodes_own_length():
    """Rewards 1, 2, 3, ...: of 20 steps the first two and the last two; of 11 also two; of 1 its
    only step twice."""
    running = of_lengths(20, 11, 1, horizon=20)
    rewards = torch.arange(1.0, 21).expand(1, 3, 20) * running
    first, last = first_and_last_tenth(rewards, running)
    assert first.tolist() == [[1 + 2, 1 + 2, 1]]
    assert last.tolist() == [[19 + 20, 10 + 11, 1]]
    assert mean_in_tenths(rewards, running) == (pytest.approx(7 / 5), pytest.approx(61 / 5))


def test_what_lies_behind_the_end_does_not_count():
    running = of_lengths(5, horizon=20)
    first, last = first_and_last_tenth(torch.full((1, 1, 20), 7.0), running)
    assert (first.item(), last.item()) == (7.0, 7.0)


def test_profile_is_the_mean_of_the_steps_taken():
    """40 steps in 20 stretches of two. Both run in the first two; in the last only one does, and
    later none."""
    running = of_lengths(4, 38, horizon=40)
    rewards = torch.stack([torch.full((40,), 1.0), torch.full((40,), 3.0)]).unsqueeze(0) * running
    ends, values = profile(rewards, running)
    assert ends[:3] == [2, 4, 6] and ends[-1] == 40
    assert values[0, :3].tolist() == [2.0, 2.0, 3.0]
    assert values[0, -1].isnan()
    assert profile(rewards[..., :7], running[..., :7])[0] == [1, 2, 3, 4, 5, 6, 7]


def test_trials_of_one_episode_are_measured_within_it():
    """Two tasks of one episode of 10 steps with rewards 0, ..., 9 and twice that: 45 and 90, tenths
    0 and 9, 0 and 18."""
    rewards = torch.arange(10.0).expand(2, 1, 10) * torch.tensor([1.0, 2.0])[:, None, None]
    none = torch.zeros(2, 1, 10, dtype=torch.bool)
    rest = dict.fromkeys(("terminated", "truncated", "diverged"), none)
    zeros = {"obs": torch.zeros(2, 1, 11, 1), "action": torch.zeros(2, 1, 10, 1)}
    episodes = Trajectories(
        reward=rewards,
        log_prob=none.float(),
        mask=~none,
        measured={"prediction error": rewards / 3},
        **zeros,
        **rest,
    )
    found = rollout_metrics(
        Rollouts(support=(), query=episodes, oracle=torch.tensor([50.0, 100.0]))
    )
    assert found == {
        "env_steps": 20,
        "return": 67.5,
        "return_first_tenth": 0.0,
        "return_last_tenth": 13.5,
        "diverged_episodes": 0,
        "regret": 7.5,
        "prediction_error_first_tenth": 0.0,
        "prediction_error_last_tenth": 4.5,
    }
    # With a second episode there is a before and an after, and nothing else has changed.
    two = rollout_metrics(Rollouts(support=(episodes,), query=episodes))
    assert {"return_before", "return_after", "adaptation_gain"} <= set(two) and "return" not in two
    assert "entropy" not in two, "nobody says how likely the actions were"
    # Of the last episodes, and of them the steps that count.
    ended = torch.arange(10) >= 2
    likely = replace(
        episodes,
        log_prob=torch.where(ended, 99.0, 0.5).expand(2, 1, 10),
        mask=(~ended).expand(2, 1, 10),
    )
    assert rollout_metrics(Rollouts(support=(episodes,), query=likely))["entropy"] == -0.5
    assert RETURNS.text(found) == "return 67.5 (first tenth 0.0, last 13.5)"
    assert RETURNS.text(two) == "return 67.5 -> 67.5"
