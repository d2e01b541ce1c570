"""Learners train, are saved and evaluated on another device than the CPU, with its numbers, and no
tensor of theirs stays behind.

test_devices.py runs this file in a process of its own: torch's autograd learns of devices at its
first gradient.
"""

import json
import sys
from functools import partial

import gymnasium
import pytest
import torch
from omegaconf import OmegaConf
from support.emulated_graphs import EmulatedGraphs, Recording
from support.few_shot import LEARNERS
from support.played import trajectories
from support.pretended_device import ItsGenerator, pretended_device
from support.waits import Waited, moved_away, no_waits
from torch import Tensor

import envs
import metarl
from metarl.cli import build
from metarl.cli.commands import fewshot as fewshot_command
from metarl.cli.commands import train as train_command
from metarl.cli.configs import CONFIGS, composed
from metarl.noise import Noise
from metarl.rl.adapters.belief import BeliefAdapter
from metarl.rl.adapters.memory import MemoryAdapter
from metarl.rl.data import graphed
from metarl.rl.data.collect import collect
from metarl.rl.data.record import Record
from metarl.rl.data.replay import Replay
from metarl.rl.reward_scale import RewardScale
from metarl.run.rows import read_rows
from metarl.run.seeding import Generators
from metarl.run.timing import without_timing
from metarl.struct import map_tensors, replace

POINT = [
    *("env=point_navigation_2d", "env.horizon=4", "algo.meta_batch_size=2", "iterations=2"),
    *(
        "evaluation.num_tasks=2",
        "evaluation.num_updates=1",
        "evaluation.episodes_per_task=1",
        "evaluation.video=false",
    ),
]
POLICY = ["algo.episodes_per_task=2", "model.hidden_sizes=[4]"]
PPO, TRPO = ["algo.num_epochs=2"], ["algo.cg_iterations=2"]
CHEETAH = [
    *(
        "env=half_cheetah_cripple",
        "env.horizon=4",
        "iterations=2",
        "sim.num_threads=1",
        "evaluation.video=false",
    ),
    *("evaluation.num_tasks=1", "evaluation.num_updates=0", "evaluation.episodes_per_task=1"),
]
RL = {
    "maml_ppo": ["algo=maml_ppo", *POINT, *POLICY, *PPO],
    "maml_trpo": ["algo=maml_trpo", *POINT, *POLICY, *TRPO],
    "promp": [
        "algo=promp",
        *POINT,
        *POLICY,
        *PPO,
        "algo.num_inner_steps=2",
        "algo.inner_kl_target=0.01",
    ],
    "e_maml": [
        "algo=e_maml",
        *POINT,
        *POLICY,
        *TRPO,
        "algo.judged_updates=all",
        "model=latent_mlp",
    ],
    "maesn": ["algo=maesn", *POINT, *POLICY, *TRPO],
    **{
        f"rl2_ppo, {model}": ["algo=rl2_ppo", f"model={model}", *POINT, "algo.num_minibatches=1"]
        for model in ("gru", "lstm", "transformer", "external_memory")
    },
    "memoryless_ppo": ["algo=memoryless_ppo", *POINT, "algo.num_minibatches=1"],
    "varibad": [
        *("algo=varibad", *POINT, "algo.num_minibatches=1", "algo.replay_capacity=20"),
        *("algo.inference.num_gradient_steps=2", "algo.inference.batch_size=2"),
        *("algo.inference.num_decoded=3", "model.decodes=[reward,state]"),
    ],
    "grbal": [
        "algo=grbal",
        *CHEETAH,
        "algo.num_past=2",
        "algo.num_future=2",
        "algo.num_gradient_steps=2",
    ],
    "pearl": [
        *("algo=pearl", *POINT, "env.num_train_tasks=3", "algo.initial_steps=4"),
        *("algo.prior_steps=4", "algo.rl_steps=4", "algo.updates_per_iteration=2"),
        *("algo.batch_tasks=2", "algo.batch_size=3", "algo.context_size=3"),
        *("algo.replay_capacity=50", "model.encoder_sizes=[4]", "model.hidden_sizes=[4]"),
    ],
    "pearl with a cost": [
        *("algo=pearl", "env=point_navigation_2d_sparse_pearl", *POINT[1:], "algo.cost=distance"),
        *("algo.prior_steps=4", "algo.rl_steps=4", "algo.updates_per_iteration=2"),
        *("algo.batch_tasks=2", "algo.batch_size=3", "algo.context_size=3"),
        *("env.num_train_tasks=3", "algo.initial_steps=4", "algo.replay_capacity=50"),
        *("model.encoder_sizes=[4]", "model.hidden_sizes=[4]"),
    ],
    "rl2_offpolicy": [
        *("algo=rl2_offpolicy", *POINT, "algo.initial_trials=2", "algo.updates_per_iteration=2"),
        *("algo.batch_size=2", "algo.replay_capacity=50", "model.memory.hidden_size=4"),
    ],
    # Not recurrent_mbrl: torch's autograd aborts on its ensemble where the device is one's own.
}
BELIEF_METHODS = ("begin", "act", "observe")
FEW_STEPS = {
    "reptile": ["learner.num_test_steps=2"],
    "pretrain": ["learner.num_test_steps=2"],
    "meta_lstm": [
        "learner.num_inner_steps=2",
        "learner.num_test_steps=2",
        "learner.fine_tuning_lrs=[0.01,0.1]",
    ],
}
DIGITS = [
    *("dataset=digits", "ways=2", "queries=2", "iterations=1", "checkpoint_every=1", "log_every=1"),
    *(
        "adaptation.meta_batch_size=2",
        "adaptation.num_inner_steps=2",
        "adaptation.num_test_steps=2",
    ),
    *("evaluation.num_tasks=2", "evaluation.pictures=false"),
]


