"""Facts that hold for every environment in `envs.ALL`: a new one is held to them by being there."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
import torch.utils._pytree as pytree
from support.pictures import assert_alike
from support.type_checks import WrongType  # raised in place of ours
from torch import Tensor

import envs
from envs.mujoco.env import MujocoEnv
from envs.mujoco.targets import velocities
from metarl.errors import SettingError
from metarl.noise import Noise
from metarl.rl.types import Step
from metarl.run import checkpoint
from metarl.struct import map_tensors

HORIZON = 12
every_env = pytest.mark.parametrize("name", envs.ALL)

# Elements of observations that never change, with the reason.
_HIPS = (2, 5, 8, 11)  # bodies of the ant that don't come to the ground, or hardly ever
CONSTANT = {  # y of a planar robot, kept as published
    "half_cheetah_vel_maml": {18},
    "half_cheetah_vel_pmr": {18},
    "half_cheetah_vel_pearl": {18},
    "half_cheetah_vel_varibad": {18},
    "half_cheetah_vel_wide": {18},
    "half_cheetah_dir_maml": {18},
    "half_cheetah_dir_sparse": {18},
    # Contact forces on the world, kept as published, and on the hips.
    "ant_dir_promp": {27 + 6 * body + i for body in (0, *_HIPS) for i in range(6)},
}

# Elements of the first observation that tell of the task what can be seen at once: where the object
# lies.
SEEN = {"arm_grasp": range(24, 33), "arm_pick_place": range(24, 33)}

# Steps of a random walk that come everywhere, where observations are one-hot, or touch the ground
# with all that does.
LONG = {"gridworld_5x5": 400, "tabular_mdp": 100, "ant_dir_promp": 150}


def put_on_the_half_circle(env: Any) -> None:
    """Worlds 0.15 m from the first test task's goal, on the other side than the start."""
    angle = env.prior.test_tasks(1).angle
    env._position[:] = 1.15 * torch.cat([angle.cos(), angle.sin()])


def put_on_the_goal(env: Any) -> None:
    """All worlds on the goal of the first test task."""
    x, y = env.prior.test_tasks(1).goal[0].tolist()
    env._cell[:] = 5 * x + y


# Where reward is paid only in some places: puts all worlds there.
PAID: dict[str, Callable[[Any], object]] = {
    "half_cheetah_dir_sparse": lambda env: env.sim.qpos[:, 0].fill_(6.0),
    "ant_goal_sparse": lambda env: env.sim.qpos[:, :2].copy_(env.prior.test_tasks(1).place),
    "gridworld_5x5": put_on_the_goal,
    "point_navigation_2d_sparse": put_on_the_half_circle,
    "point_navigation_2d_sparse_pearl": put_on_the_half_circle,
}

# Training tasks are those of a published list, and can't be drawn instead.
LISTED = {"half_cheetah_vel_pearl", "point_navigation_2d_sparse_pearl"}

# The last step is the problem's end, not a time limit.
END_IN_THEMSELVES = {"bandit", "tabular_mdp", "gridworld_5x5"}

OUT_OF_RANGE = [
    ("horizon", 0),
    ("horizon", -3),
    ("action_scale", 0.0),
    ("action_scale", -1.0),
    ("action_scale", float("nan")),
    ("action_scale", float("inf")),
    ("num_train_tasks", 0),
    ("num_test_tasks", 0),
    ("num_arms", 1),
    ("num_states", 1),
    ("num_actions", 1),
]

SIZES = ("num_train_tasks", "num_test_tasks")
# Settings that are words, with another one than the default.
OTHER_WORDS = {"test_velocities": "published"}

