"""The replay beside plain lists: unequal episodes, rings that wrap around, contexts, sequences,
forgetting, saving, loading."""

from collections import Counter

import gymnasium
import pytest
import torch
from support.played import trajectories

from metarl.noise import Noise
from metarl.rl.data import replay as replay_module
from metarl.rl.data.replay import Replay
from metarl.run import memory
from metarl.struct import replace
from metarl.types import Shard

CPU = torch.device("cpu")
NUM_TASKS, T = 3, 6
FIELDS = ("obs", "action", "reward", "next_obs", "terminated", "first")


def make(capacity=20, num_tasks=NUM_TASKS, action_space=None):
    space = action_space or gymnasium.spaces.Box(-1, 1, (2,))
    return Replay(
        num_tasks=num_tasks, capacity=capacity, obs_size=2, action_space=space, device=CPU
    )


def noise(seed=0):
    return Noise(torch.Generator().manual_seed(seed))


class PlainReplay:
    """Lists of steps, each a dict; a trial is a list of steps."""

    def __init__(self, capacity):
        self.capacity = capacity
        self.trials = [[] for _ in range(NUM_TASKS)]  # (steps, use) of each task
        self.totals = [0] * NUM_TASKS

    def add(self, ids, *episodes, context="grows"):
        begun = set()
        for n, task in enumerate(ids.tolist()):
            for e in range(episodes[0].mask.shape[1]):
                trial = []
                for episode in episodes:
                    for t in range(episode.mask.shape[2]):
                        if episode.mask[n, e, t] and not episode.diverged[n, e, t]:
                            step = {name: getattr(episode, name)[n, e, t] for name in FIELDS[1:-1]}
                            trial.append(
                                step | {"obs": episode.obs[n, e, t], "first": torch.tensor(t == 0)}
                            )
                if trial:
                    self.trials[task].append(
                        (trial, "grows" if context == "begins" and task in begun else context)
                    )
                    begun.add(task)

    def kept(self, task):
        """(step, number of its trial, its number in the trial) of the last `capacity` ones."""
        steps = [
            (step, i, t)
            for i, (trial, _) in enumerate(self.trials[task])
            for t, step in enumerate(trial)
        ]
        return steps[-self.capacity :]

    def context(self, task):
        uses = [use for _, use in self.trials[task]]
        begun = max((i for i, use in enumerate(uses) if use == "begins"), default=0)
        return [step for step, i, _ in self.kept(task) if i >= begun and uses[i] != "stays"]

    def sequences(self, task, length):
        """The steps of each stretch, from trials of which all is there."""
        there = Counter(i for _, i, _ in self.kept(task))
        found = []
        for i, (trial, _) in enumerate(self.trials[task]):
            if there[i] == len(trial):
                starts = range(max(1, len(trial) - length + 1))
                found += [trial[start : start + length] for start in starts]
        return found


def same(found, b, i, step):
    return all(
        torch.equal(getattr(found, name)[b, i], step[name].to(getattr(found, name)))
        for name in FIELDS
    )


def agree(kept, plain, *, length=4):
    """All that can be drawn is drawn, and nothing else, each as it was lived."""
    assert kept.counts().tolist() == [len(plain.kept(task)) for task in range(NUM_TASKS)]
    for task in range(NUM_TASKS):
        ids = torch.tensor([task])
        for expected, draw in (
            ([step for step, _, _ in plain.kept(task)], kept.transitions),
            (plain.context(task), kept.context),
        ):
            if not expected:
                with pytest.raises(ValueError, match=f"task {task} has no "):
                    draw(ids, 1, noise())
                continue
            known = {step["reward"].item(): step for step in expected}
            found = draw(
                ids, 30 * len(expected), noise(task)
            )  # Each is left out with a probability of e⁻³⁰.
            assert set(found.reward[0].tolist()) == set(known) and found.mask.all()
            places = {reward: i for i, reward in enumerate(found.reward[0].tolist())}
            assert all(same(found, 0, places[reward], step) for reward, step in known.items())
        stretches = {
            stretch[0]["reward"].item(): stretch for stretch in plain.sequences(task, length)
        }
        if stretches:
            found = kept.sequences(ids.repeat(30 * len(stretches)), length, noise(task))
            assert set(found.reward[:, 0].tolist()) == set(stretches)
            places = {reward: b for b, reward in enumerate(found.reward[:, 0].tolist())}
            for reward, stretch in stretches.items():
                b = places[reward]
                assert found.mask[b].tolist() == [i < len(stretch) for i in range(length)]
                assert all(same(found, b, i, step) for i, step in enumerate(stretch))
                for name in FIELDS:
                    assert not getattr(found, name)[b, len(stretch) :].any()


