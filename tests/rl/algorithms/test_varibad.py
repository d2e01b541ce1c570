"""VariBAD: that acting and training see the same beliefs, its bound two ways, what learns from
what, and Bayes' rule."""

import itertools
from functools import partial

import gymnasium
import numpy as np
import pytest
import torch
from support.drifting import Drifting, Lengths
from torch import Tensor

from metarl.core import params as P
from metarl.nn.gaussians import Gaussian, kl_divergence
from metarl.nn.step_decoders import RewardDecoder, RewardMap, StateDecoder
from metarl.nn.trial_encoder import TrialEncoder
from metarl.noise import Noise
from metarl.rl.adapters.belief import BeliefAdapter
from metarl.rl.algorithms.shared import Setting
from metarl.rl.algorithms.varibad import Inference, VariBAD
from metarl.rl.data.collect import Streams
from metarl.rl.data.replay import Steps
from metarl.rl.data.trials import join_episodes, trial_advantages, trial_steps
from metarl.rl.losses import clipped_huber
from metarl.rl.models.belief import BeliefModel
from metarl.rl.reward_scale import RewardScale
from metarl.rl.spec import EnvSpec
from metarl.rl.types import Step
from metarl.run.seeding import Generators
from metarl.struct import map_tensors, replace

CPU = torch.device("cpu")
PPO = {
    "outer_lr": 1e-2,
    "num_epochs": 2,
    "num_minibatches": 2,
    "clip": 0.2,
    "kl_target": None,
    "value_coefficient": 0.5,
    "entropy_coefficient": 0.01,
    "entropy_half_life": 2.0,
    "max_grad_norm": 0.5,
    "discount": 0.9,
    "gae_lambda": 0.8,
}
INFERENCE = {
    "lr": 1e-2,
    "num_gradient_steps": 2,
    "batch_size": 3,
    "kl_weight_executed": 0.7,
    "num_beliefs": None,
    "num_decoded": None,
    "truncation": None,
    "max_grad_norm": None,
}
SETTINGS = {"trials_per_task": 2, "episodes_per_trial": 3, "replay_capacity": 400}
"""A trial has up to 15 steps, an iteration of four tasks up to 120."""


def model_for(env, *, decodes=("reward", "state"), reward=RewardDecoder, seed=0, **encoder):
    encoder = {"hidden_size": 6, "next_obs_embedding": 5, "reward_embedding": 4} | encoder
    encoder = {"action_embedding": 3, "obs_embedding": 4} | encoder
    return BeliefModel(
        env.observation_space,
        env.action_space,
        latent_size=2,
        encoder=partial(TrialEncoder, **encoder),
        decodes=decodes,
        reward_decoder=partial(reward, hidden_sizes=[7, 5]),
        state_decoder=partial(StateDecoder, hidden_sizes=[6]),
        obs_embedding=5,
        belief_embedding=4,
        head_sizes=[6],
        activation="tanh",
        init_std=0.8,
        min_std=1e-3,
        generator=Generators(seed)("init"),
    )


def make(*, env=None, num_tasks=4, seed=0, model=None, inference=None, **settings) -> VariBAD:
    settings = SETTINGS | PPO | {"meta_batch_size": num_tasks} | settings
    env = env or Drifting(num_tasks * settings["trials_per_task"])
    draw = Generators(seed)
    streams = Streams(tasks=draw("tasks"), reset=Noise(draw("reset")), policy=Noise(draw("policy")))
    setting = Setting(
        env=env, model=model or model_for(env, seed=seed), streams=streams, device=CPU
    )
    return VariBAD(setting=setting, inference=INFERENCE | (inference or {}), **settings)


def shift_statistics(model) -> None:
    """Normalisers that aren't the identity."""
    generator = torch.Generator().manual_seed(3)
    for statistics in (model.heads.observations, model.heads.beliefs, model.heads.returns):
        statistics.update(2 + torch.randn(50, len(statistics.mean), generator=generator))


def played(learner):
    shift_statistics(learner._model)
    rollouts = learner.source.gather(learner.adapter())
    return (*rollouts.support, rollouts.query)


def doubled(tree):
    return map_tensors(lambda x: x.double() if x.is_floating_point() else x, tree)