# A definition that changes by accident shows here; one that changes on purpose changes here too.
SPEC_HASHES = {
    "half_cheetah_vel": "923ba5da54a7",
    "half_cheetah_vel_maml": "aaed177c029f",
    "half_cheetah_vel_promp": "135da6cc14f1",
    "half_cheetah_vel_pmr": "564de12738a4",
    "half_cheetah_vel_pearl": "294cf7d6c6d7",
    "half_cheetah_vel_varibad": "ca235ace2d16",
    "half_cheetah_vel_wide": "c054b525eebe",
    "half_cheetah_vel_long": "242d8eead23b",
    "half_cheetah_dir": "10a482727616",
    "half_cheetah_dir_maml": "c8e17b8227bd",
    "half_cheetah_dir_promp": "e5e73aa22465",
    "half_cheetah_dir_sparse": "8edc322cf732",
    "half_cheetah_cripple": "2d3a18392800",
    "ant_vel": "fc4390062f2c",
    "ant_dir": "850c785bbde2",
    "ant_dir_promp": "11d6b5292f2e",
    "ant_dir_varibad": "126342bc2a3c",
    "ant_dir_2d": "12bfd813c54e",
    "ant_goal": "a1702b8dfdb8",
    "ant_goal_maml": "2aed9449cf1e",
    "ant_goal_sparse": "d9eab7a66e85",
    "humanoid_dir": "3dc11b801df1",
    "swimmer_vel": "b59896b4829f",
    "walker2d_rand_params": "503e7d9a71c3",
    "walker2d_rand_params_pearl": "1fd10bfbc7bc",
    "walker2d_vel": "d51110e604a8",
    "walker2d_vel_promp": "691e5d949fa9",
    "walker2d_dir": "45ba831d7171",
    "walker2d_dir_promp": "1144bccd617b",
    "hopper_rand_params": "c537f7950762",
    "hopper_rand_params_pearl": "27de89bf5d68",
    "reacher_goal": "24919b808474",
    "arm_reach": "b3716e523a76",
    "arm_grasp": "39645ca15651",
    "arm_pick_place": "ef0fb06a7566",
    "point_navigation_2d": "92fd1cc8ef33",
    "point_navigation_2d_raw": "467130eb8db4",
    "point_navigation_2d_corner": "1d2a8f1b4ae2",
    "point_navigation_2d_sparse": "ce4694861cea",
    "point_navigation_2d_sparse_pearl": "eaf145baca95",
    "bandit": "7efe6f82448f",
    "tabular_mdp": "b058d28d1107",
    "gridworld_5x5": "a534a5f8b49f",
}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def started(
    name: str, num_worlds: int = 4, *, num_threads: int | None = None, **overrides: Any
) -> tuple[Any, Tensor]:
    """An environment after its first reset, with the first test tasks, and the first
    observation."""
    env = envs.make(name, num_worlds, num_threads=num_threads, **overrides)
    env.set_tasks(env.prior.test_tasks(num_worlds))
    return env, env.reset(Noise(generator()).starts(env))


def actions(env: Any, num_steps: int, seed: int = 1, num_worlds: int | None = None) -> Tensor:
    """[T, W, A] or [T, W]: random, and the same in world w for any number of worlds."""
    shape = (num_steps, 64, *(env.action_space.shape or ()))
    rows = num_worlds or env.num_worlds
    if isinstance(env.action_space, gymnasium.spaces.Discrete):
        return torch.randint(int(env.action_space.n), shape, generator=generator(seed))[:, :rows]
    return torch.randn(shape, generator=generator(seed))[:, :rows] * float(env.action_space.high[0])


def run(env: Any, action: Tensor) -> list[Step]:
    return [env.step(a) for a in action]


def assert_equal(a: Any, b: Any) -> None:
    """Bit for bit, over all tensors of two trees."""
    leaves, others = pytree.tree_leaves(a), pytree.tree_leaves(b)
    assert len(leaves) == len(others)
    for left, right in zip(leaves, others, strict=True):
        assert torch.equal(left, right)


def some_worlds(tree: Any, worlds: Any) -> Any:
    return map_tensors(lambda leaf: leaf[worlds], tree)


def two_tasks(name: str) -> list[Any]:
    """The first test task and another one: the second, or one for training where all test tasks are
    alike."""
    tasks = envs.make(name, 1).prior
    test = tasks.test_tasks(2)
    first, second = some_worlds(test, [0]), some_worlds(test, [1])
    alike = all(map(torch.equal, pytree.tree_leaves(first), pytree.tree_leaves(second)))
    return [first, tasks.sample(1, generator()) if alike else second]


@every_env
def test_spaces_hold_what_is_emitted_and_no_element_is_constant(name: str) -> None:
    env, first = started(name)
    steps = run(env, actions(env, LONG.get(name, HORIZON)))
    obs = torch.stack([first, *(step.next_obs for step in steps)])
    assert obs.shape[1:] == (env.num_worlds, *env.observation_space.shape)
    assert obs.dtype == torch.float32
    assert all(env.observation_space.contains(row.numpy()) for row in obs.flatten(0, 1))
    constant = (obs == obs[0, 0]).all(0).all(0).nonzero().flatten().tolist()
    assert set(constant) == CONSTANT.get(name, set())


