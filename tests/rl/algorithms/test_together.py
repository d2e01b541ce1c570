"""Several learners that gather together: each has the numbers of the run alone, bit for bit."""

import pytest
import torch
from omegaconf import OmegaConf

from metarl.cli import build
from metarl.cli.configs import CONFIGS, composed
from metarl.noise import Noise
from metarl.rl.adapters.together import TogetherAdapter
from metarl.rl.algorithms.together import TogetherSource
from metarl.run.iteration import RunState
from metarl.run.seeding import Generators
from metarl.run.shown import RETURNS
from metarl.run.together import iterate_together

CPU = torch.device("cpu")
GRADIENT = ["algo.meta_batch_size=3", "algo.episodes_per_task=2", "model.hidden_sizes=[8]"]
TRIALS = ["algo.meta_batch_size=2", "model.head_sizes=[8]", "algo.num_minibatches=2"]
PLANNER = [
    *("algo.meta_batch_size=2", "algo.planner.horizon=4", "algo.planner.num_candidates=8"),
    *("algo.planner.num_elites=3", "algo.batch_size=8", "algo.num_gradient_steps=2"),
    *("algo.num_past=4", "algo.num_future=4", "model.hidden_sizes=[8]"),
]
CASES = {
    "maml_ppo with a latent": [
        *("env=half_cheetah_vel", "env.horizon=12", "algo=maml_ppo", *GRADIENT),
        *("algo.num_epochs=2", "algo.num_inner_steps=2"),
    ],
    "maml_ppo without": [
        *("env=point_navigation_2d", "env.horizon=12", "algo=maml_ppo", "model=mlp", *GRADIENT),
        *("algo.inner_rule=per_step_rates", "algo.num_inner_steps=1", "algo.num_epochs=1"),
    ],
    "maml_trpo": ["env=half_cheetah_vel", "env.horizon=12", "algo=maml_trpo", *GRADIENT],
    "rl2_ppo gru": [
        *("env=half_cheetah_vel", "env.horizon=12", "algo=rl2_ppo", "model=gru", *TRIALS),
        *("algo.trials_per_task=2", "model.memory.hidden_size=8"),
    ],
    # Worlds fall over at different times, those of one seed all before those of another.
    "memoryless_ppo": [
        *("env=hopper_rand_params", "env.horizon=60", "algo=memoryless_ppo", *TRIALS),
        "algo.episodes_per_task=1",
    ],
    # Blocks of three trials don't all begin at a multiple of 16 bytes.
    "varibad": [
        *("env=hopper_rand_params", "env.horizon=50", "algo=varibad", "algo.meta_batch_size=3"),
        *("algo.num_minibatches=2", "algo.replay_capacity=1000", "algo.inference.batch_size=3"),
        *("algo.inference.num_gradient_steps=2", "algo.inference.num_beliefs=5"),
        "algo.inference.num_decoded=5",
    ],
    "rl2_offpolicy": [
        *("env=point_navigation_2d", "env.horizon=6", "algo=rl2_offpolicy"),
        *("algo.meta_batch_size=2", "algo.trials_per_task=1", "algo.initial_trials=4"),
        *("algo.updates_per_iteration=1", "algo.batch_size=2"),
    ],
    "grbal": ["env=half_cheetah_vel", "env.horizon=12", "algo=grbal", *PLANNER],
}


def compose(words):
    config, _ = composed("train", words, [CONFIGS])
    return OmegaConf.create(config)


def alone(config, seed):
    generators = Generators(seed)
    env = build.training_environment(config)
    return RunState(build.learner(config, env, generators, CPU), generators, RETURNS)


def together(config, seeds):
    """Their runs and what gathers for them."""
    world = build.environment(config, num_worlds=1)
    generators = [Generators(seed) for seed in seeds]
    learners = [build.learner(config, world, own, CPU) for own in generators]
    source = TogetherSource(
        [learner.source for learner in learners],
        lambda num_worlds: build.environment(config, num_worlds),
    )
    return [RunState(*own, RETURNS) for own in zip(learners, generators, strict=True)], source


