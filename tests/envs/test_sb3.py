"""The Stable-Baselines3 VecEnv: its conventions at the end of an episode, and that PPO and SAC
train on it."""

import importlib
import sys
from typing import Any

import gymnasium
import numpy as np
import pytest

pytest.importorskip("stable_baselines3")
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

from envs.sb3 import SB3VecEnv, sb3_env

W, HORIZON = 3, 5
POINT = "point_navigation_2d"


def test_steps_are_those_of_stable_baselines_own_loop_over_single_environments() -> None:
    ours = sb3_env("half_cheetah_vel", W, horizon=HORIZON)
    ids = [lambda: gymnasium.make("metarl/HalfCheetahVel-v0", horizon=HORIZON) for _ in range(W)]
    theirs = DummyVecEnv(ids)
    ours.seed(3)
    theirs.seed(3)
    np.testing.assert_array_equal(ours.reset(), theirs.reset())
    assert ours.reset_infos == theirs.reset_infos
    ours.action_space.seed(0)
    for _ in range(2 * HORIZON + 1):
        action = np.stack([ours.action_space.sample() for _ in range(W)])
        (obs, reward, done, infos), (obs_1, reward_1, done_1, infos_1) = (
            ours.step(action),
            theirs.step(action),
        )
        np.testing.assert_array_equal(obs, obs_1)
        np.testing.assert_array_equal(reward, reward_1)
        assert reward.dtype == reward_1.dtype
        np.testing.assert_array_equal(done, done_1)
        for info, info_1 in zip(infos, infos_1, strict=True):
            assert set(info) == set(info_1)
            for key in info:
                np.testing.assert_array_equal(info[key], info_1[key], err_msg=key)
        assert ours.reset_infos == theirs.reset_infos


def test_only_a_time_limit_is_marked_truncated_and_the_last_observation_is_kept() -> None:
    env = sb3_env(POINT, 2, horizon=2, task={"goal": [0.0, 0.15]})
    env.reset()
    action = np.array(
        [[0.0, 0.75], [1.0, 0.0]], np.float32
    )  # by 0.075 m a step: there after two; and away
    _, _, done, infos = env.step(action)
    assert not done.any()
    assert [info["TimeLimit.truncated"] for info in infos] == [False, False]
    obs, _, done, infos = env.step(action)
    assert done.all()
    assert [info["TimeLimit.truncated"] for info in infos] == [False, True]
    np.testing.assert_allclose(infos[0]["terminal_observation"], [0.0, 0.15], atol=1e-6)  # float32
    np.testing.assert_allclose(infos[1]["terminal_observation"], [0.2, 0.0], atol=1e-6)
    assert (obs == 0).all()


@pytest.mark.filterwarnings("ignore:.*not writable.*")
def test_diverged_world_ends_terminated_and_its_info_says_so() -> None:
    env = sb3_env("half_cheetah_vel", W, horizon=HORIZON, num_threads=1)
    env.reset()
    env.vector._worlds.env.sim.qvel[1, 3] = float("nan")  # type: ignore[attr-defined]
    obs, reward, done, infos = env.step(np.zeros((W, 6), np.float32))
    assert done.tolist() == [False, True, False]
    assert [info["diverged"] for info in infos] == [False, True, False]
    assert not infos[1]["TimeLimit.truncated"]
    assert reward[1] == 0
    assert (infos[1]["terminal_observation"] == 0).all()
    assert np.isfinite(obs).all()


def test_arrays_handed_out_are_not_written_to_again() -> None:
    env = sb3_env(POINT, 2, horizon=2)
    action = np.ones((2, 2), np.float32)
    kept = [env.reset(), *env.step(action)[:2]]
    kept += [info["terminal_observation"] for info in env.step(action)[3]]
    copies = [array.copy() for array in kept]
    env.step(action)
    for array, copy in zip(kept, copies, strict=True):
        np.testing.assert_array_equal(array, copy)
    kept[0][:] = kept[1][:] = 7.0
    np.testing.assert_allclose(
        env.step(action)[3][0]["terminal_observation"], [0.2, 0.2], atol=1e-6
    )  # float32