@every_env
def test_every_field_of_a_step_has_its_shape_and_type(name: str) -> None:
    env, _ = started(name)
    step = env.step(actions(env, 1)[0])
    assert step.reward.shape == (env.num_worlds,)
    assert step.reward.dtype == torch.float32
    for flag in (step.terminated, step.truncated, step.diverged):
        assert flag.shape == (env.num_worlds,)
        assert flag.dtype == torch.bool
    assert step.terms
    assert all(
        term.shape == (env.num_worlds,) and term.dtype == torch.float32
        for term in step.terms.values()
    )


@every_env
def test_two_tasks_differ_in_reward_or_dynamics(name: str) -> None:
    outcomes = []
    for tasks in two_tasks(name):
        env = envs.make(name, 4)
        env.set_tasks(some_worlds(tasks, [0] * 4))
        env.reset(Noise(generator()).starts(env))
        PAID.get(name, lambda env: None)(env)
        outcomes.append(torch.stack([step.reward for step in run(env, actions(env, HORIZON))]))
    assert not torch.equal(*outcomes)


@every_env
def test_first_observation_does_not_tell_the_task(name: str) -> None:
    env, first = started(name)
    env.set_tasks(some_worlds(env.prior.test_tasks(8), slice(4, 8)))
    hidden = [i for i in range(first.shape[1]) if i not in SEEN.get(name, ())]
    assert torch.equal(env.reset(Noise(generator()).starts(env))[:, hidden], first[:, hidden])


@every_env
def test_trajectory_depends_on_neither_threads_nor_number_of_worlds(name: str) -> None:
    env, first = started(name, 5, num_threads=1)
    steps = run(env, actions(env, HORIZON))
    for num_worlds, num_threads in ((5, 2), (1, 1), (9, 2)):
        other, other_first = started(name, num_worlds, num_threads=num_threads)
        other_steps = run(other, actions(other, HORIZON))
        shared = slice(0, min(5, num_worlds))
        assert_equal(
            some_worlds((other_first, other_steps), shared), some_worlds((first, steps), shared)
        )


@every_env
def test_resetting_some_worlds_leaves_the_others_untouched(name: str) -> None:
    env, _ = started(name)
    untouched, _ = started(name)
    action = actions(env, HORIZON)
    run(env, action[:3])
    before = run(untouched, action[:3])[-1]
    worlds = torch.tensor([False, True, False, True])
    obs = env.reset(Noise(generator(5)).starts(env), worlds)
    assert torch.equal(obs[~worlds], before.next_obs[~worlds])
    assert_equal(
        some_worlds(run(env, action[3:]), ~worlds), some_worlds(run(untouched, action[3:]), ~worlds)
    )


@every_env
def test_reset_world_starts_as_in_a_reset_of_all(name: str) -> None:
    env, _ = started(name)
    whole, _ = started(name)
    action = actions(env, HORIZON)
    run(env, action[:3])
    worlds = torch.tensor([False, True, False, True])
    masked_first = env.reset(Noise(generator(5)).starts(env), worlds)
    whole_first = whole.reset(Noise(generator(5)).starts(whole))
    assert torch.equal(masked_first[worlds], whole_first[worlds])
    assert_equal(
        some_worlds(run(env, action[3:]), worlds), some_worlds(run(whole, action[3:]), worlds)
    )


@every_env
def test_worlds_that_are_seeded_one_by_one_start_as_each_would_alone(name: str) -> None:
    env, _ = started(name)
    first = env.reset(Noise(*(generator(seed) for seed in (3, 4, 5, 6))).starts(env))
    alone = envs.make(name, 1)
    alone.set_tasks(map_tensors(lambda leaf: leaf[2:3], env.prior.test_tasks(4)))
    assert torch.equal(alone.reset(Noise(generator(5)).starts(alone))[0], first[2])


