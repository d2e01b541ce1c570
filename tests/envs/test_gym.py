"""The Gymnasium ids: one world as Env, W worlds as VectorEnv, held to Gymnasium's own checker and
SyncVectorEnv."""

import copy
import itertools
import json
import pickle
import re
import sys
import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from support.pages import code_blocks

import envs
from envs.gym import BatchedVectorEnv, SingleEnv, problem_of
from envs.own import attribute, own_environment
from metarl.gymnasium_plugin import TIME_LIMITS, gym_id

W, HORIZON = 3, 4
VEL = "metarl/HalfCheetahVel-v0"
END_IN_THEMSELVES = {
    "bandit",
    "tabular_mdp",
    "gridworld_5x5",
}  # the last step is the problem's end, not a time limit
every_env = pytest.mark.parametrize("name", envs.ALL)
FIRST_OF_FAMILIES = [
    next(names)
    for _, names in itertools.groupby(envs.ALL, lambda name: envs.make(name, 1).spec.family)
]


def batched(name: str, num_envs: int = W, **settings: Any) -> Any:
    return gymnasium.make_vec(gym_id(name), num_envs=num_envs, horizon=HORIZON, **settings)


def one_by_one(
    name: str, num_envs: int = W, mode: Any = AutoresetMode.SAME_STEP, **settings: Any
) -> Any:
    """Gymnasium's own loop over single environments, in the same autoreset mode."""
    kwargs = {"vectorization_mode": "sync", "vector_kwargs": {"autoreset_mode": mode}}
    return gymnasium.make_vec(
        gym_id(name), num_envs=num_envs, horizon=HORIZON, **kwargs, **settings
    )


def assert_same(a: Any, b: Any, path: str = "") -> None:
    """Bit for bit over nested infos, with object arrays of arrays or None."""
    if isinstance(a, dict):
        assert set(a) == set(b), path
        for key in a:
            assert_same(a[key], b[key], f"{path}/{key}")
    elif isinstance(a, tuple):
        for i, (left, right) in enumerate(zip(a, b, strict=True)):
            assert_same(left, right, f"{path}/{i}")
    elif isinstance(a, np.ndarray) and a.dtype == object:
        assert_same(tuple(a), tuple(b), path)
    else:
        np.testing.assert_array_equal(a, b, err_msg=path)
        assert np.asarray(a).dtype == np.asarray(b).dtype, path


def test_code_of_the_page_runs() -> None:
    pytest.importorskip("stable_baselines3")
    names: dict[str, Any] = {}
    for block in code_blocks("docs/gymnasium.md"):
        block = block.replace("12_800", "256").replace("n_steps=200", "n_steps=4")
        exec(block.replace("eval_freq=200", "eval_freq=3").replace('_vel", 10', '_vel", 2'), names)
    assert names["world"].task == names["held_out"][0]
    assert names["test"].venv.vector.num_envs == 2
    world, batch = names["env"], names["batch"]
    _, info = world.reset(seed=0)
    assert info["task"] == {"gravity": -9.0} and problem_of(world).horizon == 100
    held_out = {task["gravity"] for task in batch.test_tasks()}
    assert batch.num_envs == 8 and problem_of(batch).name == "hopper_gravity"
    assert set(batch.reset(seed=0)[1]["task"]["gravity"].tolist()) <= held_out
    del gymnasium.registry["me/HopperGravity-v0"]


@pytest.mark.parametrize("mode", AutoresetMode)
def test_a_time_limit_of_an_id_of_ones_own_ends_the_episodes_of_a_batch(mode: Any) -> None:
    made = lambda num, horizon: envs.make("point_navigation_2d", num, horizon=horizon)
    gymnasium.register(
        "me/Limited-v0",
        entry_point=lambda *, horizon=9, **of_gym: SingleEnv(made(1, horizon), **of_gym),
        vector_entry_point=lambda num_envs, *, horizon=9, **of_gym: BatchedVectorEnv(
            made(num_envs, horizon), **of_gym
        ),
        max_episode_steps=4,
    )
    try:
        batch = gymnasium.make_vec("me/Limited-v0", num_envs=W, autoreset_mode=mode)
        alone = gymnasium.make_vec(
            "me/Limited-v0", W, vectorization_mode="sync", vector_kwargs={"autoreset_mode": mode}
        )
        assert batch.spec.max_episode_steps == problem_of(batch).horizon == 4
        assert_same(batch.reset(seed=3), alone.reset(seed=3))
        for step in range(1, 13):
            action = np.full((W, 2), 0.05 * step, np.float32)
            found = batch.step(action)
            assert_same(found, alone.step(action), f"step {step}")
            if mode is AutoresetMode.DISABLED and found[3].any():
                # One world is reset before its time, too: each has its own count.
                for env in (batch, alone):
                    env.reset(options={"reset_mask": np.ones(W, bool)})
            if mode is AutoresetMode.DISABLED and step == 6:
                for env in (batch, alone):
                    env.reset(options={"reset_mask": np.array([False, True, False])})
        longer = gymnasium.make_vec("me/Limited-v0", 2, max_episode_steps=50, horizon=7)
        assert (longer.spec.max_episode_steps, num_steps(longer)) == (7, 7)
        gymnasium.make_vec("me/Limited-v0", 2, disable_env_checker=True).close()
        with pytest.raises(ValueError, match="max_episode_steps is 0; expected 1 or more"):
            gymnasium.make_vec("me/Limited-v0", 2, max_episode_steps=0)
    finally:
        del gymnasium.registry["me/Limited-v0"]
    gymnasium.make_vec(VEL, 2, disable_env_checker=True).close()


