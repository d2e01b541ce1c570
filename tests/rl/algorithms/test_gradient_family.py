"""The gradient-based learners of configs/algo, each as its file makes it: meta-gradients against
autograd line by line and finite differences in float64, what they learn, and what must hold for all
of them."""

from pathlib import Path

import pytest
import torch
from support.commands import command
from support.gradient_family import (
    NUMBERS,
    N,
    inner_loss,
    learner_of,
    meta_gradient,
    random_data,
    straight_objective,
)

from metarl.cli import build, configs
from metarl.cli.commands import train as train_command
from metarl.core import params as P
from metarl.core.linearize import inner_step
from metarl.errors import SettingError, UserError
from metarl.noise import Noise
from metarl.report.algo_name import algo_name
from metarl.rl.adapters import gradient
from metarl.rl.algorithms.exploration import Credited, exploration_loss, worth_of_steps
from metarl.rl.data.batches import policy_batch
from metarl.struct import map_tensors, replace

DIFFERENTIATED = [
    *("promp", "dice_maml", "fomaml", "anil", "meta_sgd", "e_maml", "cavia", "maesn"),
]
NEW = [*DIFFERENTIATED, "reptile"]
GRADIENT = ["maml_ppo", "maml_trpo", *NEW]
BANDIT = ("env=bandit", "env.num_arms=2", "env.horizon=10")


@pytest.mark.parametrize("num_inner_steps", [1, 2])
@pytest.mark.parametrize("name", DIFFERENTIATED)
def test_meta_gradient_is_that_of_the_straight_line_program(name, num_inner_steps):
    words = (*NUMBERS.get(name, ()), f"algo.num_inner_steps={num_inner_steps}")
    learner = learner_of(name, *words)
    data = random_data(learner)
    found = meta_gradient(name, learner, data)
    start = {key: leaf.detach().clone() for key, leaf in learner.params.joined.items()}
    objective = straight_objective(name, learner, data)

    leaves = {key: leaf.clone().requires_grad_() for key, leaf in start.items()}
    grads = torch.autograd.grad(objective(leaves), list(leaves.values()), materialize_grads=True)
    expected = dict(zip(leaves, grads, strict=True))
    if name == "cavia":  # A context begins at zero: the outer update leaves it there.
        assert expected["policy.context"].abs().max() > 1e-3
        expected["policy.context"] = torch.zeros_like(expected["policy.context"])
    gradient = P.flatten(found)
    # Sums of some dozens of products in float64, in other orders.
    torch.testing.assert_close(gradient, P.flatten(expected), rtol=1e-10, atol=1e-12)

    def value(vector):
        leaves = {key: leaf.requires_grad_() for key, leaf in P.unflatten(vector, start).items()}
        return objective(leaves).item()

    vector, generator, step = P.flatten(start), torch.Generator().manual_seed(0), 1e-5
    for _ in range(3):
        direction = torch.randn(vector.shape, generator=generator, dtype=torch.float64)
        direction = direction * (P.flatten(found) != 0)
        ahead, behind = (value(vector + sign * step * direction) for sign in (1, -1))
        # Central differences with this step are good to about 1e-9 of the function's scale of 1.
        slope = (ahead - behind) / (2 * step)
        assert gradient @ direction == pytest.approx(slope, rel=2e-6, abs=1e-7)


@pytest.mark.parametrize("name", ["e_maml", "maesn"])
def test_the_line_search_judges_by_the_whole_objective(name):
    """With E-MAML's exploration and MAESN's prior, elsewhere than where the gradient was taken."""
    learner = learner_of(name, *NUMBERS[name], "algo.num_inner_steps=2")
    data = random_data(learner)
    around = learner.linearize(
        data.support, data.query, list(data.worth) if name == "e_maml" else None
    )
    generator = torch.Generator().manual_seed(1)
    trial = {
        key: leaf.detach() + 0.1 * torch.randn(leaf.shape, generator=generator, dtype=leaf.dtype)
        for key, leaf in learner.params.joined.items()
    }
    leaves = {key: leaf.clone().requires_grad_() for key, leaf in trial.items()}
    expected = straight_objective(name, learner, data)(leaves).item()
    assert learner._evaluate(around, trial)[0].item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("num_batches", [2, 3])