def test_wrong_input_is_refused_with_what_was_expected() -> None:
    with pytest.raises(
        ValueError, match=r"task is \{'target_velocity': 1.0\}; expected a dict with goal"
    ):
        sb3_env(POINT, W, task={"target_velocity": 1.0})
    env = sb3_env(POINT, W)
    with pytest.raises(ValueError, match=r"goal is 0.7; expected a value in \[-0.5, 0.5\]"):
        env.env_method("set_task", {"goal": [0.0, 0.7]})
    with pytest.raises(RuntimeError, match=r"step\(\) before reset\(\)"):
        env.step(np.zeros((W, 2), np.float32))
    with pytest.raises(RuntimeError, match=r"step_wait\(\) before step_async\(actions\)"):
        env.step_wait()
    env.reset()
    with pytest.raises(
        ValueError, match=r"action is float32 \(3,\) for each of 3 worlds; expected numbers \(2,\)"
    ):
        env.step(np.zeros((W, 3), np.float32))
    with pytest.raises(
        ValueError, match=r"action of world 1 is \[0.0, nan\]; expected finite numbers"
    ):
        env.step(np.array([[0, 0], [0, np.nan], [0, 0]], np.float32))


def test_tasks_come_by_options_and_by_set_task_for_chosen_worlds() -> None:
    env = sb3_env(POINT, W)
    env.set_options([{"task": {"goal": [0.1, 0.1 * world]}} for world in range(W)])
    env.reset()
    env.env_method("set_task", {"goal": [-0.3, 0.2]}, indices=[1])
    env.reset()
    goals = np.stack([info["task"]["goal"] for info in env.reset_infos])
    np.testing.assert_allclose(goals, [[0.1, 0.0], [-0.3, 0.2], [0.1, 0.2]], atol=1e-6)  # float32
    with pytest.raises(AttributeError, match="no method 'jump'; they have: set_task"):
        env.env_method("jump")
    with pytest.raises(AttributeError, match="no attribute 'goal'"):
        env.set_attr("goal", 0)
    env.set_options({"tsak": None})
    with pytest.raises(ValueError, match="reset option 'tsak'; expected task"):
        env.reset()


@pytest.mark.parametrize(
    ("algorithm", "settings"),
    [
        (PPO, {"n_steps": 20, "batch_size": 20, "n_epochs": 1}),
        (SAC, {"learning_starts": 60, "batch_size": 16}),
    ],
)
def test_stable_baselines_trains_on_it(algorithm: Any, settings: dict[str, Any]) -> None:
    env: Any = VecMonitor(sb3_env(POINT, W, horizon=10))
    model = algorithm(
        "MlpPolicy", env, seed=0, device="cpu", policy_kwargs={"net_arch": [8]}, **settings
    )
    before = [p.detach().clone() for p in model.policy.parameters()]
    model.learn(240)
    assert model.num_timesteps >= 240
    assert any(
        not np.array_equal(p.detach(), q)
        for p, q in zip(model.policy.parameters(), before, strict=True)
    )
    lengths = [episode["l"] for episode in model.ep_info_buffer]
    assert lengths
    assert max(lengths) <= 10


def test_stable_baselines_takes_a_discrete_environment() -> None:
    env = sb3_env("bandit", W, horizon=6)
    PPO("MlpPolicy", env, n_steps=12, batch_size=12, n_epochs=1, seed=0, device="cpu").learn(36)


def test_pictures_are_tiled() -> None:
    env = sb3_env(POINT, 2, render_mode="rgb_array")
    assert isinstance(env, SB3VecEnv)
    env.reset()
    picture = env.render()
    assert picture is not None
    assert picture.shape == (480, 320, 3)  # two of 240 by 320, one below the other


def test_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "stable_baselines3"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "envs.sb3")
    with pytest.raises(
        ImportError, match=r"envs.sb3 needs Stable-Baselines3: pip install 'metarl\[sb3\]'"
    ):
        importlib.import_module("envs.sb3")


def test_each_world_has_its_task_and_tasks_may_be_held_out() -> None:
    worlds = sb3_env("half_cheetah_vel", 3, tasks="test", horizon=2)
    held_out = worlds.vector.test_tasks()
    worlds.reset()
    first = worlds.get_attr("task")
    assert all(task in held_out for task in first)
    action = np.zeros((3, 6), np.float32)
    worlds.step(action)
    *_, infos = worlds.step(action)
    assert [info["task"] for info in infos] == first
    assert [info["task"] for info in worlds.reset_infos] == worlds.get_attr("task") != first
    worlds.set_attr("task", held_out[2], indices=[1])
    worlds.reset()
    assert worlds.get_attr("task", 1) == [held_out[2]]
