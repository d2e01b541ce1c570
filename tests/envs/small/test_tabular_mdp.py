"""Facts about tabular MDPs: what steps do by counting, the best policy by trying all, what agents
believe by hand."""

import itertools

import pytest
import torch

import envs
from envs.small.tabular_mdp import Tables
from envs.small.tabular_planning import History, optimal_values, posterior_mean, posterior_sample
from metarl.noise import Noise
from metarl.rl.data.collect import Streams
from metarl.rl.evaluation.curve import adaptation_curve
from metarl.rl.types import Step
from metarl.struct import replace

# Two states, two actions. From state 0, action 0 stays and action 1 goes to state 1 with
# probability 0.7.
TRANSITION = [[[1.0, 0.0], [0.3, 0.7]], [[0.5, 0.5], [0.0, 1.0]]]
REWARD = [[1.0, -0.5], [2.0, 0.25]]


def small(num_worlds: int, horizon: int) -> tuple[envs.small.tabular_mdp.TabularMDP, Tables]:
    env = envs.make("tabular_mdp", num_worlds, horizon=horizon, num_states=2, num_actions=2)
    tasks = Tables(
        transition=torch.tensor([TRANSITION]).repeat(num_worlds, 1, 1, 1),
        mean_reward=torch.tensor([REWARD]).repeat(num_worlds, 1, 1),
    )
    env.set_tasks(tasks)
    return env, tasks


def test_steps_follow_the_tables() -> None:
    env, _ = small(20_000, 3)
    assert (
        env.reset(Noise(torch.Generator().manual_seed(0)).starts(env)).tolist()
        == [[1.0, 0.0]] * 20_000
    )
    step = env.step(torch.ones(20_000, dtype=torch.int64))
    # 20,000 draws: √(.7 · .3 / 20,000) = .0032; rewards have the standard deviation 1 / √20,000 =
    # .007; five times those.
    assert step.next_obs.mean(0).tolist() == pytest.approx([0.3, 0.7], abs=0.016)
    assert step.reward.mean().item() == pytest.approx(-0.5, abs=0.035)
    assert step.reward.var().item() == pytest.approx(1.0, abs=0.05)
    assert step.terms["mean_reward"].unique().tolist() == [-0.5]
    before, second = step.next_obs[:, 1] == 1, env.step(torch.zeros(20_000, dtype=torch.int64))
    assert second.next_obs[before, 1].mean().item() == pytest.approx(0.5, abs=0.021)
    assert (second.next_obs[~before, 1] == 0).all()
    assert second.reward[before].mean().item() == pytest.approx(2.0, abs=0.043)
    # The next state tells nothing of the noise: with r − 1 of those who stayed and those who
    # didn't.
    noise = second.reward[before] - 2
    assert (noise * (second.next_obs[before, 1] - 0.5)).mean().abs() < 0.022
    assert env.step(torch.zeros(20_000, dtype=torch.int64)).terminated.all()


def test_oracle_is_the_best_of_all_policies() -> None:
    env, tasks = small(1, 3)
    transition, reward = (
        torch.tensor(TRANSITION, dtype=torch.float64),
        torch.tensor(REWARD, dtype=torch.float64),
    )
    best = -float("inf")
    for policy in itertools.product((0, 1), repeat=6):  # an action for each of 3 steps and 2 states
        where, total = torch.tensor([1.0, 0.0], dtype=torch.float64), 0.0
        for step in range(3):
            action = list(policy[2 * step : 2 * step + 2])
            total += float((where * reward[[0, 1], action]).sum())
            where = where @ transition[[0, 1], action]
        best = max(best, total)
    assert env.references.known_returns(tasks, 1)["oracle"].item() == pytest.approx(best, abs=1e-6)


def test_values_with_one_and_two_steps_to_go_are_those_of_hand_arithmetic() -> None:
    values, actions = optimal_values(torch.tensor([TRANSITION]), torch.tensor([REWARD]), 2)
    assert values[0, 0].tolist() == [1.0, 2.0]
    # State 0: 1 + 1 = 2, or −.5 + .3 + 1.4 = 1.2. State 1: 2 + .5 + 1 = 3.5, or .25 + 2.
    assert values[0, 1].tolist() == pytest.approx([2.0, 3.5])
    assert actions[0].tolist() == [[0, 0], [0, 0]]


def test_prior_is_dirichlet_and_normal() -> None:
    tasks = envs.make("tabular_mdp", 1).prior.sample(300, torch.Generator().manual_seed(0))
    p, reward = tasks.transition, tasks.mean_reward
    assert p.shape == (300, 10, 5, 10)
    assert p.sum(-1).numpy() == pytest.approx(1.0, abs=1e-5)
    # Each share of Dirichlet(1) in 10 dimensions is Beta(1, 9): mean .1, variance 9 / (100 · 11) =
    # .00818.
    assert p[..., 3].mean().item() == pytest.approx(0.1, abs=0.004)
    assert p[..., 3].var().item() == pytest.approx(0.00818, abs=0.0007)
    # 15,000 numbers of standard deviation 1: .008; five times that.
    assert reward.mean().item() == pytest.approx(1.0, abs=0.041)
    assert reward.var().item() == pytest.approx(1.0, abs=0.06)