@pytest.mark.parametrize(
    "name", ["half_cheetah_vel", "bandit", "tabular_mdp", "point_navigation_2d"]
)
def test_a_reset_from_anything_but_its_random_numbers_is_refused(name: str) -> None:
    env, _ = started(name)
    size = (4, env.num_uniforms)
    wrong = [torch.zeros(4, env.num_uniforms + 1, dtype=torch.float64), torch.zeros(size)]
    if env.num_uniforms:
        wrong += [
            torch.ones(size, dtype=torch.float64),
            torch.full(size, torch.nan, dtype=torch.float64),
        ]
    for uniform in wrong:
        with pytest.raises(
            ValueError,
            match=rf"uniform .*; expected .*float64 \(4, {env.num_uniforms}\) in \[0, 1\)",
        ):
            env.reset(uniform)  # type: ignore[arg-type]


@every_env
def test_observations_do_not_share_memory(name: str) -> None:
    env, first = started(name)
    undisturbed, _ = started(name)
    action = actions(env, 4)
    kept = [first, env.step(action[0]).next_obs]
    copies = [obs.clone() for obs in kept]
    run(env, action[1:2])
    assert_equal(kept, copies)
    for obs in kept:
        obs.fill_(7.0)
    env.step(action[2]).next_obs.fill_(7.0)
    run(undisturbed, action[:3])
    assert_equal(env.step(action[3]), undisturbed.step(action[3]))


@every_env
def test_setting_tasks_twice_equals_once(name: str) -> None:
    env, _ = started(name)
    twice = envs.make(name, 4)
    for _ in range(2):
        twice.set_tasks(twice.prior.test_tasks(4))
    twice.reset(Noise(generator()).starts(twice))
    assert_equal(run(twice, actions(env, HORIZON)), run(env, actions(env, HORIZON)))


@every_env
def test_nothing_is_left_of_earlier_tasks_and_episodes(name: str) -> None:
    env, first = started(name)
    fresh = run(env, actions(env, HORIZON))
    used = envs.make(name, 4)
    for seed in range(3):
        used.set_tasks(used.prior.sample(4, generator(seed)))
        used.reset(Noise(generator(seed)).starts(used))
        run(used, actions(used, 3, seed))
    used.set_tasks(used.prior.test_tasks(4))
    assert torch.equal(used.reset(Noise(generator()).starts(used)), first)
    assert_equal(run(used, actions(env, HORIZON)), fresh)


@every_env
def test_new_tasks_hold_from_the_next_reset_of_each_world(name: str) -> None:
    env, _ = started(name)
    same, _ = started(name)
    env.set_tasks(some_worlds(env.prior.test_tasks(2), [1, 0, 1, 0]))
    action = actions(env, HORIZON)
    assert_equal(run(env, action), run(same, action))
    mine = env._episodes.tasks
    env.reset(Noise(generator()).starts(env), torch.tensor([True, False, False, True]))
    wanted = some_worlds(env.prior.test_tasks(4), [1, 1, 2, 0])
    assert_equal(env._episodes.tasks, wanted)
    assert_equal(mine, env.prior.test_tasks(4))


@every_env
def test_training_and_test_tasks_are_fixed_and_disjoint(name: str) -> None:
    tasks, again = envs.make(name, 1).prior, envs.make(name, 1).prior
    assert_equal(tasks.test_tasks(), again.test_tasks())
    assert_equal(tasks.sample(50, generator(3)), again.sample(50, generator(3)))
    assert_equal(some_worlds(tasks.test_tasks(40), slice(0, 25)), tasks.test_tasks(25))
    assert pytree.tree_leaves(tasks.test_tasks())[0].shape[0] == tasks.num_test
    if tasks.split == "none":
        assert_equal(tasks.train_tasks(), tasks.test_tasks())
        assert not tasks.is_held_out(tasks.test_tasks()).any()
    else:
        assert tasks.is_held_out(tasks.test_tasks()).all()
        assert not tasks.is_held_out(tasks.sample(2000, generator(4))).any()


@every_env
def test_tasks_are_drawn_from_a_stream_that_is_given(name: str) -> None:
    prior = envs.make(name, 1).prior
    with pytest.raises((ValueError, WrongType), match="generator"):
        prior.sample(2, None)


