"""A user's own environment: it is what Gymnasium's is under the task, keeps the facts of every
environment, and trains."""

import copy
import json
import linecache
import os
import pickle
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest
import torch
from support.commands import call, refused
from support.pages import code_blocks

import envs
import metarl
from envs.gym import BatchedVectorEnv, SingleEnv
from envs.own import attribute, model_field, own_environment, reset_option
from envs.own.tasks import definition
from envs.own.tasks import listed as list_of_tasks
from metarl.cli.commands import compare, evaluate, train
from metarl.errors import SettingError
from metarl.noise import Noise
from tests.envs import test_environments as facts
from tests.support.own_lines import Line, hopper_load, line, sloped_line

ROOT = Path(__file__).parents[3]
PAGE = "docs/own_environment.md"
SLOPE = attribute("slope", scale=(1, 2))
HOPPER = "tests.support.own_lines:hopper_load"
FACTS = [*facts.OF_ONES_OWN, facts.test_standing_still_is_an_action_or_none]


def started(env: Any, seed: int = 0, **task: Any) -> torch.Tensor:
    """Gives every world the task, or the first test tasks, and resets."""
    tasks = env.prior.test_tasks(env.num_worlds)
    if task:
        values = {name: torch.tensor(value, dtype=torch.float64) for name, value in task.items()}
        tasks = type(tasks)(
            **{name: value.expand(env.num_worlds, *value.shape) for name, value in values.items()}
        )
    env.set_tasks(tasks)
    return env.reset(Noise(torch.Generator().manual_seed(seed)).starts(env))


def inside(env: Any, world: int = 0) -> Any:
    return env._worlds.envs[world].unwrapped


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact.__name__)
def test_facts_of_every_environment_hold(fact: Any) -> None:
    fact(HOPPER)