def leaves(tree, prefix=""):
    if isinstance(tree, dict):
        return {
            k: v for key, value in tree.items() for k, v in leaves(value, f"{prefix}.{key}").items()
        }
    if isinstance(tree, list | tuple):
        return leaves(dict(enumerate(tree)), prefix)
    return {prefix: tree}


def state(run):
    """Parameters, optimizer and random streams as what is equal where their bits are."""
    found = leaves({"learner": run.learner.state_dict(), "streams": run.content()["generators"]})
    return {name: x.tolist() if isinstance(x, torch.Tensor) else x for name, x in found.items()}


@pytest.mark.parametrize("case", CASES)
def test_each_has_the_numbers_of_the_run_alone_bit_for_bit(case):
    config, seeds = compose(CASES[case]), (3, 1, 4)
    runs, source = together(config, seeds)
    found = [iterate_together(dict(enumerate(runs)), source.gather) for _ in range(2)]
    for number, seed in enumerate(seeds):
        expected = alone(config, seed)
        assert [metrics[number] for metrics in found] == [expected.iterate() for _ in range(2)]
        assert state(runs[number]) == state(expected)
    source.close()


def test_some_of_them_may_go_on_without_the_others():
    """As after a crash, when some are behind."""
    config = compose(CASES["maml_ppo without"])
    runs, source = together(config, (0, 1, 2))
    for numbers in ((0, 1, 2), (0, 2), (2,), (0, 1, 2)):
        iterate_together({number: runs[number] for number in numbers}, source.gather)
    for number, num_iterations in enumerate((3, 2, 4)):
        expected = alone(config, number)
        for _ in range(num_iterations):
            expected.iterate()
        assert state(runs[number]) == state(expected)


def test_one_whose_policy_is_nan_fails_alone():
    config = compose(CASES["maml_ppo without"])
    runs, source = together(config, (0, 1, 2))
    with torch.no_grad():
        runs[1].learner.params.theta["log_std"].fill_(float("nan"))
    before = state(runs[1])
    found = iterate_together(dict(enumerate(runs)), source.gather)
    assert "expected finite numbers" in str(found[1]) and isinstance(found[1], FloatingPointError)
    assert str(state(runs[1])) == str(before)  # as text, for NaN isn't equal to itself
    for number in (0, 2):
        expected = alone(config, number)
        assert found[number] == expected.iterate() and state(runs[number]) == state(expected)


@pytest.mark.parametrize("hidden_size", [7, 64])  # torch rounds parts otherwise, or doesn't
@pytest.mark.parametrize("name", ["half_cheetah_vel", "bandit"])
def test_acting_for_all_in_the_same_operations_changes_no_bit(name, hidden_size):
    words = ["algo=maml_ppo", *GRADIENT[:2], f"model.hidden_sizes=[{hidden_size}]"]
    model = ["model=mlp"] if name == "bandit" else []
    runs, _ = together(compose([f"env={name}", *model, *words]), (0, 1, 2))
    adapters = [run.learner.adapter() for run in runs]
    joint, noise = TogetherAdapter(adapters), Noise(*map(seeded, range(3)))
    size = runs[0].learner.source.env.observation_space.shape[0]
    obs = torch.randn(15, size, generator=seeded(0))
    state = joint.begin(3, 5, noise)
    assert state.joint is not None
    before = [generator.get_state() for generator in noise.generators]
    found = joint.act(state, obs, noise)
    for number, (adapter, own) in enumerate(zip(adapters, state.each, strict=True)):
        rows, stream = slice(5 * number, 5 * number + 5), torch.Generator()
        stream.set_state(before[number])
        expected = adapter.act(own, obs[rows].clone(), Noise(stream))
        assert torch.equal(found.action[rows], expected.action)
        assert torch.equal(found.log_prob[rows], expected.log_prob)


def seeded(seed):
    return torch.Generator().manual_seed(seed)
