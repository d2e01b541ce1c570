"""Facts about rows: what docstrings say of them, what a user's own row is, and the machine on which
one runs."""

import importlib
import math
import re
import sys
from dataclasses import FrozenInstanceError, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from support.pages import code_blocks

import envs
from envs.mujoco import half_cheetah, hopper
from envs.mujoco.env import MujocoEnv
from envs.mujoco.targets import places_in_square, places_on_disc
from envs.mujoco.variant import Setting, Variant
from envs.own import attribute, own_environment
from envs.tasks import check_count
from envs.variants import Row, variant_label
from metarl.errors import SettingError
from metarl.noise import Noise

NUMBER = r"[−-]?(?:\d*\.?\d+)?π|[−-]?\d*\.?\d+"
IN_WORDS = {"the two": 2, "the four": 4, "the 21": 21}


def number(text: str) -> float:
    text = text.replace("−", "-")
    return float(text.replace("π", "") or 1) * math.pi if text.endswith("π") else float(text)


def rows_of_table(module: ModuleType) -> dict[str, dict[str, str]]:
    """The docstring's table of environments: name -> the cells of its row by column."""
    lines = iter((module.__doc__ or "").splitlines())
    found: dict[str, dict[str, str]] = {}
    for line in lines:
        if line.startswith("| environment |"):
            head = cells(line)
            next(lines)  # |---|
            for row in lines:
                if not row.startswith("|"):
                    break
                assert cells(row)[0] not in found
                found[cells(row)[0]] = dict(zip(head, cells(row), strict=True))
    return found


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def says_split(text: str, split: dict[str, Any]) -> bool:
    """100, test 30; ∞, test 40; the published 100, test 30; 5 (j = 1–5), test 1 (j = 0); or the
    two."""
    if text in IN_WORDS:
        return split["kind"] == "none" and split["num_train"] == IN_WORDS[text]
    said = re.fullmatch(r"(the published )?(∞|\d+)(?: \(.*\))?, test (\d+)(?: \(.*\))?", text)
    assert said is not None, text
    train = None if said[2] == "∞" else int(said[2])
    is_listed = said[1] is not None or "(" in text
    return (train, int(said[3]), is_listed) == (
        split["num_train"],
        split["num_test"],
        split["kind"] == "listed",
    )


def says_bounds(text: str, bounds: dict[str, Any]) -> bool:
    """U[0, 3], {1, −1}, ±2 and a disc of 3 m say numbers; where there are none the fields are
    named."""
    said = [
        tuple(sorted(map(number, re.findall(NUMBER, part))))
        for part in re.findall(r"[\[{]([^\])}]*)", text)
    ]
    said += [(-number(n), number(n)) for n in re.findall(rf"±({NUMBER})", text)[:1]]
    said += [(-number(n), number(n)) for n in re.findall(rf"disc of ({NUMBER}) m", text)]
    if not said:
        return all(re.search(rf"\b{field}\b", text) for field in bounds)
    ((low, high),) = bounds.values()
    expected = list(zip(low, high, strict=True)) if isinstance(low, tuple) else [(low, high)]
    return [(least, most) for least, *_, most in said] == [pytest.approx(pair) for pair in expected]


def disagreements(said: dict[str, str], env: Any) -> list[str]:
    """The columns of a docstring's row that say something else than the environment does."""
    given, wrong = env.spec.definition, []
    has_physics, has_scale = isinstance(env, MujocoEnv), "action_scale" in given
    prior = next(cell for column, cell in said.items() if column.startswith("task prior"))
    if not says_bounds(prior, env.prior.bounds):
        wrong.append(f"task prior {env.prior.bounds}")
    if number(said["T"]) != env.spec.horizon:
        wrong.append(f"T {env.spec.horizon}")
    step = (
        f"{given['frame_skip']} · {given['physics_step']:g} s".replace(" 0.", " .")
        if has_physics
        else None
    )
    if said.get("control step") != step:
        wrong.append(f"control step {step}")
    if (number(said["action_scale"]) if "action_scale" in said else None) != given.get(
        "action_scale"
    ):
        wrong.append(
            f"action_scale {given.get('action_scale')}"
            if has_scale
            else "action_scale, which there isn't"
        )
    if not says_split(said["training tasks"], given["split"]):
        wrong.append(f"training tasks {given['split']}")
    return wrong