def test_reptile_goes_to_the_mean_of_what_steps_on_all_batches_make(num_batches):
    rates = ("algo.inner_lr=0.3", "algo.inner_lr_decay=0.5")  # .3 and from the second step on .15
    learner = learner_of("reptile", f"algo.num_inner_steps={num_batches - 1}", *rates)
    data = random_data(learner)
    batches = (*data.support, data.query)
    start, each = learner.params.theta, []
    for task in range(N):
        params = {key: leaf.clone().requires_grad_() for key, leaf in start.items()}
        for k, batch in enumerate(batches):
            loss = inner_loss("reptile", params, batch, task)
            grads = torch.autograd.grad(loss, list(params.values()))
            params = {
                key: (leaf - (0.3 if k == 0 else 0.15) * grad).detach().requires_grad_()
                for (key, leaf), grad in zip(params.items(), grads, strict=True)
            }
        each.append(params)
    adapted = P.expand(start, N)
    for k, batch in enumerate(data.support):
        adapted = learner._inner(adapted, {}, batch, k)
    direction = learner.direction(adapted, data.query)
    for key, leaf in start.items():
        mean = sum(params[key].detach() for params in each) / N
        torch.testing.assert_close(direction[f"policy.{key}"], leaf - mean, rtol=1e-10, atol=1e-13)


def test_sampling_is_credited_with_the_later_judged_returns_of_its_task():
    # Three tasks, two steps, one episode a batch: the returns after 0, 1 and 2 steps.
    returns = [torch.tensor([[100.0], [7.0], [-50.0]])]
    returns += [torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([[3.0], [6.0], [3.0]])]
    # Of all judged policies, of which each counts half: after the first step (1 + 3) / 2,
    # (2 + 6) / 2, (3 + 3) / 2, hence 2, 4, 3; after the second 1.5, 3, 1.5.
    first, second = worth_of_steps(returns, [1, 2])
    deviation = (2 / 3) ** 0.5
    # Less the mean of the other two: 2 − 3.5, 4 − 2.5, 3 − 3.
    torch.testing.assert_close(first, torch.tensor([-1.5, 1.5, 0.0]) / deviation)
    torch.testing.assert_close(second, torch.tensor([-0.75, 1.5, -0.75]) / 0.5**0.5)
    # Where the last alone is judged, both have led to it alone.
    alone = worth_of_steps(returns, [2])
    assert torch.equal(*alone)
    torch.testing.assert_close(alone[0], torch.tensor([-1.5, 3.0, -1.5]) / 2**0.5)


def test_an_episode_that_blew_up_gives_its_sampling_no_credit():
    # A return of nothing, beside others that paid for each step.
    nan = float("nan")
    returns = [torch.zeros(3, 2), torch.tensor([[nan, -90.0], [-110.0, -90.0], [nan, nan]])]
    (worth,) = worth_of_steps(returns, [1])
    whole = torch.tensor([-90.0, -100.0, -95.0])
    apart = (whole - whole.mean()) * 1.5 / whole.std(correction=0)
    torch.testing.assert_close(worth, apart)
    (none,) = worth_of_steps([returns[0], torch.full((3, 2), nan)], [1])
    assert not none.any()


def test_sampling_that_all_blew_up_weighs_nothing():
    learner = learner_of("e_maml")
    policy, (batch, *_) = learner._policy, random_data(learner).support
    masked = batch.mask.clone()
    masked[0] = False
    batch = replace(batch, mask=masked)
    outputs = policy.with_params(P.expand(learner.params.theta, len(masked)), batch.obs)
    worth = torch.ones(len(masked)).double()
    loss = exploration_loss(policy)(outputs, Credited(batch=batch, worth=worth))
    assert loss[0] == 0 and loss.isfinite().all() and loss[1] != 0


def gathered(learner):
    """Trajectories of a first batch, and the adapter's state that gathered them."""
    adapter = learner.adapter()
    return adapter, learner.source.gather(adapter).support[0]


def adapted(adapter, data):
    num_tasks, num_episodes = data.reward.shape[:2]
    state = adapter.begin(num_tasks, num_episodes, Noise(torch.Generator().manual_seed(3)))
    return adapter.update(state, data, Noise(torch.Generator().manual_seed(4))).params


