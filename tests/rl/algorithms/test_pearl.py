"""PEARL: its losses beside a straight-line implementation and finite differences, whose steps a
context has, and that it learns."""

import copy
import itertools

import gymnasium
import numpy as np
import pytest
import torch
from support.played import trajectories
from support.sides import Sides
from torch.distributions import Independent, Normal, TransformedDistribution, kl_divergence
from torch.distributions.transforms import TanhTransform

import envs
from metarl.errors import SettingError
from metarl.noise import Noise
from metarl.rl.algorithms import pearl_play
from metarl.rl.algorithms.pearl import Batch, Pearl
from metarl.rl.algorithms.shared import Setting
from metarl.rl.data.collect import Streams
from metarl.rl.data.replay import Steps
from metarl.rl.evaluation.curve import adaptation_curve
from metarl.rl.models.pearl import PearlModel
from metarl.rl.models.policies import mlp_policy
from metarl.rl.models.unit_actions import UnitActions
from metarl.run.seeding import Generators
from metarl.struct import replace

CPU = torch.device("cpu")
NUMBERS = {
    "meta_batch_size": 2,
    "initial_steps": 8,
    "prior_steps": 8,
    "posterior_steps": 0,
    "rl_steps": 4,
    "replay_capacity": 500,
    "updates_per_iteration": 1,
    "batch_tasks": 3,
    "batch_size": 5,
    "context_size": 4,
    "cost": None,
    "kl_weight_executed": 1.6,
    "lr": 1e-3,
    "discount": 0.9,
    "reward_scale": 5.0,
    "target_rate": 0.1,
    "output_penalty": 1e-2,
    "exploration_episodes": 1,
    "evaluated_episodes": 3,
    "evaluated_context": None,
    "chunk": 2,
}


def make(
    *,
    seed=0,
    world=None,
    sizes=None,
    environment=None,
    dtype=torch.float32,
    **numbers,
):
    numbers = NUMBERS | numbers
    generators = Generators(seed)
    if world is None:
        settings = {"num_train_tasks": 4, "horizon": 4} | (environment or {})
        world = envs.make("point_navigation_2d", numbers["meta_batch_size"], **settings)
    model = PearlModel(
        world.observation_space,
        world.action_space,
        generator=generators("init"),
        **{
            "latent_size": 2,
            "encoder_sizes": [6],
            "hidden_sizes": [7, 6],
            "context_has_next_obs": False,
        }
        | (sizes or {}),
    )
    streams = Streams(
        tasks=generators("tasks"),
        reset=Noise(generators("reset")),
        policy=Noise(generators("policy")),
    )
    return Pearl(
        setting=Setting(env=world, model=model.to(dtype), streams=streams, device=CPU), **numbers
    )


def batch(
    generator,
    *,
    num=3,
    context=4,
    size=5,
    obs_size=2,
    action_size=2,
    latent_size=2,
    dtype=torch.float64,
):
    def steps(length):
        normal = lambda *shape: torch.randn(num, length, *shape, dtype=dtype, generator=generator)
        flags = torch.rand(num, length, generator=generator)
        return Steps(
            obs=normal(obs_size),
            action=(0.9 * normal(action_size)).tanh(),
            reward=normal(),
            next_obs=normal(obs_size),
            terminated=flags < 0.3,
            first=flags > 0.8,
            mask=torch.ones(num, length, dtype=torch.bool),
        )

    return Batch(
        context=steps(context),
        steps=steps(size),
        z_noise=torch.randn(num, latent_size, dtype=dtype, generator=generator),
        action_noise=torch.randn(num, size, action_size, dtype=dtype, generator=generator),
    )


