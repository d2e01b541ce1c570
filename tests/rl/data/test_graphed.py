"""Rollouts that are replayed from graphs, beside the same ones step by step. Without a GPU the graphs
are emulated: support/emulated_graphs.py."""

import copy
import logging

import pytest
import torch
import torch.utils._pytree as pytree
from omegaconf import OmegaConf
from support.emulated_graphs import EmulatedGraphs
from torch import Tensor

import envs
from envs import episodes
from envs.mujoco import variant
from envs.mujoco.env import MujocoEnv
from metarl.cli import build
from metarl.cli.configs import CONFIGS, composed
from metarl.noise import Noise
from metarl.rl.adapters.together import TogetherAdapter
from metarl.rl.data import graphed
from metarl.rl.data.collect import Streams, collect
from metarl.rl.data.cuda_graphs import CudaGraphs
from metarl.rl.types import Act, RLAdapter, Steady
from metarl.run.seeding import Generators
from metarl.struct import map_tensors

NUM_TASKS, EPISODES = 2, 2
CPU = torch.device("cpu")


@pytest.fixture
def emulated(monkeypatch):
    """Lets graphs be emulated, and actions go unread, as they do on a GPU. Gives those that are
    made."""
    monkeypatch.setattr(episodes, "_check_values", lambda *_: None)
    monkeypatch.setattr(graphed, "CudaGraphs", EmulatedGraphs)
    monkeypatch.setattr(EmulatedGraphs, "made", [])
    graphed._say.cache_clear()
    return EmulatedGraphs.made


def compose(*words):
    sizes = [f"algo.meta_batch_size={NUM_TASKS}", "sim.num_threads=1"]
    return OmegaConf.create(composed("train", [*words, *sizes], [CONFIGS])[0])


HORIZON = 5


class Played:
    """Who plays in an environment of his own, with streams of his own: two of these have the same
    numbers, if they do the same."""

    def __init__(self, config, *, graphs, seeds=(0,), device=CPU):
        generators = [Generators(seed) for seed in seeds]
        num_tasks = NUM_TASKS * len(seeds)
        self.env = build.training_environment(config, device, num_tasks * EPISODES)
        self.env.graphs = [] if graphs else None
        learners = [build.learner(config, self.env, own, device) for own in generators]
        adapters = [learner.adapter() for learner in learners]
        self.adapter = adapters[0] if len(seeds) == 1 else TogetherAdapter(adapters)
        streams = [build.streams(own, device) for own in generators]
        self.streams = Streams(
            tasks=streams[0].tasks,
            reset=Noise(*(one.reset.alone for one in streams)),
            policy=Noise(*(one.policy.alone for one in streams), device=device),
        )
        self.device = device
        self.num_tasks = num_tasks

    def episodes(self, **how):
        """The episodes that it plays before it adapts to them."""
        self.state = self.adapter.begin(self.num_tasks, EPISODES, self.streams.policy)
        for _ in range(2):
            tasks = self.env.prior.sample(self.num_tasks, self.streams.tasks)
            settings = {"episodes_per_task": EPISODES, "device": self.device, **how}
            played = collect(self.env, self.adapter, self.state, tasks, self.streams, **settings)
            self.state = self.adapter.update(played[1], played[0], self.streams.policy)
        return played[0]


def both(words, horizon, **how):
    """One who plays from graphs, and one who doesn't."""
    config = compose(*words, f"env.horizon={horizon}")
    return [Played(config, graphs=graphs, **how) for graphs in (True, False)]


def assert_same(ours, theirs):
    ours, theirs = (pytree.tree_flatten(tree) for tree in (ours, theirs))
    assert ours[1] == theirs[1]
    for a, b in zip(ours[0], theirs[0], strict=True):
        assert torch.equal(a, b) if isinstance(a, Tensor) else a == b


