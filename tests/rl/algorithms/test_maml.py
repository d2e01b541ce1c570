"""MAML-PPO and MAML-TRPO: their gradients against plain autograd and finite differences in float64,
and that they learn."""

import pytest
import torch
from support.gradient_learners import N, make

from metarl.core import params as P
from metarl.noise import Noise
from metarl.rl.adapters.gradient import INNER_LOSSES
from metarl.rl.algorithms.maml_ppo import MamlPPO
from metarl.rl.algorithms.maml_trpo import MamlTRPO
from metarl.rl.algorithms.ppo_epoch import Data
from metarl.rl.algorithms.shared import WithOld, split
from metarl.rl.data.batches import PolicyBatch, normalise
from metarl.struct import map_tensors, replace

B = 12


def generators_of(learner):
    streams = learner.source.streams
    return {"tasks": streams.tasks, "reset": streams.reset.alone, "policy": streams.policy.alone}


def random_batch(learner, params, generator) -> PolicyBatch:
    """Actions of the policy under `params` [N, ...], with advantages that have nothing to do with
    them."""
    obs = torch.randn(N, B, 2, generator=generator, dtype=torch.float64)
    outputs = learner._policy.with_params(params, obs)
    action, _ = learner._policy.act(outputs, Noise(generator))
    mask = torch.ones(N, B, dtype=torch.bool)
    mask[1, -3:] = False
    log_prob = learner._policy.log_prob(outputs, action).detach()
    advantage = normalise(torch.randn(N, B, generator=generator, dtype=torch.float64), mask)
    return PolicyBatch(
        obs=obs, action=action, log_prob=log_prob, advantage=advantage, mask=mask, weight=mask
    )


def random_data(learner):
    """Two support batches and a query batch by a policy a little elsewhere, so that no ratio is
    exactly 1."""
    generator = torch.Generator().manual_seed(5)
    theta = {
        k: v + 0.05 * torch.randn(v.shape, generator=generator, dtype=v.dtype)
        for k, v in learner.params.theta.items()
    }
    stacked = P.expand(theta, N)
    support = (random_batch(learner, stacked, generator), random_batch(learner, stacked, generator))
    old = learner._policy.with_params(stacked, support[0].obs)
    return support, random_batch(learner, stacked, generator), old


def log_prob(policy, params, batch, task):
    mean = P.call(policy, params, batch.obs[task])["mean"]
    return (
        torch.distributions.Normal(mean, params["log_std"].exp())
        .log_prob(batch.action[task])
        .sum(-1)
    )


def adapted(policy, joined, support, task):
    """Two steps of Meta-SGD on the likelihood-ratio loss, by autograd, one task alone."""
    params, rates = split(joined)
    for batch in support:
        ratio = torch.exp(log_prob(policy, params, batch, task) - batch.log_prob[task])
        loss = -(ratio * batch.advantage[task])[batch.mask[task]].mean()
        grads = torch.autograd.grad(loss, list(params.values()), create_graph=True)
        params = {k: v - rates[k] * g for (k, v), g in zip(params.items(), grads, strict=True)}
    return params


def ppo_objective(policy, joined, support, query, old, clip, coefficient):
    total = 0
    for task in range(N):
        params = adapted(policy, joined, support, task)
        keep = query.mask[task]
        ratio = torch.exp(log_prob(policy, params, query, task) - query.log_prob[task])[keep]
        advantage = query.advantage[task][keep]
        total = (
            total
            - torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage).mean()
        )
        theta = split(joined)[0]
        mean = P.call(policy, theta, support[0].obs[task])["mean"]
        kl = torch.distributions.kl_divergence(
            torch.distributions.Normal(old["mean"][task], old["log_std"][task].exp()),
            torch.distributions.Normal(mean, theta["log_std"].exp()),
        )
        total = total + coefficient * kl.sum(-1)[support[0].mask[task]].mean()
    return total / N