def test_a_horizon_and_a_time_limit_mean_the_same_to_one_world_and_to_many() -> None:
    for horizon, limit in ((40, 20), (20, 40), (7, 7)):
        for env in (
            gymnasium.make(VEL, horizon=horizon, max_episode_steps=limit),
            gymnasium.make_vec(VEL, num_envs=2, horizon=horizon, max_episode_steps=limit),
        ):
            assert num_steps(env) == min(horizon, limit), env
    for given in ({}, {"max_episode_steps": 300}):
        with pytest.raises(ValueError, match="horizon is 300, .* expected max_episode_steps=300 a"):
            gymnasium.make_vec(VEL, num_envs=2, horizon=300, **given)
    with pytest.raises(ValueError, match="max_episode_steps is -1; expected 1 or more"):
        gymnasium.make_vec(VEL, num_envs=2, max_episode_steps=-1)


def test_an_episodes_last_infos_have_its_own_task() -> None:
    """Who counts returns by task reads it there; the worlds have another task already."""
    env = batched("half_cheetah_vel")
    _, first = env.reset(seed=0)
    action = np.zeros(env.action_space.shape, np.float32)
    for _ in range(HORIZON):
        *_, infos = env.step(action)
    assert_same(infos["final_info"]["task"], first["task"])
    assert (infos["task"]["target_velocity"] != first["task"]["target_velocity"]).all()
    single = gymnasium.make(VEL, max_episode_steps=HORIZON)
    _, info = single.reset(seed=0)
    for _ in range(HORIZON):
        *_, truncated, last = single.step(single.action_space.sample())
    assert truncated and last["task"] == info["task"]
    last["task"]["target_velocity"] = 9.0  # the caller's own
    assert single.unwrapped.task == info["task"]


def test_the_task_can_be_read_and_set_as_an_attribute() -> None:
    env = gymnasium.make("metarl/Walker2dRandParams-v0").unwrapped
    assert env.task is None
    given = env.test_tasks()[3]
    env.task = given
    env.reset(seed=0)
    assert env.task == given and env.task in env.test_tasks() and json.loads(json.dumps(given))
    with pytest.raises(ValueError, match="target_velocity is 9; expected"):
        gymnasium.make(VEL).unwrapped.task = {"target_velocity": 9.0}
    batch = batched("half_cheetah_vel", num_envs=2)
    tasks = batch.test_tasks(2)
    batch.task = tasks
    batch.reset(seed=0)
    assert batch.task == tuple(tasks)
    batch.task = tasks[0]
    batch.reset()
    assert batch.task == (tasks[0], tasks[0])
    theirs = one_by_one("half_cheetah_vel", num_envs=2)
    theirs.set_attr("task", tasks)
    theirs.reset(seed=0)
    assert list(theirs.get_attr("task")) == tasks


def test_episodes_draw_from_the_tasks_that_are_asked_for() -> None:
    for make in (batched, one_by_one):
        env = make("half_cheetah_vel", tasks="test")
        held_out = {task["target_velocity"] for task in gymnasium.make(VEL).unwrapped.test_tasks()}
        seen = set()
        for _ in range(8):
            seen |= set(env.reset()[1]["task"]["target_velocity"].tolist())
        assert len(seen) > 5 and seen <= held_out
    two = [{"target_velocity": 0.5}, {"target_velocity": 2.5}]
    env = gymnasium.make(VEL, tasks=two)
    assert {env.reset(seed=s)[1]["task"]["target_velocity"] for s in range(9)} == {0.5, 2.5}
    assert env.reset(seed=3)[1] == env.reset(seed=3)[1]
    env = gymnasium.make(VEL, tasks="test", task=two[0])  # one that is given comes first
    assert env.reset()[1]["task"] == two[0]
    for wrong in ("validation", []):
        with pytest.raises(ValueError, match=re.escape(f"tasks is {wrong!r}; expected train, tes")):
            gymnasium.make(VEL, tasks=wrong)
    with pytest.raises(ValueError, match="target_velocity is 9; expected"):
        gymnasium.make(VEL, tasks=[{"target_velocity": 9.0}])


def test_success_has_the_name_that_others_look_for() -> None:
    env = gymnasium.make("metarl/ArmReach-v0")
    env.reset(seed=0)
    info = env.step(env.action_space.sample())[-1]
    assert info["is_success"] == info["success"]