class StraightLine:
    """PEARL's losses task by task, step by step, with torch's own distributions."""

    def __init__(self, model, numbers):
        self.model, self.numbers = model, numbers

    def posterior(self, context, i):
        """Bayes' rule, one factor after the other."""
        mean, variance = None, None
        for c in range(context.reward.shape[1]):
            seen = torch.cat([context.obs[i, c], context.action[i, c], context.reward[i, c, None]])
            out = self.model.encoder.trunk(seen)
            m, v = out[:2], torch.log(1 + torch.exp(out[2:]))
            if mean is None:
                mean, variance = m, v
            else:
                mean, variance = (
                    (mean * v + m * variance) / (v + variance),
                    v * variance / (v + variance),
                )
        return Normal(mean, variance.sqrt())

    def q(self, critics, *seen):
        x = torch.cat(seen)
        found = []
        for k in range(2):
            h = x
            for layer in range(3):
                h = (
                    getattr(critics, f"weight_{layer}")[k] @ h
                    + getattr(critics, f"bias_{layer}")[k]
                )
                h = h.relu() if layer < 2 else h
            found.append(h[0])
        return found

    def critics_loss(self, data):
        model, n = self.model, self.numbers
        total, z_of = 0.0, []
        for i in range(len(data.z_noise)):
            q = self.posterior(data.context, i)
            z = q.mean + q.stddev * data.z_noise[i]
            z_of.append(z.detach())
            error = 0.0
            for b in range(data.steps.reward.shape[1]):
                following = model.target_value(torch.cat([data.steps.next_obs[i, b], z]))[
                    0
                ].detach()
                target = n["reward_scale"] * data.steps.reward[i, b]
                if not data.steps.terminated[i, b]:
                    target = target + n["discount"] * following
                for found in self.q(
                    model.critics, data.steps.obs[i, b], data.steps.action[i, b], z
                ):
                    error = error + (found - target) ** 2
            kl = kl_divergence(q, Normal(0.0, 1.0)).sum()
            total = total + error / data.steps.reward.shape[1] + n["kl_weight_executed"] * kl
        return total / len(data.z_noise), torch.stack(z_of)

    def actor_losses(self, data, z):
        model, critics = self.model, copy.deepcopy(self.model.critics)
        of_policy, of_value, num = 0.0, 0.0, data.steps.reward.numel()
        for i in range(len(z)):
            for b in range(data.steps.reward.shape[1]):
                obs = data.steps.obs[i, b]
                mean, log_std = model.policy.trunk(torch.cat([obs, z[i]])).chunk(2)
                normal = Independent(Normal(mean, log_std.exp()), 1)
                action = torch.tanh(mean + log_std.exp() * data.action_noise[i, b])
                log_prob = TransformedDistribution(normal, TanhTransform()).log_prob(action)
                worth = torch.minimum(*self.q(critics, obs, action, z[i])) - log_prob
                penalty = (mean**2).mean() + (log_std**2).mean()
                of_policy = of_policy + (self.numbers["output_penalty"] * penalty - worth) / num
                value = model.value(torch.cat([obs, z[i]]))[0]
                of_value = of_value + (value - worth.detach()) ** 2 / num
        return of_policy, of_value


def gradient(loss, params):
    found = torch.autograd.grad(loss, list(params.values()), allow_unused=True)
    return {
        name: torch.zeros_like(leaf) if g is None else g
        for (name, leaf), g in zip(params.items(), found, strict=True)
    }


@pytest.fixture
def learner():
    made = make(dtype=torch.float64)
    # Larger than at the start, so that no gradient is small.
    generator = torch.Generator().manual_seed(3)
    for leaf in made._model.parameters():
        leaf.data += 0.5 * torch.randn(leaf.shape, dtype=leaf.dtype, generator=generator)
    return made


@pytest.mark.parametrize("chunk", [1, 2, 3])
def test_gradients_are_those_of_a_straight_line_implementation(learner, generator, chunk):
    learner._chunk, data = chunk, batch(generator)
    plain = StraightLine(learner._model, NUMBERS)
    loss, z = plain.critics_loss(data)
    found = learner.critic_gradient(data)
    torch.testing.assert_close(found.each, z)
    torch.testing.assert_close(found.gradient, gradient(loss, learner._critic_params))
    of_policy, of_value = plain.actor_losses(data, z)
    judged = learner.actor_gradient(data, z)
    torch.testing.assert_close(
        judged.gradient, gradient(of_policy + of_value, learner._actor_params)
    )
    assert judged.numbers["value_loss"].item() == pytest.approx(of_value.item())