@pytest.fixture
def run(tmp_path, monkeypatch, undrawn):
    """Runs a command with these words, on the device or on the CPU. Returns its metrics and its
    evaluation."""
    # The device has no random numbers of its own, and no inference mode.
    monkeypatch.setattr(Generators, "__call__", its_generators())
    for kind, names in ((MemoryAdapter, ("act", "observe")), (BeliefAdapter, BELIEF_METHODS)):
        for name in names:
            monkeypatch.setattr(kind, name, getattr(kind, name).__wrapped__)

    def once(main, words, device):
        folder = tmp_path / device.type
        call(monkeypatch, main, device, *words, f"run_dir={folder}")
        rows = [without_timing(row) for row in read_rows(folder / "metrics.jsonl")]
        found = json.loads((folder / "evaluation.json").read_text())
        return rows, found.get("returns") or found["updates"]

    def both(main, words):
        with pretended_device() as device:
            there = once(main, words, device)
        return there, once(main, words, torch.device("cpu"))

    return both


@pytest.fixture
def run_alone(monkeypatch, undrawn):
    """Trains with these words on a device."""
    monkeypatch.setattr(Generators, "__call__", its_generators())
    return partial(call, monkeypatch, train_command.main)


def call(monkeypatch, main, device, *words):
    monkeypatch.setattr(build, "device", lambda name: device)
    monkeypatch.setattr(sys, "argv", ["metarl", *words])
    main()


def its_generators():
    """What makes generators as `Generators` does, of the device where they belong there."""
    made = Generators.__call__

    def called(self, name, device="cpu"):
        if torch.device(device).type != "cpu" and name not in self._generators:
            its = ItsGenerator()
            its.manual_seed(made(Generators(self.seed), name).initial_seed())
            self._generators[name] = its
        return made(self, name)

    return called


def test_a_run_of_policies_goes_on_there_bit_for_bit_and_elsewhere_with_new_draws(
    run_alone, tmp_path, capsys
):
    words, names = RL["maml_ppo"], ("whole", "there", "here")
    whole, there, here = (tmp_path / name for name in names)
    with pretended_device() as device:
        run_alone(device, *words, "iterations=3", f"run_dir={whole}")
        for folder in (there, here):
            run_alone(device, *words, "iterations=2", f"run_dir={folder}")
        run_alone(device, "iterations=3", f"resume={there}")
        assert "begin anew" not in capsys.readouterr().err
    run_alone(torch.device("cpu"), "iterations=3", f"resume={here}")
    assert (
        "random streams that were saved on another kind of device begin anew: policy"
        in capsys.readouterr().err
    )
    expected, found, elsewhere = (
        [without_timing(row) for row in read_rows(folder / "metrics.jsonl")]
        for folder in (whole, there, here)
    )
    assert found == expected
    assert elsewhere[:2] == expected[:2] and elsewhere[2] != expected[2]
    metarl.load(str(there))


