"""The trials of model-based learners: how they come back, make room, are forgotten, saved and
loaded."""

import pytest
import torch
from support.played import trajectories

from metarl.rl.data import trial_buffer
from metarl.rl.data.trial_buffer import TrialBuffer

CPU = torch.device("cpu")
O, A = 2, 2


def buffer(capacity=100, num_episodes=2, horizon=5) -> TrialBuffer:
    sizes = {
        "num_episodes": num_episodes,
        "horizon": horizon,
        "obs_size": O,
        "action_size": A,
        "device": CPU,
    }
    return TrialBuffer(capacity=capacity, **sizes)


def test_trials_come_back_as_they_were_played(generator):
    first, second = trajectories(generator, 3, 2, 5), trajectories(generator, 3, 2, 5)
    first.mask[1, 0, 3:] = False  # it terminated after three steps
    kept = buffer()
    kept.add([first, second])
    found = kept.transitions()
    assert len(kept) == 6
    for trial in range(6):
        for episode, played in enumerate((first, second)):
            for t in range(5):
                row = (trial, episode * 5 + t)
                world = (trial // 2, trial % 2, t)
                assert found.mask[row] == played.mask[world]
                if played.mask[world]:
                    for name, theirs in (
                        ("obs", "step_obs"),
                        *((x, x) for x in ("action", "next_obs", "reward")),
                    ):
                        torch.testing.assert_close(
                            getattr(found, name)[row], getattr(played, theirs)[world]
                        )


def test_windows_are_stretches_of_one_trial(generator):
    kept = buffer()
    kept.add([trajectories(generator, 3, 1, 5), trajectories(generator, 3, 1, 5)])
    whole, windows = kept.transitions(), kept.windows(120, 7, generator)
    starts = set()
    for window in range(120):
        match = (whole.obs[:, :4] == windows.obs[window, 0]).all(-1).nonzero()
        assert len(match) == 1  # 10 steps have 4 windows of 7
        trial, start = match[0].tolist()
        starts.add((trial, start))
        for name in ("obs", "action", "next_obs", "reward", "mask"):
            torch.testing.assert_close(
                getattr(windows, name)[window], getattr(whole, name)[trial, start : start + 7]
            )
    assert len(starts) == 12


def of_lengths(generator, *lengths):
    """Trials of two episodes that end after so many steps, and the rewards of these in a row."""
    first, second = (trajectories(generator, len(lengths), 1, 5) for _ in range(2))
    for trial, (early, late) in enumerate(lengths):
        first.mask[trial, 0, early:] = False
        second.mask[trial, 0, late:] = False
    kept = buffer()
    kept.add([first, second])
    played = [
        torch.cat([first.reward[trial, 0, :early], second.reward[trial, 0, :late]])
        for trial, (early, late) in enumerate(lengths)
    ]
    return kept, played


def test_windows_hold_steps_that_were_played(generator):
    """Not what lies between the end of an episode and its horizon."""
    kept, played = of_lengths(generator, (2, 5), (3, 1), (1, 0))
    windows, found = kept.windows(300, 5, generator), {0: 0, 1: 0, 2: 0}
    for reward, mask in zip(windows.reward, windows.mask, strict=True):
        trial = next(i for i, own in enumerate(played) if reward[-1] in own)
        own, found[trial] = reward[mask], found[trial] + 1
        start = played[trial].tolist().index(own[0])
        torch.testing.assert_close(own, played[trial][start : start + 5])
        assert mask[-1] and len(own) == min(5, len(played[trial]))
    assert min(found.values()) > 70  # of 100 expected; a deviation is 8


def test_whole_trials_have_no_gaps(generator):
    kept, played = of_lengths(generator, (2, 5), (3, 1), (1, 0))
    found = kept.whole(torch.tensor([2, 0]))
    assert found.mask.tolist() == [[True] + [False] * 6, [True] * 7]
    torch.testing.assert_close(found.reward[found.mask], torch.cat([played[2], played[0]]))
    separate = kept.transitions()
    for name in ("obs", "action", "next_obs"):
        both = [getattr(data, name)[i][data.mask[i]] for data, i in ((found, 1), (separate, 0))]
        torch.testing.assert_close(*both)


def test_a_trial_without_a_step_is_not_kept(generator):
    kept, played = of_lengths(generator, (0, 0), (2, 1), (0, 0))
    assert len(kept) == 1
    torch.testing.assert_close(kept.whole(torch.tensor([0])).reward[0], played[1])


def test_the_oldest_trials_are_dropped_first(generator):
    kept, batches = buffer(capacity=5), [trajectories(generator, 3, 1, 5) for _ in range(4)]
    for i in (0, 2):
        kept.add(batches[i : i + 2])
    assert len(kept) == 5
    torch.testing.assert_close(kept.transitions().reward[:2, :5], batches[0].reward[1:, 0])
    torch.testing.assert_close(kept.transitions().reward[2:, 5:], batches[3].reward[:, 0])


def test_a_diverged_step_is_not_kept(generator):
    played = trajectories(generator, 1, 1, 5)
    played.diverged[0, 0, 3], played.mask[0, 0, 4] = True, False
    kept = buffer(num_episodes=1)
    kept.add([played])
    assert kept.transitions().mask.tolist() == [[True, True, True, False, False]]


def test_numbers_that_are_not_finite_are_not_let_in(generator):
    kept, played = buffer(), trajectories(generator, 2, 1, 5)
    kept.add([played, played])
    bad = trajectories(generator, 2, 1, 5)
    bad.reward[1, 0, 2] = float("nan")
    with pytest.raises(
        FloatingPointError, match="tensor experience.trials.reward holds NaN or infinity"
    ):
        kept.add([played, bad])
    assert len(kept) == 2 and kept.transitions().reward.isfinite().all()


class PlainTrials:
    """The same in a list: rewards [E, T] of each trial."""

    def __init__(self, capacity):
        self.capacity, self.rewards = capacity, []

    def add(self, episodes):
        rewards = torch.stack([t.reward for t in episodes], dim=2).flatten(0, 1)
        self.rewards = [*self.rewards, *rewards][-self.capacity :]

    def agrees_with(self, kept):
        assert len(kept) == len(self.rewards)
        found = kept.transitions().reward.unflatten(1, (2, 5))
        torch.testing.assert_close(list(found), self.rewards, atol=0, rtol=0)


@pytest.mark.parametrize("capacity", [1, 4, 7, 100])
def test_it_keeps_what_a_list_keeps(capacity, generator):
    kept, plain = buffer(capacity), PlainTrials(capacity)
    for num in (3, 1, 2, 9, 1, 1, 5):
        episodes = [trajectories(generator, num, 1, 5) for _ in range(2)]
        kept.add(episodes), plain.add(episodes)
        plain.agrees_with(kept)


@pytest.mark.parametrize("capacity", [1, 4, 7, 100])
def test_forgetting_brings_back_what_made_room(capacity, generator):
    kept, plain = buffer(capacity), PlainTrials(capacity)
    for num in (3, 2, 6, 9, 1):
        mark = kept.mark()
        for more in (num, 2):
            kept.add([trajectories(generator, more, 1, 5) for _ in range(2)])
        kept.forget_since(mark)
        plain.agrees_with(kept)
        episodes = [trajectories(generator, num, 1, 5) for _ in range(2)]
        kept.add(episodes), plain.add(episodes)
    with pytest.raises(ValueError, match="mark 0: expected that of the last mark"):
        kept.forget_since(0)


@pytest.mark.parametrize("capacity", [1, 4, 7, 100])
@pytest.mark.parametrize("shard_bytes", [1, 400, 2**20])
def test_shards_make_the_same_again(capacity, shard_bytes, generator, monkeypatch):
    monkeypatch.setattr(trial_buffer, "SHARD_BYTES", shard_bytes)
    kept, saved = buffer(capacity), []
    for num in (3, 2, 6, 9, 1):
        kept.add([trajectories(generator, num, 1, 5) for _ in range(2)])
        saved += kept.shards(saved[-1].stop if saved else 0)
        held = [shard for shard in saved if set(range(shard.first, shard.stop)) & set(kept.kept())]
        again = buffer(capacity)
        again.load(held)
        assert again.kept() == kept.kept() and again.mark() == kept.mark()
        plain, found = kept.transitions(), again.transitions()
        torch.testing.assert_close(vars(found), vars(plain), atol=0, rtol=0)
        first, second = (torch.Generator().manual_seed(3) for _ in range(2))
        windows = [one.windows(9, 6, stream) for one, stream in ((kept, first), (again, second))]
        torch.testing.assert_close(*map(vars, windows), atol=0, rtol=0)


def test_shards_that_do_not_fit_are_named(generator):
    kept = buffer()
    for _ in range(3):
        kept.add([trajectories(generator, 2, 1, 5) for _ in range(2)])
    first, second = next(kept.shards(0)), next(kept.shards(4))
    with pytest.raises(ValueError, match="trials 6 to 4 are missing"):
        kept.load([first, second])
    with pytest.raises(ValueError, match="trials.action is missing"):
        kept.load([type(first)(first=0, stop=6, content={"obs": first.content["obs"]})])