@every_env
def test_the_training_tasks_are_those_that_sampling_draws(name: str) -> None:
    tasks = envs.make(name, 1).prior
    listed = tasks.train_tasks()
    if tasks.split == "infinite":
        assert listed is None and tasks.num_train is None
        return
    assert [len(leaf) for leaf in pytree.tree_leaves(listed)] == [tasks.num_train] * len(
        pytree.tree_leaves(listed)
    )
    drawn = tasks.sample(tasks.num_train, generator(4))
    in_order = [
        sorted(
            zip(
                *(
                    leaf.flatten(1).tolist() if leaf.ndim > 1 else leaf.unsqueeze(1).tolist()
                    for leaf in pytree.tree_leaves(some)
                ),
                strict=True,
            )
        )
        for some in (listed, drawn)
    ]
    assert in_order[0] == in_order[1]  # each of them once
    assert_equal(tasks.train_tasks(), listed)


@every_env
def test_where_training_tasks_are_drawn_anew_any_number_is_held_out(name: str) -> None:
    drawn = (
        {"num_train_tasks": None}
        if "num_train_tasks" in envs.overridable(name) and name not in LISTED
        else {}
    )
    tasks = envs.make(name, 1, **drawn).prior
    if tasks.split != "infinite":
        pytest.skip("a fixed list of training tasks")
    assert tasks.is_held_out(some_worlds(tasks.test_tasks(3000), slice(1000, None))).all()
    assert not tasks.is_held_out(tasks.sample(3000, generator(4))).any()
    # The first and last cells, where rounding would leave the range; of each side of the split.
    uniform = torch.rand(6, tasks._num_uniforms, dtype=torch.float64, generator=generator(5))
    uniform[:, tasks._split_number] = (
        torch.tensor([0, 1, 2, 2**22 - 1, 2**22 - 2, 2**22 - 3]) + 0.5
    ) / 2**22
    even, odd = tasks._draw(uniform[[0, 2, 4]]), tasks._draw_test(uniform[[1, 3, 5]])
    assert tasks.is_held_out(odd).all()
    assert not tasks.is_held_out(even).any()


@every_env
def test_tasks_and_their_distribution_pickle(name: str) -> None:
    tasks = envs.make(name, 1).prior
    same = pickle.loads(pickle.dumps(tasks))
    assert_equal(same.sample(7, generator()), tasks.sample(7, generator()))
    assert_equal(pickle.loads(pickle.dumps(tasks.test_tasks(3))), tasks.test_tasks(3))
    assert len(tasks.describe(tasks.test_tasks(3))) == 3


@every_env
@pytest.mark.parametrize(
    "again", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))], ids=["copy", "pickle"]
)
def test_a_copy_goes_on_as_the_original_and_by_itself(
    name: str, again: Callable[[Any], Any]
) -> None:
    env, _ = started(name, num_threads=1)
    action = actions(env, 10)
    run(env, action[:4])
    other = again(env)
    run(again(env), actions(env, 3, seed=2))  # moves neither of them
    some = torch.tensor([False, True, False, False])
    for at in range(4, 10):
        assert_equal(env.step(action[at]), other.step(action[at]))
        if at == 6:
            assert_equal(
                env.reset(Noise(generator(5)).starts(env), some),
                other.reset(Noise(generator(5)).starts(other), some),
            )
    if env.references.scripted is not None:
        assert_equal(env.references.scripted(), other.references.scripted())


@every_env
def test_tasks_survive_a_checkpoint(name: str, tmp_path: Path) -> None:
    tasks = envs.make(name, 1).prior.test_tasks(3)
    checkpoint.save(tmp_path, {"iteration": 0, "tasks": vars(tasks)}, keep=1)
    restored = type(tasks)(**checkpoint.load_newest(tmp_path)[1]["tasks"])
    assert_equal(restored, tasks)
    envs.make(name, 3).set_tasks(restored)


@every_env
def test_end_is_either_terminated_or_truncated_never_both(name: str) -> None:
    env, _ = started(name, horizon=5)
    steps = run(env, actions(env, 7))
    ended = torch.stack([step.terminated | step.truncated for step in steps])
    assert ended[4:].all()  # The limit holds on for worlds that are stepped past it.
    assert not torch.stack([step.truncated for step in steps])[:4].any()
    if name in END_IN_THEMSELVES:
        assert steps[4].terminated.all()
    else:
        assert torch.equal(steps[4].truncated, ~steps[4].terminated)
    assert not any((step.terminated & step.truncated).any() for step in steps)
    env.reset(Noise(generator()).starts(env), torch.tensor([True, False, False, False]))
    after = env.step(actions(env, 1)[0])
    assert (after.terminated | after.truncated).tolist()[1:] == [True] * 3
    assert not after.truncated[0]


