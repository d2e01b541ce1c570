"""GrBAL and recurrent model-based control: gradients, memories, trials kept and resumed, and that
they learn to plan."""

import json
from itertools import product

import pytest
import torch
from support.played import trajectories
from torch.utils._pytree import tree_leaves as leaves

import envs
from envs.small.point_navigation import Goal
from metarl.core import params as P
from metarl.nn.dynamics import FeedForwardDynamics, RecurrentDynamics, Transitions
from metarl.noise import Noise
from metarl.rl.algorithms.grbal import GrBAL
from metarl.rl.algorithms.recurrent_mbrl import RecurrentMBRL, RememberingModel
from metarl.rl.algorithms.shared import Setting, split
from metarl.rl.data.collect import Streams
from metarl.rl.models.policies import mlp_policy
from metarl.rl.types import Act, Step
from metarl.run import checkpoint
from metarl.run.seeding import Generators
from metarl.run.timing import without_timing
from metarl.run.train import train
from metarl.struct import map_tensors, replace

CPU = torch.device("cpu")
O, A = 2, 2  # of point_navigation_2d

PLANNER = {
    "method": "cem",
    "horizon": 3,
    "num_candidates": 20,
    "num_iterations": 2,
    "noise_std": 0.5,
    "noise_correlation": 0.3,
    "num_elites": 5,
    "temperature": 0.2,
}
SHARED = {
    "meta_batch_size": 2,
    "trials_per_task": 1,
    "episodes_per_trial": 2,
    "random_iterations": 1,
    "buffer_trials": 100,
    "lr": 1e-3,
    "batch_size": 4,
    "max_grad_norm": 10.0,
}
OWN = {
    GrBAL: {
        "adapt": True,
        "num_past": 3,
        "num_future": 4,
        "num_inner_steps": 2,
        "inner_rule": "learned_rates",
        "inner_lr": 0.1,
        "gradient_mode": "through",
        "num_gradient_steps": 2,
        "chunk": 3,
    },
    RecurrentMBRL: {"num_sweeps": 2, "segment": 4},
}


def model_of(cls, generator):
    if cls is GrBAL:
        return FeedForwardDynamics(O, A, (6, 5), activation="tanh", generator=generator)
    sizes = {"num_models": 2, "memory_size": 3, "hidden_sizes": (6, 5)}
    return RecurrentDynamics(O, A, activation="tanh", generator=generator, **sizes)


def make(
    cls,
    *,
    dtype=torch.float32,
    model=None,
    env="point_navigation_2d",
    horizon=6,
    seed=0,
    planner=(),
    **settings,
):
    generators = Generators(seed)
    merged = SHARED | OWN[cls] | settings
    world = envs.make(env, num_worlds=cls.sizes(**merged).num_worlds, horizon=horizon)
    model = model_of(cls, generators("init")).to(dtype) if model is None else model
    streams = Streams(
        tasks=generators("tasks"),
        reset=Noise(generators("reset")),
        policy=Noise(generators("policy")),
    )
    setting = Setting(env=world, model=model, streams=streams, device=CPU)
    learner = cls(setting=setting, planner=PLANNER | dict(planner), **merged)
    return learner, generators


def random_windows(generator, *shape, dtype=torch.float64) -> Transitions:
    def draw(*size):
        return torch.randn(*size, generator=generator, dtype=dtype)

    mask = torch.ones(*shape, dtype=torch.bool)
    return Transitions(
        obs=draw(*shape, O),
        action=draw(*shape, A),
        next_obs=draw(*shape, O),
        reward=draw(*shape),
        mask=mask,
    )


def finite_difference(loss, parameters: dict, direction: dict, step=1e-5) -> float:
    values = []
    for sign in (1, -1):
        for name, leaf in parameters.items():
            leaf.data.add_(direction[name], alpha=sign * step)
        values.append(loss())
        for name, leaf in parameters.items():
            leaf.data.sub_(direction[name], alpha=sign * step)
    return (values[0] - values[1]) / (2 * step)