@pytest.mark.parametrize("obs_embedding", [0, 4])
@pytest.mark.parametrize("discrete", [False, True])
def test_training_recomputes_what_was_believed_while_acting(discrete, obs_embedding):
    env = Drifting(8, discrete=discrete)
    learner = make(env=env, model=model_for(env, obs_embedding=obs_embedding))
    episodes = played(learner)
    trials, steps, heads = join_episodes(episodes), trial_steps(episodes), learner._model.heads
    assert not trials.mask.all() and trials.mask[0].all()
    assert torch.equal(steps.mask.T, trials.mask)
    belief = map_tensors(lambda x: x.transpose(0, 1), learner._model.beliefs(steps))
    outputs, _ = heads.evaluate(heads.inputs(trials.obs, belief)[:-1])
    again = heads.policy.log_prob(outputs, trials.action)
    # One matrix product for all steps or one a step: float32 rounding of numbers of size 1.
    torch.testing.assert_close(
        again[trials.mask], trials.log_prob[trials.mask], rtol=1e-4, atol=1e-5
    )


def test_steps_of_trials_are_their_episodes_steps_one_after_the_other():
    episodes = played(make())
    steps, trials = trial_steps(episodes), join_episodes(episodes)
    ends = trials.terminated | trials.truncated
    for trial in range(8):
        length = int(steps.mask[trial].sum())
        first = steps.first[trial, :length]
        assert first[0] and first.sum() == 3
        # An episode begins where one has ended, with another observation than the last successor.
        assert torch.equal(first[1:], ends[: length - 1, trial])
        same = (steps.obs[trial, 1:length] == steps.next_obs[trial, : length - 1]).all(-1)
        assert torch.equal(same, ~first[1:])
        assert not steps.obs[trial, length:].any() and not steps.first[trial, length:].any()


def test_a_replay_gives_the_trials_that_were_played():
    learner = make()
    episodes = played(learner)
    learner.experience.add(torch.zeros(4, dtype=torch.int64), *episodes)
    steps = trial_steps(episodes)
    noise = Noise(torch.Generator().manual_seed(0))
    drawn = learner.experience.sequences(torch.zeros(40, dtype=torch.int64), 15, noise)
    longest = steps.mask.shape[1]
    for row in range(40):
        same = [
            all(
                torch.equal(getattr(drawn, name)[row, :longest], leaf[trial])
                for name, leaf in vars(steps).items()
                if leaf is not None
            )
            for trial in range(8)
        ]
        assert sum(same) == 1


def test_a_world_whose_episode_has_ended_waits_for_the_next_one():
    env = Drifting(2)
    adapter = BeliefAdapter(model_for(env))
    env.set_tasks(Lengths(length=torch.tensor([9, 2])))
    noise = Noise(torch.Generator().manual_seed(0))
    state, obs = adapter.begin(2), env.reset(noise.starts(env))
    assert state.first.all()
    states = []
    for _ in range(4):
        act = adapter.act(state, obs, noise)
        step = env.step(act.action)
        state = adapter.observe(state, obs, act, step)
        obs = step.next_obs
        states.append(state)
    assert states[0].running.tolist() == [True, False]  # its episode takes one step: 2 − 1
    assert not torch.equal(states[0].hidden[0], states[3].hidden[0])
    for later in states[1:]:
        assert torch.equal(later.hidden[1], states[0].hidden[1])
        assert torch.equal(later.belief.mean[1], states[0].belief.mean[1])
    following = adapter.update(state, played(make())[0])
    assert following.running is None and following.first.all()
    assert torch.equal(following.belief.mean, state.belief.mean)


def test_the_next_trial_begins_with_the_prior():
    """Whatever an iteration held before: no evidence of one task reaches another's trial."""
    adapter = make().adapter()
    first, later = adapter.begin(4, 2), adapter.begin(4, 2)
    assert not first.hidden.any() and torch.equal(first.belief.mean, later.belief.mean)
    assert (first.belief.mean == first.belief.mean[0]).all()