def test_beliefs_are_the_posterior() -> None:
    arrivals = torch.zeros(5000, 2, 2, 2)
    arrivals[:, 0, 1] = torch.tensor([1.0, 3.0])
    reward_sum = torch.zeros(5000, 2, 2)
    reward_sum[:, 0, 1] = 6.0
    seen = History(
        arrivals=arrivals, reward_sum=reward_sum, plan=arrivals[..., 0].long(), num_steps=0
    )
    transition, reward = posterior_mean(seen)
    assert transition[0, 0, 1].tolist() == pytest.approx([2 / 6, 4 / 6])  # (1 + 1) / (2 + 4)
    assert transition[0, 1, 0].tolist() == [0.5, 0.5]
    assert reward[0].flatten().tolist() == pytest.approx([1.0, (1 + 6) / (1 + 4), 1.0, 1.0])
    drawn, drawn_reward = posterior_sample(seen, Noise(torch.Generator().manual_seed(0)))
    assert torch.equal(posterior_sample(seen, None)[0], transition)
    # Beta(4, 2): mean 2/3, variance 8 / (36 · 7) = .0317. N(7/5, 1/5); never seen: N(1, 1).
    assert drawn[:, 0, 1, 1].mean().item() == pytest.approx(2 / 3, abs=0.0126)
    assert drawn[:, 0, 1, 1].var().item() == pytest.approx(8 / 252, abs=0.003)
    assert drawn_reward[:, 0, 1].mean().item() == pytest.approx(1.4, abs=0.032)
    assert drawn_reward[:, 0, 1].var().item() == pytest.approx(0.2, abs=0.02)
    assert drawn_reward[:, 1, 1].var().item() == pytest.approx(1.0, abs=0.1)


def test_agents_follow_their_plan_by_the_steps_that_remain() -> None:
    agent = envs.make("tabular_mdp", 1, horizon=3, num_states=2, num_actions=4).references.learners(
        1
    )["posterior_mean"]
    state = replace(
        agent.begin(1), plan=torch.tensor([[[0, 1], [2, 3], [1, 2]]])
    )  # with 1, 2, 3 steps to go
    acted, no = [], torch.zeros(1, dtype=torch.bool)
    for obs in ([[1.0, 0.0]], [[0.0, 1.0]], [[1.0, 0.0]]):
        act = agent.act(state, torch.tensor(obs), None)
        acted.append(act.action.item())
        step = Step(
            next_obs=torch.tensor([[0.0, 1.0]]),
            reward=torch.ones(1),
            terminated=no,
            truncated=no,
            diverged=no,
            terms={},
        )
        state = agent.observe(state, torch.tensor(obs), act, step)
    assert acted == [1, 3, 0]
    # From state 0 by actions 1 and 0, from state 1 by action 3, always to state 1.
    assert state.arrivals.nonzero().tolist() == [[0, 0, 0, 1], [0, 0, 1, 1], [0, 1, 3, 1]]
    assert state.reward_sum[0, 1, 3] == 1


def test_agents_that_plan_come_near_the_oracle() -> None:
    env = envs.make("tabular_mdp", 100)
    streams = Streams(
        tasks=torch.Generator().manual_seed(0),
        reset=Noise(torch.Generator().manual_seed(0)),
        policy=Noise(torch.Generator().manual_seed(0)),
    )
    tasks = env.prior.test_tasks(100)
    oracle = env.references.known_returns(tasks, 40)["oracle"].mean().item()
    for name, learner in env.references.learners(40).items():
        curve = adaptation_curve(learner, env, tasks, streams, num_tasks=100, num_updates=39)
        returns = curve.returns.mean((0, 2))
        assert curve.states[-1].visits.sum((1, 2)).unique().tolist() == [390]
        # Acting at random earns 10 an episode; 500 episodes' mean has a standard error of .2.
        assert returns[0] < 12, name
        assert returns[-5:].mean() > 10 + 0.6 * (oracle - 10), name
        assert returns[-5:].mean() < oracle, name


def test_tables_that_are_no_distribution_are_refused() -> None:
    env, tasks = small(1, 3)
    with pytest.raises(
        ValueError, match=r"transition sums to 1\.2 over the next states; expected 1"
    ):
        env.set_tasks(
            Tables(transition=torch.full((1, 2, 2, 2), 0.6), mean_reward=tasks.mean_reward)
        )
    with pytest.raises(ValueError, match=r"mean_reward is nan; expected a value in \[-6.1, 8.1\]"):
        env.set_tasks(
            Tables(transition=tasks.transition, mean_reward=tasks.mean_reward * float("nan"))
        )