def test_gradients_match_finite_differences(learner, generator):
    """A few entries of every parameter; the kinks of rectifiers and of the minimum lie elsewhere
    for generic numbers."""
    data, step = batch(generator), 1e-6
    plain = StraightLine(learner._model, NUMBERS)
    z = learner.critic_gradient(data).each

    def differences(loss, params):
        for name, leaf in params.items():
            for entry in (0, leaf.numel() // 2, leaf.numel() - 1):
                values = []
                for sign in (1, -1):
                    leaf.data.view(-1)[entry] += sign * step
                    values.append(loss().item())
                    leaf.data.view(-1)[entry] -= sign * step
                yield name, entry, (values[0] - values[1]) / (2 * step)

    # The derivative that the target has by z is left out on purpose: with V' = 0 there is none.
    for leaf in learner._model.target_value.parameters():
        leaf.data.zero_()
    found = learner.critic_gradient(data).gradient
    for name, entry, expected in differences(
        lambda: plain.critics_loss(data)[0].detach(), learner._critic_params
    ):
        assert found[name].view(-1)[entry].item() == pytest.approx(expected, rel=1e-4, abs=1e-6), (
            name
        )
    found = learner.actor_gradient(data, z).gradient
    of_policy = {k: v for k, v in learner._actor_params.items() if k.startswith("policy")}
    for name, entry, expected in differences(
        lambda: plain.actor_losses(data, z)[0].detach(), of_policy
    ):
        assert found[name].view(-1)[entry].item() == pytest.approx(expected, rel=1e-4, abs=1e-6), (
            name
        )


def test_the_weight_of_the_kl_is_what_the_public_sum_over_tasks_amounts_to(learner, generator):
    """λ = .1 on the sum over 3 tasks beside a mean over rows is .3 on the mean over tasks."""
    data = batch(generator)
    plain = StraightLine(learner._model, NUMBERS | {"kl_weight_executed": 0.0})
    kl = sum(
        kl_divergence(plain.posterior(data.context, i), Normal(0.0, 1.0)).sum() for i in range(3)
    )
    public = plain.critics_loss(data)[0] + 0.1 * kl
    learner._kl_weight_executed = 0.3
    expected = gradient(public, learner._critic_params)
    torch.testing.assert_close(learner.critic_gradient(data).gradient, expected)


def test_the_encoder_learns_from_critics_and_kl_alone(learner, generator):
    data = batch(generator)
    found = learner.critic_gradient(data)
    assert found.gradient["encoder.trunk.layers.0.weight"].abs().sum() > 0
    assert not found.each.requires_grad
    assert all(
        name.startswith(("policy", "value"))
        for name in learner.actor_gradient(data, found.each).gradient
    )


def test_an_update_moves_the_target_by_its_share_and_nothing_else_of_it(learner, generator):
    model = learner._model
    before = copy.deepcopy(model.state_dict())
    learner.update(batch(generator))
    for name, leaf in model.target_value.state_dict().items():
        old, value = before[f"target_value.{name}"], model.value.state_dict()[name]
        torch.testing.assert_close(leaf, old + 0.1 * (value - old))
    for part in ("encoder", "policy", "critics", "value"):
        assert any(
            not torch.equal(leaf, before[f"{part}.{name}"])
            for name, leaf in getattr(model, part).state_dict().items()
        )


def test_a_cost_takes_the_place_of_the_reward_for_critics_alone(generator):
    learner = make(dtype=torch.float64)
    data = batch(generator)
    other = copy.copy(data)
    costs = Steps(
        **vars(data.steps) | {"cost": -data.steps.reward, "reward": data.steps.reward + 7}
    )
    other = Batch(**vars(data) | {"steps": costs})
    torch.testing.assert_close(
        learner.critic_gradient(other).gradient, learner.critic_gradient(data).gradient
    )


def played(learner, iterations=1):
    for _ in range(iterations):
        learner.step()
    return learner


def test_contexts_hold_steps_of_their_own_task_that_were_played_last():
    """On the point's world the reward tells the goal: −‖p' − g‖."""
    learner = played(make(prior_steps=8, posterior_steps=4, rl_steps=8, context_size=12), 3)
    goals = learner._play._tasks.goal
    for task in range(4):
        found = learner._play.kept.context(
            torch.tensor([task]), 50, Noise(torch.Generator().manual_seed(0))
        )
        distance = (found.next_obs[0] - goals[task]).norm(dim=-1)
        torch.testing.assert_close(found.reward[0], -distance, atol=1e-5, rtol=0)


def test_iterations_play_what_they_are_asked_to():
    learner = make(initial_steps=8, prior_steps=8, posterior_steps=4, rl_steps=12, context_size=12)
    rows = [learner.step() for _ in range(2)]
    # 4 tasks × 8 steps before the first; 2 tasks × (8 + 4 + 12) in each.
    assert [row["env_steps"] for row in rows] == [32 + 48, 48]
    counts = learner.experience.counts()
    assert counts.sum() == 32 + 2 * 48 and counts.min() >= 8
    # The context of a task begins with what is played on it under the prior; RL's steps never enter it.
    drawn = learner._play.kept._stretches("context", int(counts.argmax()))
    assert sum(stretch.num for stretch in drawn) == 8 + 4


def test_a_context_whose_room_was_taken_names_the_capacity(monkeypatch, generator):
    """Episodes of one of two tasks end at once. The other one then plays 16 steps under the prior and
    20 that don't belong to its context, where 8 + 12 were asked for."""
    learner = make(prior_steps=8, rl_steps=12, replay_capacity=20)
    episodes = trajectories(generator, 2, 1, 4, lengths=[[1], [4]])
    monkeypatch.setattr(pearl_play, "collect", lambda *args, **settings: (episodes, None))
    with pytest.raises(
        SettingError, match=r"replay_capacity 20: task \d has no context, because later steps took"
    ):
        played(learner, 6)


def test_a_context_begins_with_the_first_step_that_a_task_has(monkeypatch, generator):
    """One of two tasks diverges at the first step of its first episode: what it lived through before
    is forgotten all the same."""
    learner, counted = make(prior_steps=8, context_size=8), itertools.count()

    def collect(*args, **settings):
        number = next(counted)
        episodes = trajectories(generator, 2, 1, 4)
        diverged = episodes.diverged.clone()
        if number == 4:  # Two for each half of the training tasks come first.
            diverged[0] = True
        reward = torch.full_like(episodes.reward, number)
        return replace(episodes, diverged=diverged, reward=reward), None

    monkeypatch.setattr(pearl_play, "collect", collect)
    learner._play.check()
    learner._play.begin()
    ids = torch.tensor([0, 1])
    learner._play._episodes(ids, 12, "begins")
    stream = Noise(torch.Generator().manual_seed(0))
    found = learner._play.kept.context(ids, 50, stream).reward
    assert [set(own.tolist()) for own in found] == [{5.0, 6.0}, {4.0, 5.0, 6.0}]


def test_fewer_tasks_than_worlds_share_their_first_steps():
    """Of 4 tasks in 12 worlds each is played in three."""
    learner = make(meta_batch_size=12, initial_steps=24)
    learner._play.check()
    assert learner._play.begin() == 4 * 24
    alone = make(meta_batch_size=4, initial_steps=24)
    alone._play.check()
    assert alone._play.begin() == 4 * 24


def test_tasks_of_an_iteration_are_different_ones_in_turn():
    learner = make(meta_batch_size=6)
    drawn = [learner._play._some_tasks() for _ in range(8)]
    for ids in drawn:
        assert sorted(ids[:4].tolist()) == [0, 1, 2, 3] and len(set(ids[4:].tolist())) == 2
    assert len({tuple(ids.tolist()) for ids in drawn}) > 1


def test_state_comes_back_bit_for_bit():
    first = played(make(seed=4))
    again = make(seed=9)
    again.load_state_dict(copy.deepcopy(first.state_dict()))
    for name, leaf in again._model.state_dict().items():
        assert torch.equal(leaf, first._model.state_dict()[name])
    data = batch(torch.Generator().manual_seed(0), dtype=torch.float32)
    assert all(
        torch.equal(a, b)
        for a, b in zip(first.update(data).values(), again.update(data).values(), strict=True)
    )
    broken = first.state_dict()
    del broken["critics"]["optimizer"]
    with pytest.raises(ValueError, match="optimizer is missing"):
        again.load_state_dict(broken)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        (
            {"context_size": 9},
            r"context_size 9: expected at most 8, .*\(prior_steps 8 \+ posterior_steps 0\)",
        ),
        ({"rl_steps": 0}, "posterior_steps 0 and rl_steps 0: expected 1 or more of either"),
        ({"kl_weight_executed": -1.0}, "kl_weight_executed -1.0: expected 0 or more"),
        ({"discount": 1.5}, "discount 1.5: expected a number from 0 to 1"),
        (
            {"replay_capacity": 23, "meta_batch_size": 5},
            "replay_capacity 23: expected 24 or more, the steps that an iteration plays on a task",
        ),
        ({"evaluated_episodes": 0}, "evaluated_episodes 0: expected 1 or more"),
    ],
)
def test_numbers_out_of_range_are_named(numbers, message):
    with pytest.raises(ValueError, match=message):
        make(**numbers)