@pytest.mark.parametrize("adapt", [True, False])
def test_grbal_meta_gradient_matches_finite_differences(adapt, generator):
    learner, _ = make(GrBAL, dtype=torch.float64, adapt=adapt)
    windows = random_windows(generator, 5, 7)
    windows.mask[1, 5:], windows.mask[2, :] = False, False
    windows.mask[3, :3] = False  # nothing to adapt on
    parameters = learner.params.joined
    gradient = learner.meta_gradient(windows)[1]
    direction = {
        k: torch.randn(v.shape, generator=generator, dtype=v.dtype) for k, v in parameters.items()
    }
    expected = finite_difference(
        lambda: learner.meta_gradient(windows)[0].item(), parameters, direction
    )
    # Differences with a step of 1e-5 are off by a few 1e-10 of the third derivative.
    assert P.dot(gradient, direction).item() == pytest.approx(expected, rel=1e-6, abs=1e-8)
    of_rule = P.norm(split(gradient)[1]).item()
    assert of_rule > 1e-3 if adapt else of_rule == 0


def test_grbal_loss_is_that_of_a_plain_loop_with_autograd(generator):
    learner, _ = make(GrBAL, dtype=torch.float64)
    windows, total = random_windows(generator, 4, 7), 0.0
    windows.mask[1, 5:] = False
    model, normaliser = learner._model._model, learner._model._model.normaliser
    theta, rates = split(learner.params.joined)
    for b in range(4):
        params = {name: leaf.clone().requires_grad_() for name, leaf in theta.items()}
        inputs, targets = (
            normaliser.inputs(windows.obs[b], windows.action[b]),
            normaliser.targets(Transitions(**{k: v[b] for k, v in vars(windows).items()})),
        )

        def error(params, rows, b=b, inputs=inputs, targets=targets):
            keep = [i for i in rows if windows.mask[b, i]]
            return (P.call(model.trunk, params, inputs[keep]) - targets[keep]).square().mean()

        for _ in range(2):
            grads = torch.autograd.grad(error(params, range(3)), list(params.values()))
            params = {
                k: (v - rates[k] * g).detach().requires_grad_()
                for (k, v), g in zip(params.items(), grads, strict=True)
            }
        total += error(params, range(3, 7)).item()
    assert learner.meta_gradient(windows)[0] == pytest.approx(total / 4, rel=1e-12)


def test_recurrent_gradient_matches_finite_differences(generator):
    learner, _ = make(RecurrentMBRL, dtype=torch.float64)
    data = random_windows(generator, 3, 5)
    data.mask[1, 3:] = False
    memory = torch.randn(2, 3, 3, generator=generator, dtype=torch.float64)
    parameters = dict(learner._model.named_parameters())
    sources = torch.tensor([[0, 0, 1, 3, 2]] * 3)
    loss = learner.loss(memory, data, sources)[0]
    grads = torch.autograd.grad(loss, list(parameters.values()))
    direction = {
        k: torch.randn(v.shape, generator=generator, dtype=v.dtype) for k, v in parameters.items()
    }
    expected = finite_difference(
        lambda: learner.loss(memory, data, sources)[0].item(), parameters, direction
    )
    found = sum((g * direction[k]).sum() for k, g in zip(parameters, grads, strict=True)).item()
    assert found == pytest.approx(expected, rel=1e-7)


def test_padding_and_other_trials_do_not_change_a_trials_loss(generator):
    learner, _ = make(RecurrentMBRL, dtype=torch.float64)
    data = random_windows(generator, 2, 6)
    data.mask[0, 4:], data.mask[1] = False, False
    sources = torch.tensor([[0, 0, 2, 1, 3, 5]] * 2)
    loss, memory = learner.loss(learner._model.empty_memory(2), data, sources)
    alone = map_tensors(lambda leaf: leaf[:1, :4], data)
    expected, alone_memory = learner.loss(learner._model.empty_memory(1), alone, sources[:1, :4])
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(memory[:, 0], alone_memory[:, 0])


