"""RL²: that acting and training see the same trial, its gradient, and that what an episode ends
with reaches the next one."""

import gymnasium
import pytest
import torch
from support.drifting import Drifting, Lengths
from torch import Tensor
from torch.distributions import Independent, Normal

from metarl.core import params as P
from metarl.nn.recurrent import GRU, LSTM, ExternalRecall, NoMemory
from metarl.nn.transformer import Transformer
from metarl.noise import Noise
from metarl.rl.adapters.memory import MemoryAdapter
from metarl.rl.algorithms.ppo import Losses
from metarl.rl.algorithms.rl2_ppo import RL2PPO, trial_inputs
from metarl.rl.algorithms.shared import Setting
from metarl.rl.data.collect import Streams
from metarl.rl.data.rounds import gather
from metarl.rl.data.trials import Trials, join_episodes, take_trials, trial_advantages
from metarl.rl.models.memory import MemoryModel
from metarl.rl.models.policies import mlp_policy
from metarl.rl.spec import EnvSpec
from metarl.rl.types import Act, Step, Trajectories
from metarl.run.seeding import Generators
from metarl.struct import map_tensors, replace

CPU = torch.device("cpu")


class Recall(Drifting):
    """Reward 1 for the first action of an episode if it names how the last episode ended: its last
    reward, ±0.5, and whether it terminated, both by chance. Four answers, of which an agent that
    can't know finds a quarter."""

    spec = EnvSpec(name="recall", family="recall", variant="default", horizon=2, definition={})

    def __init__(self, num_worlds: int) -> None:
        super().__init__(num_worlds)
        self.action_space = gymnasium.spaces.Discrete(4)
        self.cue = torch.zeros(num_worlds, dtype=torch.int64)

    def reset(self, uniform, worlds=None) -> Tensor:
        self.count, self.answer = 0, self.cue
        self.cue = (4 * uniform[:, 0]).long()
        return torch.zeros(self.num_worlds, 2)

    def check(self) -> None:
        return

    def rest(self, worlds: Tensor) -> None:
        return

    def step(self, action: Tensor) -> Step:
        first, self.count = self.count == 0, self.count + 1
        ended = torch.full((self.num_worlds,), not first)
        high, terminates = self.cue // 2, self.cue % 2 == 1
        return Step(
            next_obs=torch.full((self.num_worlds, 2), float(self.count)),
            reward=(action == self.answer).float() if first else high - 0.5,
            terminated=ended & terminates,
            truncated=ended & ~terminates,
            diverged=torch.zeros(self.num_worlds, dtype=torch.bool),
            terms={},
        )


MEMORIES = {
    "gru": lambda **sizes: GRU(hidden_size=7, **sizes),
    "lstm": lambda **sizes: LSTM(hidden_size=7, **sizes),
    "transformer": lambda **sizes: Transformer(
        width=8, num_layers=2, num_heads=2, context=16, **sizes
    ),
    "external_memory": lambda **sizes: ExternalRecall(
        hidden_size=6,
        num_slots=4,
        slot_size=3,
        num_heads=2,
        usage_decay=0.9,
        key_strength=5.0,
        **sizes,
    ),
}

