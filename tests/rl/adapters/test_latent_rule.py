"""Adapting an episode's latent: the step of its distribution by hand, the meta-gradient against
finite differences, what is refused."""

import math

import pytest
import torch
from support.gradient_learners import make
from torch.distributions import Normal, kl_divergence

from metarl.core import params as P
from metarl.core.rules import Sgd
from metarl.nn.heads import GaussianPolicy
from metarl.nn.latent import LOG_STD, MEAN, draw_latents, latent_log_prob, latent_outputs
from metarl.noise import Noise
from metarl.rl.adapters.latent_rule import LatentRule
from metarl.rl.algorithms.maml_ppo import MamlPPO
from metarl.rl.algorithms.maml_trpo import MamlTRPO
from metarl.rl.algorithms.shared import WithOld, split
from metarl.rl.data.batches import PolicyBatch, normalise
from metarl.rl.types import EpisodeLatent
from metarl.struct import replace

N, E, T, L = 3, 4, 3, 2
LATENT = {
    "latent_lr": 0.8,
    "latent_shrink": 0.5,
    "latent_coefficient": 0.4,
    "inner_rule": "sgd",
    "inner_lr_decay": 0.7,
}
FIRST_SHRINK = 0.3


def learner_with_latent(cls=MamlPPO, *, products=False, **changes):
    model = GaussianPolicy(
        2,
        2,
        (5, 4),
        init_std=0.8,
        latent_size=L,
        latent_gain=3.0,
        latent_products=products,
        generator=torch.Generator().manual_seed(0),
    )
    settings = LATENT | {"judged_updates": "all"} | changes
    if cls is MamlPPO:
        settings = {"inner_kl_coefficient": 0.0} | settings
    return make(cls, model=model.double(), dtype=torch.float64, **settings)


def random_batch(params, policy, generator) -> PolicyBatch:
    """Latents and actions of the policy under `params` [N, ...], with advantages that have nothing
    to do with them."""
    z = draw_latents(params[MEAN], params[LOG_STD], E, Noise(generator))
    obs = torch.randn(N, E, T, 2, generator=generator, dtype=torch.float64)
    obs = torch.cat([obs, z[:, :, None].expand(-1, -1, T, -1)], dim=-1).flatten(1, 2)
    outputs = policy.with_params(params, obs)
    action, log_prob = policy.act(outputs, Noise(generator))
    mask = torch.ones(N, E * T, dtype=torch.bool)
    mask[1, -2:] = False
    random = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)
    return PolicyBatch(
        obs=obs,
        action=action,
        log_prob=log_prob,
        advantage=normalise(random(N, E * T), mask),
        mask=mask,
        weight=mask,
        episode_latent=EpisodeLatent(value=z, log_prob=latent_log_prob(outputs, z).detach()),
        episode_advantage=normalise(random(N, E), torch.ones(N, E, dtype=torch.bool)),
    )


def data_of(learner, num_inner_steps=2):
    """Batches by a policy a little elsewhere, so that no ratio is exactly 1."""
    generator = torch.Generator().manual_seed(5)
    shifted = {
        name: leaf + 0.03 * torch.randn(leaf.shape, generator=generator, dtype=leaf.dtype)
        for name, leaf in learner.params.theta.items()
    }
    stacked = P.expand(shifted, N)
    *support, query = (
        random_batch(stacked, learner._policy, generator) for _ in range(num_inner_steps + 1)
    )
    old = learner._policy.with_params(stacked, support[0].obs)
    return tuple(support), query, (WithOld(batch=support[0], old=old),)


def one(batch, task):
    """What a task's losses take, from the fields one by one."""
    latent = batch.episode_latent
    return {
        "obs": batch.obs[task],
        "action": batch.action[task],
        "old": batch.log_prob[task],
        "advantage": batch.advantage[task],
        "keep": batch.mask[task],
        "z": latent.value[task],
        "old_z": latent.log_prob[task],
        "worth": batch.episode_advantage[task],
    }


def log_probs(policy, params, data):
    mean = P.call(policy, params, data["obs"])["mean"]
    of_actions = Normal(mean, params["log_std"].exp()).log_prob(data["action"]).sum(-1)
    return of_actions, Normal(params[MEAN], params[LOG_STD].exp()).log_prob(data["z"]).sum(-1)


