"""Soft actor-critic on whole episodes beside stable_baselines3.SAC with its own replay buffer."""

import numpy as np
import pytest
import torch
from support.played import trajectories

pytest.importorskip("stable_baselines3")
from stable_baselines3 import SAC
from stable_baselines3.common.logger import Logger

from envs.sb3 import sb3_env
from metarl.core import params as P
from metarl.errors import NothingLearnable
from metarl.noise import Noise
from metarl.rl.data.replay import Steps
from metarl.rl.sb3.agents import SACAgent
from metarl.rl.sb3.sac import SACExpert
from metarl.rl.types import Trajectories

CPU = torch.device("cpu")
NUMBERS = {
    "lr": 1e-2,
    "batch_size": 6,
    "updates_per_step": 0.5,
    "target_rate": 0.1,
    "discount": 0.9,
}


def expert(**changes) -> tuple[SACExpert, SACAgent]:
    # Its actions lie in [-0.1, 0.1]: what isn't rescaled shows.
    worlds = sb3_env("point_navigation_2d_raw", 1)
    agent = SACAgent(
        worlds.observation_space,
        worlds.action_space,
        hidden_sizes=[8],
        activation="relu",
        generator=torch.Generator().manual_seed(3),
    )
    return SACExpert(agent, CPU, **NUMBERS | changes), agent


def played() -> Trajectories:
    """One task, two episodes, one of them terminated; actions of the environment."""
    data = trajectories(torch.Generator().manual_seed(0), 1, 2, 5, lengths=[[5, 3]])
    data.action.mul_(0.1).clamp_(-0.1, 0.1)
    return data


def draw_as_numpy(data: Trajectories):
    """Draws as their buffer does, from the steps one after the other."""

    def draw(num: int) -> Steps:
        chosen = torch.as_tensor(np.random.randint(0, int(data.mask.sum()), size=num))  # noqa: NPY002
        np.random.randint(0, high=1, size=(num,))  # noqa: NPY002  # Theirs draws the environment, too.
        leaves = {name: getattr(data, name) for name in ("action", "reward", "terminated", "first")}
        leaves |= {"obs": data.step_obs, "next_obs": data.next_obs, "mask": data.mask}
        return Steps(**{name: leaf[data.mask][chosen][None] for name, leaf in leaves.items()})

    return draw


def test_steps_teach_what_they_teach_stable_baselines() -> None:
    ours, agent = expert()
    data = played()
    theirs = SAC(
        "MlpPolicy",
        sb3_env("point_navigation_2d_raw", 1),
        learning_rate=NUMBERS["lr"],
        buffer_size=20,
        tau=NUMBERS["target_rate"],
        gamma=NUMBERS["discount"],
        policy_kwargs={"net_arch": [8]},
        device="cpu",
    )
    theirs.set_logger(Logger(folder=None, output_formats=[]))
    theirs.policy.load_state_dict(agent.policy.state_dict())
    for episode in range(2):
        for t in range(int(data.mask[0, episode].sum())):
            step = (0, episode, t)
            theirs.replay_buffer.add(
                data.step_obs[step].numpy(),
                data.next_obs[step].numpy(),
                10 * data.action[step].numpy(),  # in [-1, 1], as their policy keeps it
                data.reward[step].numpy(),
                (data.terminated | data.truncated)[step].numpy(),
                [{"TimeLimit.truncated": bool(data.truncated[step])}],
            )
    numbers, noise = ours.initial(), torch.Generator().manual_seed(5)
    for _ in range(2):  # The second time finds the moments, targets and temperature of the first.
        state = noise.get_state()
        seed = int(Noise(noise).integers(2**31, 1))
        noise.set_state(state)
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        theirs.train(4, NUMBERS["batch_size"])  # 8 steps times 0.5
        numbers, metrics = ours.learn(numbers, data, draw_as_numpy(data), Noise(noise))
        assert metrics["critic_loss"] == pytest.approx(
            theirs.logger.name_to_value["train/critic_loss"], rel=1e-4
        )
        torch.testing.assert_close(numbers["temperature.log"], theirs.log_ent_coef.detach())
        for name, leaf in theirs.policy.named_parameters():
            # Actions that were scaled and scaled back are rounded.
            found = numbers[f"agent.policy.{name}"]
            torch.testing.assert_close(found, leaf.detach(), atol=1e-5, rtol=1e-4)


def test_it_acts_in_the_environments_box_and_greedily_by_its_mean() -> None:
    ours, agent = expert()
    obs = torch.randn(1, 4, 2, generator=torch.Generator().manual_seed(1))
    outputs = ours.outputs(P.expand(ours.initial(), 1), obs)
    action, log_prob = ours.act(outputs, None)
    expected, _ = agent.policy.predict(obs[0].numpy(), deterministic=True)
    np.testing.assert_allclose(action[0], expected, atol=1e-7)
    torch.testing.assert_close(ours.greedy(ours.initial())(obs), action)
    assert log_prob is None and ours.log_prob(outputs, action) is None
    sampled, _ = ours.act(outputs, Noise(torch.Generator().manual_seed(0)))
    assert sampled.abs().max() <= 0.1 and not torch.equal(sampled, action)


def test_no_data_and_numbers_out_of_range_are_refused_by_name() -> None:
    ours, _ = expert()
    nothing = trajectories(torch.Generator(), 1, 2, 5, lengths=[[0, 0]])
    with pytest.raises(NothingLearnable, match="fine-tuning has no data: 2 episodes of 0 steps"):
        ours.learn(ours.initial(), nothing, None, None)
    for name, value in {"lr": 0.0, "batch_size": 0, "target_rate": 2.0, "discount": -0.1}.items():
        with pytest.raises(ValueError, match=f"{name} {value}: expected"):
            expert(**{name: value})
    with pytest.raises(
        ValueError, match="model is a Linear; expected a SACAgent, as model=sb3_sac"
    ):
        SACExpert(torch.nn.Linear(1, 1), CPU, **NUMBERS)