def test_ppo_meta_gradient_matches_finite_differences():
    learner = make(MamlPPO, dtype=torch.float64)
    support, query, old = random_data(learner)
    start = {k: v.detach().clone() for k, v in learner.params.joined.items()}
    gradient = learner.meta_gradient(support, query, (WithOld(batch=support[0], old=old),)).gradient

    def objective(vector):
        leaves = {k: v.detach().requires_grad_() for k, v in P.unflatten(vector, start).items()}
        return ppo_objective(learner._policy, leaves, support, query, old, 0.3, 0.7).item()

    vector = P.flatten(start)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        direction = torch.randn(vector.shape, generator=generator, dtype=torch.float64)
        step = 1e-5
        slope = (objective(vector + step * direction) - objective(vector - step * direction)) / (
            2 * step
        )
        # Central differences with this step are good to about 1e-9 of the function's scale of 1.
        assert P.flatten(gradient) @ direction == pytest.approx(slope, rel=1e-6, abs=1e-8)


def test_trpo_gradient_and_curvature_match_double_backward():
    learner = make(MamlTRPO, dtype=torch.float64)
    support, query, _ = random_data(learner)
    around = learner.linearize(support, query)
    leaves = {k: v.detach().clone().requires_grad_() for k, v in learner.params.joined.items()}
    surrogate = kl = 0
    for task in range(N):
        params = adapted(learner._policy, leaves, support, task)
        keep = query.mask[task]
        ratio = torch.exp(log_prob(learner._policy, params, query, task) - query.log_prob[task])
        surrogate = surrogate - (ratio * query.advantage[task])[keep].mean() / N
        outputs = P.call(learner._policy, params, query.obs[task])
        here = torch.distributions.Normal(outputs["mean"], params["log_std"].exp())
        there = torch.distributions.Normal(
            outputs["mean"].detach(), params["log_std"].exp().detach()
        )
        kl = kl + torch.distributions.kl_divergence(there, here).sum(-1)[keep].mean() / N
    expected = torch.autograd.grad(surrogate, list(leaves.values()), retain_graph=True)
    torch.testing.assert_close(
        P.flatten(learner.meta_gradient(around)), torch.cat([g.flatten() for g in expected])
    )

    slope = torch.autograd.grad(kl, list(leaves.values()), create_graph=True)
    vector = torch.randn(
        sum(g.numel() for g in slope),
        generator=torch.Generator().manual_seed(1),
        dtype=torch.float64,
    )
    product = torch.autograd.grad(
        torch.cat([g.flatten() for g in slope]) @ vector, list(leaves.values())
    )
    mine = learner.curvature_product(
        around, P.unflatten(vector, {k: v.detach() for k, v in leaves.items()})
    )
    torch.testing.assert_close(
        P.flatten(mine), torch.cat([g.flatten() for g in product]), rtol=1e-9, atol=1e-10
    )


def test_trpo_step_lowers_the_surrogate_within_the_trust_region():
    learner = make(MamlTRPO, num_tasks=4, episodes=5)
    metrics = learner.step()
    assert metrics["accepted"] == 1
    assert metrics["loss_after"] < metrics["loss_before"]
    assert 0 < metrics["kl"] <= 0.01


def test_trpo_that_finds_no_step_says_so_once(monkeypatch, caplog):
    learner = make(MamlTRPO, num_tasks=2, episodes=2)
    evaluate, nothing = learner._evaluate, torch.zeros(())

    def steps(number, *, found):
        monkeypatch.setattr(learner, "_evaluate", evaluate if found else lambda *_: (nothing,) * 2)
        return [learner.step()["accepted"] for _ in range(number)]

    assert steps(9, found=False) == [0] * 9 and steps(1, found=True) == [1]
    assert steps(9, found=False) == [0] * 9 and not caplog.messages
    steps(1, found=False)
    assert caplog.messages[0].startswith("10 iterations in a row changed nothing: the line search")
    steps(12, found=False)
    assert len(caplog.messages) == 1