def test_task_that_changes_nothing_leaves_gymnasiums_environment_bit_for_bit() -> None:
    env = hopper_load(2)
    theirs = gymnasium.make("Hopper-v5")
    obs = started(env, seed=3, load=1.0, gravity=-9.81)
    uniform = torch.rand(2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    expected = theirs.reset(seed=int(uniform[1] * 2**31))[0]
    rng = np.random.default_rng(0)
    for _ in range(100):
        np.testing.assert_array_equal(obs[1], expected.astype(np.float32))
        action = rng.uniform(-1, 1, (2, 3)).astype(np.float32)
        step = env.step(torch.from_numpy(3 * action).clamp(-1.5, 1.5))  # clipped to [-1, 1]
        obs, (expected, reward, terminated, _, info) = (
            step.next_obs,
            theirs.step((3 * action[1]).clip(-1, 1)),
        )
        assert step.reward[1] == np.float32(reward)
        assert step.terms["x_velocity"][1] == np.float32(info["x_velocity"])
        assert bool(step.terminated[1]) == terminated
        if terminated:
            return
    raise AssertionError("the episode was to end, so that the end is compared, too")


def test_model_fields_are_set_with_what_follows_from_them_and_nothing_compounds() -> None:
    env = hopper_load(1)
    for load, gravity in ((1.7, -8.0), (0.6, -11.0), (1.7, -8.0), (1.7, -8.0)):
        started(env, load=load, gravity=gravity)
        model, expected = inside(env).model, compiled_hopper(load)
        np.testing.assert_array_equal(model.opt.gravity, [0, 0, gravity])
        for field in (
            "body_mass",
            "body_inertia",
            "body_subtreemass",
            "body_invweight0",
            "dof_invweight0",
        ):
            # Only rounding: MuJoCo's compiler gets there by another way.
            np.testing.assert_allclose(
                getattr(model, field), getattr(expected, field), rtol=1e-9, err_msg=field
            )


def compiled_hopper(load: float) -> mujoco.MjModel:
    """A hopper of another density, made by MuJoCo's compiler."""
    file = Path(gymnasium.__file__).parent / "envs/mujoco/assets/hopper.xml"
    spec = mujoco.MjSpec.from_file(str(file))
    for geom in spec.geoms:
        geom.density *= load
    return spec.compile()


def test_several_variables_of_one_field_work_together() -> None:
    tasks = {
        "factor": model_field("geom_friction", scale=(0.5, 2.0)),
        "first": model_field("geom_friction", index=0, scale=([1.0, 1.0, 1.0], [2.0, 3.0, 4.0])),
    }
    env = own_environment("Hopper-v5", 1, tasks=tasks, horizon=5)
    own = gymnasium.make("Hopper-v5").unwrapped.model.geom_friction
    started(env, factor=0.5, first=[2.0, 3.0, 4.0])
    np.testing.assert_array_equal(inside(env).model.geom_friction[1:], 0.5 * own[1:])
    np.testing.assert_array_equal(inside(env).model.geom_friction[0], 0.5 * own[0] * [2, 3, 4])


def test_attributes_keep_their_kind_and_worlds_do_not_share_them() -> None:
    tasks = {
        "slope": attribute("slope", one_of=(1, 3)),
        "last": attribute("table", index=2, between=(0.0, 1.0)),
        "goal": attribute("goal", between=([0.0, 0.0], [1.0, 2.0])),
    }
    env = own_environment(Line, 2, tasks=tasks, horizon=5, settings={"colour": "red"})
    struct = type(env.prior.test_tasks(1))
    values = {"slope": [3.0, 1.0], "last": [0.25, 0.75], "goal": [[0.5, 1.5], [0.0, 2.0]]}
    env.set_tasks(
        struct(**{name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()})
    )
    env.reset(Noise(torch.Generator()).starts(env))
    first, second = inside(env, 0), inside(env, 1)
    assert (first.slope, second.slope, type(first.slope)) == (3, 1, int)
    assert (first.table.tolist(), second.table.tolist()) == ([1.0, 2.0, 0.25], [1.0, 2.0, 0.75])
    assert (first.goal.tolist(), second.goal.tolist()) == ([0.5, 1.5], [0.0, 2.0])
    assert first.settings == {"colour": "red"}
    assert env.spec.definition["settings"] == {"colour": "red"}


def test_reset_options_arrive_and_the_episode_ends_as_the_environment_says() -> None:
    env = own_environment(
        Line, 4, tasks={"start": reset_option("start", between=(0.0, 0.5))}, horizon=3
    )
    assert started(env, start=0.25).flatten().tolist() == [0.25] * 4
    action = torch.tensor(
        [[0.1], [1.0], [-1.0], [0.5]]
    )  # moves on; beyond 1; below −1; a reward that is NaN
    step = env.step(action)
    np.testing.assert_allclose(step.next_obs[:, 0], [0.45, 2.25, -1.75, 0.0], atol=1e-7)  # float32
    np.testing.assert_allclose(step.reward, [4.5, 22.5, -17.5, 0.0], atol=1e-6)
    np.testing.assert_allclose(step.terms["double"], [0.9, 4.5, -3.5, 0.0], atol=1e-7)
    assert list(step.terms) == ["double"]
    assert step.terminated.tolist() == [False, True, False, True]
    assert step.truncated.tolist() == [False, False, True, False]
    assert step.diverged.tolist() == [False, False, False, True]
    again = env.step(action)  # what has ended stands still
    assert torch.equal(again.next_obs[1:], step.next_obs[1:])
    assert again.reward[1:].tolist() == [0.0] * 3
    assert torch.equal(again.terminated[1:], step.terminated[1:])
    assert env.step(action).truncated.tolist() == [True, False, True, False]  # the horizon
    env.reset(Noise(torch.Generator()).starts(env), torch.tensor([False, True, False, False]))
    assert env.step(torch.zeros(4, 1)).terminated.tolist() == [False, False, False, True]


def test_physics_that_blows_up_is_diverged_and_the_others_do_not_notice() -> None:
    env, healthy = hopper_load(3), hopper_load(3)
    started(env)
    started(healthy)
    inside(env, 1).data.qvel[0] = 1e12  # MuJoCo resets such a world by itself
    step, other = env.step(torch.zeros(3, 3)), healthy.step(torch.zeros(3, 3))
    assert step.diverged.tolist() == [False, True, False]
    assert step.terminated[1]
    assert (step.next_obs[1] == 0).all()
    assert torch.equal(step.next_obs[[0, 2]], other.next_obs[[0, 2]])
    env.reset(Noise(torch.Generator()).starts(env), torch.tensor([False, True, False]))
    assert not env.step(torch.zeros(3, 3)).diverged.any()


class SetByHand(gymnasium.Env):
    """A pendulum whose reset sets a state and calls no mj_resetData."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,))
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,))
    push = 1.0

    def __init__(self) -> None:
        hinge = "<body><joint name='j'/><geom size='.1' pos='0 0 -.5'/></body>"
        motor = "<actuator><motor joint='j'/></actuator>"
        self.model = mujoco.MjModel.from_xml_string(
            f"<mujoco><worldbody>{hinge}</worldbody>{motor}</mujoco>"
        )
        self.data = mujoco.MjData(self.model)

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.data.qpos[:], self.data.qvel[:] = self.np_random.uniform(-0.1, 0.1), 0.0
        mujoco.mj_forward(self.model, self.data)
        return self._obs(), {}

    def step(self, action: Any) -> Any:
        self.data.ctrl[:] = self.push * action
        mujoco.mj_step(self.model, self.data)
        return self._obs(), float(-abs(self.data.qpos[0])), False, False, {}

    def _obs(self) -> np.ndarray:
        return np.concatenate([self.data.qpos, self.data.qvel]).astype(np.float32)


def test_a_world_whose_reset_sets_a_state_by_hand_lives_on_after_a_blow_up() -> None:
    tasks = {"push": attribute("push", between=(0.5, 2.0))}
    env = own_environment(SetByHand, 2, tasks=tasks, horizon=5)
    started(env)
    inside(env, 1).data.qvel[0] = 1e12
    assert env.step(torch.zeros(2, 1)).diverged.tolist() == [False, True]
    env.reset(Noise(torch.Generator()).starts(env))
    assert not env.step(torch.zeros(2, 1)).diverged.any()


def test_what_a_model_names_is_set_by_its_name() -> None:
    tasks = {
        "foot": model_field("body_mass", "body_inertia", index="foot", between=(7.0, 9.0)),
        "knee": model_field("dof_damping", index="leg_joint", between=(3.0, 4.0)),
        "height": model_field("geom_size", index=("torso_geom", 0), between=(0.04, 0.06)),
    }
    env = own_environment("Hopper-v5", 1, tasks=tasks, horizon=5)
    started(env, foot=8.0, knee=3.5, height=0.045)
    model, own = inside(env).model, gymnasium.make("Hopper-v5").unwrapped.model
    assert model.body("foot").mass == 8.0 and (model.body("foot").inertia == 8.0).all()
    assert model.joint("leg_joint").damping == 3.5
    assert np.isclose(model.geom("torso_geom").size[0], 0.045)
    changed = [i for i in range(own.nbody) if model.body_mass[i] != own.body_mass[i]]
    assert changed == [own.body("foot").id]


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        (
            model_field("body_mass", index="foott", between=(1, 2)),
            "the model has no body 'foott'; expected one of .*torso.*; did you mean foot?",
        ),
        (model_field("opt.gravity", index="z", between=(1, 2)), "model.opt.gravity has no rows"),
        (
            model_field("body_mass", "geom_margin", index="foot", between=(1, 2)),
            "the model has no geom 'foot'; expected one of .*foot_geom",
        ),
    ],
)
def test_a_name_that_a_model_does_not_have_is_answered(variable: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        own_environment("Hopper-v5", 1, tasks={"x": variable}, horizon=5)


def test_only_rows_of_a_model_have_names() -> None:
    with pytest.raises(SettingError, match="index of attribute.* is 'foot'; expected a whole numb"):
        attribute("masses", index="foot", between=(1, 2))  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="first$"):
        model_field("geom_size", index=(0, "foot"), between=(1, 2))
    named = attribute("x", between=(1, 2))
    with pytest.raises(ValueError, match="has no MuJoCo model, in which 'cart' could be"):
        own_environment("CartPole-v1", 1, tasks={"x": replace(named, index="cart")}, horizon=5)


def test_processes_do_not_change_a_number() -> None:
    here, there = hopper_load(2), hopper_load(2, processes=True)
    try:
        assert torch.equal(started(here), started(there))
        worlds = torch.tensor([False, True])
        action = torch.linspace(-1, 1, 6).reshape(2, 3)
        for _ in range(3):
            facts.assert_equal(here.step(action), there.step(action))
        assert torch.equal(
            *(
                env.reset(Noise(torch.Generator().manual_seed(5)).starts(env), worlds)
                for env in (here, there)
            )
        )
        facts.assert_equal(here.step(action), there.step(action))
        with pytest.raises(RuntimeError, match="other processes; expected processes=False"):
            there.render(0)
    finally:
        there.close()


def test_split_follows_its_seed_and_choices_are_all_combinations() -> None:
    same, other = (hopper_load(1, split_seed=seed).prior.test_tasks(3).load for seed in (0, 1))
    assert torch.equal(same, hopper_load(1).prior.test_tasks(3).load)
    assert not torch.equal(same, other)
    tasks = {
        "slope": attribute("slope", one_of=(1, 3)),
        "goal": attribute("goal", one_of=([0, 1], [1, 0])),
    }
    few = own_environment(Line, 1, tasks=tasks, horizon=5).prior
    assert few.split == "none"
    assert few.describe(few.test_tasks())[:2] == ["slope 1, goal (0, 1)", "slope 1, goal (1, 0)"]
    for given in ({"num_train_tasks": 2}, {"num_test_tasks": 4}, {"split_seed": 7}):
        (name, value), *_ = given.items()
        said = f"{name} is {value}, but all task variables are one_of: .* the same 4 tasks"
        with pytest.raises(SettingError, match=said):
            own_environment(Line, 1, tasks=tasks, horizon=5, **given)
    mixed = own_environment(
        Line, 1, tasks={**tasks, "table": attribute("table", scale=(0.9, 1.1))}, horizon=5
    ).prior
    facts.assert_equal(pickle.loads(pickle.dumps(mixed)).test_tasks(), mixed.test_tasks())
    assert set(mixed.test_tasks().slope.tolist()) == {1.0, 3.0}
    # Training has the even cells of 2^22 in the first number, test the odd ones: it must be one
    # that isn't rounded.
    for drawn, parity in ((mixed.test_tasks(50), 1), (mixed.sample(50, torch.Generator()), 0)):
        assert (((drawn.table - 0.9) / 0.2 * 2**22).floor() % 2 == parity).all()


LISTED = {
    "place": reset_option("place", between=([0, 0], [1, 2])),
    "surface": attribute("surface", one_of=("grass", "ice")),
}
LISTS = {
    "train_tasks": [
        {"place": [0, 2], "surface": "ice"},
        {"place": np.array([0.5, 1.0]), "surface": "grass"},
    ],
    "test_tasks": [{"surface": "ice", "place": (1, 1)}, {"place": [0.25, 0], "surface": "ice"}],
}


class Slippery(gymnasium.Env[Any, Any]):
    """Pays the first of `place` on grass, ten times as much on ice."""

    surface = "grass"
    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float64)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.place = options["place"]
        return np.zeros(1), {}

    def step(self, action: Any) -> Any:
        reward = self.place[0] * (10 if self.surface == "ice" else 1)
        return np.array([self.place[1]]), reward, False, False, {}


def listed(num_worlds: int = 2, **given: Any) -> Any:
    return own_environment(Slippery, num_worlds, tasks=LISTED, horizon=3, **{**LISTS, **given})


def test_tasks_may_be_listed_one_by_one() -> None:
    env = listed()
    assert (env.prior.num_train, env.prior.num_test, env.prior.num_held_out) == (2, 2, 2)
    assert env.prior.describe(env.prior.train_tasks()) == [
        "place (0, 2), surface ice",
        "place (0.5, 1), surface grass",
    ]
    drawn = env.prior.sample(4, torch.Generator().manual_seed(0))
    assert sorted(drawn.surface.tolist()) == [0, 0, 1, 1]
    assert env.prior.describe(env.prior.test_tasks(1)) == ["place (1, 1), surface ice"]
    env.set_tasks(env.prior.test_tasks(2))
    env.reset(Noise(torch.Generator().manual_seed(0)).starts(env))
    assert env.step(torch.zeros(2, 1)).reward.tolist() == [10.0, 2.5]
    with pytest.raises(ValueError, match="surface is 0.5; expected one of 0.0, 1.0"):
        env.set_tasks(replace(env.prior.test_tasks(2), surface=torch.tensor([0.5, 1.0]).double()))
    assert listed(num_test_tasks=1).prior.test_tasks().surface.tolist() == [1.0]
    assert env.prior.kinds(env.prior.train_tasks()) == ["ice", "grass"]
    # The lists are part of the problem, and how a number is written isn't.
    same = [{"surface": "ice", "place": [1.0, 1.0]}, LISTS["test_tasks"][1]]
    assert listed(test_tasks=same).spec.spec_hash == env.spec.spec_hash
    fewer = [LISTS["test_tasks"][0]]
    assert listed(test_tasks=fewer).spec.spec_hash != env.spec.spec_hash


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"test_tasks": None}, "test_tasks is None; expected both lists of tasks or neither"),
        ({"train_tasks": None}, "train_tasks is None; expected both"),
        ({"num_train_tasks": 2}, "num_train_tasks is 2 beside train_tasks; expected None"),
        ({"split_seed": 0}, "split_seed is 0 beside train_tasks"),
        ({"num_test_tasks": 3}, "num_test_tasks is 3; expected 1, ..., 2"),
        ({"test_tasks": []}, r"test_tasks is \[\]; expected a list of tasks, one or more"),
        (
            {"test_tasks": [{"place": [0, 0]}]},
            r"test_tasks\[0\] is .*; expected a dict with place, s",
        ),
        (
            {"test_tasks": [{"place": [0, 0], "surface": "sand"}]},
            r"surface of test_tasks\[0\] is 'sand'; expected one of grass, ice",
        ),
        (
            {"test_tasks": [{"place": [0, 3], "surface": "ice"}]},
            r"place of test_tasks\[0\] is \(0.0, 3.0\); expected \(0, 0\) to \(1, 2\)",
        ),
        (
            {"test_tasks": [{"place": [0, np.nan], "surface": "ice"}]},
            r"place of test_tasks\[0\] is \(0.0, nan\); expected",
        ),
        (
            {"test_tasks": [{"place": 1, "surface": "ice"}]},
            r"place of test_tasks\[0\] is 1; expected a list of 2 numbers",
        ),
        (
            {"test_tasks": [{"place": [[1], [2, 3]], "surface": "ice"}]},
            r"place of test_tasks\[0\] is .*; expected a list of 2 numbers",
        ),
        ({"test_tasks": LISTS["train_tasks"]}, "a test task is also a training task"),
        (
            {"test_tasks": [*LISTS["test_tasks"], {"place": [1.0, 1], "surface": "ice"}]},
            r"test_tasks\[2\] is test_tasks\[0\] again; expected each once",
        ),
    ],
)
def test_lists_that_are_none_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        listed(**given)


def test_kinds_that_look_alike_are_told_apart() -> None:
    variables = {
        "one": attribute("one", one_of=("a b", "a", "1", 1)),
        "two": attribute("two", one_of=("c", "b c")),
    }
    rows = [("a b", "c"), ("a", "b c"), ("1", "c"), (1, "c")]
    tasks = [dict(zip(variables, row, strict=True)) for row in rows]
    test = [{"one": "a", "two": "c"}]
    prior = list_of_tasks(variables, train=tasks, test=test, num_test=None)
    assert prior.kinds(prior.train_tasks()) == [
        "one a b, two c",
        "one a, two b c",
        "one '1', two c",
        "one 1, two c",
    ]


def test_the_source_may_be_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from tests.support.own_examples import Point as Inside\n\n\nclass Mine(Inside):\n    pass\n"
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(code)
    speed = {"speed": attribute("speed", between=(0.5, 2.0))}
    one, other = (
        own_environment(f"{tmp_path}/{folder}/mine.py:Mine", 1, tasks=speed, horizon=5)
        for folder in ("one", "other")
    )
    # The folder is no part of the problem.
    assert one.spec.hashes == other.spec.hashes and one.spec.name == "mine:Mine"
    assert type(inside(one)) is not type(inside(other))
    # A change of the code is seen.
    (tmp_path / "other" / "mine.py").write_text(code.replace("pass", "changed = True"))
    read = "import sys; from tests.support.own_examples import Point; from envs.own import *; "
    told = [
        subprocess.run(
            [
                *(sys.executable, "-W", "ignore", "-c"),
                f"{read}print(own_environment('{tmp_path}/{folder}/mine.py:Mine', 1, horizon=5, "
                "tasks={'speed': attribute('speed', between=(0.5, 2.0))}).spec.made_by)",
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for folder in ("one", "other")
    ]
    assert told[0].strip() == one.spec.made_by != told[1].strip()
    monkeypatch.chdir(tmp_path)
    assert own_environment("one/mine.py:Mine", 1, tasks=speed, horizon=5).spec.name == "mine:Mine"
    with pytest.raises(ValueError, match=r"there is no file gone\.py"):
        own_environment("gone.py:Mine", 1, tasks=speed, horizon=5)
    with pytest.raises(ValueError, match=r"nowhere\.py; expected path/to/file\.py:function"):
        own_environment(f"{tmp_path}/nowhere.py:Mine", 1, tasks=speed, horizon=5)
    with pytest.raises(ValueError, match=r"mine\.py neither has 'Yours' nor registers"):
        own_environment(f"{tmp_path}/one/mine.py:Yours", 1, tasks=speed, horizon=5)
    with pytest.raises(
        ValueError, match=r"mine\.py names no function; expected path/to/file\.py:f"
    ):
        own_environment("one/mine.py", 1, tasks=speed, horizon=5)
    # The same name is another file elsewhere.
    monkeypatch.chdir(tmp_path / "one")
    here = own_environment("mine.py:Mine", 1, tasks=speed, horizon=5)
    (tmp_path / "third").mkdir()
    (tmp_path / "third" / "mine.py").write_text(code.replace("pass", "changed = True"))
    monkeypatch.chdir(tmp_path / "third")
    assert hasattr(inside(own_environment("mine.py:Mine", 1, tasks=speed, horizon=5)), "changed")
    assert not hasattr(inside(here), "changed")
    # It may register an id, and may fail.
    (tmp_path / "ids.py").write_text(
        "import gymnasium\nfrom tests.support.own_examples import Point\n"
        "gymnasium.register('MyPoint-v0', Point)\n"
    )
    own_environment(f"{tmp_path}/ids.py:MyPoint-v0", 1, tasks=speed, horizon=5)
    (tmp_path / "fails.py").write_text("lengths = 1 / 0\n")
    said = r"fails\.py can't be imported: ZeroDivisionError: .*fails\.py, line 1"
    with pytest.raises(ValueError, match=said):
        own_environment(f"{tmp_path}/fails.py:Mine", 1, tasks=speed, horizon=5)


def test_definition_tells_environments_apart() -> None:
    specs = [
        hopper_load(1).spec,
        hopper_load(1, horizon=7).spec,
        hopper_load(1, split_seed=1).spec,
        hopper_load(1, settings={"frame_skip": 2}).spec,
        hopper_load(1, tasks={"load": model_field("body_mass", scale=(0.5, 2.0))}).spec,
        hopper_load(1, tasks={"load": model_field("body_mass", scale=(0.5, 2.1))}).spec,
        hopper_load(1, tasks={"load": model_field("body_inertia", scale=(0.5, 2.0))}).spec,
    ]
    assert len({spec.spec_hash for spec in specs}) == len(specs)
    assert hopper_load(1).spec.spec_hash == specs[0].spec_hash
    assert (
        own_environment("Hopper-v5", 1, tasks=hopper_load.keywords["tasks"]).spec.horizon == 1000
    )  # Gymnasium's


def test_gymnasium_and_its_batches_take_it() -> None:
    batch, single = BatchedVectorEnv(line(2)), SingleEnv(line(1), task={"start": 0.5})
    batch.set_task({"start": 0.5}, worlds=[1])
    obs, _ = batch.reset(seed=4)
    assert obs[1] == single.reset(seed=5)[0] == 0.5
    np.testing.assert_array_equal(
        batch.step(np.full((2, 1), 0.1))[0][1], single.step(np.full(1, 0.1))[0]
    )


def test_a_copy_goes_on_or_is_refused_but_never_starts_anew() -> None:
    env = line(2)
    started(env)
    env.step(torch.zeros(2, 1))
    assert torch.equal(
        copy.deepcopy(env).step(torch.ones(2, 1)).next_obs, env.step(torch.ones(2, 1)).next_obs
    )
    with pytest.raises(
        TypeError, match=r"Hopper-v5 can't be copied .*HopperEnv is a gymnasium\.utils\.EzPickle"
    ):
        copy.deepcopy(hopper_load(1))


@pytest.mark.gl
def test_picture_is_of_the_world_asked_for() -> None:
    env = hopper_load(2)
    started(env)
    inside(env, 1).data.qpos[2] = 1.0  # rad: lies tilted
    mujoco.mj_forward(inside(env, 1).model, inside(env, 1).data)
    first, second = (env.render(world, width=64, height=48) for world in (0, 1))
    assert first.shape == (48, 64, 3)
    assert (first != second).any()
    env.close()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: model_field("body_mass"),
            r"model_field\('model.body_mass'\) has no range; expected a path and one of",
        ),
        (
            lambda: attribute("a", between=(1, 1)),
            r"between=\(1, 1\); expected \(lowest, highest\) with lowest < highest",
        ),
        (
            lambda: attribute("a", between=([1, 2], [1, 2, 3])),
            "expected numbers, or lists of the same length",
        ),
        (lambda: attribute("a", scale=(0, np.inf)), "expected finite numbers"),
        *(
            (
                partial(attribute, "a", one_of=same),
                "expected two choices or more, each of them once",
            )
            for same in ([1], [0.0, 1.0, 0.0], [[1, 2], [1, 2]], ["ice", "ice"])
        ),
        (
            lambda: attribute("a", between=([1, 0], [3, 0])),
            "lowest < highest in each element; index= sets one element alone",
        ),
        (
            lambda: attribute("a", scale=(0, 1), one_of=[1]),
            "has scale, one_of; expected a path and one of",
        ),
    ],
)
def test_wrong_variables_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ({}, "tasks is empty"),
        ({"a b": attribute("slope", scale=(1, 2))}, "'a b' isn't a name"),
        (
            {"m": model_field("body_mas", scale=(1, 2))},
            r"has no 'body_mas', .*; did you mean body_mass\?",
        ),
        (
            {"m": model_field("body_mass", between=([1, 2], [3, 4]))},
            r"shape \(5,\); a value of shape \(2,\) doesn't fit",
        ),
        ({"m": model_field("opt.gravity", index=3, between=(1, 2))}, r"shape \(3,\) at index 3"),
        *(
            (
                {"m": model_field(name, **given)},
                rf"model\.{name}{place} would be {value}; expected a .* above 0",
            )
            for name, given, place, value in (
                ("body_mass", {"index": 4, "between": (-1.0, 1.0)}, r"\[4\]", "-1"),
                ("body_mass", {"scale": (0.0, 1.0)}, r"\[1\]", "0"),
                ("body_inertia", {"scale": (-0.5, 1.0)}, r"\[1, 0\]", "-.*"),
                ("opt.timestep", {"between": (-0.005, 0.02)}, "", "-0.005"),
            )
        ),
        *(
            ({"m": model_field(name, one_of=(0, 1))}, rf"model\.{name} says how the model is built")
            for name in ("jnt_type", "body_parentid", "jnt_qposadr", "actuator_trntype")
        ),
        (
            {"m": model_field("geom_condim", between=(1.0, 1.5))},
            "holds int32; expected whole numbers",
        ),
        ({"m": attribute("metadata", between=(1, 2))}, "metadata is a dict; expected a number"),
        (
            {"m": attribute("frame_skip", between=([1, 1], [2, 2]))},
            r"is the number 4; a value of shape \(2,\) doesn't fit",
        ),
    ],
)
def test_variables_that_do_not_fit_the_environment_are_refused(tasks: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        own_environment("Hopper-v5", 1, tasks=tasks, horizon=5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"tasks": {"a": (0, 1)}},
            r"variable 'a' is \(0, 1\); expected attribute\(\.\.\.\), model_fie",
        ),
        ({"tasks": [SLOPE]}, r"tasks is \[.*\]; expected a dict with a variable for each"),
        ({"tasks": {1: SLOPE}}, "the task variable 1 isn't a name; expected letters"),
        ({"num_worlds": 2.0}, "num_worlds is 2.0; expected a whole number"),
        ({"num_worlds": "2"}, "num_worlds is '2'; expected a whole number"),
        ({"num_worlds": True}, "num_worlds is True; expected a whole number"),
        ({"horizon": 2.5}, "horizon is 2.5; expected a whole number"),
        ({"num_train_tasks": 2.5}, "num_train_tasks is 2.5; expected a whole number, or None"),
        ({"num_train_tasks": True}, "num_train_tasks is True; expected a whole number, or None"),
        ({"num_test_tasks": 1.5}, "num_test_tasks is 1.5; expected a whole number, or None"),
        ({"split_seed": "a"}, "split_seed is 'a'; expected a whole number, or None"),
        ({"split_seed": 1.5}, "split_seed is 1.5; expected a whole number, or None"),
        (
            {"processes": "2"},
            "processes is '2'; expected True, False, or at most one for each of 1",
        ),
        (
            {"processes": 1.5},
            "processes is 1.5; expected True, False, or at most one for each of 1",
        ),
        ({"repeatable": "no"}, "repeatable is 'no'; expected True or False"),
        ({"terms": [1]}, r"terms is \[1\]; expected a list of names"),
        ({"settings": [1]}, r"settings is \[1\]; expected a dict of keyword arguments by name"),
        (
            {"settings": {1: 2}},
            r"settings is \{1: 2\}; expected a dict of keyword arguments by name",
        ),
        ({"after_task": 3}, "after_task is 3; expected a function of the unwrapped environment"),
        ({"name": 3}, "name is 3; expected a word, or None"),
        ({"python": 3}, "python is 3; expected the path of a Python interpreter, or None"),
    ],
)
def test_argument_of_another_kind_is_named_with_what_was_expected(given: Any, message: str) -> None:
    usual: dict[str, Any] = {"num_worlds": 1, "tasks": {"slope": SLOPE}, "horizon": 5}
    with pytest.raises(SettingError, match=message):
        unchecked(own_environment)(Line, **{**usual, **given})


def test_a_command_tells_of_an_error_in_the_environment_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module, env = tmp_path / "my_failing_env.py", tmp_path / "configs/env/failing.yaml"
    module.write_text(FAILING)
    env.parent.mkdir(parents=True)
    env.write_text("name: my_failing_env:failing\n")
    monkeypatch.syspath_prepend(tmp_path)
    words = [f"--config-dir={tmp_path / 'configs'}", "env=failing", "algo=maml_ppo", "device=cpu"]
    shown = refused(monkeypatch, capsys, train, *words, f"run_dir={tmp_path / 'run'}")
    assert shown.splitlines()[-1] == (
        "error: Motor.step fails at step 1: ZeroDivisionError: division by zero "
        f"({module}, line 12, in step); HYDRA_FULL_ERROR=1 shows its traceback"
    )
    words = ["failing", "maml_ppo", "device=cpu", f"run_dir={tmp_path / 'called'}"]
    with pytest.raises(metarl.Error, match=r"Motor.step fails at step 1: .*, line 12, in step\)$"):
        metarl.train(*words, config_dir=tmp_path / "configs")


def test_runs_before_and_after_a_change_of_the_reward_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The definition, and so the spec hash, are the same; comments may change."""
    module, env = tmp_path / "my_changing_env.py", tmp_path / "configs/env/changing.yaml"
    env.parent.mkdir(parents=True)
    env.write_text("name: my_changing_env:failing\n")
    monkeypatch.syspath_prepend(tmp_path)

    def edited(reward: str, comment: str = "") -> None:
        commented = FAILING.replace("gain = 1.0", f"gain = 1.0{comment}")
        module.write_text(commented.replace("1 / 0", reward))
        linecache.clearcache()
        sys.modules.pop("my_changing_env", None)

    own = f"--config-dir={tmp_path / 'configs'}"
    words = ["env=changing", "algo=memoryless_ppo", "algo.meta_batch_size=2", "iterations=1"]
    words += ["algo.num_minibatches=1", "device=cpu", "evaluation.video=false"]
    words += ["evaluation.num_tasks=2", "evaluation.episodes_per_task=2"]
    for seed, comment in enumerate(("", "  # N m")):
        edited("-self.gain", comment)
        run = [f"seed={seed}", f"run_dir={tmp_path / f'runs/{seed}'}"]
        assert call(monkeypatch, train, own, *words, *run) == 0
    comparing = [f"runs=[{tmp_path / 'runs'}]", f"output={tmp_path}"]
    assert call(monkeypatch, compare, *comparing) == 0
    shown = capsys.readouterr()
    assert "has changed" not in shown.err and "wasn't the same" not in shown.out
    edited("-10 * self.gain")
    told = "the code or the model of Motor has changed since this training (then "
    where = [f"checkpoint={tmp_path / 'runs/0'}", "num_tasks=2"]
    assert call(monkeypatch, evaluate, own, *where) == 0
    assert told in capsys.readouterr().err
    assert call(monkeypatch, train, own, f"resume={tmp_path / 'runs/0'}", "iterations=2") == 0
    assert told in capsys.readouterr().err
    assert call(monkeypatch, compare, *comparing) == 0
    assert "The code or the model of Motor wasn't the same in all" in capsys.readouterr().out
    with pytest.warns(UserWarning, match=re.escape(told)):
        metarl.load(tmp_path / "runs/1", config_dir=tmp_path / "configs")


def test_a_model_is_told_from_a_changed_one_as_it_is_before_any_task(tmp_path: Path) -> None:
    ours = Path(gymnasium.envs.mujoco.__file__).parent / "assets/hopper.xml"
    files = ours, tmp_path / "longer.xml"
    files[1].write_text(ours.read_text("utf-8").replace('size="0.05 ', 'size="0.06 ', 1))
    assert files[1].read_text("utf-8") != ours.read_text("utf-8")
    mass = {"mass": model_field("body_mass", scale=(0.5, 2.0))}
    own, again, changed = (
        own_environment(
            "Hopper-v5", num, tasks=mass, horizon=5, settings={"xml_file": str(files[file])}
        ).spec.made_by
        for num, file in ((1, 0), (3, 0), (1, 1))
    )
    assert own == again != changed


FAILING = """
import gymnasium
import numpy as np
from envs.own import attribute, own_environment
class Motor(gymnasium.Env):
    observation_space = action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,))
    gain = 1.0
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1), {}
    def step(self, action):
        return np.zeros(1), 1 / 0, False, False, {}
def failing(num_worlds, **machine):
    gain = attribute("gain", between=(0.5, 2.0))
    return own_environment(Motor, num_worlds, tasks={"gain": gain}, horizon=5, **machine)
"""


def test_one_element_of_a_table_is_set_by_a_tuple_and_a_factor_is_told_as_one() -> None:
    tasks = {
        "length": model_field("body_pos", index=(2, 2), between=(-0.4, -0.1)),
        "mass": model_field("body_mass", scale=(0.5, 2.0)),
    }
    env = own_environment("Hopper-v5", 1, tasks=tasks, horizon=5)
    drawn = env.prior.test_tasks(1)
    env.set_tasks(drawn)
    env.reset(Noise(torch.Generator()).starts(env))
    ours, theirs = (
        of.unwrapped.model.body_pos for of in (env._worlds.envs[0], gymnasium.make("Hopper-v5"))
    )
    changed = np.argwhere(ours != theirs)
    assert changed.tolist() == [[2, 2]] and ours[2, 2] == drawn.length.item()
    (words,) = env.prior.describe(drawn)
    assert words == f"length {drawn.length.item():.3g}, mass ×{drawn.mass.item():.3g}"
    assert definition(tasks["length"])["index"] == [2, 2]


def unchecked(function: Any) -> Any:
    """The function as users call it, without the tests' type checker."""
    return getattr(function, "__wrapped__", function)


@pytest.mark.parametrize("index", ["a", 1.0, True, (), (1, 0.5)])
def test_index_is_a_whole_number(index: Any) -> None:
    with pytest.raises(SettingError, match=r"index of attribute\('a'\) is .*; expected a whole n"):
        attribute("a", index=index, between=(0, 1))
    assert attribute("a", index=np.int64(2), between=(0, 1)).index == 2
    assert attribute("a", index=(np.int64(2), 0), between=(0, 1)).index == (2, 0)
    with pytest.raises(SettingError, match="a path of attribute is 3; expected a word"):
        unchecked(attribute)(3, between=(0, 1))


def test_processes_may_be_a_number_of_numpy() -> None:
    env = sloped_line(2, processes=np.int64(1))
    assert env.num_worlds == 2
    env.close()


def test_environments_that_do_not_fit_are_refused() -> None:
    def fitting(**changed: Any) -> Any:
        return own_environment(
            type("Other", (Line,), changed), 1, tasks=line.keywords["tasks"], horizon=5
        )

    fitting()
    with pytest.raises(
        ValueError, match=r"the observation space is .*; expected a Box with one axis"
    ):
        fitting(observation_space=gymnasium.spaces.Box(0, 1, (3, 3)))
    with pytest.raises(
        ValueError, match=r"the action space is .*; expected a Box with one axis or Discrete from 0"
    ):
        fitting(action_space=gymnasium.spaces.Discrete(3, start=1))
    with pytest.raises(ValueError, match=r"horizon is None and .*Line.* has no limit of its own"):
        line(1, horizon=None)
    with pytest.raises(ValueError, match=r"drifting was set to 0.* and is 1.* after reset\(\)"):
        own_environment(Line, 1, tasks={"d": attribute("drifting", between=(0, 1))}, horizon=5)
    with pytest.raises(
        ValueError, match=r"there is no environment 'no_such:env' .*; expected module:function"
    ):
        envs.make("no_such:env", 1)
    with pytest.raises(ValueError, match=r"no setting 'horizn'; did you mean horizon\?"):
        envs.make(HOPPER, 1, horizn=3)
    with pytest.raises(ValueError, match="no setting 'python'"):
        envs.make(HOPPER, 1, python=sys.executable)


def test_discrete_actions_and_no_standing_still() -> None:
    class Switch(Line):
        action_space = gymnasium.spaces.Discrete(2)  # type: ignore[assignment]

        def step(self, action: Any) -> Any:
            return super().step(np.array([float(action)]))

    env: Any = own_environment(Switch, 2, tasks=sloped_line.keywords["tasks"], horizon=5)
    started(env, slope=3.0)
    assert env.step(torch.tensor([0, 1])).next_obs.flatten().tolist() == [0.0, 3.0]
    assert env.references.stand_still is None


def test_documented_examples_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # The last: test_variants.py.
    definition, use, with_lists, with_hook, with_class, with_optimum, balanced, _ = code_blocks(
        PAGE
    )
    (tmp_path / "my_envs.py").write_text(definition)
    monkeypatch.syspath_prepend(tmp_path)
    exec(use, {})
    monkeypatch.delitem(sys.modules, "my_envs")
    assert "load ×1.43, gravity" in capsys.readouterr().out
    names: dict[str, Any] = {"__name__": "with_lists"}
    exec(with_lists, names)
    env = names["heavy_or_light"](1)
    started(env)
    assert (inside(env).masspole, inside(env).force_mag) == (0.2, 8.0)
    names = {"__name__": "with_hook"}
    exec(with_hook, names)
    env = names["cart_pole"](1)
    started(env, length=0.8, masspole=2.0)
    assert inside(env).polemass_length == 0.2 * 0.8  # kg m; the pole's own mass is 0.1 kg
    names = {"__name__": "with_class"}
    exec(with_class, names)
    env = names["cheetah_at_speed"](1)
    started(env, target_velocity=2.0)
    step = env.step(torch.full((1, 6), 0.5))
    # 0.1 a^2 for each of six motors, Gymnasium's control cost; float32
    expected = -0.1 * 6 * 0.25 - abs(step.terms["x_velocity"] - 2.0)
    torch.testing.assert_close(step.reward, expected)
    exec(with_optimum, names)
    env = names["known_cheetah"](1)
    assert env.references.known_returns(env.prior.test_tasks(2), 1)["oracle"].tolist() == [0, 0]
    exec(balanced, names)
    env = names["balanced_cart_pole"](1)
    started(env, length=0.9)
    ended = [bool(env.step(env.references.scripted()).terminated) for _ in range(200)]
    assert not any(ended[:-1])


def test_documented_environment_trains_from_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "my_envs.py").write_text(code_blocks(PAGE)[0])
    (tmp_path / "my_configs/env").mkdir(parents=True)
    (tmp_path / "my_configs/env/hopper_load.yaml").write_text(code_blocks(PAGE, "yaml")[0])
    environment = {
        **os.environ,
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}",
        "OMP_NUM_THREADS": "1",
    }
    command = (
        "--config-dir my_configs env=hopper_load env.horizon=10 iterations=1 run_dir=run device=cpu"
    )
    small = "algo.meta_batch_size=2 algo.episodes_per_task=2 evaluation.num_tasks=2 evaluation.num_updates=1 evaluation.video=false"
    words = [sys.executable, str(ROOT / "scripts/train.py"), *command.split(), *small.split()]
    done = subprocess.run(
        words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "evaluation.json").read_text())["env"] == "hopper_load"