def test_each_world_has_its_own_time_limit() -> None:
    env = envs.make("half_cheetah_vel", 3, horizon=5)
    env.set_tasks(env.prior.test_tasks(3))
    env.reset(Noise(generator()).starts(env))
    truncated = []
    for t, action in enumerate(actions(env, 9, num_worlds=3)):
        truncated.append(env.step(action).truncated.tolist())
        if t in (1, 4):
            env.reset(Noise(generator()).starts(env), torch.tensor([t == 1, False, t == 4]))
    ends = [
        [t for t, now in enumerate(of_world) if now] for of_world in zip(*truncated, strict=True)
    ]
    assert ends == [
        [6, 7, 8],
        [4, 5, 6, 7, 8],
        [4],
    ]  # a world that is stepped on stays at its limit


@every_env
def test_wrong_actions_raise_with_value_and_expectation(name: str) -> None:
    env, _ = started(name)
    good = actions(env, 1)[0]
    with pytest.raises(ValueError, match=r"action is .*expected"):
        env.step(good[:3])
    with pytest.raises(ValueError, match=r"action is torch.int32 .*expected"):
        env.step(good.to(torch.int32))
    bad = good.clone()
    bad[2] = 99 if isinstance(env.action_space, gymnasium.spaces.Discrete) else float("nan")
    with pytest.raises(ValueError, match=r"action of world 2 is .*expected"):
        env.step(bad)


@pytest.mark.parametrize(
    "name", [name for name in envs.ALL if "action_scale" in envs.overridable(name)]
)
def test_continuous_actions_out_of_range_are_clipped(name: str) -> None:
    env, _ = started(name)
    other, _ = started(name)
    high = torch.from_numpy(env.action_space.high).expand(4, -1)
    assert_equal(env.step(3 * high), other.step(high))


@pytest.mark.parametrize(
    "name", [name for name in envs.ALL if "action_scale" in envs.overridable(name)]
)
def test_actions_in_half_precision_give_rewards_in_single_precision(name: str) -> None:
    env, _ = started(name)
    other, _ = started(name)
    half = actions(env, 1)[0].bfloat16()
    assert_equal(env.step(half), other.step(half.float()))


@every_env
def test_calls_out_of_order_say_what_to_call_first(name: str) -> None:
    env = envs.make(name, 4)
    with pytest.raises(RuntimeError, match=r"reset\(\) before set_tasks"):
        env.reset(Noise(generator()).starts(env))
    env.set_tasks(env.prior.test_tasks(4))
    with pytest.raises(RuntimeError, match=r"step\(\) before reset"):
        env.step(actions(env, 1)[0])
    with pytest.raises(RuntimeError, match="first reset"):
        env.reset(Noise(generator()).starts(env), torch.tensor([True, False, False, False]))


@every_env
def test_tasks_of_another_kind_number_or_range_raise(name: str) -> None:
    env = envs.make(name, 4)
    other = envs.make("bandit" if name != "bandit" else "point_navigation_2d", 1)
    with pytest.raises(ValueError, match="this environment has"):
        env.prior.check(
            other.prior.test_tasks(4), 4
        )  # As set_tasks does; there the tests' type checker comes first.
    with pytest.raises(ValueError, match="expected one task for each of 4 worlds"):
        env.set_tasks(env.prior.test_tasks(3))
    with pytest.raises(ValueError, match=r"is -?\d.*; expected a value in \["):
        env.set_tasks(map_tensors(lambda leaf: leaf - 1000, env.prior.test_tasks(4)))
    # NaN is out of every range; a field of whole numbers can't even hold it.
    with pytest.raises(
        ValueError, match=r"is nan; expected a value in|is torch.float32 .*; expected torch.int64"
    ):
        env.set_tasks(map_tensors(lambda leaf: leaf * float("nan"), env.prior.test_tasks(4)))
    with pytest.raises(ValueError, match=r"is torch\.\w+ \(4, .*; expected torch\.\w+ \(4,"):
        env.set_tasks(
            map_tensors(lambda leaf: torch.stack([leaf, leaf], dim=-1), env.prior.test_tasks(4))
        )