def test_what_is_finite_and_large_is_clipped_whatever_its_kind() -> None:
    env = gymnasium.make(VEL).unwrapped
    step = []
    for size in (1e39, 1.0):
        env.reset(seed=0)
        step.append(env.step(np.full(6, size)))
    np.testing.assert_array_equal(step[0][0], step[1][0])
    with pytest.raises(ValueError, match=r"the action of world 0 is \[inf, .*; expected finite"):
        env.step(np.full(6, np.inf))


def test_pictures_that_cannot_be_drawn_are_refused_at_once(monkeypatch: Any) -> None:
    """As where Gymnasium's own environments have imported MuJoCo first."""
    for name in ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    for make in (gymnasium.make, gymnasium.make_vec):
        make(VEL)
        make("metarl/PointNavigation2d-v0", render_mode="rgb_array")
        if sys.platform == "linux":
            with pytest.raises(RuntimeError, match=r"MuJoCo can't draw here \(MUJOCO_GL=''"):
                make(VEL, render_mode="rgb_array")


def test_no_picture_before_the_first_reset() -> None:
    for name in ("point_navigation_2d", "half_cheetah_vel"):
        env = gymnasium.make(gym_id(name), render_mode="rgb_array", width=np.int64(64))
        with pytest.raises(RuntimeError, match=r"^render\(\) before reset\(\)$"):
            env.unwrapped.render()


def test_ids_follow_from_names_and_are_distinct() -> None:
    assert gym_id("half_cheetah_vel") == VEL
    assert gym_id("point_navigation_2d") == "metarl/PointNavigation2d-v0"
    assert len({gym_id(name) for name in envs.ALL}) == len(envs.ALL)
    assert all(gym_id(name) in gymnasium.registry for name in envs.ALL)


@every_env
@pytest.mark.filterwarnings("ignore:.*infinity.*")  # positions and velocities have no bounds
@pytest.mark.filterwarnings(
    "ignore:.*not recommended.*", "ignore:.*normalized.*", "ignore:.*symmetric.*"
)
def test_gymnasium_accepts_the_single_environment(name: str) -> None:
    env = gymnasium.make(gym_id(name))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*render.*")
        check_env(env.unwrapped, skip_render_check=True)


@every_env
def test_worlds_of_the_batch_are_single_environments_bit_for_bit_over_episodes(name: str) -> None:
    ours, theirs = batched(name), one_by_one(name)
    assert_same(ours.reset(seed=7), theirs.reset(seed=7), "reset")
    ours.action_space.seed(0)
    for t in range(2 * HORIZON + 2):
        action = ours.action_space.sample()
        assert_same(ours.step(action), theirs.step(action), f"step {t}")


def test_seeds_may_be_whole_numbers_of_numpy() -> None:
    batch, single = batched("half_cheetah_vel"), gymnasium.make(VEL, horizon=HORIZON)
    obs, _ = batch.reset(seed=5)
    np.testing.assert_array_equal(batch.reset(seed=np.int64(5))[0], obs)
    np.testing.assert_array_equal(batch.reset(seed=[np.int64(5), np.int32(6), 7])[0], obs)
    np.testing.assert_array_equal(single.unwrapped.reset(seed=np.int64(5))[0], obs[0])


def test_worlds_that_end_at_different_times_are_reset_alone_and_from_their_own_stream() -> None:
    settings = {"task": {"goal": [0.0, 0.15]}}  # two steps up: only who goes there arrives
    action = np.array([[0.0, 0.75], [1.0, 0.0], [0.0, -1.0]], np.float32)
    ours = gymnasium.make_vec("metarl/PointNavigation2d-v0", num_envs=W, horizon=5, **settings)
    theirs = [
        gymnasium.make("metarl/PointNavigation2d-v0", horizon=5, **settings) for _ in range(W)
    ]
    ours.reset(seed=1)
    for world, env in enumerate(theirs):
        env.reset(seed=1 + world)
    for t in range(1, 6):
        obs, _, terminated, truncated, infos = ours.step(action)
        assert terminated.tolist() == [t in (2, 4), False, False]
        assert truncated.tolist() == [False, t == 5, t == 5]
        for world, env in enumerate(theirs):
            single = env.step(action[world])
            last = (
                infos["final_obs"][world] if terminated[world] or truncated[world] else obs[world]
            )
            np.testing.assert_array_equal(last, single[0])
            if single[2] or single[3]:
                np.testing.assert_array_equal(obs[world], env.reset()[0])


def test_random_starts_of_a_later_episode_are_those_of_the_single_environment() -> None:
    """In a batch where only one world has ended."""
    ours = gymnasium.make_vec("metarl/HalfCheetahVel-v0", num_envs=3, horizon=2)
    ours.reset(seed=5)
    worlds = ours.unwrapped._worlds  # type: ignore[attr-defined]
    before = worlds.env.step(torch.zeros(3, 6)).next_obs
    streams = [None, np.random.default_rng(9), None]
    again = worlds.reset(streams)
    assert np.array_equal(again[[0, 2]], before[[0, 2]].numpy())
    alone = gymnasium.make("metarl/HalfCheetahVel-v0", horizon=2).unwrapped
    alone.np_random = np.random.default_rng(9)
    assert np.array_equal(again[1], alone.reset()[0])