@pytest.mark.parametrize("family", envs.FAMILIES, ids=lambda module: module.__name__)
def test_docstring_has_a_row_for_each_variant_that_says_its_numbers(family: ModuleType) -> None:
    said = rows_of_table(family)
    assert list(said) == list(family.VARIANTS)
    wrong = {name: disagreements(said[name], envs.make(name, 1)) for name in said}
    assert {name: columns for name, columns in wrong.items() if columns} == {}


def test_a_docstring_that_says_something_else_is_found() -> None:
    """Each column by itself: the check above would be worth nothing if it took everything."""
    said, env = rows_of_table(half_cheetah)["half_cheetah_vel"], envs.make("half_cheetah_vel", 1)
    for column, other in (
        ("task prior", "g ~ U[0, 2] m/s"),
        ("T", "100"),
        ("control step", "1 · .01 s"),
        ("action_scale", "10"),
        ("training tasks", "100, test 40"),
        ("training tasks", "∞, test 30"),
        ("training tasks", "the two"),
    ):
        (found,) = disagreements({**said, column: other}, env)
        assert found.startswith(column)
    assert not says_bounds("factors of mass, damping", {"mass": (0.3, 3.4), "inertia": (0.3, 3.4)})
    assert not says_bounds("g ~ U[.35, .6] × [−.25, .25] m", {"goal": ((0.35, -0.2), (0.6, 0.25))})


def test_factors_about_each_axis_are_said_where_they_are() -> None:
    for name, said in rows_of_table(hopper).items():
        assert ("axis" in said["task prior"]) == (
            envs.make(name, 1).prior.test_tasks(1).inertia.ndim == 3
        )


def test_no_name_is_given_twice() -> None:
    assert sum(len(family.VARIANTS) for family in envs.FAMILIES) == len(envs.ALL)


@pytest.mark.parametrize("name", envs.ALL)
def test_a_row_is_a_value_that_an_override_leaves_alone(name: str) -> None:
    row = envs.ALL[name]
    before = dict(row.settings)
    envs.make(name, 1, horizon=before["horizon"] + 1)
    assert row.settings == before
    with pytest.raises(FrozenInstanceError):
        row.family = "other"  # type: ignore[attr-defined]


MY_ENVS = """
from envs.small import bandit, point_navigation

far_point = replace(point_navigation.VARIANTS["point_navigation_2d"], horizon=7)
ten_arms = replace(bandit.VARIANTS["bandit"], settings={**bandit.VARIANTS["bandit"].settings, "num_arms": 10})
table = bandit.VARIANTS
"""


