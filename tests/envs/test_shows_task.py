"""Environments that show the task: the same worlds, with the task of each behind its
observation."""

import copy
import pickle
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from torch import Tensor

import envs
from envs.mujoco.arm.tasks import REACH_GOAL, Reach
from envs.mujoco.targets import TargetVelocity
from envs.shows_task import ShowsTask
from metarl.noise import Noise
from tests.support.own_lines import sloped_line


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def starts(env: Any) -> Tensor:
    return Noise(generator()).starts(env)


def started(env: Any, tasks: Any = None) -> Tensor:
    env.set_tasks(env.prior.test_tasks(env.num_worlds) if tasks is None else tasks)
    obs: Tensor = env.reset(starts(env))
    return obs


def actions(env: Any) -> Tensor:
    if isinstance(env.action_space, gymnasium.spaces.Discrete):
        return torch.ones(env.num_worlds, dtype=torch.int64)
    return 0.3 * torch.ones(env.num_worlds, *env.action_space.shape)


def velocities(*values: float) -> TargetVelocity:
    return TargetVelocity(target_velocity=torch.tensor(values))


@pytest.mark.parametrize("name", envs.ALL)
def test_every_environment_is_itself_with_the_task_behind_the_observation(name: str) -> None:
    plain, shown = (
        envs.make(name, 3, num_threads=1),
        envs.make(name, 3, num_threads=1, shows_task=True),
    )
    tasks = plain.prior.sample(3, generator(1))
    before, obs = started(plain, tasks), started(shown, tasks)
    size = before.shape[1]
    step, same = shown.step(actions(shown)), plain.step(actions(plain))
    assert torch.equal(obs[:, :size], before) and torch.equal(
        step.next_obs[:, :size], same.next_obs
    )
    assert torch.equal(step.reward, same.reward) and torch.equal(step.terminated, same.terminated)
    task = obs[:, size:]
    assert torch.equal(step.next_obs[:, size:], task)
    assert task.shape[1] >= 1 and (task.abs() <= 1).all()
    assert (task != task[0]).any(), "different tasks look alike"
    for seen in (obs, step.next_obs):
        assert seen.dtype == torch.float32 and all(
            shown.observation_space.contains(row.numpy()) for row in seen
        )
    assert shown.spec.spec_hash != plain.spec.spec_hash and shown.spec.name == name
    assert shown.prior.describe(shown.prior.test_tasks(2)) == plain.prior.describe(
        plain.prior.test_tasks(2)
    )


def test_the_middle_of_the_prior_is_0_and_its_edges_are_1() -> None:
    velocity = envs.make("half_cheetah_vel", 3, num_threads=1, shows_task=True)
    assert started(velocity, velocities(0.0, 1.5, 3.0))[:, 17:].tolist() == [[-1], [0], [1]]
    reach = envs.make("arm_reach", 2, num_threads=1, shows_task=True)
    lowest, highest = (torch.tensor(bound) for bound in REACH_GOAL)
    corners = Reach(
        goal=torch.stack([lowest, torch.cat([highest[:1], (lowest + highest)[1:] / 2])])
    )
    task = started(reach, corners)[:, 24:]
    assert task[0].tolist() == [-1, -1, -1]
    torch.testing.assert_close(
        task[1], torch.tensor([1.0, 0.0, 0.0]), atol=1e-6, rtol=0
    )  # float32 of the middle


def test_a_new_task_is_seen_from_its_worlds_next_reset_on() -> None:
    env = envs.make("half_cheetah_vel", 3, num_threads=1, shows_task=True)
    started(env, velocities(0.0, 1.5, 3.0))
    env.set_tasks(velocities(3.0, 3.0, 0.0))
    assert env.step(actions(env)).next_obs[:, 17:].flatten().tolist() == [-1, 0, 1]
    obs = env.reset(starts(env), torch.tensor([False, True, True]))
    assert obs[:, 17:].flatten().tolist() == [-1, 1, -1]
    assert env.step(actions(env)).next_obs[:, 17:].flatten().tolist() == [-1, 1, -1]


def test_an_environment_of_ones_own_shows_its_task() -> None:
    env = ShowsTask(sloped_line(2))  # slope 1 or 3
    assert started(env)[:, 1:].flatten().tolist() == [-1, 1]
    assert env.references.stand_still().tolist() == [[0], [0]]


@pytest.mark.parametrize(
    "again", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))], ids=["copy", "pickle"]
)
def test_a_copy_goes_on_in_the_middle_of_an_episode(again: Any) -> None:
    env = envs.make("point_navigation_2d", 2, shows_task=True)
    started(env)
    env.step(actions(env))
    assert torch.equal(again(env).step(actions(env)).next_obs, env.step(actions(env)).next_obs)


def test_what_calculation_says_stays_and_who_must_find_out_the_task_goes() -> None:
    plain, shown = envs.make("bandit", 2), envs.make("bandit", 2, shows_task=True)
    assert plain.references.learners(3) and shown.references.learners(3) == {}
    tasks = plain.prior.test_tasks(2)
    assert torch.equal(
        shown.references.known_returns(tasks, 1)["oracle"],
        plain.references.known_returns(tasks, 1)["oracle"],
    )
    assert envs.make(
        "half_cheetah_vel", 1, num_threads=1, shows_task=True
    ).control_step == pytest.approx(0.05)


def test_gymnasium_sees_the_task_too() -> None:
    env = gymnasium.make("metarl/HalfCheetahVel-v0", task={"target_velocity": 3.0}, shows_task=True)
    assert env.reset(seed=0)[0][-1] == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"bounds": {}},
            "half_cheetah_vel can't show its tasks: target_velocity is within None; expected "
            "finite bounds",
        ),
        (
            {"bounds": {"target_velocity": (0.0, float("inf"))}},
            r"target_velocity is within \(0.0, inf\)",
        ),
        (
            {"space": gymnasium.spaces.Box(0, 1, (4, 4), np.float32)},
            r"observations of shape \(4, 4\); expected one axis",
        ),
    ],
)
def test_what_cant_be_shown_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    env = envs.make("half_cheetah_vel", 1, num_threads=1)
    tasks = SimpleNamespace(
        test_tasks=env.prior.test_tasks, bounds=changes.get("bounds", env.prior.bounds)
    )
    space = changes.get("space", env.observation_space)
    with pytest.raises(ValueError, match=message):
        ShowsTask(SimpleNamespace(spec=env.spec, observation_space=space, prior=tasks))  # type: ignore[arg-type]
