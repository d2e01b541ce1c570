"""Facts about humanoid_dir against Gymnasium's Humanoid-v5."""

import math

import numpy as np
import pytest
import torch
from support.gymnasium_runs import record, replay

import envs
from envs.mujoco.targets import Heading
from metarl.noise import Noise

MASSES = [
    45 + 10 * body + 9 for body in range(13)
]  # in Humanoid-v5's observation; they never change


def test_physics_observation_and_reward_are_those_of_humanoid_v5_for_500_steps() -> None:
    options = {"include_cfrc_ext_in_observation": False, "terminate_when_unhealthy": False}
    recording = record(
        "Humanoid-v5", "humanoid_dir", num_worlds=2, num_steps=500, forces_lag=1, **options
    )
    ours = replay("humanoid_dir", recording, Heading(heading=torch.tensor([0.5, 4.0])))
    assert np.array_equal(ours.qpos, recording.qpos)
    assert np.array_equal(ours.qvel, recording.qvel)
    assert np.array_equal(ours.obs, np.delete(recording.obs, MASSES, axis=-1).astype(np.float32))
    info = recording.info
    velocity = sum(
        info[f"{axis}_velocity"] * [turn(0.5), turn(4.0)]
        for axis, turn in (("x", math.cos), ("y", math.sin))
    )
    # Twice float32's rounding of values up to some ten.
    assert ours.terms["velocity"] == pytest.approx(velocity, abs=2e-6)
    contact_cost = (5e-7 * np.square(info["forces"]).sum(-1)).clip(max=10)
    assert contact_cost.mean() == pytest.approx(-info["reward_contact"].mean(), rel=0.2)
    assert ours.terms["contact_cost"] == pytest.approx(contact_cost, rel=1e-6)
    reward = 1.25 * velocity + info["reward_survive"] + info["reward_ctrl"] - contact_cost
    assert ours.reward == pytest.approx(reward, abs=2e-6)
    fallen = info["reward_survive"] == 0
    assert 0 < fallen.mean() < 1
    assert np.array_equal(ours.terminated, fallen)


@pytest.mark.parametrize(
    ("height", "terminates"), [(0.99, True), (1.01, False), (1.99, False), (2.01, True)]
)
def test_episode_ends_when_the_torso_is_outside_1_to_2_m(height: float, terminates: bool) -> None:
    env = envs.make("humanoid_dir", 1)
    env.set_tasks(env.prior.test_tasks(1))
    env.reset(Noise(torch.Generator().manual_seed(0)).starts(env))
    env.sim.qpos[0, 2] = height
    assert bool(env.mdp.terminated(env.sim)) is terminates


def test_starts_have_the_noise_of_humanoid_v5() -> None:
    env = envs.make("humanoid_dir", 1)
    uniform = torch.rand(20_000, 47, dtype=torch.float64, generator=torch.Generator())
    qpos, qvel = env.mdp.initial_state(uniform)
    noise = torch.cat(
        [qpos - torch.tensor([0, 0, 1.4, 1, *20 * [0]]), qvel], dim=1
    )  # upright, 1.4 m high
    assert noise.abs().amax(0).tolist() == pytest.approx([0.01] * 47, rel=1e-2)
    # A uniform number in ±0.01 has standard deviation 0.01 / √3; of 20,000 draws the estimate's own
    # error is 0.3 %.
    assert noise.std(0).tolist() == pytest.approx([0.01 / 3**0.5] * 47, rel=0.02)


def test_training_and_test_headings_are_100_and_30_all_around() -> None:
    tasks = envs.make("humanoid_dir", 1).prior
    assert (tasks.num_train, tasks.num_test) == (100, 30)
    quarter = (tasks.train_tasks().heading / (math.pi / 2)).floor()
    assert sorted(set(quarter.tolist())) == [0, 1, 2, 3]