SMALL = ("model.hidden_sizes=[8]", f"algo.episodes_per_task={EPISODES}")
TRIALS = ("model.head_sizes=[8]", f"algo.trials_per_task={EPISODES}")
PLANNER = (
    *("algo=grbal", "algo.planner.horizon=2", "algo.planner.num_candidates=4"),
    *(
        "algo.planner.num_elites=2",
        "algo.num_past=1",
        "algo.num_future=1",
        "model.hidden_sizes=[4]",
    ),
)
CASES = {
    "cheetah": ("env=half_cheetah_vel", "algo=maml_ppo", *SMALL),
    "cheetah's mass centre": ("env=half_cheetah_dir_maml", "algo=maml_trpo", *SMALL),
    "a motor that dies": (
        *("env=half_cheetah_cripple", "env.fails_at_step=3", "algo=promp", "model=mlp", *SMALL),
    ),
    "ant": ("env=ant_goal_sparse", "algo=maesn", *SMALL),
    "swimmer, whose task is seen": (
        *("env=swimmer_vel", "env.shows_task=true", "algo=maml_ppo", "model=mlp", *SMALL),
    ),
    "walker": ("env=walker2d_rand_params_pearl", "algo=dice_maml", "model=mlp", *SMALL),
    "arm": ("env=arm_grasp", "algo=maml_ppo", *SMALL),
    "varibad": (
        *("env=half_cheetah_dir", "algo=varibad", "model.encoder.hidden_size=8"),
        f"algo.trials_per_task={EPISODES}",
    ),
    "gru": (
        *("env=half_cheetah_vel", "algo=rl2_ppo", "model=gru", "model.memory.hidden_size=8"),
        *TRIALS,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_replayed_rollouts_are_those_that_are_played_step_by_step(case, emulated):
    ours, theirs = both(CASES[case], HORIZON)
    for _ in range(2):  # of two rollouts each, before and after an update
        found, expected = ours.episodes(), theirs.episodes()
        assert_same(found, expected)
        assert_same(ours.state, theirs.state)
    (graphs,) = emulated
    # The first step warms up, the second is recorded, and all others are replayed: two parts each.
    assert (graphs.num_warmed_up, graphs.num_replays) == (1, 2 * (2 * 2 * HORIZON - 1))


@pytest.mark.parametrize("case", ["cheetah", "gru"])
def test_several_seeds_are_replayed_together(case, emulated):
    ours, theirs = both(CASES[case], HORIZON, seeds=(3, 1))
    for _ in range(2):
        assert_same(ours.episodes(), theirs.episodes())
    assert [len(graphs.operations) for graphs in emulated] == [2]


def test_episodes_that_end_early_are_masked_as_ever(emulated, monkeypatch):
    ours, theirs = both(CASES["cheetah"], HORIZON)
    for one in (ours, theirs):
        monkeypatch.setattr(one.env.mdp, "terminated", lambda sim: sim.qvel[:, 0] > 0.2)
    for _ in range(2):
        found = ours.episodes()
        assert_same(found, theirs.episodes())
        assert 0 < found.terminated.any(-1).sum() < NUM_TASKS * EPISODES


def test_what_a_learner_learns_in_place_is_seen_by_the_next_rollout(emulated):
    ours, theirs = both(CASES["gru"], HORIZON)
    for _ in range(2):
        for one in (ours, theirs):
            for parameter in one.adapter._model.parameters():
                parameter.data.mul_(1.5)
        assert_same(ours.episodes(), theirs.episodes())
    assert len(emulated) == 1


def test_who_acts_otherwise_has_a_recording_of_his_own(emulated):
    config = compose(*CASES["cheetah"], f"env.horizon={HORIZON}")
    ours, other = Played(config, graphs=True), Played(config, graphs=True, seeds=(1,))
    modes = ours.episodes(deterministic=True)
    assert not torch.equal(modes.action, ours.episodes().action)
    assert_same(modes, Played(config, graphs=False).episodes(deterministic=True))
    assert len(emulated) == len(ours.env.graphs) == 2
    other.env, first = ours.env, ours.env.graphs[0]
    other.episodes()
    assert len(emulated) == 3
    for _ in range(graphed.MOST - 2):
        other.adapter._policy = copy.deepcopy(other.adapter._policy)
        other.episodes()
    assert first not in ours.env.graphs and len(ours.env.graphs) == graphed.MOST


def test_what_was_recorded_belongs_to_one_environment(emulated, monkeypatch):
    # All episodes have ended when it steps on.
    monkeypatch.setattr(MujocoEnv, "rest", lambda env, worlds: None)
    ours, theirs = both(CASES["cheetah"], HORIZON)
    ours.episodes(), theirs.episodes()
    other, action = copy.deepcopy(ours.env), torch.full((NUM_TASKS * EPISODES, 6), 0.5)
    assert other.graphs == [] and len(ours.env.graphs) == 1
    expected = theirs.env.step(action)
    for env in (ours.env, other):
        assert_same(env.step(action), expected)  # It goes on where the graphs ended.
    ours.env.close()
    assert ours.env.graphs == []


WAITS = {
    "a value that is read": lambda x: x * x.sum().item(),
    "a constant of Python's": lambda x: x * torch.tensor([2.0]),
    "a flag that is counted": lambda x: x + x[x > 0].sum(),
    "another's random numbers": lambda x: x + torch.rand(1),
}


@pytest.mark.parametrize("what", WAITS)
def test_what_cannot_be_recorded_goes_on_by_single_kernels_and_is_told_once(
    what, emulated, monkeypatch, caplog
):
    monkeypatch.setattr(EmulatedGraphs, "breaks_off_as_cuda_does", True)
    ours, theirs = both(CASES["cheetah"], HORIZON)
    for one in (ours, theirs):
        measure = one.env.mdp.reward
        paid = lambda *args, measure=measure: (WAITS[what](measure(*args)[0]), {})
        monkeypatch.setattr(one.env.mdp, "reward", paid)
    with caplog.at_level(logging.WARNING, logger="metarl"):
        for _ in range(2):
            torch.manual_seed(0)
            found = ours.episodes()
            torch.manual_seed(0)
            assert_same(found, theirs.episodes())
    assert caplog.messages == [
        "control steps can't be recorded as CUDA graphs, so their kernels are launched one by one, "
        "which is slower: the recording has broken off"
    ]
    assert len(emulated) == 1 and ours.env.graphs is None


def test_where_memory_is_too_small_for_recordings_there_are_none(emulated, monkeypatch, caplog):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB.\nMore of it")

    monkeypatch.setattr(graphed, "CudaGraphs", full)
    ours, theirs = both(CASES["cheetah"], HORIZON)
    assert_same(ours.episodes(), theirs.episodes())
    assert caplog.messages[0].endswith("slower: CUDA out of memory. Tried to allocate 3 GiB.")
    assert ours.env.graphs is None and len(caplog.messages) == 1


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (
            ("algo=rl2_ppo", "model=transformer", "model.memory.context=50"),
            "its memory, Transformer, grows at every step",
        ),
        (PLANNER, "PlanningAdapter may decide in Python what it does"),
    ],
)
def test_who_cannot_be_recorded_says_once_why(words, reason, emulated, caplog):
    config = compose(
        *("env=half_cheetah_vel", "env.horizon=3", f"algo.trials_per_task={EPISODES}", *words)
    )
    ours, theirs = (Played(config, graphs=graphs) for graphs in (True, False))
    with caplog.at_level(logging.WARNING, logger="metarl"):
        for _ in range(2):
            assert_same(ours.episodes(), theirs.episodes())
    assert caplog.messages == [
        f"control steps aren't recorded as CUDA graphs, which would be faster: {reason}"
    ]
    assert emulated == []