def test_a_step_is_predicted_from_a_memory_that_a_plan_could_hold(generator):
    learner, _ = make(RecurrentMBRL, dtype=torch.float64)  # plans 3 steps ahead
    data = random_windows(generator, 50, 6)
    sources = learner._sources(data)
    back = torch.arange(6) - sources
    assert (
        set(back[:, 3:].unique().tolist()) == {0, 1, 2}
        and (sources[:, 0] == 0).all()
        and (back <= 2).all()
    )
    # By hand: the loss is that of predictions from the memory fed step by step up to the source.
    data, sources = map_tensors(lambda leaf: leaf[:1], data), torch.tensor([[0, 0, 1, 1, 4, 3]])
    model, memory, memories = learner._model, learner._model.empty_memory(1), []
    for t in range(6):
        memories.append(memory)
        memory = model.remember(
            memory, model.evidence(map_tensors(lambda leaf, t=t: leaf[:, t], data))
        )
    errors = [
        (
            model.predict(
                model.normaliser.inputs(data.obs[:, t], data.action[:, t]), memories[source]
            )[:, 0]
            - model.normaliser.targets(data)[0, t]
        ).square()
        for t, source in enumerate(sources[0].tolist())
    ]
    loss, last = learner.loss(model.empty_memory(1), data, sources)
    torch.testing.assert_close(loss, torch.stack(errors).mean((0, 2)).sum())
    torch.testing.assert_close(last, memory)


def test_a_plan_is_worth_the_mean_of_what_each_model_imagines(generator):
    learner, _ = make(RecurrentMBRL, dtype=torch.float64)
    model, normal = learner._model, lambda *size: torch.randn(*size, generator=generator).double()
    memory, obs, actions = normal(2, 2, 3), normal(2, O), normal(3, 2, 4, A)  # 2 models, 2 worlds
    found = RememberingModel(model).score(memory, obs)(actions)
    returns = torch.zeros(2, 2, 4, dtype=torch.float64)
    for number, world, candidate in product(range(2), range(2), range(4)):
        at = obs[world : world + 1]
        for action in actions[:, world, candidate]:
            inputs = torch.cat([at, action[None]], dim=-1)  # A new normaliser changes nothing.
            out = model.predict(inputs, memory[:, world : world + 1])[number]
            at = at + out[:, :-1]
            returns[number, world, candidate] += out[0, -1].detach()
    assert (returns[0] - returns[1]).abs().min() > 1e-2
    torch.testing.assert_close(found, (returns[0] + returns[1]) / 2, rtol=1e-10, atol=1e-12)


def step_of(next_obs, reward, *, over=False) -> Step:
    flags = torch.full((len(next_obs),), over)
    no = torch.zeros_like(flags)
    return Step(
        next_obs=next_obs, reward=reward, terminated=no, truncated=flags, diverged=no, terms={}
    )


def play(adapter, state, generator, num_steps):
    for _ in range(num_steps):
        obs, action = torch.randn(2, O, generator=generator), torch.rand(2, A, generator=generator)
        state = adapter.observe(
            state, obs, Act(action=action), step_of(obs + 0.1 * action, obs.sum(-1))
        )
    return state