def mean_over_judged(policy, theta, support, query, of_policy):
    """The mean over tasks, and over the policies after 1, ..., K inner steps, of of_policy(task, k,
    parameters, data): line by line, with autograd alone."""
    total = 0
    for task in range(N):
        params = theta
        for k, batch in enumerate(support):
            data = one(batch, task)
            actions, latents = log_probs(policy, params, data)
            loss = -((actions - data["old"]).exp() * data["advantage"])[data["keep"]].mean()
            loss = loss - (latents * data["worth"]).mean()
            grads = dict(
                zip(
                    params,
                    torch.autograd.grad(loss, list(params.values()), create_graph=True),
                    strict=True,
                )
            )
            moved = {
                name: leaf - (0.3 if k == 0 else 0.3 * 0.7) * grads[name]
                for name, leaf in params.items()
            }
            moved[MEAN] = params[MEAN] - 0.8 * 0.7**k * (2 * params[LOG_STD]).exp() * grads[MEAN]
            moved[LOG_STD] = params[LOG_STD] + math.log(FIRST_SHRINK if k == 0 else 0.5)
            params = moved
            data = one((*support, query)[k + 1], task)
            total = total + of_policy(task, k, params, data) / len(support)
    return total / N


def clipped_loss(policy):
    def clipped(ratio, advantage):
        return -torch.minimum(ratio * advantage, ratio.clamp(0.7, 1.3) * advantage).mean()

    def of_policy(task, k, params, data):
        actions, latents = log_probs(policy, params, data)
        keep = data["keep"]
        of_actions = clipped((actions - data["old"]).exp()[keep], data["advantage"][keep])
        return of_actions + 0.4 * clipped((latents - data["old_z"]).exp(), data["worth"])

    return of_policy


def surrogate(policy):
    def of_policy(task, k, params, data):
        actions, latents = log_probs(policy, params, data)
        of_actions = ((actions - data["old"]).exp() * data["advantage"])[data["keep"]].mean()
        return -of_actions - 0.4 * ((latents - data["old_z"]).exp() * data["worth"]).mean()

    return of_policy


def kl_to(policy, left):
    """KL(policy that is left, left[task, k] ‖ present one) of actions, and of latents in full."""

    def distributions(params, data):
        mean = P.call(policy, params, data["obs"])["mean"]
        return Normal(mean, params["log_std"].exp()), Normal(params[MEAN], params[LOG_STD].exp())

    def of_policy(task, k, params, data):
        before, now = distributions(left[task, k], data), distributions(params, data)
        of_actions, of_latents = (
            kl_divergence(p, q).sum(-1) for p, q in zip(before, now, strict=True)
        )
        return of_actions[data["keep"]].mean() + of_latents

    return of_policy