class Remembering(RLAdapter[tuple[Tensor, ...]]):
    """Acts by the observations of the last three steps, which it keeps as they are."""

    def begin(self, num_tasks, episodes_per_task=1, noise=None):
        return (torch.zeros(num_tasks * episodes_per_task, 17),) * 2

    def act(self, state, obs, noise):
        return Act(action=(obs + 0.5 * state[0] - 0.25 * state[1])[:, :6])

    def observe(self, state, obs, act, step):
        return (obs, state[0])

    def steady(self, state, obs):
        return Steady(state=state, reads=())


class Growing(Remembering):
    steady = Remembering.steady  # said, not inherited: wrongly

    def observe(self, state, obs, act, step):
        return (torch.cat([obs, obs]), state[0])


def test_a_state_may_keep_the_very_observation(emulated):
    ours, theirs = both(CASES["cheetah"], HORIZON)
    for one in (ours, theirs):
        one.adapter = Remembering()
    assert_same(ours.episodes(), theirs.episodes())
    assert_same(ours.state, theirs.state)


def test_a_state_that_is_not_steady_is_refused(emulated):
    ours = Played(compose(*CASES["cheetah"], f"env.horizon={HORIZON}"), graphs=True)
    ours.adapter = Growing()
    with pytest.raises(ValueError, match="what a step leaves differs in types or shapes"):
        ours.episodes()


def test_only_on_a_gpu_there_are_graphs_and_only_if_wanted(monkeypatch):
    def make(graphs):
        return envs.make("half_cheetah_vel", 1, machine=envs.Machine(graphs=graphs)).graphs

    assert make(True) is None
    on_cpu = variant.simulator

    def on_gpu(*args, **settings):
        sim = on_cpu(*args, **settings)
        sim.device = torch.device("cuda")
        return sim

    monkeypatch.setattr(variant, "simulator", on_gpu)
    assert make(True) == [] and make(False) is None