def test_grbal_always_adapts_from_the_meta_parameters(generator):
    learner, _ = make(GrBAL)
    adapter, theta = learner.adapter(), map_tensors(torch.clone, learner.params.joined)
    state = adapter.begin(2)
    before = learner._model.adapted(state.memory)
    for name, leaf in before.items():  # nothing seen, nothing changed
        torch.testing.assert_close(leaf[1], learner.params.theta[name], atol=0, rtol=0)
    state = play(adapter, state, generator, 5)
    once = learner._model.adapted(state.memory)
    for _ in range(10):  # planning and adapting again and again on the same memory
        adapter.act(state, torch.randn(2, O, generator=generator), Noise(generator))
    again = learner._model.adapted(state.memory)
    torch.testing.assert_close(again, once, atol=0, rtol=0)
    torch.testing.assert_close(learner.params.joined, theta, atol=0, rtol=0)
    assert (once["layers.0.weight"] - before["layers.0.weight"]).abs().max() > 1e-4
    # By hand: one world's adaptation is a plain gradient descent from θ on its own last three
    # transitions.
    fresh = play(adapter, adapter.begin(2), torch.Generator().manual_seed(9), 3)
    later = play(adapter, state, torch.Generator().manual_seed(9), 3)
    torch.testing.assert_close(
        learner._model.adapted(later.memory), learner._model.adapted(fresh.memory)
    )


def test_grbal_remembers_the_last_transitions_of_each_world():
    model = make(GrBAL)[0]._model  # of three
    memory = model.empty_memory(2)
    for t in range(5):
        now = torch.tensor([[t], [10 + t]]).float()
        taken = torch.tensor([True, t < 3])
        seen = Transitions(
            obs=now.expand(2, O),
            action=now.expand(2, A),
            next_obs=now + 1,
            reward=now[:, 0],
            mask=taken,
        )
        memory = model.remember(memory, replace(seen, next_obs=(now + 1).expand(2, O)))
    assert memory.reward.tolist() == [[2, 3, 4], [10, 11, 12]] and memory.mask.all()
    torch.testing.assert_close(memory.next_obs - memory.obs, torch.ones(2, 3, O))


@pytest.mark.parametrize("cls", [GrBAL, RecurrentMBRL])
def test_memory_goes_on_across_episodes_and_plans_do_not(cls, generator):
    adapter = make(cls)[0].adapter()
    state = play(adapter, adapter.begin(2), generator, 2)
    obs = torch.randn(2, O, generator=generator)
    act = adapter.act(state, obs, Noise(generator))
    ended = adapter.observe(state, obs, act, step_of(obs, obs.sum(-1), over=True))
    assert ended.over.all() and ended.plan.abs().max() > 0
    padded = play(adapter, ended, generator, 2)  # steps after the end
    torch.testing.assert_close(leaves(padded.memory), leaves(ended.memory), atol=0, rtol=0)
    following = adapter.update(ended, trajectories(generator, 2, 1, 6))
    assert not following.over.any() and following.plan.abs().max() == 0
    torch.testing.assert_close(leaves(following.memory), leaves(ended.memory), atol=0, rtol=0)


@pytest.mark.parametrize("cls", [GrBAL, RecurrentMBRL])
def test_a_step_whose_physics_blew_up_is_not_remembered(cls, generator):
    adapter = make(cls)[0].adapter()
    state = play(adapter, adapter.begin(2), generator, 2)
    obs, act = torch.randn(2, O, generator=generator), Act(action=torch.zeros(2, A))
    step = step_of(obs, obs.sum(-1))
    after = adapter.observe(state, obs, act, replace(step, diverged=torch.tensor([True, True])))
    torch.testing.assert_close(leaves(after.memory), leaves(state.memory), atol=0, rtol=0)
    remembered = leaves(adapter.observe(state, obs, act, step).memory)
    assert not all(map(torch.equal, remembered, leaves(state.memory)))


@pytest.mark.parametrize("cls", [GrBAL, RecurrentMBRL])
def test_a_worlds_actions_do_not_depend_on_the_others(cls, generator):
    adapter = make(cls)[0].adapter()
    state = play(adapter, adapter.begin(2), generator, 4)
    obs = torch.randn(2, O, generator=generator)
    other_memory = map_tensors(lambda leaf: leaf.clone(), state.memory)
    changed = (other_memory if isinstance(other_memory, torch.Tensor) else other_memory.obs).select(
        0 if cls is GrBAL else 1, 1
    )
    changed += 1.0
    actions = [
        adapter.act(
            replace(state, memory=memory),
            torch.stack([obs[0], last]),
            Noise(torch.Generator().manual_seed(3)),
        ).action
        for memory, last in ((state.memory, obs[1]), (other_memory, -obs[1]))
    ]
    torch.testing.assert_close(
        actions[0][0], actions[1][0]
    )  # to rounding: batched products differ by their size
    assert (actions[0][1] - actions[1][1]).abs().max() > 1e-3


