"""Facts about swimmer_vel against Gymnasium's Swimmer-v5."""

import numpy as np
import pytest
import torch
from support.gymnasium_runs import record, replay

import envs
from envs.mujoco.targets import TargetVelocity
from metarl.noise import Noise


def test_physics_observation_and_reward_are_those_of_swimmer_v5_for_500_steps() -> None:
    recording = record("Swimmer-v5", "swimmer_vel", num_worlds=2, num_steps=500)
    ours = replay(
        "swimmer_vel", recording, TargetVelocity(target_velocity=torch.tensor([0.11, 0.19]))
    )
    assert np.array_equal(ours.qpos, recording.qpos)
    assert np.array_equal(ours.qvel, recording.qvel)
    assert np.array_equal(ours.obs, recording.obs.astype(np.float32))
    velocity = recording.info["x_velocity"]
    # Speeds are about 1 m/s, so float32's rounding is 1e-7; the targets are rounded, too.
    assert ours.terms["velocity"] == pytest.approx(velocity, abs=2e-7)
    assert ours.reward == pytest.approx(
        -np.abs(velocity - [0.11, 0.19]) + recording.info["reward_ctrl"], abs=2e-7
    )
    assert not ours.terminated.any()


def test_holding_the_velocity_pays_more_than_missing_it() -> None:
    """The published code has the other sign."""
    env = envs.make("swimmer_vel", 2)
    env.set_tasks(TargetVelocity(target_velocity=torch.tensor([0.1, 0.2])))
    env.reset(Noise(torch.Generator().manual_seed(0)).starts(env))
    env.sim.qvel.zero_()
    env.sim.qvel[:, 0] = 0.1
    near, far = env.step(env.references.stand_still()).reward.tolist()
    assert near > far


def test_starts_have_the_noise_of_swimmer_v5() -> None:
    env = envs.make("swimmer_vel", 1)
    noise = torch.cat(
        env.mdp.initial_state(
            torch.rand(20_000, 10, dtype=torch.float64, generator=torch.Generator())
        ),
        dim=1,
    )
    assert noise.abs().amax(0).tolist() == pytest.approx([0.1] * 10, rel=1e-2)
    # A uniform number in ±0.1 has standard deviation 0.1 / √3; of 20,000 draws the estimate's own
    # error is 0.3 %.
    assert noise.std(0).tolist() == pytest.approx([0.1 / 3**0.5] * 10, rel=0.02)


def test_target_velocities_are_between_0_1_and_0_2() -> None:
    tasks = envs.make("swimmer_vel", 1).prior
    velocity = tasks.train_tasks().target_velocity
    assert len(velocity.unique()) == 100
    assert 0.1 <= float(velocity.min()) < 0.11
    assert 0.19 < float(velocity.max()) <= 0.2
    assert len(tasks.test_tasks().target_velocity) == 30
