"""PPO on whole episodes beside stable_baselines3.PPO.learn in the same environment, and what
episodes of unequal length and statistics add."""

import copy
import sys
from typing import Any

import numpy as np
import pytest
import torch
from support.played import trajectories

pytest.importorskip("stable_baselines3")
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback

from envs.sb3 import sb3_env
from metarl.core import params as P
from metarl.errors import NothingLearnable, UserError
from metarl.noise import Noise
from metarl.rl.sb3 import library as lib
from metarl.rl.sb3.agents import PPOAgent
from metarl.rl.sb3.ppo import PPOExpert
from metarl.rl.types import Trajectories

CPU = torch.device("cpu")
W, T = 4, 5
NUMBERS = {
    "lr": 1e-2,
    "num_epochs": 3,
    "batch_size": 7,
    "clip": 0.2,
    "value_coefficient": 0.5,
    "entropy_coefficient": 0.01,
    "max_grad_norm": 0.5,
    "discount": 0.9,
    "gae_lambda": 0.8,
}


def agent_for(worlds, *, vec_normalize=False) -> PPOAgent:
    return PPOAgent(
        worlds.observation_space,
        worlds.action_space,
        hidden_sizes=[8],
        activation="tanh",
        vec_normalize=vec_normalize,
        generator=torch.Generator().manual_seed(3),
    )