def test_what_it_needs_of_an_environment_is_said():
    discrete = gymnasium.spaces.Discrete(3)
    obs = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    with pytest.raises(
        ValueError, match=r"action space is Discrete\(3\): expected a flat Box with finite bounds"
    ):
        UnitActions(discrete)
    unbounded = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    with pytest.raises(ValueError, match="expected a flat Box with finite bounds"):
        UnitActions(unbounded)
    sizes = {
        "latent_size": 2,
        "encoder_sizes": [4],
        "hidden_sizes": [4],
        "context_has_next_obs": False,
    }
    with pytest.raises(ValueError, match="Discrete"):
        PearlModel(obs, discrete, generator=torch.Generator(), **sizes)
    drawn_anew = make(environment={"num_train_tasks": None})
    with pytest.raises(
        ValueError, match="point_navigation_2d draws new training tasks .*num_train_tasks=100"
    ):
        drawn_anew.check_trainable()
    with pytest.raises(
        ValueError, match="cost height: expected a term of point_navigation_2d's steps: distance"
    ):
        make(cost="height").check_trainable()
    make(cost="distance").check_trainable()
    model = mlp_policy(
        obs,
        unbounded,
        hidden_sizes=[4],
        activation="tanh",
        init_std=1.0,
        min_std=0.1,
        generator=torch.Generator(),
    )
    setting = make()._play._setting
    with pytest.raises(
        ValueError,
        match="model is a GaussianPolicy; expected a PearlModel, as model=pearl makes it",
    ):
        Pearl(
            setting=Setting(env=setting.env, model=model, streams=setting.streams, device=CPU),
            **NUMBERS,
        )