SETTINGS = {
    "trials_per_task": 2,
    "episodes_per_trial": 3,
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


def generators_of(learner):
    streams = learner.source.streams
    return {"tasks": streams.tasks, "reset": streams.reset.alone, "policy": streams.policy.alone}


def model_for(
    env, memory="gru", *, hidden=(5,), has_feedback=True, has_last_observation=False, seed=0
) -> MemoryModel:
    return MemoryModel(
        env.observation_space,
        env.action_space,
        memory=MEMORIES[memory] if isinstance(memory, str) else memory,
        has_feedback=has_feedback,
        has_last_observation=has_last_observation,
        head_sizes=hidden,
        activation="tanh",
        init_std=0.8,
        min_std=1e-3,
        generator=Generators(seed)("init"),
    )


def make(
    memory="gru", *, env=None, num_tasks=4, dtype=torch.float32, seed=0, model=None, **settings
) -> RL2PPO:
    settings = SETTINGS | {"meta_batch_size": num_tasks} | settings
    env = env or Drifting(num_tasks * settings["trials_per_task"])
    generators = Generators(seed)
    streams = Streams(
        tasks=generators("tasks"),
        reset=Noise(generators("reset")),
        policy=Noise(generators("policy")),
    )
    model = model or model_for(env, memory, seed=seed).to(dtype)
    return RL2PPO(setting=Setting(env=env, model=model, streams=streams, device=CPU), **settings)


def played(learner):
    """The trials of one gathering, with statistics that aren't the identity."""
    model = learner._model
    generator = torch.Generator().manual_seed(3)
    for statistics in (model.observations, model.rewards, model.returns):
        statistics.update(2 + torch.randn(50, len(statistics.mean), generator=generator))
    tasks = learner.source.env.sample(learner.source.sizes.num_tasks, learner.source.streams.tasks)
    sizes = {
        "num_tasks": learner.source.sizes.num_tasks,
        "num_updates": learner.source.sizes.num_updates,
    }
    rollouts = gather(
        learner.source.env, learner.adapter(), tasks, learner.source.streams, device=CPU, **sizes
    )
    return (*rollouts.support, rollouts.query)


@pytest.mark.parametrize("has_last_observation", [False, True])
@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("memory", MEMORIES)
def test_training_recomputes_what_was_computed_while_acting(memory, discrete, has_last_observation):
    env = Drifting(8, discrete=discrete)
    learner = make(env=env, model=model_for(env, memory, has_last_observation=has_last_observation))
    trials = join_episodes(played(learner))
    assert not trials.mask.all() and trials.mask[0].all()
    model = learner._model
    outputs, _ = model.heads(model.memory.sequence(trial_inputs(model, trials)[:-1]))
    again = model.policy.log_prob(outputs, trials.action)
    # One matrix product for all steps or one a step: float32 rounding of numbers of size 1, over 15
    # steps.
    torch.testing.assert_close(
        again[trials.mask], trials.log_prob[trials.mask], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("memory", MEMORIES)
def test_padding_and_other_trials_change_no_number_of_a_trial(memory):
    learner = make(memory, dtype=torch.float64)
    trials = map_tensors(
        lambda x: x.double() if x.is_floating_point() else x, join_episodes(played(learner))
    )
    model = learner._model
    lengths = trials.mask.sum(0)
    shortest = int(lengths.argmin())
    alone = map_tensors(
        lambda x: x[: lengths[shortest]], take_trials(trials, torch.tensor([shortest]))
    )
    obs = trials.obs[: lengths[shortest] + 1, shortest : shortest + 1]
    alone = type(trials)(**{**vars(alone), "obs": obs})
    found = []
    for data in (trials, alone):
        features = model.memory.sequence(trial_inputs(model, data))
        value = model.heads(features)[1]
        found.append((value, trial_advantages(data, value.detach(), discount=0.9, gae_lambda=0.8)))
    (values, advantages), (value, advantage) = found
    n = lengths[shortest]
    assert n < len(trials.mask)
    torch.testing.assert_close(values[: n + 1, shortest], value[:, 0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(advantages[:n, shortest], advantage[:, 0], rtol=1e-12, atol=1e-12)
    assert (advantages[n:, shortest] == 0).all()


def test_a_world_whose_episode_has_ended_waits_for_the_next_one():
    env = Drifting(2)
    adapter = MemoryAdapter(model_for(env))
    env.set_tasks(Lengths(length=torch.tensor([9, 2])))
    state, obs = adapter.begin(2), env.reset(Noise(torch.Generator().manual_seed(0)).starts(env))
    states = []
    for _ in range(4):
        act = adapter.act(state, obs, Noise(torch.Generator().manual_seed(0)))
        step = env.step(act.action)
        state = adapter.observe(state, obs, act, step)
        obs = step.next_obs
        states.append(state)
    assert states[0].running.tolist() == [True, False]  # its episode takes one step: 2 − 1
    assert not torch.equal(states[0].memory[0], states[3].memory[0])
    for later in states[1:]:
        assert torch.equal(later.memory[1], states[0].memory[1])
        assert torch.equal(later.feedback[1], states[0].feedback[1])
    feedback = states[3].feedback[1]
    assert feedback[-2:].tolist() == [1.0, 0.0]  # it terminated
    following = adapter.update(state, played(make())[0])
    assert following.running is None and torch.equal(following.feedback, state.feedback)


def test_the_observation_before_an_action_is_remembered_over_the_end_of_an_episode():
    env = Drifting(8)
    learner = make(env=env, model=model_for(env, has_last_observation=True))
    trials = join_episodes(played(learner))
    inputs, size = trial_inputs(learner._model, trials), trials.obs.shape[-1]
    real = torch.cat([trials.mask[:1], trials.mask])
    ends = (trials.terminated | trials.truncated)[:-1] & trials.mask[1:]
    assert ends.any()
    assert (inputs[0, :, -size:] == 0).all()
    before = learner._model.observations(trials.obs[:-1])
    assert torch.equal(inputs[1:, :, -size:][real[1:]], before[trials.mask])
    assert not torch.equal(
        inputs[1:-1, :, -size:][ends], inputs[1:-1, :, :size][ends]
    )  # the new episode's first one


def test_the_state_from_before_an_episode_can_be_acted_from_again():
    """As films do, which play the first and the last episode in turn with one adapter."""
    learner = make("transformer")
    adapter, obs = learner.adapter(), torch.randn(8, 2)
    start = adapter.begin(4, 2)
    step = map_tensors(lambda x: x, Step(next_obs=obs, reward=torch.ones(8), terminated=torch.zeros(8).bool(),
        truncated=torch.zeros(8).bool(), diverged=torch.zeros(8).bool(), terms={}))  # fmt: skip
    act = adapter.act(start, obs, None)
    following = adapter.observe(start, obs, act, step)
    again, between = adapter.act(start, obs, None).action, adapter.act(following, obs, None).action
    assert torch.equal(again, act.action) and not torch.equal(between, act.action)
    observed_late = adapter.observe(start, obs, act, step)
    torch.testing.assert_close(adapter.act(observed_late, obs, None).action, between)
    from_elsewhere = adapter.observe(
        start, obs, Act(action=act.action), step
    )  # an action that carries no memory
    torch.testing.assert_close(adapter.act(from_elsewhere, obs, None).action, between)


def test_episodes_are_joined_without_gaps_and_keep_what_follows_the_trial():
    def episode(rewards, masks, start):
        reward, mask = torch.tensor(rewards).float(), torch.tensor(masks)
        time = start + torch.arange(reward.shape[-1]).float().expand_as(reward)
        fields = {
            "reward": reward,
            "log_prob": -reward,
            "mask": mask,
            "diverged": mask & (reward == 2),
        }
        ended = mask & ~torch.cat([mask[..., 1:], torch.zeros_like(mask[..., :1])], -1)
        obs = torch.cat([time * mask, torch.zeros_like(time[..., :1])], -1)
        obs[..., 1:] += (time + 0.5) * ended  # after its last step comes that step's successor
        return Trajectories(
            obs=obs[..., None],
            action=reward.long(), terminated=ended, truncated=torch.zeros_like(mask), **fields,
        )  # fmt: skip

    first = episode([[[1, 2, 0]], [[3, 4, 5]]], [[[True, True, False]], [[True, True, True]]], 10)
    second = episode(
        [[[6, 7, 0]], [[8, 0, 0]]], [[[True, True, False]], [[True, False, False]]], 20
    )
    trials = join_episodes([first, second])
    assert trials.reward.T.tolist() == [[1, 2, 6, 7], [3, 4, 5, 8]]
    assert trials.obs[..., 0].T.tolist() == [[10, 11, 20, 21, 21.5], [10, 11, 12, 20, 20.5]]
    assert trials.diverged.T.tolist() == [[False, True, False, False], [False] * 4]
    assert trials.mask.all() and trials.last.T.tolist() == [[False] * 3 + [True]] * 2
    assert trials.terminated.T.tolist() == [[False, True, False, True], [False, False, True, True]]
    shorter = join_episodes([first])
    assert shorter.mask.T.tolist() == [[True, True, False], [True, True, True]]
    assert shorter.obs[..., 0].T.tolist() == [[10, 11, 11.5, 0], [10, 11, 12, 12.5]]


def test_advantages_cross_the_ends_of_episodes_and_stop_at_the_trials():
    """By hand, γ = λ = ½: one trial of an episode that terminates after step 0, then one cut off by
    the time limit after step 1, and one that terminates at its end."""
    flags = torch.tensor([[True, False], [False, True]])
    episode = {
        "mask": torch.ones(2, 2, dtype=torch.bool),
        "log_prob": torch.zeros(2, 2),
        "action": torch.zeros(2, 2),
        "diverged": torch.zeros(2, 2, dtype=torch.bool),
    }
    trials = type(join_episodes(played(make())))(
        obs=torch.zeros(3, 2, 1), reward=torch.tensor([[1.0, 1.0], [2.0, 2.0]]), terminated=flags, truncated=~flags,
        **episode,
    )  # fmt: skip
    value = torch.tensor([[4.0, 4.0], [6.0, 6.0], [8.0, 8.0]])
    # Trial 0: δ₁ = 2 + ½ 8 − 6 = 0 (bootstrapped); δ₀ = 1 + ½ 6 − 4 = 0 although the episode
    # terminated: A = [0, 0]. Trial 1: δ₁ = 2 − 6 = −4 (terminated); δ₀ = 0, A₀ = 0 + ¼ (−4) = −1.
    found = trial_advantages(trials, value, discount=0.5, gae_lambda=0.5)
    assert found.T.tolist() == [[0, 0], [-1, -4]]


def test_advantages_stop_where_the_physics_blows_up():
    """By hand, γ = λ = ½: a trial of two episodes, the first of which blows up at step 1; and one
    whose last step does."""
    diverged = torch.tensor([[False, True, False], [False, False, True]]).T
    lasts = torch.tensor([[False, True, True], [False, True, True]]).T
    zeros, true = torch.zeros(3, 2), torch.ones(3, 2, dtype=torch.bool)
    reward = torch.tensor([[1.0, 0.0, 5.0], [1.0, 2.0, 0.0]]).T
    trials = Trials(
        obs=torch.zeros(4, 2, 1), reward=reward, terminated=lasts, truncated=~true, mask=true,
        log_prob=zeros, action=zeros, diverged=diverged,
    )  # fmt: skip
    value = torch.tensor([[4.0, 6.0, 8.0, 7.0], [4.0, 6.0, 8.0, 7.0]]).T
    # Trial 0: A₂ = 5 − 8, for it terminated; A₀ = 1 + ½ 6 − 4. Trial 1: A₁ = 2 + ½ 8 − 6 = 0.
    found = trial_advantages(trials, value, discount=0.5, gae_lambda=0.5)
    assert found.T.tolist() == [[0, 0, -3], [0, 0, 0]]
    assert trials.learnable.equal(~diverged)


def test_gradient_through_the_trial_matches_finite_differences():
    learner = make(dtype=torch.float64)
    trials = map_tensors(
        lambda x: x.double() if x.is_floating_point() else x, join_episodes(played(learner))
    )
    batch = learner.ppo.batch(trials, learner.inputs(trials))
    model = learner._model
    start = {k: v.detach().clone() for k, v in model.named_parameters()}
    generator = torch.Generator().manual_seed(1)
    nudge = {
        k: 0.02 * torch.randn(v.shape, generator=generator, dtype=v.dtype) for k, v in start.items()
    }
    here = P.add(start, nudge)  # so that no ratio is exactly 1, where clipping has a kink

    def objective(params):
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(params[name])
        losses = learner.ppo.losses(batch)
        return losses.policy + 0.5 * losses.value - 0.01 * losses.entropy

    model.zero_grad()
    objective(here).backward()
    gradient = P.flatten({k: v.grad.clone() for k, v in model.named_parameters()})
    vector = P.flatten(here)
    for _ in range(4):
        direction = torch.randn(vector.shape, generator=generator, dtype=torch.float64)
        direction /= direction.norm()
        up, down = (
            objective(P.unflatten(vector + h * direction, start)).item() for h in (1e-5, -1e-5)
        )
        # Central differences with this step are good to about 1e-9 of the function's scale of 1.
        assert gradient @ direction == pytest.approx((up - down) / 2e-5, rel=1e-5, abs=1e-8)
    names = [name for name, parameter in model.named_parameters() if name.startswith("memory")]
    assert all(dict(model.named_parameters())[name].grad.abs().max() > 1e-6 for name in names)


def with_batch(**settings):
    """A learner in float64 that has moved on since it played, so that no ratio is 1, and the batch
    of its trials."""
    learner = make(dtype=torch.float64, **settings)
    trials = map_tensors(
        lambda x: x.double() if x.is_floating_point() else x, join_episodes(played(learner))
    )
    batch = learner.ppo.batch(trials, learner.inputs(trials))
    assert not batch.mask.all()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for leaf in learner._model.parameters():
            leaf += 0.1 * torch.randn(leaf.shape, generator=generator, dtype=leaf.dtype)
    return learner, batch


def test_a_step_descends_the_clipped_loss_and_the_values_and_raises_the_entropy(monkeypatch):
    learner, batch = with_batch(value_coefficient=0.7, entropy_coefficient=0.3)
    model, columns, handed = learner._model, torch.tensor([1, 4, 6]), []
    monkeypatch.setattr(learner.ppo._descent, "down", lambda loss, ranks: handed.append(loss))
    learner.ppo.descend(batch, columns)

    mask = batch.mask[:, columns]
    target, old, advantage = (
        x[:, columns][mask] for x in (batch.target, batch.log_prob, batch.advantage)
    )
    outputs, value = model.evaluate(batch.inputs[:, columns])
    policy = Independent(Normal(outputs["mean"], outputs["log_std"].exp()), 1)
    ratio = (policy.log_prob(batch.action[:, columns])[mask] - old).exp()
    assert ((ratio - 1).abs() > 0.2).any() and ((ratio - 1).abs() < 0.2).any()
    clipped = torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage).mean()
    of_values = ((value[mask] - target) ** 2).mean() / 2
    loss = -clipped + 0.7 * of_values - 0.3 * policy.entropy()[mask].mean()
    found, expected = (torch.autograd.grad(x, [*model.parameters()]) for x in (*handed, loss))
    # Sums of some dozens of products in float64, in other orders.
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_the_values_loss_is_half_the_mean_square():
    learner, batch = with_batch()
    value = learner._model.evaluate(batch.inputs)[1].detach()
    far = replace(batch, target=value + torch.where(batch.mask, 3.0, 100.0))
    assert learner.ppo.losses(far).value.item() == pytest.approx(9 / 2)


def test_padding_is_no_return():
    learner = make()
    trials, statistics = join_episodes(played(learner)), learner._model.returns
    before = statistics.count.item()
    learner.ppo.batch(trials, learner.inputs(trials))
    assert statistics.count - before == trials.mask.sum() < trials.mask.numel()


def test_padding_is_no_observation_and_no_reward():
    learner = make()
    num_steps = learner.step()["env_steps"]
    model = learner._model
    assert num_steps < 8 * 3 * 5  # of 8 trials of 3 episodes, some ended before their 5 steps
    assert model.observations.count == model.rewards.count == num_steps


def test_a_saved_learner_goes_on_bit_for_bit():
    learner = make()
    learner.step()
    saved = map_tensors(torch.clone, learner.state_dict())
    streams = {k: stream.get_state() for k, stream in generators_of(learner).items()}
    episode = learner.source.env.episode
    expected = learner.step()
    other = make(seed=9)
    other.load_state_dict(saved)
    other.source.env.episode = episode
    for name, stream in streams.items():
        generators_of(other)[name].set_state(stream)
    assert other.step() == expected


def test_the_entropys_weight_halves_in_its_time():
    learner = make(entropy_coefficient=0.08, entropy_half_life=2.0)
    weights = [learner.step() and learner.state_dict()["entropy_coefficient"] for _ in range(4)]
    assert weights[1::2] == pytest.approx([0.04, 0.02])


def test_the_rate_halves_in_its_time_and_goes_on_from_a_checkpoint():
    learner = make(outer_lr=0.08, outer_lr_half_life=2.0)
    rates = [learner.step()["outer_lr"] for _ in range(2)]
    assert rates == pytest.approx([0.08 * 0.5**0.5, 0.04])
    other = make(outer_lr=0.08, outer_lr_half_life=2.0)
    other.load_state_dict(learner.state_dict())
    assert [other.step()["outer_lr"] for _ in range(2)][1] == pytest.approx(0.02)


def test_values_stay_what_they_were_when_the_scale_of_returns_changes():
    model = model_for(Drifting(1)).double()
    features = torch.randn(6, 7, dtype=torch.float64)
    before = model.returns.inverse(model.heads(features)[1])
    model.rescale_returns(5 + 3 * torch.randn(40, 1, dtype=torch.float64))
    torch.testing.assert_close(
        model.returns.inverse(model.heads(features)[1]), before, rtol=1e-12, atol=1e-12
    )
    assert model.returns.mean.item() == pytest.approx(5, abs=2)


def trained_on_recall(*, num_iterations=60, **model) -> float:
    """The mean return of later episodes at the end of a training."""
    env = Recall(128)
    sizes = {"trials_per_task": 1, "num_epochs": 4, "entropy_coefficient": 0.0, "outer_lr": 1e-2}
    learner = make(
        env=env,
        num_tasks=128,
        model=model_for(env, lambda **s: GRU(hidden_size=16, **s), hidden=(), **model),
        **sizes,
    )
    returns = [learner.step()["return_after"] for _ in range(num_iterations)]
    return sum(returns[-5:]) / 5


def test_how_an_episode_ended_is_remembered_in_the_next():
    assert trained_on_recall() > 0.9  # the optimum is 1, chance 0.25


def test_an_agent_that_forgets_how_the_episode_ended_stays_at_chance(monkeypatch):
    real = MemoryModel.feedback

    def zero_at_the_end(model, obs, action, reward, terminated, truncated):
        told = real(model, obs, action, reward, terminated, truncated)
        return told * ~(terminated | truncated)[..., None]

    monkeypatch.setattr(MemoryModel, "feedback", zero_at_the_end)
    assert trained_on_recall(num_iterations=40) < 0.4


def test_an_agent_without_memory_or_feedback_stays_at_chance():
    env = Recall(8)
    model = model_for(env, lambda **sizes: NoMemory(hidden_size=5, **sizes), has_feedback=False)
    learner = make(env=env, model=model)
    start = learner.adapter().begin(4, 2)
    act = learner.adapter().act(start, torch.zeros(8, 2), Noise(torch.Generator()))
    after = learner.adapter().observe(start, torch.zeros(8, 2), act, env_step(env, act.action))
    assert (after.feedback == 0).all()


def env_step(env, action) -> Step:
    env.reset(Noise(torch.Generator()).starts(env))
    return env.step(action)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"episodes_per_trial": 0}, "episodes_per_trial 0: expected 1 or more"),
        ({"trials_per_task": 0, "env": Drifting(4)}, "trials_per_task 0"),
        ({"outer_lr": -1.0}, "outer_lr -1.0"),
        ({"num_minibatches": 9}, "num_minibatches 9: expected 1 to 8"),
        ({"gae_lambda": 1.5}, "gae_lambda 1.5"),
        ({"entropy_coefficient": -0.1}, "entropy_coefficient -0.1"),
        ({"memory": "transformer", "episodes_per_trial": 4}, "a trial has 20 steps.*context of 16"),
    ],
)
def test_mistakes_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        make(**settings)