@pytest.mark.parametrize("cls", [GrBAL, RecurrentMBRL])
def test_the_model_learns_numbers_of_mean_zero_and_unit_deviation(cls):
    learner, _ = make(cls)
    learner.step(), learner.step()
    data = learner.experience.transitions()
    model = learner._model._model if cls is GrBAL else learner._model
    inputs = model.normaliser.inputs(data.obs, data.action)[data.mask]
    torch.testing.assert_close(inputs.mean(0), torch.zeros(O + A), atol=1e-4, rtol=0)
    torch.testing.assert_close(inputs.std(0, correction=0), torch.ones(O + A), atol=1e-4, rtol=0)


@pytest.mark.parametrize("cls", [GrBAL, RecurrentMBRL])
@pytest.mark.parametrize("capacity", [100, 3])
def test_resumed_training_goes_on_bit_for_bit(cls, capacity):
    whole, _ = make(cls, buffer_trials=capacity)
    expected = [whole.step() for _ in range(4)]
    first, generators = make(cls, buffer_trials=capacity)
    first.step(), first.step()
    saved, streams = map_tensors(torch.clone, first.state_dict()), generators.state_dict()
    second, generators = make(cls, seed=5, buffer_trials=capacity)
    second.load_state_dict(saved)
    second.experience.load(first.experience.shards(0))
    generators.load_state_dict(streams)
    assert [second.step() for _ in range(2)] == expected[2:]


@pytest.mark.parametrize("cls", [GrBAL, RecurrentMBRL])
def test_a_state_that_holds_the_trials_goes_on_bit_for_bit(cls):
    """As checkpoints had them before trials had files of their own."""
    whole, _ = make(cls)
    expected = [whole.step() for _ in range(3)]
    first, generators = make(cls)
    first.step()
    saved, streams = map_tensors(torch.clone, first.state_dict()), generators.state_dict()
    (shard,) = first.experience.shards(0)
    old = saved | {"experience": saved["experience"] | {"trials": shard.content}}
    second, generators = make(cls, seed=5)
    second.load_state_dict(old)
    generators.load_state_dict(streams)
    assert [second.step() for _ in range(2)] == expected[1:]
    with pytest.raises(ValueError, match=r"experience.trials.reward is a tensor \(2, 3\)"):
        second.load_state_dict(
            saved
            | {
                "experience": {
                    "iteration": 1,
                    "trials": shard.content | {"reward": torch.zeros(2, 3)},
                }
            }
        )