def naive_loss(model: BeliefModel, steps: Steps, standard: Tensor, weight: float) -> Tensor:
    """The bound trial by trial, belief by belief and step by step, with the encoder run step by
    step."""
    total, lengths = 0, steps.mask.sum(1).tolist()
    for trial, length in enumerate(lengths):
        alone = map_tensors(lambda leaf, at=trial: leaf[at : at + 1], steps)
        parts = model.parts(alone)
        hidden = model.encoder.initial(1)
        before = Gaussian(mean=torch.zeros(1, 2).double(), log_variance=torch.zeros(1, 2).double())
        for time in range(length + 1):
            belief = model.encoder.belief(hidden)
            total = total + weight * kl_divergence(belief, before).sum()
            latent = belief.at(standard[trial : trial + 1, time])[:, None]
            for k in range(length):
                step = map_tensors(lambda leaf, at=k: leaf[:, at : at + 1], alone)
                total = total + sum(error.sum() for error in model.errors(latent, step).values())
            before = belief
            if time < length:
                one = map_tensors(lambda leaf, at=time: leaf[:, at], parts)
                hidden = model.encoder.step(one, hidden)
    return total / len(lengths)


class Fixed(Noise):
    """Gives known normal numbers."""

    def __init__(self, standard: Tensor) -> None:
        super().__init__(torch.Generator().manual_seed(0))
        self._standard = standard

    def normal(self, *shape: int, dtype: torch.dtype = torch.float32, dim: int = 0) -> Tensor:
        return self._standard[: shape[0], : shape[1]].to(dtype)


def trials_in_double(discrete=False) -> tuple[BeliefModel, Steps, Tensor]:
    """A model, trials of unequal lengths, and normal numbers for their beliefs."""
    env = Drifting(8, discrete=discrete)
    steps = doubled(trial_steps(played(make(env=env))))
    assert len(set(steps.mask.sum(1).tolist())) > 2
    standard = torch.randn(8, 20, 2, generator=torch.Generator().manual_seed(5)).double()
    return model_for(env).double(), steps, standard


def inference_of(model: BeliefModel, **numbers) -> Inference:
    return Inference(model, longest=15, **INFERENCE | numbers)


@pytest.mark.parametrize("discrete", [False, True])
def test_the_two_ways_to_compute_the_loss_agree(discrete):
    model, steps, standard = trials_in_double(discrete)
    elbo = inference_of(model).elbo(steps, Fixed(standard))
    expected = naive_loss(model, steps, standard, INFERENCE["kl_weight_executed"])
    torch.testing.assert_close(elbo.loss, expected, rtol=1e-10, atol=1e-10)
    pairs = sum(length * (length + 1) for length in steps.mask.sum(1).tolist())
    rest = sum(elbo.errors.values()) * pairs / 8
    torch.testing.assert_close(elbo.loss, rest + INFERENCE["kl_weight_executed"] * elbo.divergence)


def test_the_drawn_terms_estimate_the_whole_loss():
    """As many terms as there are steps is all of them; fewer are right in the mean, here of 200
    draws."""
    model, steps, standard = trials_in_double()
    whole = inference_of(model).elbo(steps, Fixed(standard)).loss
    noise = Fixed(standard)
    drawn = inference_of(model, num_beliefs=3, num_decoded=2)
    losses = torch.stack([drawn.elbo(steps, noise).loss.detach() for _ in range(200)])
    error = losses.std() / 200**0.5
    assert error < 0.05 * whole and abs(losses.mean() - whole) < 4 * error