def test_a_model_without_memory_is_refused():
    env = Drifting(8)
    sizes = {"hidden_sizes": (4,), "activation": "tanh", "init_std": 1.0, "min_std": 0.1}
    policy = mlp_policy(
        env.observation_space, env.action_space, generator=torch.Generator(), **sizes
    )
    with pytest.raises(ValueError, match="model is a GaussianPolicy; expected one with a memory"):
        make(env=env, model=policy)


def test_an_evaluation_plays_the_episodes_of_a_trial():
    sizes = RL2PPO.sizes(meta_batch_size=3, trials_per_task=2, episodes_per_trial=4, outer_lr=0.1)
    assert (sizes.num_worlds, sizes.num_updates, sizes.evaluated_updates) == (6, 3, 3)


def test_there_are_as_many_minibatches_as_asked_for():
    """Of nearly one size, also where the trials can't be shared out evenly."""
    ppo = make(env=Drifting(10), num_minibatches=6, num_epochs=2).ppo
    assert [len(part) for part in ppo._parts(10)] == [2, 2, 2, 2, 1, 1] * 2


def test_the_rate_follows_the_kl_of_a_single_step():
    learner = make(num_epochs=1, num_minibatches=1, kl_target=1e-9)
    found = learner.step()
    assert found["kl"] > 1e-8 and found["outer_lr"] == pytest.approx(1e-2 / 1.5)


def test_the_kl_is_that_from_the_policy_that_acted():
    learner, batch = with_batch()
    outputs, _ = learner._model.evaluate(batch.inputs)
    now = learner._model.policy.log_prob(outputs, batch.action)
    log_ratio = (now - batch.log_prob)[batch.mask]
    expected = (log_ratio.exp() - 1 - log_ratio).mean().item()
    assert learner.ppo.losses(batch).kl.item() == pytest.approx(expected, rel=1e-9)


def test_what_an_update_tells_is_of_its_last_epoch(monkeypatch):
    """The rate follows its KL, which earlier epochs would dilute."""
    learner, numbers = make(num_epochs=3, num_minibatches=2), iter(range(6))

    def descend(batch, columns):
        number = torch.tensor(float(next(numbers)))
        return Losses(policy=number, value=number, entropy=number, kl=number)

    monkeypatch.setattr(learner.ppo, "descend", descend)
    trials = join_episodes(played(learner))
    assert learner.ppo.update(trials, learner.inputs(trials))["kl"] == 4.5  # of 4 and 5