def additions(generator, num=12, max_tasks=3):
    """(ids, episodes, context) of as many additions: one or two episodes of one or two trials of
    several tasks."""
    for i in range(num):
        num_tasks, num_trials = (
            int(torch.randint(1, most + 1, (), generator=generator)) for most in (max_tasks, 2)
        )
        ids = torch.randint(NUM_TASKS, (num_tasks,), generator=generator)
        if num_trials * len(ids) > 3:
            ids = ids.unique()
        episodes = []
        for _ in range(1 + i % 2):
            lengths = torch.randint(1, 4, (len(ids), num_trials), generator=generator)
            lengths[0, 0] = T if num_trials * len(ids) == 1 else lengths[0, 0]
            played = trajectories(generator, len(ids), num_trials, T, lengths=lengths.tolist())
            if i % 3 == 1:
                played.diverged[0, 0, int(lengths[0, 0]) - 1] = True
            episodes.append(played)
        yield ids, episodes, ("grows", "begins", "stays", "grows")[i % 4]


@pytest.mark.parametrize("capacity", [18, 25, 1000])
@pytest.mark.parametrize("seed", range(3))
def test_it_gives_what_plain_lists_give(capacity, seed):
    kept, plain = make(capacity), PlainReplay(capacity)
    for ids, episodes, context in additions(torch.Generator().manual_seed(seed)):
        kept.add(ids, *episodes, context=context), plain.add(ids, *episodes, context=context)
        agree(kept, plain)


@pytest.mark.parametrize("capacity", [18, 25, 1000])
def test_forgetting_brings_back_what_made_room(capacity, generator):
    kept, plain = make(capacity), PlainReplay(capacity)
    mistakes = additions(torch.Generator().manual_seed(8), num=40)
    for ids, episodes, context in additions(generator):
        mark = kept.mark()
        for _ in range(2):
            wrong_ids, wrong, use = next(mistakes)
            kept.add(wrong_ids, *wrong, context=use)
        kept.forget_since(mark)
        agree(kept, plain)
        kept.add(ids, *episodes, context=context), plain.add(ids, *episodes, context=context)
    with pytest.raises(ValueError, match="mark 0: expected that of the last mark"):
        kept.forget_since(0)


def draws(kept, ids):
    stream = noise(5)
    steps = [
        kept.transitions(ids, 50, stream),
        kept.context(ids, 50, stream),
        kept.sequences(ids, 4, stream),
    ]
    return [vars(drawn) for drawn in steps]


@pytest.mark.parametrize("capacity", [18, 25, 1000])
@pytest.mark.parametrize("shard_bytes", [1, 500, 2**20])
@pytest.mark.parametrize("seed", range(2))
def test_the_shards_that_are_still_held_make_the_same_again(
    capacity, shard_bytes, seed, monkeypatch
):
    """Files without a trial that is still there are left out, as a run removes them."""
    monkeypatch.setattr(replay_module, "SHARD_BYTES", shard_bytes)
    kept, saved, left_out = make(capacity), [], 0
    for i, (ids, episodes, context) in enumerate(
        additions(torch.Generator().manual_seed(seed), num=24)
    ):
        kept.mark()
        kept.add(ids, *episodes, context=context)
        if i % 3 < 2:  # Several additions between two checkpoints.
            continue
        saved += kept.shards(saved[-1].stop if saved else 0)
        held = [
            shard
            for shard in saved
            if any(shard.first <= number < shard.stop for number in kept.kept())
        ]
        left_out += len(saved) - len(held)
        again = make(capacity)
        again.load(held)
        assert again.kept() == kept.kept() and again.mark() == kept.mark()
        tasks = torch.tensor([task for task in range(NUM_TASKS) if kept.counts()[task]])
        try:
            expected = draws(kept, tasks)
        except ValueError as error:  # A task without a context, or a whole trial.
            with pytest.raises(ValueError, match=str(error)):
                draws(again, tasks)
            continue
        torch.testing.assert_close(draws(again, tasks), expected, atol=0, rtol=0)
    assert left_out > 0 or capacity == 1000 or shard_bytes > 500