@pytest.mark.parametrize(
    "again", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))], ids=["copy", "pickle"]
)
def test_copies_go_on_as_the_original_over_episodes(again: Any) -> None:
    single = gymnasium.make(
        "metarl/ArmGrasp-v0", horizon=HORIZON
    )  # with physics and a task drawn for each episode
    for env in (single, batched("arm_grasp")):
        env.reset(seed=3)
        env.action_space.seed(0)
        env.step(env.action_space.sample())
        other = again(env)
        for t in range(2 * HORIZON):
            action = env.action_space.sample()
            *_, truncated, _ = step = env.step(action)
            assert_same(step, other.step(action), f"step {t}")
            if env is single and truncated:
                assert_same(env.reset(), other.reset(), f"reset after step {t}")


@pytest.mark.parametrize("name", ["bandit", "half_cheetah_vel", "arm_reach"])
def test_a_reset_in_a_step_of_its_own_is_that_of_gymnasium(name: str) -> None:
    ours, theirs = (
        batched(name, autoreset_mode="NextStep"),
        one_by_one(name, mode=AutoresetMode.NEXT_STEP),
    )
    assert ours.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    assert_same(ours.reset(seed=7), theirs.reset(seed=7), "reset")
    ours.action_space.seed(0)
    for t in range(2 * HORIZON + 4):
        action = ours.action_space.sample()
        assert_same(ours.step(action), theirs.step(action), f"step {t}")
        if t == 1:  # From here on the worlds' episodes end at different times.
            mask = np.array([False, True, False])
            both = [env.reset(seed=9, options={"reset_mask": mask}) for env in (ours, theirs)]
            assert_same(*both, "reset of one world")


def test_without_autoreset_the_worlds_that_ended_are_reset_by_hand() -> None:
    mode = AutoresetMode.DISABLED
    ours, theirs = (
        batched("half_cheetah_vel", autoreset_mode=mode),
        one_by_one("half_cheetah_vel", mode=mode),
    )
    both = (ours, theirs)
    assert_same(*(env.reset(seed=2) for env in both), "reset")
    action = np.full(ours.action_space.shape, 0.2, np.float32)
    for _ in range(HORIZON):
        step, expected = (env.step(action) for env in both)
        assert_same(step, expected, "step")
    with pytest.raises(RuntimeError, match=r"worlds \[0, 1, 2\] have ended; expected reset"):
        ours.step(action)
    assert_same(*(env.reset(options={"reset_mask": step[3]}) for env in both), "second reset")
    assert_same(*(env.step(action) for env in both), "step of the second episode")


@pytest.mark.parametrize(
    "wrapper", ["NormalizeObservation", "NormalizeReward", "RecordEpisodeStatistics"]
)
def test_gymnasiums_vector_wrappers_take_it(wrapper: str) -> None:
    env = getattr(gymnasium.wrappers.vector, wrapper)(
        batched("half_cheetah_vel", autoreset_mode="NextStep")
    )
    env.reset(seed=0)
    for _ in range(HORIZON + 2):
        obs, reward, *_ = env.step(env.action_space.sample())
        assert np.isfinite(obs).all() and np.isfinite(reward).all()


def test_autoreset_mode_is_declared_and_followed() -> None:
    env = batched("half_cheetah_vel")
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    env.reset(seed=0)
    zero = np.zeros(env.action_space.shape, np.float32)
    for _ in range(HORIZON - 1):
        *_, truncated, infos = env.step(zero)
        assert not truncated.any()
        assert "final_obs" not in infos
    obs, _, terminated, truncated, infos = env.step(zero)
    assert truncated.all()
    assert not terminated.any()
    assert not np.array_equal(obs[0], infos["final_obs"][0])
    assert "task" in infos  # of the new episode
    assert not env.step(zero)[3].any()  # the new episode has its own clock


def test_the_plugin_knows_every_environment_and_its_time_limit() -> None:
    horizons = {name: envs.overridable(name)["horizon"] for name in envs.ALL}
    assert {
        name: None if name in END_IN_THEMSELVES else horizon for name, horizon in horizons.items()
    } == TIME_LIMITS


def num_steps(env: Any) -> int:
    """Of an episode, at most 1000."""
    env.reset(seed=0)
    for step in range(1, 1001):  # noqa: B007
        *_, terminated, truncated, _ = env.step(np.zeros(env.action_space.shape, np.float32))
        if np.any(terminated) or np.any(truncated):
            break
    return step