def test_padding_and_other_trials_change_no_number():
    model, steps, standard = trials_in_double()
    inference = inference_of(model)
    padded = map_tensors(
        lambda leaf: torch.cat([leaf, torch.zeros_like(leaf[:, :4])], dim=1), steps
    )
    whole = inference.elbo(steps, Fixed(standard))
    other = inference.elbo(padded, Fixed(standard))
    torch.testing.assert_close(other.loss, whole.loss, rtol=1e-12, atol=1e-12)
    rubbish = replace(padded, reward=padded.reward + 9 * ~padded.mask, obs=padded.obs + 1)
    rubbish = replace(rubbish, obs=torch.where(padded.mask[..., None], padded.obs, 7.0))
    filled = inference.elbo(rubbish, Fixed(standard))
    torch.testing.assert_close(filled.loss, whole.loss, rtol=1e-12, atol=1e-12)
    each = [
        inference.elbo(
            map_tensors(lambda leaf, at=row: leaf[at : at + 1, : steps.mask[at].sum()], steps),
            Fixed(standard[row : row + 1]),
        ).loss
        for row in range(8)
    ]
    torch.testing.assert_close(torch.stack(each).mean(), whole.loss, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("num", [None, 3])
def test_the_bounds_gradient_matches_finite_differences(num):
    model, steps, standard = trials_in_double()
    steps = map_tensors(lambda leaf: leaf[:3], steps)
    inference = inference_of(model, num_beliefs=num, num_decoded=num)
    parameters = model.inference_parameters()
    start = {name: leaf.detach().clone() for name, leaf in parameters.items()}

    def loss(params=None) -> Tensor:
        for name, leaf in (params or {}).items():
            parameters[name].data.copy_(leaf)
        return inference.elbo(steps, Fixed(standard)).loss

    found = torch.autograd.grad(loss(), list(parameters.values()))
    gradient = P.flatten(dict(zip(parameters, found, strict=True)))
    vector, generator = P.flatten(start), torch.Generator().manual_seed(1)
    for _ in range(3):
        direction = torch.randn(vector.shape, generator=generator, dtype=torch.float64)
        direction /= direction.norm()
        h = 1e-6
        with torch.no_grad():
            up, down = (loss(P.unflatten(vector + x * direction, start)) for x in (h, -h))
        # Central differences are good to about 1e-10 of the loss over h; it is about 1e3. ReLUs
        # have kinks, of which so small a step meets none here.
        assert (gradient @ direction).item() == pytest.approx(
            ((up - down) / (2 * h)).item(), rel=1e-5, abs=1e-2
        )


def test_the_gradient_of_the_encoder_and_of_each_decoder_is_limited_by_itself():
    model, steps, standard = trials_in_double()
    free, bound = inference_of(model), inference_of(model, max_grad_norm=1e-3)
    parameters = model.inference_parameters()
    owners = ("encoder.", "decoders.reward.", "decoders.state.")

    def norms(inference: Inference) -> list[float]:
        seen: dict[str, Tensor] = {}
        inference._descent._optimizer.step = lambda: seen.update(
            {name: leaf.grad.clone() for name, leaf in parameters.items()}
        )
        inference.descend(steps, Fixed(standard))
        return [
            torch.cat([x.flatten() for name, x in seen.items() if name.startswith(owner)])
            .norm()
            .item()
            for owner in owners
        ]

    assert all(norm > 1e-2 for norm in norms(free))
    assert norms(bound) == pytest.approx([1e-3] * 3, rel=1e-3)  # 1e-6 stands beside a norm


def test_the_bounds_rate_is_halved():
    model, steps, standard = trials_in_double()
    inference = inference_of(model, halve_every=2)
    for _ in range(5):
        inference.descend(steps, Fixed(standard))
    assert inference._descent.lr == INFERENCE["lr"] / 4


def test_the_policys_loss_changes_heads_alone_and_the_bound_all_else():
    learner = make()
    model = learner._model
    episodes = played(learner)
    learner.experience.add(torch.zeros(4, dtype=torch.int64), *episodes)

    def changed(act) -> set[str]:
        before = {name: leaf.detach().clone() for name, leaf in model.named_parameters()}
        act()
        now = model.named_parameters()
        return {name for name, leaf in now if not torch.equal(leaf, before[name])}

    heads = {name for name, _ in model.named_parameters() if name.startswith("heads.")}
    others = {name for name, _ in model.named_parameters()} - heads
    improve = lambda: learner._improve(join_episodes(episodes), trial_steps(episodes))
    infer = lambda: learner.inference.update(learner.experience, Noise(torch.Generator()))
    assert changed(improve) == heads
    assert changed(infer) == others == set(model.inference_parameters())
    inputs = model.heads.inputs(torch.zeros(3, 2), model.encoder.belief(torch.randn(3, 6)))
    assert not inputs.requires_grad


def test_the_belief_before_is_not_cut_off():
    """The chain's gradient goes into both beliefs of a divergence."""
    model, steps, standard = trials_in_double()
    inference = inference_of(model)
    beliefs = model.beliefs(steps)
    for leaf in (beliefs.mean, beliefs.log_variance):
        leaf.retain_grad()
    inference._model.beliefs = lambda steps, truncation: beliefs
    model.errors = lambda latent, steps: {}
    inference.elbo(steps, Fixed(standard)).loss.backward()
    trial = int(steps.mask.sum(1).argmax())
    mean, variance = beliefs.mean[trial, :3], beliefs.log_variance[trial, :3].exp()
    # By hand: d/dμ₁ of KL(q₁‖q₀) + KL(q₂‖q₁) = (μ₁ − μ₀)/σ₀² − (μ₂ − μ₁)/σ₁².
    by_hand = (mean[1] - mean[0]) / variance[0] - (mean[2] - mean[1]) / variance[1]
    expected = INFERENCE["kl_weight_executed"] * by_hand / 8
    torch.testing.assert_close(beliefs.mean.grad[trial, 1], expected)


class TwoPlaces:
    """Spaces of a world with a goal on one of two places, and hints that are right in four of five
    cases.

    A trial has three steps with a hint (+1 for the first place) and one on a place, which pays 1 on
    the goal.
    """

    observation_space = gymnasium.spaces.Box(-1, 1, (3,), np.float32)  # on place A, on B, hint
    action_space = gymnasium.spaces.Discrete(2)
    RIGHT = 0.8

    @classmethod
    def trials(cls, num: int, generator: torch.Generator) -> Steps:
        goal, place = torch.randint(2, (2, num), generator=generator)
        right = torch.rand(num, 3, generator=generator) < cls.RIGHT
        return cls.steps(
            torch.where(right, 1 - 2 * goal[:, None], 2 * goal[:, None] - 1), place, goal
        )

    @staticmethod
    def steps(hints: Tensor, place: Tensor, goal: Tensor) -> Steps:
        num = len(hints)
        next_obs = torch.zeros(num, 4, 3)
        next_obs[:, :3, 2] = hints.float()
        next_obs[torch.arange(num), 3, place] = 1
        reward = torch.zeros(num, 4)
        reward[:, 3] = (place == goal).float()
        flags = torch.zeros(num, 4, dtype=torch.bool)
        action = torch.zeros(num, 4, dtype=torch.int64)
        blind = torch.zeros(num, 4, 3)
        return Steps(
            obs=blind, action=action, reward=reward, next_obs=next_obs, terminated=flags,
            first=torch.arange(4).expand(num, -1) == 0, mask=~flags,
        )  # fmt: skip


def test_the_belief_is_that_of_bayes_where_there_are_two_hypotheses():
    """After a right and b wrong hints for place A its chance is .8ᵃ .2ᵇ / (.8ᵃ .2ᵇ + .2ᵃ .8ᵇ)."""
    model = model_for(TwoPlaces, decodes=["reward"], hidden_size=16)
    generator = torch.Generator().manual_seed(0)
    noise = Noise(generator)
    for lr, num_steps in ((1e-2, 300), (2e-3, 100)):
        inference = inference_of(model, lr=lr, kl_weight_executed=0.005)
        for _ in range(num_steps):
            inference.descend(TwoPlaces.trials(256, generator), noise)
    hints = torch.tensor(list(itertools.product([1, -1], repeat=3)))
    zeros = torch.zeros(8, dtype=torch.int64)
    steps = TwoPlaces.steps(hints, zeros, zeros)
    beliefs = model.beliefs(steps)
    standard = torch.randn(500, 8, 5, 2, generator=generator)
    on_place_a = map_tensors(lambda leaf: leaf[:, 3:], steps)
    with torch.no_grad():
        said = model.decoders["reward"](beliefs.at(standard), model.parts(on_place_a)).mean(0)
    right, wrong = TwoPlaces.RIGHT, 1 - TwoPlaces.RIGHT
    for row in range(8):
        for seen in range(4):
            a, b = (int((hints[row, :seen] == sign).sum()) for sign in (1, -1))
            one, other = right**a * wrong**b, wrong**a * right**b
            # The divergence draws what is said towards the prior, by up to 0.1 over several seeds;
            # .5, .8, .94 and .98 are told apart.
            expected = pytest.approx(one / (one + other), abs=0.15)
            assert said[row, seen, 0].item() == expected, (row, seen)


class Hidden(Drifting):
    """Reward 1 for naming the task, 0 or 1, which never shows: an episode has two steps, the first
    of which tells who asks."""

    spec = EnvSpec(name="hidden", family="hidden", variant="default", horizon=2, definition={})

    def __init__(self, num_worlds: int) -> None:
        super().__init__(num_worlds)
        self.action_space = gymnasium.spaces.Discrete(2)

    def reset(self, uniform, worlds=None) -> Tensor:
        self.count = 0
        return torch.zeros(self.num_worlds, 2)

    def check(self) -> None:
        return

    def rest(self, worlds: Tensor) -> None:
        return

    def step(self, action: Tensor) -> Step:
        self.count += 1
        ended = torch.full((self.num_worlds,), self.count == 2)
        return Step(
            next_obs=torch.full((self.num_worlds, 2), float(self.count)),
            reward=(action == self.length % 2).float(),
            terminated=ended,
            truncated=torch.zeros_like(ended),
            diverged=torch.zeros_like(ended),
            terms={},
        )


def test_what_was_found_out_is_used_in_the_next_episode():
    """The optimum of the second episode is 2; who can't know has 1."""
    env = Hidden(32)
    model = model_for(env, decodes=["reward"], hidden_size=16)
    sizes = {
        "trials_per_task": 1,
        "episodes_per_trial": 2,
        "num_epochs": 4,
        "replay_capacity": 4000,
    }
    inference = {"num_gradient_steps": 5, "batch_size": 20, "kl_weight_executed": 0.05}
    learner = make(env=env, num_tasks=32, model=model, inference=inference, **sizes)
    returns = [learner.step()["return_after"] for _ in range(30)]
    assert sum(returns[-5:]) / 5 > 1.85


AS_PUBLISHED = {"value_loss": "clipped_huber", "normalises": "rewards", "adam_epsilon": 1e-8}


def test_values_of_scaled_rewards_are_in_their_units():
    """The published way: values aren't deviations of returns, and the value's loss goes by how far
    a value has moved since it acted."""
    learner = make(**AS_PUBLISHED, outer_lr=1e-9)
    episodes = played(learner)
    learner._model.heads.returns = type(learner._model.heads.returns)(1)
    trials, steps, heads = join_episodes(episodes), trial_steps(episodes), learner._model.heads
    belief = map_tensors(lambda x: x.transpose(0, 1), learner._model.beliefs(steps))
    inputs = heads.inputs(trials.obs, belief)
    scaled = RewardScale(discount=PPO["discount"])(trials.reward, trials.mask)
    assert (scaled != trials.reward)[trials.mask].any()
    batch = learner._ppo.batch(trials, inputs)
    value = heads.evaluate(inputs)[1].detach()
    torch.testing.assert_close(batch.old_value, value[:-1])
    factors = {"discount": PPO["discount"], "gae_lambda": PPO["gae_lambda"]}
    expected = value[:-1] + trial_advantages(replace(trials, reward=scaled), value, **factors)
    torch.testing.assert_close(batch.target, expected)
    assert heads.returns.count == 0
    losses = learner._ppo.losses(replace(batch, old_value=batch.old_value + 0.5))
    moved = clipped_huber(value[:-1], expected, value[:-1] + 0.5, clip=PPO["clip"])
    torch.testing.assert_close(losses.value, moved[trials.mask].mean())


@pytest.mark.parametrize("settings", [{}, AS_PUBLISHED])
def test_a_saved_learner_goes_on_bit_for_bit(settings):
    learner = make(**settings)
    learner.step()
    saved = map_tensors(torch.clone, learner.state_dict())
    shards = list(learner.experience.shards(0))
    streams = learner.source.streams
    states = [g.get_state() for g in (streams.tasks, streams.reset.alone, streams.policy.alone)]
    episode = learner.source.env.episode
    expected = learner.step()
    other = make(seed=9, **settings)
    other.load_state_dict(saved)
    other.experience.load(shards)
    other.source.env.episode = episode
    mine = other.source.streams
    for stream, state in zip(
        (mine.tasks, mine.reset.alone, mine.policy.alone), states, strict=True
    ):
        stream.set_state(state)
    assert other.step() == expected


def test_the_memory_it_takes_is_said_before_it_takes_it():
    reserve = make(replay_capacity=1000).experience.reserve()
    # A step: two observations and an action of two numbers, a reward, of 4 bytes; two flags.
    assert reserve.num_bytes == 1000 * (7 * 4 + 2)
    assert "replay_capacity 1000" in reserve.what


def test_a_map_of_chances_is_that_of_the_decoder():
    env = Drifting(2)
    model = model_for(TwoPlaces, decodes=["reward"], reward=RewardMap)
    belief = model.encoder.belief(torch.randn(2, 6))
    chances = model.chances(belief)
    assert chances.shape == (2, 3) and ((chances > 0) & (chances < 1)).all()
    sharp = replace(belief, log_variance=torch.full((2, 2), -40.0))
    expected = model.decoders["reward"](belief.mean).sigmoid()
    torch.testing.assert_close(model.chances(sharp), expected)
    assert model_for(env).chances(belief) is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"replay_capacity": 119}, "replay_capacity 119: expected 120 or more"),
        ({"episodes_per_trial": 0}, "episodes_per_trial 0: expected 1 or more"),
        ({"outer_lr": -1.0}, "outer_lr -1.0"),
        ({"num_minibatches": 121}, "num_minibatches 121: expected 1 to 120, the steps in all"),
        ({"value_loss": "mse"}, "value_loss 'mse': expected squared or clipped_huber"),
        ({"normalises": "both"}, "normalises 'both': expected returns or rewards"),
        ({"adam_epsilon": 0.0}, "adam_epsilon 0.0: expected a number above 0"),
        ({"inference": {"lr": 0.0}}, "inference.lr 0.0"),
        (
            {"inference": {"kl_weight_executed": -1.0}},
            "kl_weight_executed -1.0: expected 0 or more",
        ),
        ({"inference": {"batch_size": 0}}, "batch_size 0"),
        ({"inference": {"num_decoded": 0}}, "num_decoded 0"),
    ],
)
def test_mistakes_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        make(**settings)