def test_chunk_size_changes_rounding_only():
    after = []
    for chunk in (1, 2, 3):
        learner = make(MamlPPO, dtype=torch.float64, chunk=chunk)
        support, query, old = random_data(learner)
        after.append(
            P.flatten(
                learner.meta_gradient(
                    support, query, (WithOld(batch=support[0], old=old),)
                ).gradient
            )
        )
    torch.testing.assert_close(after[0], after[1], rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(after[0], after[2], rtol=1e-12, atol=1e-14)


def test_the_trust_region_halves_in_its_time_and_goes_on_from_a_checkpoint():
    falling = {"num_tasks": 4, "episodes": 5, "max_kl": 0.01, "max_kl_half_life": 2.0}
    learner = make(MamlTRPO, **falling)
    found = [learner.step() for _ in range(3)]
    bounds = [metrics["max_kl"] for metrics in found]
    assert bounds == pytest.approx([0.01, 0.01 * 0.5**0.5, 0.005])
    assert all(0 < metrics["kl"] <= metrics["max_kl"] for metrics in found)
    other = make(MamlTRPO, **falling)
    other.load_state_dict(learner.state_dict())
    assert other.step()["max_kl"] == pytest.approx(0.01 * 0.5**1.5)
    assert "max_kl" not in make(MamlTRPO, num_tasks=4, episodes=5).step()  # it stays


def test_the_rate_halves_in_its_time_and_goes_on_from_a_checkpoint():
    falling = {"num_tasks": 4, "episodes": 5, "outer_lr": 0.004, "outer_lr_half_life": 2.0}
    learner = make(MamlPPO, **falling, kl_target=None)
    rates = [learner.step()["outer_lr"] for _ in range(2)]
    assert rates == pytest.approx([0.004 * 0.5**0.5, 0.002])
    other = make(MamlPPO, **falling, kl_target=None)
    other.load_state_dict(learner.state_dict())
    assert [other.step()["outer_lr"] for _ in range(2)][1] == pytest.approx(0.001)
    assert "max_lr" not in make(MamlPPO).state_dict()  # it stays


def test_as_many_tasks_go_together_as_have_5000_steps_and_two_at_least():
    inner = make(MamlPPO, chunk=None)._inner
    together = lambda steps, device="cpu": inner.tasks_together(
        torch.empty(20, steps, dtype=torch.bool, device=device)
    )
    assert [together(steps) for steps in (100, 1000, 2000, 4000)] == [10, 5, 2, 2]
    assert together(1000, "meta") == 20  # anything but a CPU takes all
    assert make(MamlPPO, chunk=3)._inner.tasks_together(torch.empty(20, 1000)) == 3


def test_first_order_ignores_the_curvature():
    both = []
    for mode in ("through", "first_order"):
        learner = make(MamlPPO, dtype=torch.float64, gradient_mode=mode)
        support, query, old = random_data(learner)
        gradient = learner.meta_gradient(
            support, query, (WithOld(batch=support[0], old=old),)
        ).gradient
        both.append(P.flatten({k: v for k, v in gradient.items() if k.startswith("policy.")}))
    assert (both[0] - both[1]).abs().max() > 1e-3


def test_anil_adapts_the_last_layer_only():
    learner = make(MamlPPO, adapt_only=["trunk.layers.2"], inner_rule="sgd")
    support, _, _ = random_data(make(MamlPPO, dtype=torch.float64))
    batch = map_tensors(lambda leaf: leaf.float() if leaf.is_floating_point() else leaf, support[0])
    before = P.expand(learner.params.theta, N)
    after = learner._inner(before, {}, batch, 0)
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed == {"trunk.layers.2.weight", "trunk.layers.2.bias"}


def test_every_inner_loss_takes_the_same_first_step():
    """They differ in their second derivatives alone."""
    learners = {
        name: make(MamlPPO, inner_loss=name, inner_rule="sgd", inner_lr=0.5)
        for name in INNER_LOSSES
    }
    data = learners["lvc"].source.gather(learners["lvc"].adapter()).support[0]
    found = {}
    for name, learner in learners.items():
        adapter = learner.adapter()
        found[name] = adapter.update(adapter.begin(N, 2), data).params
    for name, params in found.items():
        for key, leaf in params.items():
            # float32 sums over 200 steps, in other orders
            torch.testing.assert_close(
                leaf, found["reinforce"][key], rtol=1e-4, atol=1e-5, msg=f"{name}, {key}"
            )


def test_the_penalty_follows_where_all_steps_have_led():
    for num_epochs in (1, 3):
        learner = make(MamlPPO, inner_kl_target=1e-9, num_epochs=num_epochs)
        found = learner.step()
        assert found["num_epochs"] == num_epochs and found["inner_kl"] > 1e-8
        assert found["inner_kl_coefficient"] == pytest.approx(1.4)


def test_the_kl_that_the_penalty_follows_is_that_of_the_present_parameters():
    learner = make(MamlPPO, dtype=torch.float64, inner_kl_target=1e-3, num_epochs=2)
    support, query, old = random_data(learner)
    penalised = (WithOld(batch=support[0], old=old),)
    last = learner.descend(support, query, penalised)[-1]
    found = learner.meta_gradient(support, query, penalised)
    assert torch.equal(last.inner_kl, found.inner_kl)


def test_a_single_step_that_leads_too_far_is_taken_back():
    learner = make(MamlPPO, dtype=torch.float64, kl_target=1e-3, outer_lr=1.0, num_epochs=1)
    support, query, old = random_data(learner)
    before = {k: v.detach().clone() for k, v in learner.params.joined.items()}
    learner.descend(support, query, (WithOld(batch=support[0], old=old),))
    assert all(torch.equal(before[k], v) for k, v in learner.params.joined.items())


@pytest.mark.parametrize(("num_targets", "is_kept"), [(2.9, True), (3.1, False)])
def test_a_step_is_taken_back_beyond_three_times_the_target(num_targets, is_kept):
    learner = make(MamlPPO, dtype=torch.float64, kl_target=0.01, num_epochs=1)
    support, query, old = random_data(learner)
    data = Data(support=support, query=query, penalised=(WithOld(batch=support[0], old=old),))
    first = learner.meta_gradient(support, query, data.penalised)
    before = {k: v.detach().clone() for k, v in learner.params.joined.items()}
    descending = learner.descending(data)
    next(descending)
    descending.send(first)
    with pytest.raises(StopIteration):
        descending.send(replace(first, kl=torch.tensor(num_targets * 0.01)))
    moved = [not torch.equal(before[k], v) for k, v in learner.params.joined.items()]
    assert all(moved) if is_kept else not any(moved)


def test_a_penalty_that_could_never_grow_is_refused():
    with pytest.raises(ValueError, match="inner_kl_coefficient 0 with inner_kl_target 0.01"):
        make(MamlPPO, inner_kl_coefficient=0.0, inner_kl_target=0.01)


def test_a_step_that_leads_too_far_is_taken_back_and_the_rate_follows():
    learner = make(MamlPPO, dtype=torch.float64, kl_target=1e-3, outer_lr=1.0, num_epochs=5)
    support, query, old = random_data(learner)
    before = {k: v.detach().clone() for k, v in learner.params.joined.items()}
    epochs = learner.descend(support, query, (WithOld(batch=support[0], old=old),))
    assert [epochs[0].kl, len(epochs)] == [0.0, 2]  # a rate of 1 is too far at once
    assert all(torch.equal(before[k], v) for k, v in learner.params.joined.items())
    learner = make(MamlPPO, kl_target=1e-6, outer_lr=1.0, num_epochs=5)
    found = learner.step()
    assert found["outer_lr"] == pytest.approx(1 / 1.5)
    assert found["num_epochs"] == 0  # none stands


@pytest.mark.parametrize("cls", [MamlPPO, MamlTRPO])
def test_saved_learner_goes_on_bit_for_bit(cls):
    learner = make(cls)
    learner.step()
    saved = map_tensors(torch.clone, learner.state_dict())
    streams = {k: stream.get_state() for k, stream in generators_of(learner).items()}
    expected = learner.step()
    other = make(cls, seed=9)
    other.load_state_dict(saved)
    for name, stream in streams.items():
        generators_of(other)[name].set_state(stream)
    assert other.step() == expected


@pytest.mark.parametrize(
    ("cls", "settings", "message"),
    [
        (MamlPPO, {"outer_lr": -1.0}, "outer_lr -1.0"),
        (MamlPPO, {"clip": 0.0}, "clip 0.0"),
        (MamlPPO, {"inner_lr": -0.1}, "inner_lr -0.1"),
        (MamlPPO, {"inner_loss": "a2c"}, "lvc, reinforce or dice"),
        (MamlPPO, {"inner_rule": "adam"}, "sgd, learned_rates or per_step_rates"),
        (MamlPPO, {"gradient_mode": "third_order"}, "through or first_order"),
        (MamlPPO, {"discount": 1.5}, "discount 1.5"),
        (MamlPPO, {"num_inner_steps": 0}, "num_inner_steps 0"),
        (
            MamlTRPO,
            {"inner_lr_decay": 0.0},
            "inner_lr_decay 0.0: expected a number above 0, at most 1",
        ),
        (MamlPPO, {"inner_lr_decay": 1.5}, "inner_lr_decay 1.5"),
        (MamlTRPO, {"max_kl": 0.0}, "max_kl 0.0"),
        (MamlTRPO, {"line_search_ratio": 1.0}, "line_search_ratio 1.0"),
    ],
)
def test_settings_out_of_range_are_named(cls, settings, message):
    with pytest.raises(ValueError, match=message):
        make(cls, **settings)


@pytest.mark.parametrize("cls", [MamlPPO, MamlTRPO])
def test_a_model_that_is_no_memoryless_policy_is_refused(cls):
    with pytest.raises(ValueError, match="model is a GRU; expected a policy without memory"):
        make(cls, model=torch.nn.GRU(2, 3))


def test_an_evaluation_goes_beyond_the_updates_trained_for():
    settings = {"meta_batch_size": 4, "episodes_per_task": 5, "outer_lr": 0.1}
    sizes = [MamlPPO.sizes(**settings, num_inner_steps=steps) for steps in (1, 5)]
    assert [(s.num_worlds, s.num_updates, s.evaluated_updates) for s in sizes] == [
        (20, 1, 3),
        (20, 5, 5),
    ]


@pytest.mark.parametrize(
    ("cls", "settings"),
    [(MamlPPO, {"outer_lr": 0.02, "num_epochs": 5}), (MamlTRPO, {"max_kl": 0.08})],
)
def test_learns_to_adapt_to_a_hidden_goal(cls, settings):
    inner = {"num_inner_steps": 1, "inner_rule": "sgd", "inner_lr": 0.5}
    learner = make(cls, num_tasks=10, episodes=10, **inner, **settings)
    rows = [learner.step() for _ in range(10)]
    start, end = (sum(row["return_after"] for row in part) / 3 for part in (rows[:3], rows[-3:]))
    before = sum(row["return_before"] for row in rows[-3:]) / 3
    # Steps of this size lead from -290 (PPO) and -220 (TRPO) to -78 and, as the machine rounds, -40 to
    # -23. Of what is lost before it an update wins back a tenth at the start, as the first policy
    # drifts away from most goals, and .5 to .6 at the end; four other seeds of TRPO have .5 or more.
    assert end > start + 100
    assert end - before > 0.4 * -before


@pytest.mark.gpu
@pytest.mark.parametrize("cls", [MamlPPO, MamlTRPO])
def test_learns_on_a_gpu_what_it_learns_on_the_cpu(cls):
    """The same data on both: the policy's noise differs between devices, so one device gathers for
    the two of them."""
    gpu, cpu = (
        make(cls, device=torch.device("cuda"), dtype=torch.float64),
        make(cls, dtype=torch.float64),
    )
    support, query, old = random_data(cpu)
    moved = map_tensors(lambda x: x.cuda(), (support, query, old))
    gradients = []
    for learner, (s, q, o) in ((cpu, (support, query, old)), (gpu, moved)):
        if cls is MamlPPO:
            gradients.append(
                P.flatten(learner.meta_gradient(s, q, (WithOld(batch=s[0], old=o),)).gradient).cpu()
            )
        else:
            gradients.append(P.flatten(learner.meta_gradient(learner.linearize(s, q))).cpu())
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-9, atol=1e-11)
    assert make(cls, device=torch.device("cuda")).step()["env_steps"] > 0


def test_the_meta_gradient_is_limited():
    """Adam divides by the gradient's size, but not where it is as small as its ε."""
    moved = []
    for limit in (None, 1e-9):
        learner = make(MamlPPO, dtype=torch.float64, max_grad_norm=limit)
        support, query, old = random_data(learner)
        before = {k: v.detach().clone() for k, v in learner.params.joined.items()}
        learner.descend(support, query, (WithOld(batch=support[0], old=old),))
        now = learner.params.joined
        moved.append(max((now[k] - v).abs().max().item() for k, v in before.items()))
    assert moved[0] == pytest.approx(1e-3, rel=1e-2) and moved[1] < 2e-4