def assert_parts_do_what_they_record(played):
    """Replays each part of a step, and runs it from the same state: it leaves the same bits."""
    played.episodes()
    (rollout,) = played.env.graphs
    env, noise, recorded = played.env, played.streams.policy.alone, rollout._act
    rollout._begin(played.state, env.reset(played.streams.reset.starts(env)))
    for t in range(2):
        drawn, ctrl = noise.get_state(), env.sim.ctrl.clone()
        rollout._parts[0]()
        found = map_tensors(torch.clone, (recorded, env.sim.ctrl))
        drawn_after = noise.get_state()
        noise.set_state(drawn)
        env.sim.ctrl.copy_(ctrl)
        rollout._begin_step()
        assert_same(found, (rollout._act, env.sim.ctrl))
        assert torch.equal(noise.get_state(), drawn_after)
        env.simulate()
        before, left = map_tensors(torch.clone, rollout._now), rows(rollout, t)
        rollout._parts[1]()
        after, found = map_tensors(torch.clone, rollout._now), rows(rollout, t)
        assert not torch.equal(found[0], left[0])
        graphed._write(rollout._now, before)
        env.remembered = rollout._now.env
        rollout._end_step()
        assert_same((after, found), (rollout._now, rows(rollout, t)))


def rows(rollout, t):
    """What the record has of a step."""
    record = rollout._record
    flags = (record.terminated, record.truncated, record.diverged, record.mask)
    of_step = [x[t].clone() for x in (record.reward, record.action, record.log_prob, *flags)]
    return [record.obs[t + 1].clone(), *of_step]


# Robots whose kernels other tests have compiled, too; it takes a minute for each.
ON_A_GPU = ["cheetah", "a motor that dies", "gru", "varibad", "ant"]


@pytest.mark.parametrize("case", ["walker", "gru"])
def test_each_part_does_what_it_records(case, emulated):
    config = compose(*CASES[case], f"env.horizon={HORIZON}")
    assert_parts_do_what_they_record(Played(config, graphs=True))


@pytest.mark.gpu
@pytest.mark.parametrize("case", ON_A_GPU)
def test_each_part_does_on_a_gpu_what_it_records(case, caplog):
    config = compose(*CASES[case], f"env.horizon={HORIZON}", "sim=warp")
    assert_parts_do_what_they_record(Played(config, graphs=True, device=torch.device("cuda")))
    assert [said for said in caplog.messages if "compil" not in said] == []


@pytest.mark.gpu
@pytest.mark.parametrize("case", ["cheetah", "gru"])
def test_rollouts_on_a_gpu_are_those_that_are_played_step_by_step(case):
    """Up to physics, which on a GPU differs in its last bits from run to run, and steps make more of
    it: of 1e-7 some 1e-3 in the velocities of ten steps with contacts."""
    config, device = compose(*CASES[case], f"env.horizon={HORIZON}", "sim=warp"), "cuda"
    ours, theirs = (
        Played(config, graphs=graphs, device=torch.device(device)) for graphs in (True, False)
    )
    for _ in range(2):
        found, expected = ours.episodes(), theirs.episodes()
        for name in ("obs", "action", "reward"):
            one, other = (getattr(episodes, name) for episodes in (found, expected))
            torch.testing.assert_close(one, other, rtol=2e-2, atol=2e-2)
        assert torch.equal(found.truncated, expected.truncated)
        drawn = [played.streams.policy.alone.get_state() for played in (ours, theirs)]
        assert torch.equal(*drawn)  # It is where it would be without graphs.


@pytest.mark.gpu
@pytest.mark.parametrize("case", ["cheetah", "gru"])
def test_a_replayed_rollout_on_a_gpu_waits_for_nothing(case):
    device = torch.device("cuda")
    config = compose(*CASES[case], f"env.horizon={HORIZON}", "sim=warp")
    ours = Played(config, graphs=True, device=device)
    ours.episodes()  # is recorded
    (rollout,) = ours.env.graphs
    obs = ours.env.reset(ours.streams.reset.starts(ours.env))
    torch.cuda.set_sync_debug_mode("error")
    try:
        record, _ = rollout.play(ours.state, obs)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert record.obs.isfinite().all() and record.mask[0].all()


@pytest.mark.gpu
def test_what_breaks_off_on_a_gpu_leaves_random_numbers_as_they_were():
    device = torch.device("cuda", 0)
    generator, other = (torch.Generator(device).manual_seed(7) for _ in range(2))
    usual, x = torch.cuda.current_stream(), torch.ones(3, device=device)

    def waits():
        torch.randn(3, generator=generator, device=device)
        x.sum().item()

    with pytest.raises(RuntimeError):
        CudaGraphs(device, [generator]).recorded(waits, draws=True)
    drawn = [torch.randn(3, generator=one, device=device) for one in (generator, other)]
    assert torch.equal(*drawn) and torch.rand(1, device=device) < 1
    assert torch.cuda.current_stream() == usual
    found = torch.zeros(3, device=device)
    replay = CudaGraphs(device, [generator]).recorded(
        lambda: found.copy_(torch.randn(3, generator=generator, device=device)), draws=True
    )
    for _ in range(2):
        replay()
        assert torch.equal(found, torch.randn(3, generator=other, device=device))