def test_a_map_is_refused_where_observations_cant_be_one_hot():
    with pytest.raises(ValueError, match=r"lie in \[-inf, inf\]: a RewardMap takes one-hot ones"):
        model_for(Drifting(1), decodes=["reward"], reward=RewardMap)


@pytest.mark.parametrize("decodes", [[], ["task"]])
def test_what_it_decodes_is_reward_or_state(decodes):
    with pytest.raises(ValueError, match="^decodes .*: expected reward or state"):
        model_for(Drifting(1), decodes=decodes)


def test_a_model_without_a_belief_is_refused():
    with pytest.raises(ValueError, match="model is a Linear; expected one with a belief"):
        make(model=torch.nn.Linear(2, 2))


def test_the_bounds_gradient_ends_after_the_truncation():
    model, steps, standard = trials_in_double()
    weight = model.encoder.memory.layer.weight_hh_l0

    def found(truncation):
        loss = inference_of(model, truncation=truncation).elbo(steps, Fixed(standard)).loss
        return loss, torch.autograd.grad(loss, weight)[0]

    (whole, through), (same, cut), (_, longest) = found(None), found(2), found(15)
    torch.testing.assert_close(same, whole, rtol=1e-10, atol=0)
    torch.testing.assert_close(longest, through, rtol=1e-10, atol=1e-12)
    assert (cut - through).abs().max() > 1e-2 * through.abs().max()


def test_an_iteration_normalises_as_while_acting_and_counts_its_steps_afterwards(monkeypatch):
    learner = make()
    shift_statistics(learner._model)
    heads, update, num_steps = learner._model.heads, learner._ppo.update, []

    def checked(trials, inputs):
        outputs, _ = heads.evaluate(inputs[:-1])
        again, mask = heads.policy.log_prob(outputs, trials.action), trials.mask
        torch.testing.assert_close(again[mask], trials.log_prob[mask], rtol=1e-4, atol=1e-5)
        num_steps.append(int(mask.sum()))
        return update(trials, inputs)

    monkeypatch.setattr(learner._ppo, "update", checked)
    learner.step()
    for statistics in (heads.observations, heads.beliefs):
        assert statistics.count == 50 + num_steps[0]


def test_the_encoder_is_told_where_an_episode_begins_and_where_it_has_terminated():
    steps = trial_steps(played(make()))
    flags = model_for(Drifting(1)).parts(steps).flags
    assert torch.equal(flags[..., 0].bool(), steps.terminated)
    assert torch.equal(flags[..., 1].bool(), steps.first) and steps.first.sum() == 3 * 8