class Rollout(BaseCallback):
    """Keeps what Stable-Baselines3 has gathered, and lends its shuffling a seed."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed, self.last = seed, None

    def _on_step(self) -> bool:
        self.infos = self.locals["infos"]  # of the last step, which ends all episodes
        return True

    def _on_rollout_end(self) -> None:
        self.buffer = copy.deepcopy(self.model.rollout_buffer)
        np.random.seed(self.seed)  # noqa: NPY002


def as_played(rollout: Rollout, policy: Any, *, is_cut: bool) -> Trajectories:
    """Theirs as ours; their last rewards hold what they bootstrapped, which is taken out.

    Args: policy: that they had gathered with.
    """
    buffer = rollout.buffer

    def rows(array):  # [T, W, ...] -> [1, W, T, ...]
        return torch.as_tensor(array).transpose(0, 1).unsqueeze(0).contiguous()

    flags = torch.zeros(1, W, T, dtype=torch.bool)
    last = flags.clone()
    last[..., -1] = True
    final = torch.as_tensor(np.stack([info["terminal_observation"] for info in rollout.infos]))
    reward = rows(buffer.rewards).clone()
    if is_cut:
        value = policy.predict_values(final).detach().flatten()
        reward[0, :, -1] -= NUMBERS["discount"] * value
    action = rows(buffer.actions)
    return Trajectories(
        obs=torch.cat([rows(buffer.observations), final[None, :, None]], dim=2),
        action=action if is_cut else action.squeeze(-1).long(),
        reward=reward,
        log_prob=rows(buffer.log_probs),
        terminated=flags if is_cut else last,
        truncated=last if is_cut else flags,
        diverged=flags,
        mask=torch.ones_like(flags),
    )


@pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")
@pytest.mark.parametrize(("env", "is_cut"), [("point_navigation_2d", True), ("bandit", False)])
def test_a_rollout_teaches_what_it_teaches_stable_baselines(env: str, is_cut: bool) -> None:
    """Of the point the time limit ends an episode, of the bandit its last pull."""
    worlds = sb3_env(env, W, horizon=T)
    agent = agent_for(worlds)
    ours = PPOExpert(agent, CPU, **NUMBERS)
    theirs = PPO(
        "MlpPolicy",
        worlds,
        learning_rate=NUMBERS["lr"],
        n_steps=T,
        batch_size=NUMBERS["batch_size"],
        n_epochs=NUMBERS["num_epochs"],
        gamma=NUMBERS["discount"],
        gae_lambda=NUMBERS["gae_lambda"],
        clip_range=NUMBERS["clip"],
        ent_coef=NUMBERS["entropy_coefficient"],
        policy_kwargs={"net_arch": [8]},
        seed=1,
        device="cpu",
    )
    theirs.policy.load_state_dict(agent.policy.state_dict())
    numbers, noise = ours.initial(), torch.Generator().manual_seed(5)
    for _ in range(2):  # The second rollout finds the optimizer's moments of the first.
        state = noise.get_state()
        rollout = Rollout(int(Noise(noise).integers(2**31, 1)))
        noise.set_state(state)
        before = agent_for(worlds).policy
        before.load_state_dict(theirs.policy.state_dict())
        theirs.learn(W * T, callback=rollout)
        data = as_played(rollout, before, is_cut=is_cut)
        numbers, metrics = ours.learn(numbers, data, None, Noise(noise))
        assert metrics["loss"] == pytest.approx(
            theirs.logger.name_to_value["train/policy_gradient_loss"], abs=1e-5
        )
        for name, leaf in theirs.policy.named_parameters():
            # Values come in another batch, rounded otherwise; Adam divides by small gradients.
            found = numbers[f"agent.policy.{name}"]
            torch.testing.assert_close(found, leaf.detach(), atol=1e-5, rtol=1e-4)


def expert(*, vec_normalize=False, **changes) -> PPOExpert:
    agent = agent_for(sb3_env("point_navigation_2d", 1), vec_normalize=vec_normalize)
    return PPOExpert(agent, CPU, **NUMBERS | changes)


def played(lengths=((3, 5), (5, 2))) -> Trajectories:
    """Two tasks of two episodes, the shorter ones terminated."""
    return trajectories(torch.Generator().manual_seed(0), 2, 2, T, lengths=lengths)


def test_a_step_at_which_the_physics_blew_up_teaches_nothing() -> None:
    """What came before it is as if a time limit had cut it."""
    ours, data = expert(), played(lengths=((3, 5), (5, 5)))
    data.terminated[:] = False
    data.truncated[:] = False
    for row in range(2):
        for column, last in enumerate(data.mask[row].sum(-1) - 1):
            data.truncated[row, column, last] = True
    cut, blown = copy.deepcopy(data), copy.deepcopy(data)
    blown.mask[0, 0, 3] = blown.diverged[0, 0, 3] = blown.terminated[0, 0, 3] = True
    blown.truncated[0, 0] = False
    blown.reward[0, 0, 3] = blown.action[0, 0, 3] = 50.0
    (first, _), (second, _) = (
        ours.learn(ours.initial(), each, None, Noise(torch.Generator().manual_seed(2)))
        for each in (cut, blown)
    )
    for name, leaf in first.items():
        assert torch.equal(leaf, second[name]), name


def test_what_stands_behind_an_episodes_end_changes_nothing() -> None:
    ours = expert()
    data = played()
    other = copy.deepcopy(data)
    # The true successor of the last step belongs to the episode; what is behind it doesn't.
    for row in range(2):
        for column in range(2):
            length = int(data.mask[row, column].sum())
            other.obs[row, column, length + 1 :] = 7.0
            other.action[row, column, length:] = 7.0
    (first, _), (second, _) = (
        ours.learn(ours.initial(), each, None, Noise(torch.Generator().manual_seed(2)))
        for each in (data, other)
    )
    for name, leaf in first.items():
        assert torch.equal(leaf, second[name]), name


def test_learning_leaves_the_numbers_it_was_given_and_the_global_random_numbers() -> None:
    ours = expert(vec_normalize=True)
    given = {name: leaf.clone() for name, leaf in ours.initial().items()}
    torch.manual_seed(4)
    np.random.seed(4)  # noqa: NPY002
    expected = torch.rand(1), np.random.rand()  # noqa: NPY002
    torch.manual_seed(4)
    np.random.seed(4)  # noqa: NPY002
    learned, _ = ours.learn(given, played(), None, Noise(torch.Generator()))
    assert (torch.rand(1), np.random.rand()) == expected  # noqa: NPY002
    for name, leaf in ours.initial().items():
        assert torch.equal(given[name], leaf), name
    assert any(not torch.equal(learned[name], leaf) for name, leaf in given.items())


def test_statistics_are_those_of_all_steps_and_rewards_are_in_deviations_of_returns() -> None:
    ours = expert(vec_normalize=True)
    data = played()
    learned, _ = ours.learn(ours.initial(), data, None, Noise(torch.Generator()))
    seen = data.step_obs[data.mask]
    torch.testing.assert_close(learned["agent.observations.mean"], seen.mean(0))
    torch.testing.assert_close(learned["agent.observations.variance"], seen.var(0, correction=0))
    sums = []
    for row, length in zip(data.reward.flatten(0, 1), data.mask.sum(-1).flatten(), strict=True):
        running = 0.0
        for reward in row[: int(length)].tolist():
            running = NUMBERS["discount"] * running + reward
            sums.append(running)
    variance = torch.tensor(sums).var(correction=0)
    torch.testing.assert_close(learned["rewards.sums.variance"], variance[None])
    # What was seen is normalised while acting, and by the greedy policy.
    (mean,) = ours.outputs(P.expand(learned, 1), seen[None])["mean"]
    torch.testing.assert_close(ours.greedy(learned)(seen), mean)


def test_tasks_that_act_side_by_side_act_each_by_their_own_numbers() -> None:
    ours = expert(vec_normalize=True)
    first = ours.initial()
    second, _ = ours.learn(first, played(), None, Noise(torch.Generator()))
    obs = torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(1))
    both = ours.outputs(P.stack([first, second]), obs)
    for task, numbers in enumerate((first, second)):
        alone = ours.outputs(P.expand(numbers, 1), obs[task : task + 1])
        # A product of stacked matrices may be rounded otherwise than one alone.
        torch.testing.assert_close(both["mean"][task], alone["mean"][0])
        torch.testing.assert_close(both["log_std"][task], alone["log_std"][0])


def test_no_data_and_numbers_out_of_range_are_refused_by_name() -> None:
    ours = expert()
    nothing = played(lengths=((0, 0), (0, 0)))
    with pytest.raises(NothingLearnable, match="fine-tuning has no data: 2 episodes of 0 steps"):
        ours.learn(ours.initial(), nothing, None, None)
    for name, value in {"lr": 0.0, "batch_size": 1, "discount": 1.5, "clip": -0.1}.items():
        with pytest.raises(ValueError, match=f"{name} {value}: expected"):
            expert(**{name: value})
    with pytest.raises(ValueError, match="value_coefficient -1: expected 0 or more"):
        expert(value_coefficient=-1)
    with pytest.raises(
        ValueError, match="model is a Linear; expected a PPOAgent, as model=sb3_ppo"
    ):
        PPOExpert(torch.nn.Linear(1, 1), CPU, **NUMBERS)


def test_missing_library_is_named_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    with pytest.raises(UserError, match=r"isn't installed; expected pip install 'metarl\[sb3\]'"):
        lib.library()


def test_numbers_that_are_not_finite_end_a_training_as_those_of_other_learners_do() -> None:
    ours = expert(lr=1e30)
    with pytest.raises(FloatingPointError, match="the policy's scale: not finite"):
        ours.learn(ours.initial(), played(), None, Noise(torch.Generator()))