def test_it_guesses_first_and_knows_after_an_episode():
    """The optimum of the world above: 4 in the second and the third episode. Entropy has its price,
    so that the mode isn't quite at the bound; on three seeds 3.0 to 3.6 were found."""
    numbers = {
        "meta_batch_size": 2,
        "initial_steps": 40,
        "prior_steps": 8,
        "posterior_steps": 8,
        "rl_steps": 4,
        "context_size": 8,
        "updates_per_iteration": 40,
        "batch_tasks": 6,
        "batch_size": 16,
        "kl_weight_executed": 0.01,
        "reward_scale": 10.0,
        "output_penalty": 0.0,
        "lr": 5e-3,
        "discount": 0.3,
        "target_rate": 0.1,
        "chunk": 6,
    }
    sizes = {"latent_size": 2, "encoder_sizes": [24, 24], "hidden_sizes": [32, 32]}
    learner = make(sizes=sizes, world=Sides(2), **numbers)
    for _ in range(9):
        metrics = learner.step()
    streams, env = learner._streams, Sides(60)
    curve = adaptation_curve(
        *(learner.adapter(), env, env.test_tasks(60), streams),
        num_tasks=60,
        num_updates=2,
        acting="mode",
    )
    first, *later = curve.returns.mean((0, 2)).tolist()
    assert abs(first) < 2 and 2.5 < min(later) <= 4, (first, later, metrics)