@pytest.mark.parametrize(
    "name", [name for name in envs.ALL if envs.make(name, 1).prior.split == "none"]
)
def test_only_the_listed_tasks_are_accepted_where_there_are_few(name: str) -> None:
    tasks = envs.make(name, 4).prior
    between = map_tensors(lambda leaf: (leaf * 0.5).to(leaf.dtype), tasks.test_tasks(4))
    if pytree.tree_leaves(between)[0].is_floating_point():
        with pytest.raises(ValueError, match=r"is \[?[-\d.]+.*; expected one of \[?-?\d"):
            tasks.check(between, 4)


@pytest.mark.parametrize(
    "name", [name for name in envs.ALL if envs.make(name, 1).prior.split == "none"]
)
def test_few_tasks_come_equally_often_and_all_of_them_come(name: str) -> None:
    tasks = envs.make(name, 1).prior
    one, *others = (tasks.sample(1, generator(seed)) for seed in range(40 * tasks.num_test))
    rows = {
        bytes(torch.cat([leaf.double().flatten() for leaf in pytree.tree_leaves(t)]).numpy())
        for t in [one, *others]
    }
    assert len(rows) == tasks.num_test
    assert_equal(
        tasks.sample(2 * tasks.num_test, generator()), tasks.test_tasks(2 * tasks.num_test)
    )


@pytest.mark.parametrize(
    "name", [name for name in envs.ALL if isinstance(envs.make(name, 1), MujocoEnv)]
)
def test_diverged_world_is_flagged_and_ended_and_the_others_do_not_notice(name: str) -> None:
    env, _ = started(
        name, horizon=4
    )  # Reached on the way: failure, not the limit, ends the diverged world.
    healthy, _ = started(name, horizon=4)
    action = actions(env, HORIZON)
    assert_equal(run(env, action[:2]), run(healthy, action[:2]))
    env.sim.qvel[1, 3] = float("nan")
    others = [0, 2, 3]
    for a in action[2:5]:
        step, reference = env.step(a), healthy.step(a)
        assert step.diverged.tolist() == [False, True, False, False]
        assert step.terminated[1]
        assert not step.truncated[1]
        assert step.reward[1] == 0
        assert (step.next_obs[1] == 0).all()
        assert all(bool(torch.isfinite(leaf).all()) for leaf in pytree.tree_leaves(step))
        assert_equal(some_worlds(step, others), some_worlds(reference, others))
    env.reset(Noise(generator()).starts(env), torch.tensor([False, True, False, False]))
    assert not env.step(action[5]).diverged.any()


@every_env
def test_standing_still_is_an_action_or_none(name: str) -> None:
    env, _ = started(name)
    still = env.references.stand_still
    if isinstance(env.action_space, gymnasium.spaces.Discrete):
        assert still is None
    else:
        env.step(still())
        assert (still() == 0).all()


@every_env
def test_references_are_by_task_and_need_no_reset(name: str) -> None:
    env = envs.make(name, 4)
    for value in env.references.known_returns(env.prior.test_tasks(3), 2).values():
        assert value.shape in ((3,), (3, 2))
        assert value.isfinite().all()
    assert all(hasattr(learner, "observe") for learner in env.references.learners(2).values())
    env, _ = started(name)
    if env.references.scripted is not None:
        env.step(env.references.scripted())


@every_env
def test_a_control_step_has_a_length_where_there_is_physics(name: str) -> None:
    env = envs.make(name, 1)
    assert env.render_fps is None
    if isinstance(env, MujocoEnv):
        assert env.control_step == pytest.approx(env.frame_skip * env.sim.model.opt.timestep)
    else:
        assert env.control_step is None


@pytest.mark.gl
@every_env
def test_picture_shows_one_world_in_the_size_asked_for(name: str) -> None:
    env, _ = started(name, 2)
    pictures = [
        env.render(world, width=width, height=48) for world, width in ((0, 64), (1, 64), (1, 80))
    ]
    assert [picture.shape for picture in pictures] == [(48, 64, 3), (48, 64, 3), (48, 80, 3)]
    assert all(picture.dtype == "uint8" and picture.std() > 1 for picture in pictures)
    run(env, actions(env, HORIZON))
    moved = env.render(0, width=64, height=48)
    assert (moved != pictures[0]).any()
    again = copy.deepcopy(env).render(0, width=64, height=48)
    assert_alike(again, moved)
    assert isinstance(env, MujocoEnv) or (again == moved).all()  # drawn without OpenGL
    env.close()