def test_a_task_that_is_drawn_often_leaves_a_gap_in_the_files(generator):
    """Of three files the middle one, all of whose steps have made room, is gone; the first holds
    steps of a rare task."""
    kept, saved = make(T), []
    for ids in ([0, 1], [0], [0]):
        kept.add(torch.tensor(ids), trajectories(generator, len(ids), 1, T))
        saved += kept.shards(saved[-1].stop if saved else 0)
    assert kept.kept() == [1, 3]
    again = make(T)
    again.load([saved[0], saved[2]])
    assert again.kept() == [1, 3]
    ids = torch.tensor([0, 1])
    torch.testing.assert_close(draws(again, ids), draws(kept, ids), atol=0, rtol=0)
    following = trajectories(generator, 1, 1, T, lengths=[[4]])
    for one in (kept, again):
        one.add(torch.tensor([0]), following)
    torch.testing.assert_close(draws(again, ids[1:]), draws(kept, ids[1:]), atol=0, rtol=0)
    assert again.counts().tolist() == kept.counts().tolist() == [6, 6, 0]


def test_every_step_has_the_same_chance(generator):
    kept = make(20, num_tasks=1)
    for length in (2, 6, 6, 5, 6):  # 25 steps, of which 20 are kept
        kept.add(torch.tensor([0]), trajectories(generator, 1, 1, T, lengths=[[length]]))
    found = Counter(
        kept.transitions(torch.tensor([0, 0]), 10_000, noise()).reward.flatten().tolist()
    )
    # Of 20 000 draws 1000 ± 31 (standard deviation) are of each; 5 deviations miss in one of 10⁵
    # tests.
    assert len(found) == 20 and max(abs(count - 1000) for count in found.values()) < 5 * 31


def test_streams_side_by_side_draw_what_each_would_alone(generator):
    kept = make()
    kept.add(torch.tensor([0, 1, 2, 0]), trajectories(generator, 4, 1, T))
    ids = torch.tensor([0, 1, 2, 2])
    both = kept.transitions(
        ids, 5, Noise(*(torch.Generator().manual_seed(seed) for seed in (1, 2)))
    )
    alone = [kept.transitions(part, 5, noise(seed)) for part, seed in ((ids[:2], 1), (ids[2:], 2))]
    assert torch.equal(both.reward, torch.cat([one.reward for one in alone]))


def test_costs_are_kept_beside_rewards_where_they_are_asked_for(generator):
    space, sizes = (
        gymnasium.spaces.Box(-1, 1, (2,)),
        {"num_tasks": 1, "capacity": 20, "obs_size": 2},
    )
    kept, again = (Replay(action_space=space, device=CPU, has_cost=True, **sizes) for _ in range(2))
    played = trajectories(generator, 1, 1, T, lengths=[[4]])
    played = replace(played, measured={"cost": 2 * played.reward + 1})
    kept.add(torch.tensor([0]), played)
    again.load(kept.shards(0))
    for one in (kept, again):
        found = one.transitions(torch.tensor([0]), 30, noise())
        assert torch.equal(found.cost, 2 * found.reward + 1)
        found = one.sequences(torch.tensor([0]), T, noise())
        assert torch.equal(found.cost, (2 * found.reward + 1) * found.mask)
    with pytest.raises(KeyError, match="cost"):
        kept.add(torch.tensor([0]), trajectories(generator, 1, 1, T))
    without = Replay(action_space=space, device=CPU, **sizes)
    without.add(torch.tensor([0]), played)
    assert without.transitions(torch.tensor([0]), 3, noise()).cost is None


def test_discrete_actions_are_kept_as_numbers(generator):
    kept = make(action_space=gymnasium.spaces.Discrete(3))
    played = trajectories(generator, 1, 1, T)
    kept.add(torch.tensor([1]), replace(played, action=torch.arange(T)[None, None] % 3))
    found = kept.transitions(torch.tensor([1]), 60, noise())
    assert found.action.shape == (1, 60) and found.action.dtype == torch.int64
    assert set(found.action[0].tolist()) == {0, 1, 2}


def test_what_is_not_finite_or_does_not_fit_is_refused_as_a_whole(generator):
    kept, good = make(capacity=10), trajectories(generator, 2, 1, T)
    kept.add(torch.tensor([0, 1]), good)
    bad = trajectories(generator, 2, 1, T)
    bad.obs[1, 0, T] = float("inf")
    wrong = [
        (FloatingPointError, "tensor experience.replay.next_obs holds NaN", [0, 1], bad),
        (ValueError, "replay_capacity 10: task 2 gets 12 steps at once", [2, 2], good),
        (ValueError, "task 3: expected 0 to 2", [0, 3], good),
        (ValueError, r"task ids are torch.int64 \(1,\); expected torch.int64 \(2,\)", [0], good),
    ]
    for kind, message, ids, played in wrong:
        with pytest.raises(kind, match=message):
            kept.add(torch.tensor(ids), played)
    assert kept.counts().tolist() == [6, 6, 0] and kept.mark() == 2
    unmasked = replace(
        bad, mask=bad.mask & torch.tensor([True] * (T - 1) + [False])
    )  # What means nothing may be anything.
    kept.add(torch.tensor([2, 2]), unmasked)