@pytest.mark.parametrize("name", RL)
def test_a_learner_of_policies_trains_on_another_device(name, run):
    compare(*run(train_command.main, RL[name]))


@pytest.mark.parametrize("name", LEARNERS)
def test_a_few_shot_learner_trains_on_another_device(name, run):
    compare(*run(fewshot_command.main, [*DIGITS, f"learner={name}", *FEW_STEPS.get(name, [])]))


def compare(there, here):
    """The same up to float32 rounding: attention and recurrent cells add up in another order."""
    for rows, expected in zip(there, here, strict=True):
        assert len(rows) == len(expected)
        for row, other in zip(rows, expected, strict=True):
            assert row == pytest.approx(other, rel=1e-3, abs=1e-5, nan_ok=True)


@pytest.mark.parametrize("name", [name for name in envs.ALL if envs.has_physics(name)])
def test_a_control_step_of_worlds_on_a_gpu_waits_for_nothing(name):
    env = envs.make(name, 2, num_threads=1)
    env.set_tasks(env.prior.test_tasks(2))
    env.reset(Noise(torch.Generator().manual_seed(0)).starts(env))
    action = torch.zeros(2, *env.action_space.shape)
    with pretended_device() as device:
        moved_away(env, device)
        action = action.to(device)
        with no_waits():
            step = env.step(action)
    assert step.next_obs.device == device and step.next_obs.here.isfinite().all()


def test_an_action_that_waits_for_its_way_to_worlds_on_the_cpu_is_looked_at_there():
    env = envs.make("half_cheetah_vel", 2, num_threads=1)
    env.set_tasks(env.prior.test_tasks(2))
    env.reset(Noise(torch.Generator().manual_seed(0)).starts(env))
    with pretended_device() as device:
        action = torch.full((2, 6), float("nan")).to(device)
        with pytest.raises(ValueError, match="action of world 0 is .*expected"):
            env.step(action)


@pytest.mark.parametrize("algo", ["maml_ppo", "rl2_ppo"])
def test_acting_and_recording_wait_for_nothing(algo, monkeypatch):
    """All of `collect` but the reset, whose numbers are drawn on the CPU."""
    for name in ("act", "observe"):  # The device has no inference mode.
        monkeypatch.setattr(MemoryAdapter, name, getattr(MemoryAdapter, name).__wrapped__)
    words = [f"algo={algo}", "env=half_cheetah_vel", "env.horizon=4", "sim.num_threads=1"]
    config = OmegaConf.create(composed("train", words, [CONFIGS])[0])
    env, generators = build.environment(config, 4), Generators(0)
    with pretended_device() as device:
        monkeypatch.setattr(Generators, "__call__", its_generators())
        adapter = build.learner(config, env, generators, device).adapter()
        env.set_tasks(env.prior.test_tasks(4))
        obs = env.reset(Noise(generators("reset")).starts(env)).to(device)
        moved_away(env, device)
        noise = Noise(generators("policy"), device=device)
        state, record = adapter.begin(2, 2, noise), Record(4, obs)
        running = torch.ones(4, dtype=torch.bool, device=device)
        with no_waits():
            for t in range(4):
                act = adapter.act(state, obs, noise)
                step = env.step(act.action)
                record.add(t, act, step, running, adapter.measure(state, obs, act, step))
                state, obs = adapter.observe(state, obs, act, step), step.next_obs
                running = running & ~(step.terminated | step.truncated)


