"""Facts about reacher_goal against Gymnasium's Reacher-v5, about its goals and its picture."""

import math

import numpy as np
import pytest
import torch
from support.gymnasium_runs import record, replay

import envs
from envs.mujoco.targets import Place
from metarl.noise import Noise


def test_physics_observation_and_reward_are_those_of_reacher_v5_for_500_steps() -> None:
    theirs = record("Reacher-v5", "reacher_goal", num_worlds=2, num_steps=500)
    ours = replay("reacher_goal", theirs)
    assert np.array_equal(ours.qpos, theirs.qpos)
    assert np.array_equal(ours.qvel, theirs.qvel)
    shown = [0, 1, 2, 3, 6, 7]  # not the target, nor the vector to it
    assert np.array_equal(ours.obs, theirs.obs[..., shown].astype(np.float32))
    goals = envs.make("reacher_goal", 1).prior.test_tasks(2).place.numpy()
    assert np.array_equal(
        theirs.obs[..., 4:6].astype(np.float32), np.broadcast_to(goals, (500, 2, 2))
    )
    # The tolerance is float32's: rewards are some two.
    assert ours.reward == pytest.approx(
        theirs.info["reward_dist"] + theirs.info["reward_ctrl"], abs=3e-7
    )
    assert ours.terms["distance"] == pytest.approx(-theirs.info["reward_dist"], abs=3e-8)
    assert not ours.terminated.any()


def test_goals_are_uniform_on_the_disc() -> None:
    tasks = envs.make("reacher_goal", 1).prior
    assert (tasks.num_train, tasks.num_test) == (100, 30)
    drawn = envs.make("reacher_goal", 1, num_train_tasks=None).prior.sample(
        10_000, torch.Generator().manual_seed(0)
    )
    x, y = drawn.place.unbind(-1)
    for share in ((x**2 + y**2) / 0.2**2, torch.atan2(y, x) / (2 * math.pi) + 0.5):
        # The distance between the distribution functions exceeds 1.95/√n once in a thousand
        # (Kolmogorov).
        assert float((share.sort().values - torch.linspace(0, 1, 10_000)).abs().max()) < 0.0195


def test_starts_have_the_noise_of_reacher_v5_and_the_target_rests_at_the_goal() -> None:
    env = envs.make("reacher_goal", 4000)
    tasks = env.prior.test_tasks(4000)
    env.set_tasks(tasks)
    env.reset(Noise(torch.Generator().manual_seed(0)).starts(env))
    assert torch.equal(env.sim.qpos[:, 2:].float(), tasks.place)
    assert not env.sim.qvel[:, 2:].any()
    for noise, most in ((env.sim.qpos[:, :2], 0.1), (env.sim.qvel[:, :2], 0.005)):
        assert float(noise.abs().max()) <= most
        # A uniform number has standard deviation most / √3; of 8,000 draws the estimate's own error
        # is 0.5 %.
        assert float(noise.std()) == pytest.approx(most / 3**0.5, rel=0.025)


def test_goal_of_a_world_moves_with_its_task_and_not_with_others() -> None:
    env = envs.make("reacher_goal", 2)
    env.set_tasks(Place(place=torch.tensor([[0.1, 0.0], [0.0, 0.1]])))
    env.reset(Noise(torch.Generator().manual_seed(0)).starts(env))
    env.step(torch.ones(2, 2))
    env.set_tasks(Place(place=torch.tensor([[-0.1, 0.0], [0.0, -0.1]])))
    env.reset(Noise(torch.Generator().manual_seed(0)).starts(env), torch.tensor([False, True]))
    assert env.sim.qpos[:, 2:].float().tolist() == torch.tensor([[0.1, 0.0], [0.0, -0.1]]).tolist()


def test_scripted_arm_reaches_every_goal() -> None:
    env = envs.make("reacher_goal", 200)
    env.set_tasks(env.prior.sample(200, torch.Generator().manual_seed(0)))
    env.reset(Noise(torch.Generator().manual_seed(0)).starts(env))
    for _ in range(50):
        step = env.step(env.references.scripted())
    assert float(step.terms["distance"].max()) < 0.01  # m, of a disc of 0.2 m


@pytest.mark.gl
def test_picture_shows_the_goal_and_the_arm() -> None:
    env = envs.make("reacher_goal", 1)
    env.set_tasks(Place(place=torch.tensor([[-0.1, 0.15]])))
    env.reset(Noise(torch.Generator().manual_seed(0)).starts(env))
    red, green, blue = (env.render(0, width=160, height=160)[..., i].astype(int) for i in range(3))
    rows, columns = np.nonzero((red > 120) & (green < 0.45 * red) & (blue < 0.45 * red))
    # The camera is 0.9 m above the middle and sees 45°: 160 pixels are 2 · 0.9 m · tan 22.5° =
    # 0.746 m.
    pixel = 2 * 0.9 * math.tan(math.pi / 8) / 160
    assert (columns.mean() - 79.5) * pixel == pytest.approx(-0.1, abs=0.01)
    assert -(rows.mean() - 79.5) * pixel == pytest.approx(0.15, abs=0.01)
    assert ((blue > 60) & (red < 0.4 * blue)).sum() > 100  # the links
    env.close()