@pytest.fixture
def my_envs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    pages = code_blocks("docs/own_environment.md")
    (documented,) = (code for code in pages if "fast_cheetah = " in code)
    (tmp_path / "my_rows.py").write_text(documented + MY_ENVS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_rows", raising=False)
    return "my_rows"


def test_a_users_variant_is_one_row(my_envs: str) -> None:
    env = envs.make(f"{my_envs}:fast_cheetah", 3, action_scale=2.0)
    assert (env.spec.name, env.spec.family, env.spec.horizon) == (
        "fast_cheetah",
        "half_cheetah_vel",
        400,
    )
    assert env.prior.bounds == {"target_velocity": (0.0, 9.0)}
    assert env.spec.spec_hash != envs.make("half_cheetah_vel", 1).spec.spec_hash
    env.set_tasks(env.prior.test_tasks(3))
    env.reset(Noise(torch.Generator().manual_seed(0)).starts(env))
    assert env.step(torch.zeros(3, 6)).reward.shape == (3,)
    with pytest.raises(ValueError, match=r"no setting 'horizn'; did you mean horizon\?"):
        envs.make(f"{my_envs}:fast_cheetah", 3, horizn=1)


def test_another_way_to_draw_from_the_same_ranges_is_another_problem(
    my_envs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = importlib.import_module(my_envs)
    for name, tasks in (("disc", places_on_disc), ("square", places_in_square)):
        row = replace(envs.ALL["ant_goal"], tasks=partial(tasks, 3.0))
        monkeypatch.setattr(rows, name, row, raising=False)
    disc, again, square = (
        envs.make(f"{my_envs}:{name}", 1).spec.spec_hash for name in ("disc", "disc", "square")
    )
    assert disc == again != square


def test_rows_of_worlds_without_physics_can_be_changed_too(my_envs: str) -> None:
    assert envs.make(f"{my_envs}:far_point", 2).spec.horizon == 7
    env = envs.make(f"{my_envs}:ten_arms", 2, horizon=30)
    assert (env.spec.name, env.spec.horizon, int(env.action_space.n)) == ("ten_arms", 30, 10)


def test_what_is_neither_row_nor_function_is_refused(my_envs: str) -> None:
    with pytest.raises(ValueError, match=r"my_rows:table is {.*; expected a row, or a function"):
        envs.make(f"{my_envs}:table", 1)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("CartPoleEnv", "CartPoleEnv is a class of Gymnasium environments; expected a function"),
        ("cart_pole", "cart_pole makes a Gymnasium environment; expected a function"),
        ("nothing", r"nothing can't be called with num_worlds, num_threads, device \(too many"),
    ],
)
def test_a_function_that_makes_no_worlds_is_refused(
    name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_slips.py").write_text(
        "import gymnasium\n"
        "from gymnasium.envs.classic_control import CartPoleEnv\n"
        "def cart_pole(num_worlds, **machine): return gymnasium.make('CartPole-v1')\n"
        "def nothing(): return None\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SettingError, match=f"my_slips:{said}" if name != "nothing" else said):
        envs.make(f"my_slips:{name}", 2)


def test_a_row_in_the_table_is_an_environment_as_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    row = half_cheetah.VARIANTS["half_cheetah_vel"]
    monkeypatch.setitem(envs.ALL, "half_cheetah_vel_short", replace(row, horizon=3))
    spec = envs.make("half_cheetah_vel_short", 1).spec
    assert (spec.name, spec.family, spec.variant, spec.horizon) == (
        "half_cheetah_vel_short",
        "half_cheetah_vel",
        "short",
        3,
    )


def test_no_physics_hangs_on_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row under a name that ends as a published variant's does is still that row."""
    for name in ("half_cheetah_vel", "hopper_rand_params", "walker2d_vel", "ant_goal", "arm_reach"):
        for end in ("_maml", "_promp", "_pearl", "_sparse"):
            monkeypatch.setitem(envs.ALL, f"a{end}", envs.ALL[name])
            assert envs.make(f"a{end}", 1).spec.definition == envs.make(name, 1).spec.definition


def test_setting_of_one_row_alone_changes_what_it_says() -> None:
    def heavier(row: Variant, times: float) -> Variant:
        return replace(row, definition={"times": times}, horizon=int(row.horizon * times))

    row = replace(
        half_cheetah.VARIANTS["half_cheetah_dir"], own_settings={"times": Setting(2.0, heavier)}
    )
    assert row.settings == {"horizon": 200, "action_scale": 1.0, "times": 2.0}
    assert row.make("x", 1, envs.Machine()).spec.horizon == 400
    assert row.make("x", 1, envs.Machine(), times=3.0, horizon=5).spec.horizon == 15


def test_rows_that_cannot_be_are_refused() -> None:
    velocity, direction = (half_cheetah.VARIANTS[f"half_cheetah_{kind}"] for kind in ("vel", "dir"))
    with pytest.raises(ValueError, match="frame_skip is 0; expected at least one"):
        replace(velocity, frame_skip=0)
    with pytest.raises(
        ValueError, match="num_train_tasks is 5 but num_test_tasks is None; expected two numbers"
    ):
        replace(direction, num_train_tasks=5)
    for name in ("half_cheetah_vel", "point_navigation_2d"):
        with pytest.raises(
            ValueError, match="num_test_tasks is None; expected a whole number, 1 or more"
        ):
            envs.make(name, 1, num_test_tasks=None)


def test_gymnasium_takes_a_machine_too() -> None:
    machine = envs.Machine(num_threads=2)
    batch = gymnasium.make_vec("metarl/SwimmerVel-v0", num_envs=3, machine=machine)
    assert batch.unwrapped._worlds.env.sim.num_threads == 2  # type: ignore[attr-defined]
    single = gymnasium.make("metarl/SwimmerVel-v0", machine=machine)
    assert single.unwrapped._worlds.env.sim.num_threads == 1  # type: ignore[attr-defined]  # no more than worlds


@pytest.mark.parametrize(
    ("name", "family", "label"),
    [
        ("half_cheetah_vel_maml", "half_cheetah_vel", "maml"),
        ("half_cheetah_vel", "half_cheetah_vel", "default"),
        ("gridworld_5x5", "gridworld", "5x5"),
        ("my_cheetah", "half_cheetah_vel", "my_cheetah"),
    ],
)
def test_variant_is_what_the_name_says_beside_the_family(
    name: str, family: str, label: str
) -> None:
    assert variant_label(name, family) == label


def test_machine_is_one_argument_or_its_parts() -> None:
    for env in (
        envs.make("swimmer_vel", 4, machine=envs.Machine(num_threads=2, device="cpu")),
        envs.make("swimmer_vel", 4, num_threads=2, device="cpu"),
    ):
        assert env.sim.num_threads == 2
        assert env.device == torch.device("cpu")
    with pytest.raises(
        ValueError, match=r"machine is Machine\(.* beside num_threads or device; expected either"
    ):
        envs.make("swimmer_vel", 4, machine=envs.Machine(), device="cpu")


@pytest.mark.parametrize(
    "name", ["bandit", "tabular_mdp", "gridworld_5x5", "point_navigation_2d", "swimmer_vel"]
)
def test_tensors_come_out_where_the_machine_says(name: str) -> None:
    env = envs.make(name, 2, machine=envs.Machine(device="meta"))
    assert env.device == torch.device("meta")


def test_a_machine_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="backend is 'gpu'; expected cpu or warp"):
        envs.Machine(backend="gpu")
    with pytest.raises(ValueError, match="action_scale is True; expected a positive number"):
        envs.make("half_cheetah_vel", 2, action_scale=True)
    with pytest.raises(ValueError, match="num_threads is 0; expected at least 1"):
        envs.make("bandit", 2, num_threads=0)
    with pytest.raises(
        ValueError, match="device is 'gpu'; expected cpu or cuda, or one of several"
    ):
        envs.make("bandit", 2, device="gpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_gpu_that_is_not_there_is_said() -> None:
    for make in (
        partial(envs.make, "bandit", 2),
        partial(own_environment, "CartPole-v1", 1, tasks={"l": attribute("length", scale=(1, 2))}),
    ):
        with pytest.raises(SettingError, match="device is 'cuda:1': torch finds no CUDA device"):
            make(device="cuda:1")


def test_no_two_robots_are_one_problem_under_two_names() -> None:
    """Rows are copies of one another with changes; each change shows in the definition."""
    robots = [name for name, row in envs.ALL.items() if isinstance(row, Variant)]
    definitions = [str(sorted(envs.make(name, 1).spec.definition.items())) for name in robots]
    assert len(set(definitions)) == len(robots)


def test_all_holds_rows() -> None:
    assert all(isinstance(row, Row) for row in envs.ALL.values())


@pytest.mark.parametrize("value", [None, 10.5, "10", True, 0, -1, np.float64(3)])
def test_numbers_of_tasks_are_whole_ones(value: object) -> None:
    with pytest.raises(SettingError, match=r"num_train_tasks is .*; expected a whole number, 1 or"):
        check_count("num_train_tasks", value)
    check_count("num_train_tasks", np.int64(3))