@pytest.mark.parametrize("products", [False, True])
def test_meta_gradient_through_latents_and_all_updates_matches_finite_differences(products):
    learner = learner_with_latent(products=products, latent_first_shrink=FIRST_SHRINK)
    support, query, penalised = data_of(learner)
    start = {name: leaf.detach().clone() for name, leaf in learner.params.joined.items()}
    found = learner.meta_gradient(support, query, penalised)
    loss = clipped_loss(learner._policy)

    def objective(vector):
        leaves = {name: leaf.requires_grad_() for name, leaf in P.unflatten(vector, start).items()}
        return mean_over_judged(learner._policy, split(leaves)[0], support, query, loss).item()

    vector = P.flatten(start)
    assert found.loss.item() == pytest.approx(objective(vector), rel=1e-12)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        direction, step = torch.randn(vector.shape, generator=generator, dtype=torch.float64), 2e-6
        slope = (objective(vector + step * direction) - objective(vector - step * direction)) / (
            2 * step
        )
        # The densities of narrow latents bend: central differences with a step of 1e-5 are off by
        # 2e-6, with this one by 1e-7.
        assert P.flatten(found.gradient) @ direction == pytest.approx(slope, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("num_inner_steps", [1, 2, 3])
def test_trust_region_over_all_updates_and_latents_matches_finite_differences(num_inner_steps):
    """Its gradient, and the curvature of the mean KL of all judged policies."""
    learner = learner_with_latent(
        MamlTRPO, num_inner_steps=num_inner_steps, latent_first_shrink=FIRST_SHRINK
    )
    policy = learner._policy
    support, query, _ = data_of(learner, num_inner_steps)
    around = learner.linearize(support, query)
    start = {name: leaf.detach().clone() for name, leaf in learner.params.joined.items()}
    left = {}

    def note(task, k, params, data):
        left[task, k] = P.detached(params)
        return torch.zeros(())

    def mean_of(vector, of_policy):
        leaves = {name: leaf.requires_grad_() for name, leaf in P.unflatten(vector, start).items()}
        return mean_over_judged(policy, split(leaves)[0], support, query, of_policy), leaves

    def slope_of_kl(vector):
        kl, leaves = mean_of(vector, kl_to(policy, left))
        return torch.cat([g.flatten() for g in torch.autograd.grad(kl, list(leaves.values()))])

    vector = P.flatten(start)
    mean_of(vector, note)
    # Summed in other orders.
    assert slope_of_kl(vector).abs().max() < 1e-12
    gradient, generator = P.flatten(learner.meta_gradient(around)), torch.Generator().manual_seed(0)
    for _ in range(2):
        direction, step = torch.randn(vector.shape, generator=generator, dtype=torch.float64), 2e-6
        ahead, behind = (vector + sign * step * direction for sign in (1, -1))
        loss = surrogate(policy)
        rise = (mean_of(ahead, loss)[0] - mean_of(behind, loss)[0]).item() / (2 * step)
        # As above; three steps narrow the latents further.
        assert gradient @ direction == pytest.approx(rise, rel=1e-5, abs=1e-7)
        product = P.flatten(learner.curvature_product(around, P.unflatten(direction, start)))
        bent = (slope_of_kl(ahead) - slope_of_kl(behind)) / (2 * step)
        torch.testing.assert_close(product, bent, rtol=1e-5, atol=1e-6 * bent.abs().max().item())
    ahead = P.unflatten(vector + 1e-3 * gradient, start)
    loss, kl = learner._evaluate(around, ahead)
    assert loss.item() == pytest.approx(mean_of(P.flatten(ahead), surrogate(policy))[0].item())
    assert kl.item() == pytest.approx(mean_of(P.flatten(ahead), kl_to(policy, left))[0].item())


def test_a_trust_region_step_bounds_how_far_latents_move():
    learner = learner_with_latent(MamlTRPO, num_tasks=4, episodes=5, max_kl=0.005)
    metrics = learner.step()
    assert metrics["accepted"] == 1
    assert 0 < metrics["kl"] <= 0.005


def test_a_step_moves_the_mean_towards_better_latents_in_units_of_the_latent():
    # Two episodes at μ ± 2 with σ = 2, the upper one better by two deviations of their returns: A =
    # (−1, 1).
    rule = LatentRule(Sgd(0.1), lr=0.5, decay=0.5, shrink=0.25)
    params = {
        MEAN: torch.tensor([1.0]),
        LOG_STD: torch.tensor([math.log(2.0)]),
        "weight": torch.tensor([3.0]),
    }
    score = torch.tensor([-1.0, 1.0]) * 2 / 2**2  # (z − μ) A / σ² of either
    grads = {MEAN: -(score * torch.tensor([-1.0, 1.0])).mean()[None], LOG_STD: torch.tensor([9.0])}
    after = rule(params, grads | {"weight": torch.tensor([1.0])}, {}, 0)
    # Mean of (z − μ) A is 2, of which half a step.
    assert after[MEAN].item() == pytest.approx(1.0 + 0.5 * 2)
    assert after[LOG_STD].exp().item() == pytest.approx(0.5)
    assert after["weight"].item() == pytest.approx(2.9)
    assert rule(params, grads | {"weight": torch.tensor([1.0])}, {}, 1)[
        MEAN
    ].item() == pytest.approx(1.0 + 0.25 * 2)


def test_the_first_step_has_a_factor_of_its_own_on_the_deviation():
    rule = LatentRule(Sgd(0.1), lr=0.5, decay=1.0, shrink=0.5, first_shrink=0.25)
    params = {MEAN: torch.zeros(1), LOG_STD: torch.zeros(1)}
    grads = {MEAN: torch.ones(1), LOG_STD: torch.ones(1)}
    assert [rule(params, grads, {}, k)[LOG_STD].exp().item() for k in range(3)] == [0.25, 0.5, 0.5]


def test_three_updates_find_the_best_latent_of_a_world_that_is_nothing_else():
    # The return of an episode is −|z − g|: no network, no actions. The best return is 0.
    goal = torch.linspace(-1.6, 1.6, 33)[:, None]
    rule = LatentRule(Sgd(0.1), lr=1.0, decay=0.7, shrink=0.5)
    params = {MEAN: torch.zeros(33, 1), LOG_STD: torch.zeros(33, 1)}
    noise = Noise(torch.Generator().manual_seed(0))
    losses = []
    for step in range(4):
        z = draw_latents(params[MEAN], params[LOG_STD], 5, noise)
        returns = -(z - goal[:, None]).abs()[..., 0]
        losses.append(-returns.mean().item())
        worth = normalise(returns, torch.ones_like(returns, dtype=torch.bool))
        score = (z - params[MEAN][:, None]) * (-2 * params[LOG_STD][:, None]).exp()
        grads = {MEAN: -(score * worth[..., None]).mean(1), LOG_STD: torch.zeros_like(goal)}
        params = rule(params, grads, {}, step)
    # E|z − g| of z ~ N(0, 1) is 2 φ(g) + g (2 Φ(g) − 1); without adaptation it stays there.
    normal = Normal(0.0, 1.0)
    expected = 2 * normal.log_prob(goal).exp() + goal * (2 * normal.cdf(goal) - 1)
    assert losses[0] == pytest.approx(expected.mean().item(), rel=0.05)
    assert losses[1] < 0.65 * losses[0]
    assert losses[2] < 0.65 * losses[1]
    assert losses[3] < 0.25


def test_latents_last_for_an_episode_and_change_with_the_update():
    learner = learner_with_latent(num_tasks=3, episodes=2)
    rollouts = learner.source.gather(learner.adapter())
    first, second = rollouts.support[0].episode_latent, rollouts.support[1].episode_latent
    assert first.value.shape == (3, 2, L)
    assert not torch.equal(first.value, second.value)
    batch = learner._inner.batch(rollouts.support[0])
    shown = batch.obs.unflatten(1, (2, -1))[..., -L:]
    assert torch.equal(shown, first.value[:, :, None].expand_as(shown).to(shown))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: learner_with_latent(latent_lr=0.0), "latent_lr 0.0: expected a number above 0"),
        (
            lambda: learner_with_latent(latent_shrink=1.5),
            "latent_shrink 1.5: expected a number above 0, at most 1",
        ),
        (
            lambda: learner_with_latent(latent_first_shrink=0.0),
            "latent_first_shrink 0.0: expected a number above 0, at most 1",
        ),
        (
            lambda: learner_with_latent(latent_coefficient=-1.0),
            "latent_coefficient -1.0: expected 0 or more",
        ),
        (
            lambda: learner_with_latent(judged_updates="some"),
            "judged_updates 'some': expected last or all",
        ),
        (
            lambda: learner_with_latent(MamlTRPO, latent_coefficient=-1.0),
            "latent_coefficient -1.0: expected 0 or more",
        ),
        (
            lambda: learner_with_latent(MamlTRPO, judged_updates="none"),
            "judged_updates 'none': expected last or all",
        ),
        (
            lambda: make(MamlTRPO, model=GaussianPolicy(2, 2, (4,), latent_size=1)),
            "latent_size 1: this algorithm can't adapt a latent; expected 0",
        ),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_search_that_has_seen_nothing_to_close_in_on_stays_as_wide() -> None:
    """One episode, or several that did alike, has no advantage over others."""
    learner = learner_with_latent(latent_first_shrink=FIRST_SHRINK)
    params = P.expand(learner.params.theta, N)
    batch = random_batch(params, learner._policy, torch.Generator().manual_seed(0))
    worth = batch.episode_advantage.clone()
    worth[1] = 0
    after = learner._inner(params, {}, replace(batch, episode_advantage=worth), 0)
    expected = [math.log(FIRST_SHRINK), 0.0, math.log(FIRST_SHRINK)]
    for task, closer in enumerate(expected):
        found = (after[LOG_STD] - params[LOG_STD])[task]
        torch.testing.assert_close(found, torch.full_like(found, closer))
    torch.testing.assert_close(after[MEAN][1], params[MEAN][1])
    assert not torch.equal(after[MEAN][0], params[MEAN][0])


def test_latents_after_an_update_are_drawn_from_where_it_led():
    learner = learner_with_latent(num_tasks=3, episodes=2)
    rollouts = learner.source.gather(learner.adapter())
    later = (*rollouts.support[1:], rollouts.query)
    for step, played in zip(rollouts.traces, later, strict=True):
        expected = latent_log_prob(latent_outputs(step.adapted), played.episode_latent.value)
        torch.testing.assert_close(played.episode_latent.log_prob, expected)