@pytest.mark.parametrize(
    "words",
    [
        ["env=half_cheetah_vel_maml", "algo=maml_ppo"],
        ["env=walker2d_rand_params", "algo=maml_trpo"],
        ["env=arm_pick_place", "algo=promp"],
        ["env=ant_dir_promp", "algo=rl2_ppo", "model.memory.hidden_size=4"],
    ],
)
def test_rollouts_that_are_recorded_wait_for_nothing_and_are_as_ever(words, monkeypatch):
    for name in ("act", "observe"):  # The device has no inference mode.
        monkeypatch.setattr(MemoryAdapter, name, getattr(MemoryAdapter, name).__wrapped__)
    for name in ("undo", "replay"):
        monkeypatch.setattr(Recording, name, torch.no_grad()(getattr(Recording, name).__wrapped__))
    monkeypatch.setattr(graphed, "CudaGraphs", EmulatedGraphs)
    monkeypatch.setattr(EmulatedGraphs, "made", [])
    monkeypatch.setattr(Generators, "__call__", its_generators())
    config = OmegaConf.create(
        composed("train", [*words, "env.horizon=3", "sim.num_threads=1"], [CONFIGS])[0]
    )

    def played(device, graphs):
        env, generators = build.environment(config, 4), Generators(0)
        streams = build.streams(generators, device)
        env.set_tasks(env.prior.test_tasks(4))
        env.reset(streams.reset.starts(env))
        moved_away(env, device)
        env.graphs = graphs
        adapter = build.learner(config, env, generators, device).adapter()
        state, found = adapter.begin(2, 2, streams.policy), []
        for _ in range(3):
            tasks = env.prior.sample(2, streams.tasks)
            settings = {"episodes_per_task": 2, "device": device}
            episodes, after = collect(env, adapter, state, tasks, streams, **settings)
            state = adapter.update(after, episodes, streams.policy)
            found.append(map_tensors(lambda leaf: leaf.to("cpu"), episodes))
        return found

    with pretended_device() as device:
        there, expected = played(device, []), played(device, None)
    for one, other in zip(there, expected, strict=True):
        for name in ("obs", "action", "reward", "log_prob", "terminated", "truncated", "mask"):
            assert torch.equal(getattr(one, name), getattr(other, name)), name
    (graphs,) = EmulatedGraphs.made
    assert graphs.num_replays == 2 * (3 * 3 - 1)


def test_rewards_are_scaled_on_the_cpu_and_given_back_where_they_lie():
    reward, mask = torch.tensor([[1.0, 3.0], [7.0, 7.0]]), torch.tensor([[True] * 2, [True, False]])
    expected = RewardScale(discount=0.9)(reward, mask)
    with pretended_device() as device:
        found = RewardScale(discount=0.9)(reward.to(device), mask.to(device))
        assert found.device == device and torch.equal(found.to("cpu"), expected)


@pytest.mark.parametrize(
    "waits", [Tensor.item, Tensor.tolist, Tensor.nonzero, bool, lambda x: x[x > 0], Tensor.cpu]
)
def test_what_would_wait_is_found(waits):
    with pretended_device() as device:
        x = torch.ones(1).to(device)
        with pytest.raises(Waited), no_waits():
            waits(x)


def test_a_number_on_the_cpu_meets_the_device_in_arithmetic_alone():
    number = torch.tensor(2.0)
    with pretended_device() as device:
        there = torch.ones((), device=device)
        assert (there * number).item() == (number * there).item() == 2.0
        number.copy_(there)
        for wrong in (
            lambda: torch.stack([there, number]),
            lambda: number.add_(there),
            lambda: torch.add(there, there, out=number),
        ):
            with pytest.raises(RuntimeError, match="on the cpu meet others"):
                wrong()


def test_a_replay_draws_what_it_draws_on_the_cpu():
    def drawn(device):
        stream = torch.Generator().manual_seed(0)
        sizes = {"num_tasks": 2, "capacity": 12, "obs_size": 2, "device": device}
        kept, again = (
            Replay(action_space=gymnasium.spaces.Box(-1, 1, (2,)), **sizes) for _ in range(2)
        )
        for _ in range(4):  # the last one is forgotten
            mark = kept.mark()
            played = map_tensors(lambda leaf: leaf.to(device), trajectories(stream, 2, 1, 6))
            kept.add(torch.tensor([0, 1]), played)
        kept.forget_since(mark)
        shards = [
            replace(s, content=map_tensors(lambda leaf: leaf.to("cpu"), s.content))
            for s in kept.shards(0)
        ]
        again.load(shards)
        ids, noise = torch.tensor([0, 1]), Noise(stream)
        steps = [
            kept.transitions(ids, 5, noise),
            again.context(ids, 5, noise),
            again.sequences(ids, 4, noise),
        ]
        found = [{name: x for name, x in vars(one).items() if x is not None} for one in steps]
        assert all(leaf.device.type == device.type for one in found for leaf in one.values())
        return [{name: leaf.to("cpu").tolist() for name, leaf in one.items()} for one in found]

    with pretended_device() as device:
        there = drawn(device)
    assert there == drawn(torch.device("cpu"))