def test_the_time_limit_is_in_the_spec_and_can_be_changed_as_in_gymnasium() -> None:
    assert gymnasium.spec(VEL).max_episode_steps == 200
    env = gymnasium.make(VEL)
    assert (env.spec.max_episode_steps, num_steps(env)) == (200, 200)
    for limit in (7, 205):
        env = gymnasium.make(VEL, max_episode_steps=limit)
        assert (env.spec.max_episode_steps, num_steps(env)) == (limit, limit)
        batch = gymnasium.make_vec(VEL, num_envs=2, max_episode_steps=limit)
        assert (batch.spec.max_episode_steps, num_steps(batch)) == (limit, limit)
    assert num_steps(gymnasium.make(VEL, horizon=7)) == 7
    batch = gymnasium.make_vec(VEL, num_envs=2, horizon=7)
    assert (batch.spec.max_episode_steps, num_steps(batch)) == (7, 7)
    assert num_steps(gymnasium.make(VEL, max_episode_steps=-1)) == 1000
    with pytest.raises(
        ValueError,
        match=r"horizon is 300, .*max_episode_steps=200; expected max_episode_steps=300 alone",
    ):
        gymnasium.make(VEL, horizon=300)
    with pytest.raises(ValueError, match="horizon is 300"):
        gymnasium.make(VEL, horizon=np.int64(300))
    assert gymnasium.spec("metarl/Bandit-v0").max_episode_steps is None
    assert gymnasium.make("metarl/Bandit-v0", horizon=120).unwrapped.problem.horizon == 120


@every_env
def test_given_task_holds_and_the_time_limit_truncates(name: str) -> None:
    env = gymnasium.make(gym_id(name), horizon=HORIZON)
    task = env.unwrapped.sample_tasks(2, seed=3)[1]
    env.unwrapped.set_task(task)
    for _ in range(2):
        _, info = env.reset(seed=0)
        assert {key: np.asarray(value).tolist() for key, value in info["task"].items()} == task
    env.action_space.seed(0)
    ends = [env.step(env.action_space.sample())[2:4] for _ in range(HORIZON)]
    assert ends[:-1] == [(False, False)] * (HORIZON - 1)
    assert ends[-1] == ((True, False) if name in END_IN_THEMSELVES else (False, True))


def test_task_given_at_make_set_task_and_reset_options_are_the_same() -> None:
    task = {"target_velocity": 1.25}
    at_make = gymnasium.make(VEL, task=task)
    at_set, at_reset = gymnasium.make(VEL), gymnasium.make(VEL)
    at_set.unwrapped.set_task(task)
    action = np.full(6, 0.3, np.float32)
    rewards = []
    for env, options in ((at_make, None), (at_set, {}), (at_reset, {"task": task})):
        env.reset(seed=4, options=options)
        rewards.append(env.step(action)[1])
    other = gymnasium.make(VEL, task={"target_velocity": 2.0})
    obs, _ = other.reset(seed=4)
    assert rewards[0] == rewards[1] == rewards[2] != other.step(action)[1]
    assert np.array_equal(
        obs, at_make.reset(seed=4)[0]
    )  # the start doesn't depend on how the task came


def test_without_a_task_every_episode_draws_one_and_few_tasks_all_come() -> None:
    env = gymnasium.make("metarl/HalfCheetahDir-v0")
    drawn = [env.reset(seed=0)[1]["task"]["direction"]] + [
        env.reset()[1]["task"]["direction"] for _ in range(15)
    ]
    assert set(drawn) == {
        1.0,
        -1.0,
    }  # 16 fair draws are all the same with probability 3e-5; the seed is fixed


def test_drawn_tasks_are_training_tasks_and_test_tasks_are_the_held_out_ones() -> None:
    env = gymnasium.make(VEL).unwrapped
    distribution = envs.make("half_cheetah_vel", 1).prior
    train = {round(v, 6) for v in distribution.train_tasks().target_velocity.tolist()}
    assert {round(env.reset()[1]["task"]["target_velocity"], 6) for _ in range(5)} <= train
    assert [t["target_velocity"] for t in env.test_tasks(3)] == distribution.test_tasks(
        3
    ).target_velocity.tolist()


def test_tasks_are_reproducible_and_survive_pickle_and_json() -> None:
    env = gymnasium.make("metarl/Bandit-v0").unwrapped
    tasks = env.sample_tasks(3, seed=11)
    assert tasks == env.sample_tasks(3, seed=11) != env.sample_tasks(3, seed=12)
    assert json.loads(json.dumps(tasks)) == pickle.loads(pickle.dumps(tasks)) == tasks
    env.set_task(tasks[0])


def test_tasks_of_a_batch_are_given_together_to_some_or_one_by_one() -> None:
    env = batched("half_cheetah_vel")
    tasks = [{"target_velocity": v} for v in (0.5, 1.0, 1.5)]
    env.set_tasks(tasks)
    assert env.reset(seed=0)[1]["task"]["target_velocity"].tolist() == [0.5, 1.0, 1.5]
    env.set_task({"target_velocity": 2.0}, worlds=[1])
    assert env.reset()[1]["task"]["target_velocity"].tolist() == [0.5, 2.0, 1.5]
    env.set_task({"target_velocity": 2.5}, worlds=np.array([False, False, True]))
    env.set_task({"target_velocity": 0.25}, worlds=[True, False, False])
    assert env.reset()[1]["task"]["target_velocity"].tolist() == [0.25, 2.0, 2.5]
    assert env.reset(options={"tasks": tasks[::-1]})[1]["task"]["target_velocity"].tolist() == [
        1.5,
        1.0,
        0.5,
    ]