@every_env
def test_spec_hash_is_stable_and_changes_with_every_override(name: str) -> None:
    spec = envs.make(name, 1).spec
    assert spec.name == name
    assert spec.spec_hash == SPEC_HASHES[name]
    for key, value in envs.overridable(name).items():
        if key in OTHER_WORDS:
            changed = OTHER_WORDS[key]
        else:  # Of listed tasks there may be fewer, but not more.
            changed = 37 if value is None else value - 1 if key in SIZES else value + 1
        assert envs.make(name, 1, **{key: changed}).spec.spec_hash != spec.spec_hash


def test_unknown_names_and_settings_are_refused_with_what_there_is() -> None:
    with pytest.raises(
        ValueError,
        match=r"(?s)'half_cheeta_vel'; did you mean half_cheetah_vel\?.*there are: half_cheetah_vel, ",
    ):
        envs.make("half_cheeta_vel", 4)
    with pytest.raises(
        ValueError, match=r"no setting 'horizn'; did you mean horizon\?\nit has: horizon, "
    ):
        envs.make("half_cheetah_vel", 4, horizn=3)
    with pytest.raises((ValueError, WrongType), match="shows_task"):
        envs.make("half_cheetah_vel", 4, shows_task="no")


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        (name, key, value)
        for key, value in OUT_OF_RANGE
        for name in envs.ALL
        if key in envs.overridable(name)
    ],
)
def test_settings_out_of_range_are_refused_with_their_value(
    name: str, key: str, value: Any
) -> None:
    with pytest.raises(ValueError, match=f"{key} is {value}; expected"):
        envs.make(name, 1, **{key: value})


@every_env
def test_number_of_worlds_must_be_positive(name: str) -> None:
    with pytest.raises(ValueError, match="num_worlds is 0; expected at least 1"):
        envs.make(name, 0)


def test_a_range_in_which_training_and_test_cannot_be_told_apart_is_refused() -> None:
    with pytest.raises(
        SettingError, match=r"range target_velocity 2.0 to 2.1 is too narrow so far"
    ):
        velocities(2.1, num_train=None, num_test=40, lowest=2.0)


@every_env
def test_another_default_type_of_the_program_changes_nothing(name: str) -> None:
    def numbers() -> list[Tensor]:
        env = envs.make(name, num_worlds=2)
        noise = Noise(torch.Generator().manual_seed(0))
        env.set_tasks(env.prior.test_tasks(2))
        obs = env.reset(noise.starts(env))
        space = env.action_space
        zeros = [0, 0] if space.shape == () else np.zeros((2, *space.shape), np.float32)
        step = env.step(torch.as_tensor(zeros))
        return [obs, step.next_obs, step.reward]

    expected = numbers()
    torch.set_default_dtype(torch.float64)
    try:
        found = numbers()
    finally:
        torch.set_default_dtype(torch.float32)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == torch.float32
        assert torch.equal(ours, theirs)


OF_ONES_OWN = [
    test_spaces_hold_what_is_emitted_and_no_element_is_constant,
    test_every_field_of_a_step_has_its_shape_and_type,
    test_two_tasks_differ_in_reward_or_dynamics,
    test_first_observation_does_not_tell_the_task,
    test_trajectory_depends_on_neither_threads_nor_number_of_worlds,
    test_resetting_some_worlds_leaves_the_others_untouched,
    test_reset_world_starts_as_in_a_reset_of_all,
    test_observations_do_not_share_memory,
    test_setting_tasks_twice_equals_once,
    test_new_tasks_hold_from_the_next_reset_of_each_world,
    test_training_and_test_tasks_are_fixed_and_disjoint,
    test_tasks_and_their_distribution_pickle,
    test_end_is_either_terminated_or_truncated_never_both,
    test_wrong_actions_raise_with_value_and_expectation,
    test_calls_out_of_order_say_what_to_call_first,
    test_tasks_of_another_kind_number_or_range_raise,
    test_number_of_worlds_must_be_positive,
]
"""What holds of environments from outside, too."""