@pytest.mark.parametrize(
    ("num_tasks", "capacity", "name"), [(0, 5, "num_tasks 0"), (5, 0, "replay_capacity 0")]
)
def test_sizes_below_one_are_named(num_tasks, capacity, name):
    with pytest.raises(ValueError, match=f"{name}: expected 1 or more"):
        make(num_tasks=num_tasks, capacity=capacity)


def test_memory_is_told_before_it_is_taken_and_refused_when_it_is_not_there(generator, monkeypatch):
    kept = make(capacity=1000)
    # 2 observations of 2 numbers, 2 actions, a reward of 4 bytes each, 2 flags: 7 · 4 + 2 = 30
    # bytes
    assert kept.reserve().num_bytes == 3 * 1000 * 30
    monkeypatch.setattr(memory, "available", lambda device: 2**20)
    line = "replay_capacity 1000: 3 tasks × 1000 transitions of 30 bytes: 87.9 KiB of memory on cpu, of 1.0 MiB free"
    assert memory.check_fits(kept) == line
    monkeypatch.setattr(memory, "available", lambda device: 80_000)
    with pytest.raises(
        memory.UserError,
        match=r"87.9 KiB of memory on cpu, but 78.1 KiB are free there; expected a sma",
    ):
        memory.check_fits(kept)
    kept.add(torch.tensor([0]), trajectories(generator, 1, 1, T))
    assert (
        kept.reserve() is None
        and memory.check_fits(kept) is None
        and memory.check_fits(None) is None
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: c | {"rows": c["rows"] | {"reward": c["rows"]["reward"][:-1]}},
            "replay.rows.reward is a tensor",
        ),
        (lambda c: c | {"rows": {}}, "replay.rows.obs is missing"),
        (lambda c: {"rows": c["rows"]}, "replay.trials is missing"),
        (
            lambda c: c | {"trials": c["trials"] + torch.tensor([0, 7, 0, 0, 0, 0])},
            "task=7.*3 tasks that keep 20",
        ),
        (lambda c: c | {"trials": c["trials"][:, :4]}, "replay.trials is a tensor"),
        (
            lambda c: c | {"rows": c["rows"] | {"reward": c["rows"]["reward"] / 0}},
            "replay.rows.reward holds NaN",
        ),
    ],
)
def test_shards_that_do_not_fit_are_named(change, message, generator):
    kept = make()
    kept.add(torch.tensor([0, 1]), trajectories(generator, 2, 1, T))
    (shard,) = kept.shards(0)
    with pytest.raises(ValueError, match=message):
        make().load([Shard(first=shard.first, stop=shard.stop, content=change(shard.content))])
    with pytest.raises(ValueError, match="steps 0 to 6 of task 0 come twice"):
        make().load(
            [
                shard,
                replace(
                    shard,
                    first=2,
                    stop=4,
                    content=shard.content
                    | {"trials": shard.content["trials"] + torch.tensor([2, 0, 0, 0, 0, 0])},
                ),
            ]
        )


def test_what_was_forgotten_is_not_drawn(generator):
    kept, task = make(100), torch.tensor([0])
    first, second = (trajectories(generator, 1, 1, 4) for _ in range(2))
    kept.add(task, first)
    mark = kept.mark()
    kept.add(task, second)
    kept.transitions(task, 5, noise())
    kept.forget_since(mark)
    assert torch.isin(kept.transitions(task, 200, noise()).reward, first.reward).all()


def test_where_all_episodes_diverged_at_once_there_is_nothing_to_draw(generator):
    """To a training loop that is a divergence: the iteration is undone, and what was before saved."""
    kept, task = make(100), torch.tensor([0])
    played = trajectories(generator, 1, 2, T, lengths=[[1, 1]])
    played.diverged[..., 0] = True
    kept.add(task, played)
    for draw in (kept.transitions, lambda *given: kept.sequences(given[0], 3, given[2])):
        with pytest.raises(FloatingPointError, match="task 0 has no .*diverged at their first"):
            draw(task, 1, noise())