def test_refused_tasks_leave_every_world_the_one_it_had() -> None:
    env = batched("half_cheetah_vel")
    good, other, bad = ({"target_velocity": v} for v in (0.5, 1.0, 99.0))
    env.set_tasks([good] * 3)
    with pytest.raises(ValueError, match="target_velocity is 99"):
        env.set_tasks([other, other, bad])
    with pytest.raises(ValueError, match=r"worlds is \[0, 7\]; expected a list of numbers"):
        env.set_task(other, worlds=[0, 7])
    with pytest.raises(ValueError, match="reset option 'taks'"):
        env.reset(options={"task": other, "taks": bad})
    assert env.reset(seed=0)[1]["task"]["target_velocity"].tolist() == [0.5] * 3


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"target_velocity": 3.5}, r"target_velocity is 3.5; expected a value in \[0, 3\]"),
        (
            {"target_velocity": [1.0, 2.0]},
            r"target_velocity is \[1.0, 2.0\] of shape \(2,\); expected shape \(\)",
        ),
        ({"target_velocity": "fast"}, "target_velocity is 'fast'; expected numbers"),
        ({"velocity": 1.0}, r"task is \{'velocity': 1.0\}; expected a dict with target_velocity"),
        (
            {"goal": [0.1, 0.2]},
            r"task is \{'goal': .*\}; expected a dict with target_velocity",
        ),  # of another environment
        ({}, r"task is \{\}; expected a dict with target_velocity"),
    ],
)
def test_wrong_tasks_are_refused(task: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gymnasium.make(VEL, task=task)


@pytest.mark.parametrize(
    ("name", "task", "message"),
    [
        ("half_cheetah_dir", {"direction": 0.5}, r"direction is 0.5; expected one of 1.0, -1.0"),
        ("half_cheetah_cripple", {"joint": 2.5}, "joint is 2.5; expected whole numbers"),
        ("gridworld_5x5", {"goal": [3, 5]}, r"goal is 5; expected a value in \[0, 4\]"),
        ("gridworld_5x5", {"goal": [1.5, 3]}, r"goal is \[1.5, 3\]; expected whole numbers"),
        ("bandit", {"probability": [0.5] * 4}, r"of shape \(4,\); expected shape \(5,\)"),
    ],
)
def test_tasks_that_the_prior_does_not_have_are_refused(name: str, task: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gymnasium.make(gym_id(name), task=task)


def test_other_mistakes_are_refused_with_what_was_expected() -> None:
    with pytest.raises(ValueError, match="no setting 'horizn'"):
        gymnasium.make(VEL, horizn=3)
    with pytest.raises(ValueError, match="reset option 'tsak'; expected task"):
        gymnasium.make(VEL).reset(options={"tsak": None})
    with pytest.raises(ValueError, match=r"height is 0; expected .* pixels"):
        gymnasium.make_vec(VEL, num_envs=2, height=0)
    with pytest.raises(ValueError, match="render_mode is 'human'"):
        gymnasium.make_vec(VEL, num_envs=1, render_mode="human")
    with pytest.raises(ValueError, match="has 2 worlds; expected 1"):
        SingleEnv(envs.make("bandit", 2))
    with pytest.raises(
        ValueError, match="autoreset_mode is 'Never'; expected NextStep, SameStep, Disabled"
    ):
        batched("half_cheetah_vel", autoreset_mode="Never")
    env = batched("half_cheetah_vel")
    with pytest.raises(RuntimeError, match="the first reset.* must be of all worlds"):
        env.reset(options={"reset_mask": np.array([True, False, False])})
    with pytest.raises(
        ValueError, match=r"reset_mask is .*; expected a bool array \(3,\) with a True in it"
    ):
        env.reset(options={"reset_mask": np.zeros(3, bool)})
    with pytest.raises(ValueError, match="2 tasks; expected one for each of 3 worlds"):
        env.set_tasks([None, None])
    with pytest.raises(ValueError, match="seed has 2 entries; expected one for each of 3 worlds"):
        env.reset(seed=[1, 2])
    with pytest.raises(RuntimeError, match=re.escape("step() before reset()")):
        env.step(np.zeros((3, 6), np.float32))
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"action of world 2 is .*nan.*; expected finite numbers"):
        env.step(np.array([[0] * 6, [0] * 6, [np.nan] * 6], np.float32))
    with pytest.raises(
        ValueError,
        match=re.escape(
            "action is float32 (5,) for each of 3 worlds; expected numbers (6,) for each of 3"
        ),
    ):
        env.step(np.zeros((3, 5), np.float32))
    for worlds in ([3], [-1], 1, [True, False], [0.5]):
        with pytest.raises(ValueError, match=r"worlds is .*; expected a list of numbers from 0 to"):
            env.set_task(None, worlds)


def test_numbers_of_numpy_are_numbers() -> None:
    env: Any = gymnasium.make_vec(VEL, num_envs=2, horizon=np.int64(7))
    assert env.problem.horizon == 7
    seed = np.int64(1)
    assert env.sample_tasks(np.int64(2), seed=seed) == env.sample_tasks(2, seed=1)


@pytest.mark.parametrize(
    "make", [batched, lambda name: gymnasium.make(gym_id(name), horizon=HORIZON)]
)
def test_observations_do_not_share_memory(make: Any) -> None:
    env, undisturbed = make("point_navigation_2d"), make("point_navigation_2d")
    action = np.ones(env.action_space.shape, np.float32)
    kept = [env.reset(seed=0)[0], env.step(action)[0]]
    undisturbed.reset(seed=0)
    undisturbed.step(action)
    copies = [obs.copy() for obs in kept]
    env.step(action)
    undisturbed.step(action)
    np.testing.assert_array_equal(kept, copies)
    for obs in kept:
        obs[:] = 7.0
    assert_same(env.step(action), undisturbed.step(action))


def test_diverged_world_is_flagged_and_ends_alone() -> None:
    env = batched("half_cheetah_vel", num_threads=1)
    env.reset(seed=0)
    env._worlds.env.sim.qvel[1, 3] = float("nan")
    obs, reward, terminated, truncated, infos = env.step(np.zeros((W, 6), np.float32))
    assert terminated.tolist() == infos["final_info"]["diverged"].tolist() == [False, True, False]
    assert not infos["diverged"].any()  # of the worlds that go on
    assert not truncated.any()
    assert reward[1] == 0
    assert np.isfinite(obs).all()
    single = gymnasium.make(VEL).unwrapped
    single.reset(seed=0)
    single._worlds.env.sim.qvel[0, 3] = float("nan")
    obs, reward, ended, _, info = single.step(np.zeros(6, np.float32))
    assert (reward, ended, info["diverged"]) == (0.0, True, True)
    assert (obs == 0).all()


def test_pictures_are_arrays_of_every_world_and_none_without_a_render_mode() -> None:
    env = gymnasium.make("metarl/PointNavigation2d-v0", render_mode="rgb_array")
    env.reset(seed=0)
    picture = env.render()
    assert picture.shape == (240, 320, 3)
    assert picture.dtype == np.uint8
    batch = batched("point_navigation_2d", render_mode="rgb_array")
    batch.reset(seed=0)
    assert len(batch.render()) == W
    assert batched("point_navigation_2d").render() is None


@pytest.mark.parametrize(
    ("name", "fps"), [(VEL, 20), ("metarl/HalfCheetahVelMaml-v0", 100), ("metarl/ArmReach-v0", 25)]
)
def test_pictures_follow_at_the_speed_of_the_world(name: str, fps: int) -> None:
    """Control steps of 0.05, 0.01 and 0.04 s."""
    assert gymnasium.make(name).metadata["render_fps"] == fps
    assert gymnasium.make_vec(name, num_envs=2).metadata["render_fps"] == fps
    assert gymnasium.make("metarl/Bandit-v0").metadata["render_fps"] == 20


@pytest.mark.gl
@pytest.mark.parametrize("name", FIRST_OF_FAMILIES)
@pytest.mark.filterwarnings("ignore:.*infinity.*")
@pytest.mark.filterwarnings(
    "ignore:.*not recommended.*", "ignore:.*normalized.*", "ignore:.*symmetric.*"
)
def test_gymnasium_accepts_the_pictures(name: str) -> None:
    env = gymnasium.make(gym_id(name), render_mode="rgb_array", width=64, height=48)
    env.reset(seed=0)
    assert env.render().shape == (48, 64, 3)
    assert env.render().std() > 0
    check_env(env.unwrapped)
    env.close()


def test_the_problem_of_a_shorter_episode_is_another() -> None:
    """gymnasium.make keeps `max_episode_steps` to itself."""
    found = {
        steps: problem_of(gymnasium.make("metarl/HalfCheetahVel-v0", max_episode_steps=steps))
        for steps in (None, 50, 300)
    }
    assert [problem.horizon for problem in found.values()] == [200, 50, 300]
    assert len({problem.spec_hash for problem in found.values()}) == 3
    vector = gymnasium.make_vec("metarl/HalfCheetahVel-v0", 2, max_episode_steps=50)
    assert problem_of(vector).spec_hash == found[50].spec_hash


def test_the_problem_is_that_of_the_time_limit_which_comes_first() -> None:
    env = gymnasium.make(VEL)
    assert problem_of(gymnasium.wrappers.TimeLimit(env, 500)).horizon == 200
    assert problem_of(gymnasium.wrappers.TimeLimit(env, 50)).horizon == 50
    with pytest.raises(ValueError, match="made without a time limit .*; expected max_episode_s"):
        problem_of(gymnasium.make(VEL, max_episode_steps=-1))
    with pytest.raises(ValueError, match="env is a SyncVectorEnv; expected an environment of ours"):
        problem_of(one_by_one("half_cheetah_vel"))


def test_an_episode_that_is_cut_off_is_another_problem_than_one_that_ends_there() -> None:
    """A bandit of 10 pulls ends after 10, one of 100 that Gymnasium cuts off after 10 doesn't."""
    bandit = "metarl/Bandit-v0"
    cut, beyond, whole, short = (
        problem_of(gymnasium.make(bandit, **settings)).spec_hash
        for settings in (
            {"max_episode_steps": 10},
            {"max_episode_steps": 200},
            {},
            {"horizon": 10},
        )
    )
    assert beyond == whole and len({cut, whole, short}) == 3
    with pytest.raises(ValueError, match="max_episode_steps is 10, .* expected horizon=10 instead"):
        gymnasium.make_vec(bandit, num_envs=2, max_episode_steps=10)


def test_one_world_of_a_vector_takes_a_list_of_tasks_too() -> None:
    env = gymnasium.make_vec(VEL, num_envs=1, horizon=HORIZON)
    (task,) = env.unwrapped.sample_tasks(1, seed=3)
    _, infos = env.reset(options={"tasks": [task]})
    assert infos["task"]["target_velocity"][0] == task["target_velocity"]
    with pytest.raises(ValueError, match="reset option 'tasks'; expected task"):
        gymnasium.make(VEL).reset(options={"tasks": [task]})


def test_gymnasium_collects_pictures_where_it_is_asked() -> None:
    env = gymnasium.make("metarl/PointNavigation2d-v0", render_mode="rgb_array_list")
    env.reset(seed=0)
    env.step(env.action_space.sample())
    assert [picture.ndim for picture in env.render()] == [3, 3]


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
def test_measurements_that_are_called_as_infos_entries_are_left_out(mode: Any) -> None:
    class Tasked(gymnasium.Env[Any, Any]):
        observation_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
        action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
        goal = 0.0

        def reset(self, *, seed: Any = None, options: Any = None) -> Any:
            super().reset(seed=seed)
            return np.zeros(1, np.float32), {}

        def step(self, action: Any) -> Any:
            seen = np.array([self.goal], np.float32)
            return seen, 0.0, False, False, {"task": 3.0, "kept": 4.0}

    tasks = {"goal": attribute("goal", between=(-1.0, 1.0))}
    env = BatchedVectorEnv(own_environment(Tasked, 2, tasks=tasks, horizon=6), autoreset_mode=mode)
    env.reset(seed=0)
    action = np.zeros((2, 1), np.float32)
    with pytest.warns(UserWarning, match="measures task, which is another thing in infos"):
        env.step(action)
    with warnings.catch_warnings(action="ignore"):
        for step in range(1, 6):
            if step == 2:  # From here on one ends before the other.
                env.reset(options={"reset_mask": np.array([True, False])})
            *_, infos = env.step(action)
    assert isinstance(infos.get("task", {}), dict)
    assert 4.0 in infos.get("final_info", infos)["kept"]


def test_whatever_comes_for_a_world_that_has_ended_is_ignored() -> None:
    env = batched("half_cheetah_vel", autoreset_mode="NextStep")
    env.reset(seed=0)
    zero = np.zeros(env.action_space.shape, np.float32)
    for _ in range(HORIZON):
        env.step(zero)
    assert np.isfinite(env.step(np.full_like(zero, np.nan))[0]).all()


def test_a_list_of_seeds_seeds_what_is_drawn_for_all_worlds() -> None:
    drawn = []
    for _ in range(2):
        env = batched("half_cheetah_vel")
        env.reset(seed=list(range(7, 7 + env.num_envs)))
        drawn.append(env.sample_tasks(1))
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize("name", FIRST_OF_FAMILIES)
def test_a_default_device_of_the_program_is_not_ours(name: str) -> None:
    with torch.device("meta"):
        single, batch = gymnasium.make(gym_id(name), horizon=HORIZON), batched(name)
        tasks = single.unwrapped.sample_tasks(2, seed=0) + single.unwrapped.test_tasks(2)
        single.reset(seed=0, options={"task": tasks[0]})
        batch.reset(seed=0)
        for env in (single, batch):
            obs = env.step(env.action_space.sample())[0]
            assert np.isfinite(obs).all()


@pytest.mark.parametrize("name", FIRST_OF_FAMILIES)
def test_inference_mode_of_the_program_around_it_leaves_no_trace(name: str) -> None:
    with torch.inference_mode():
        single, batch = gymnasium.make(gym_id(name), horizon=HORIZON), batched(name)
        single.reset(seed=0)
        batch.reset(seed=0)
        single.step(single.action_space.sample())
    for env in (single, batch):
        for _ in range(2 * HORIZON):
            env.step(env.action_space.sample())
            single.reset()
        env.reset(seed=1)