@pytest.mark.parametrize("cls", [GrBAL, RecurrentMBRL])
def test_a_checkpoint_of_an_older_version_goes_on_bit_for_bit(cls, tmp_path):
    def trained(folder, iterations, resume_from=None):
        learner, generators = make(cls, buffer_trials=5)
        settings = {
            "run_folder": folder,
            "provenance": {},
            "checkpoint_every": 1,
            "keep_checkpoints": 1,
        }
        train(learner, generators, iterations=iterations, resume_from=resume_from, **settings)
        return learner

    for name in ("whole", "older"):
        (tmp_path / name).mkdir()
    whole, half = trained(tmp_path / "whole", 4), trained(tmp_path / "older", 2)
    folder = tmp_path / "older" / "checkpoints"
    content = checkpoint.load_newest(folder)[1]
    del content["experience"]
    (shard,) = half.experience.shards(0)
    content["learner"]["experience"]["trials"] = shard.content
    checkpoint.save(folder, content, keep=1)
    for path in (folder / "experience").iterdir():
        path.unlink()
    trained(tmp_path / "older", 3, content)
    assert list((folder / "experience").iterdir())  # from here on the trials have files
    learner = trained(tmp_path / "older", 4, checkpoint.load_newest(folder)[1])
    kept = [vars(one.experience.transitions()) for one in (learner, whole)]
    torch.testing.assert_close(*kept, atol=0, rtol=0)
    rows = [
        (tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("older", "whole")
    ]
    assert [without_timing(json.loads(line)) for line in rows[0]] == [
        without_timing(json.loads(line)) for line in rows[1]
    ]


@pytest.mark.parametrize("cls", [GrBAL, RecurrentMBRL])
def test_a_shard_holds_each_observation_once_and_the_state_none(cls):
    learner, _ = make(cls, episodes_per_trial=1, **({"num_past": 2} if cls is GrBAL else {}))
    learner.step()
    assert learner.state_dict()["experience"] == {"iteration": 1}
    (shard,) = learner.experience.shards(0)
    # 2 trials of 6 steps: 7 observations of 2 numbers, 6 actions of 2, 6 rewards, a length
    assert sum(leaf.numel() for leaf in shard.content.values()) == 2 * (7 * 2 + 6 * 2 + 6 + 1)


@pytest.mark.parametrize("cls", [GrBAL, RecurrentMBRL])
def test_a_model_that_does_not_fit_is_named(cls):
    world = envs.make("point_navigation_2d", num_worlds=2)
    policy = mlp_policy(
        world.observation_space,
        world.action_space,
        hidden_sizes=(4,),
        activation="tanh",
        init_std=1.0,
        min_std=1e-6,
        generator=torch.Generator(),
    )
    expected = (
        "FeedForwardDynamics, as model=feed_forward_dynamics"
        if cls is GrBAL
        else "RecurrentDynamics, as model="
    )
    with pytest.raises(ValueError, match=f"model is a GaussianPolicy; expected a {expected}"):
        make(cls, model=policy)


@pytest.mark.parametrize("cls", [GrBAL, RecurrentMBRL])
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"episodes_per_trial": 0}, "episodes_per_trial 0"),
        ({"meta_batch_size": 0}, "meta_batch_size 0"),
        ({"random_iterations": 0}, "random_iterations 0"),
        ({"buffer_trials": 0}, "buffer_trials 0"),
        ({"lr": 0.0}, "lr 0.0"),
        ({"planner": {"method": "shooting"}}, "planner 'shooting': expected cem or mppi"),
    ],
)
def test_settings_out_of_range_are_named(cls, setting, message):
    with pytest.raises(ValueError, match=message):
        make(cls, **setting)


def test_a_window_longer_than_a_trial_is_refused_at_the_start():
    with pytest.raises(
        ValueError,
        match="num_past 10 and num_future 4: a window of 14 steps doesn't fit into a trial of 12",
    ):
        make(GrBAL, num_past=10)


@pytest.mark.parametrize("cls", [GrBAL, RecurrentMBRL])
def test_it_learns_to_walk_to_where_the_reward_is(cls):
    """One goal for all, so that a model learns where it is, and a plan of three steps sees the
    way."""
    settings = {
        "episodes_per_trial": 1,
        "meta_batch_size": 8,
        "lr": 1e-2,
        "batch_size": 32,
        "max_grad_norm": None,
    }
    more = (
        {"num_gradient_steps": 40, "chunk": 32}
        if cls is GrBAL
        else {"num_sweeps": 20, "segment": 10}
    )
    learner, _ = make(cls, horizon=10, **settings, **more)
    learner._practice._source.env.prior.sample = lambda num, generator: Goal(
        goal=torch.tensor([[0.45, -0.4]] * num)
    )
    random_walk = learner.step()["return"]
    learner.step()
    # Standing still earns −6.0; going there at full speed, 0.1 m a step along each axis, −1.2.
    assert random_walk < -4.5 and learner.step()["return"] > -3.6