@pytest.mark.parametrize("name", GRADIENT)
def test_a_task_adapts_as_if_it_were_alone(name):
    adapter, data = gathered(learner_of(name, dtype=torch.float32))
    together = adapted(adapter, data)
    for task in range(N):
        alone = adapted(adapter, map_tensors(lambda leaf, i=task: leaf[i : i + 1], data))
        for key, leaf in alone.items():
            torch.testing.assert_close(leaf[0], together[key][task], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", GRADIENT)
def test_two_copies_of_a_task_adapt_to_the_same_parameters(name):
    adapter, data = gathered(learner_of(name, dtype=torch.float32))
    copies = map_tensors(lambda leaf: torch.cat([leaf[1:2], leaf[1:2]]), data)
    for leaf in adapted(adapter, copies).values():
        torch.testing.assert_close(leaf[0], leaf[1], rtol=0, atol=0)


@pytest.mark.parametrize("name", GRADIENT)
def test_the_unit_of_a_tasks_rewards_does_not_matter(name):
    adapter, data = gathered(learner_of(name, dtype=torch.float32))
    scale = torch.tensor([1.0, 100.0, 0.01]).reshape(N, 1, 1)
    scaled = adapted(adapter, replace(data, reward=scale * data.reward))
    for key, leaf in adapted(adapter, data).items():
        # Rewards are float32; 1e-8 stands beside the deviation that advantages are divided by.
        torch.testing.assert_close(scaled[key], leaf, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", GRADIENT)
def test_an_iteration_makes_each_batch_and_takes_each_inner_step_once(name, monkeypatch):
    words = ("algo.num_inner_steps=2", f"algo.chunk={N}")
    words += ("algo.inner_kl_steps=all",) if name == "promp" else ()
    learner, called = learner_of(name, *words, dtype=torch.float32), []
    for one in (policy_batch, inner_step):
        recorded = lambda *args, one=one, **named: (
            called.append(one.__name__) or one(*args, **named)
        )
        monkeypatch.setattr(gradient, one.__name__, recorded)
    learner.step()
    assert called.count("policy_batch") == 3  # two support batches and a query
    assert called.count("inner_step") == (3 if name == "reptile" else 2)


LEARNING = {
    "promp": ("algo.outer_lr=0.02", "algo.inner_lr=0.5"),
    "dice_maml": ("algo.outer_lr=0.02", "algo.inner_lr=0.5", "algo.num_epochs=5"),
    "fomaml": ("algo.inner_lr=0.5", "algo.max_kl=0.02"),
    "anil": ("algo.inner_lr=2.0", "algo.max_kl=0.02"),
    "meta_sgd": ("algo.inner_lr=0.3", "algo.max_kl=0.05"),
    "e_maml": ("algo.inner_lr=0.3", "algo.max_kl=0.05"),
    "cavia": ("algo.max_kl=0.05",),
    "maesn": ("algo.inner_lr=3.0", "algo.max_kl=0.1", "model.noise_size=1"),
    "reptile": ("algo.inner_lr=1.0", "algo.outer_lr=1.0"),
}


@pytest.mark.parametrize("name", NEW)
def test_learns_to_find_the_better_of_two_arms(name):
    words = ("algo.meta_batch_size=20", "algo.episodes_per_task=10", "algo.chunk=20")
    learner = learner_of(name, *words, *LEARNING[name], env=BANDIT, dtype=torch.float32)
    rows = [learner.step() for _ in range(12)]
    first, last = (
        {key: sum(row[key] for row in part) / 4 for key in ("return_after", "adaptation_gain")}
        for part in (rows[:4], rows[-4:])
    )
    # Ten pulls; each arm pays with probability U[0, 1]. Without adaptation no policy has more than
    # 5 in expectation, the better arm has 10 · 2/3. Means over 4 · 20 tasks have an error near .2,
    # the gain on the same tasks one near .1.
    assert last["return_after"] < 7.3
    assert last["adaptation_gain"] > 0.5
    if name != "maesn":  # which has most of it from the first step on
        assert last["adaptation_gain"] > first["adaptation_gain"]
    if name == "cavia":
        assert not learner.params.theta["context"].any()


def test_results_and_folders_have_the_learners_own_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["env=point_navigation_2d", "algo=promp", "env.horizon=3", "model.hidden_sizes=[4]"]
    words += ["algo.meta_batch_size=2", "algo.episodes_per_task=2", "iterations=1", "device=cpu"]
    words += ["evaluation.video=false", "evaluation.num_tasks=2"]
    assert command(train_command.main, monkeypatch, *words) == 0
    (folder,) = Path("runs", "point_navigation_2d").glob("*/*")
    assert folder.parent.name == "promp"
    assert '"algo": "promp"' in (folder / "evaluation.json").read_text()


@pytest.mark.parametrize("name", GRADIENT)
def test_each_has_its_name_and_rates_that_may_fall_unless_they_are_learned(name):
    config = configs.merged(configs.composed("train", [f"algo={name}"], [configs.CONFIGS])[0])
    assert algo_name(config) == name
    if config.algo.get("inner_rule", "sgd") == "sgd":
        assert build.scheduled(config, 0.5).algo.inner_lr_decay == 0.5
    else:
        with pytest.raises(UserError, match="learns its rates; expected null"):
            build.scheduled(config, 0.5)


@pytest.mark.parametrize(
    ("name", "word", "message"),
    [
        ("promp", "algo.inner_kl_steps=some", "inner_kl_steps 'some': expected first or all"),
        ("promp", "algo.num_inner_steps=0", "num_inner_steps 0: expected 1 or more"),
        ("e_maml", "algo.exploration_coefficient=-1", "exploration_coefficient -1: expected 0"),
        ("e_maml", "algo.meta_batch_size=1", "meta_batch_size 1: expected 2 or more, because E-M"),
        ("maesn", "algo.prior_coefficient=-1", "prior_coefficient -1: expected 0 or more"),
        ("promp", "algo.inner_kl_coefficient=nan", "inner_kl_coefficient nan: expected 0 or more"),
        ("maml_trpo", "algo.cg_damping=nan", "cg_damping nan: expected 0 or more"),
        ("e_maml", "algo.exploration_coefficient=nan", "exploration_coefficient nan: expected 0"),
        ("maesn", "model=mlp", "the model's noise_size is 0, so it has no latent with a prior"),
        ("cavia", "model=mlp", "no parameter is named 'context' or lies under it; there are"),
        ("anil", "algo.adapt_only=[head]", "no parameter is named 'head' or lies under it"),
        ("meta_sgd", "algo.inner_lr_decay=0.5", "learned_rates has one rate for all steps"),
        ("reptile", "algo.outer_lr=1.5", "outer_lr 1.5: expected a number above 0, at most 1"),
        ("reptile", "model=latent_mlp", "latent_size 1: this algorithm can't adapt a latent"),
        ("cavia", "algo.adapt_only=[last_layer]", "the policy's context would never be anything"),
        ("dice_maml", "algo.gradient_mode=first_order", "inner_loss=dice is made for the deriv"),
        ("maml_ppo", "algo.episodes_per_task=1", "expected 2 or more, for a latent is judged"),
        ("maml_ppo", "env.horizon=1 algo.episodes_per_task=1 model=mlp", "expected two steps"),
        ("promp", "env.horizon=1 algo.episodes_per_task=1", "expected two steps or more in all"),
    ],
)
def test_mistakes_are_named(name, word, message):
    with pytest.raises(SettingError, match=message):
        learner_of(name, *word.split())


def test_each_policy_on_the_way_is_held_near_the_one_that_gathered_its_batch():
    """Before the first outer step they are the same."""
    learner = learner_of("promp", "algo.num_inner_steps=2")
    data, params = random_data(learner), P.expand(learner.params.theta, N)
    steps = []
    for k, batch in enumerate(data.support):
        params = learner._inner(params, learner.params.rule, batch, k)
        steps.append(gradient.InnerStep(batch=batch, adapted=params))
    epoch = learner.meta_gradient(data.support, data.query, learner.penalised(tuple(steps)))
    assert epoch.inner_kl.tolist() == pytest.approx([0.0, 0.0], abs=1e-14)


def test_a_penalty_for_each_step_follows_its_own_kl_and_is_saved():
    words = ("algo.num_inner_steps=2", "algo.inner_kl_target=1e-9", "algo.inner_kl_coefficient=0.5")
    learner = learner_of("promp", *words, "algo.num_epochs=2", dtype=torch.float32)
    learner.step()
    assert learner.state_dict()["kl_coefficient"] == [1.0, 1.0]
    other = learner_of("promp", *words, dtype=torch.float32)
    other.load_state_dict(map_tensors(torch.clone, learner.state_dict()))
    assert other.state_dict()["kl_coefficient"] == [1.0, 1.0]
    with pytest.raises(ValueError, match="kl_coefficient is a list of 2; expected"):
        learner_of("promp", dtype=torch.float32).load_state_dict(learner.state_dict())
