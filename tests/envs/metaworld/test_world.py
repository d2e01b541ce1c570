"""Meta-World's benchmarks, on a stand-in of its package; where the package is there
(METARL_METAWORLD_PYTHON), also on it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.commands import call
from support.meta_world import STAND_INS, use_stand_in

import envs
from envs.metaworld import ML10, ML10_TEST, ML45, ML45_TEST, PYTHON, TASKS
from metarl.cli.commands import evaluate, train
from metarl.errors import SettingError, UserError
from metarl.noise import Noise

THEIRS = os.environ.get(PYTHON)


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Any:
    use_stand_in(monkeypatch)
    made: list[Any] = []

    def of(num_worlds: int, **settings: Any) -> Any:
        made.append(envs.make("envs.metaworld:meta_world", num_worlds, **settings))
        return made[-1]

    yield of
    for env in made:
        env.close()


def begun(env: Any, tasks: Any) -> torch.Tensor:
    env.set_tasks(tasks)
    return env.reset(Noise(torch.Generator().manual_seed(0)).starts(env))


def goals(env: Any, tasks: Any) -> list[float]:
    """What the stand-in pays for standing still."""
    begun(env, tasks)
    return env.step(torch.zeros(env.num_worlds, 4)).reward.tolist()


def test_benchmarks_are_the_published_ones() -> None:
    assert len(ML10) == 10 and len(ML45) == 45 and len(set(TASKS)) == 50
    assert len(ML10_TEST) == len(ML45_TEST) == 5
    assert not set(ML10) & set(ML10_TEST) and {*ML10, *ML10_TEST} <= set(TASKS)


def test_ml1_trains_on_fifty_variations_and_tests_on_fifty_others(make: Any) -> None:
    env = make(3, benchmark="ML1", task_name="push-v3", num_threads=2)
    letters = sum(map(ord, "push-v3"))
    assert env.spec.name == "metaworld_ml1_push_v3" and env.spec.horizon == 500
    assert (env.prior.num_train, env.prior.num_test) == (50, 50)
    assert goals(env, env.prior.test_tasks(3)) == pytest.approx(
        [letters + 0.001 * k for k in (50, 51, 52)]
    )
    trained = env.prior.train_tasks()
    assert sorted(trained.variation.tolist()) == list(range(50))
    sampled = env.prior.sample(3, torch.Generator().manual_seed(0))
    assert goals(env, sampled) == pytest.approx(
        [letters + 0.001 * v for v in sampled.variation.tolist()]
    )
    assert env.prior.describe(sampled)[0] == f"variation {sampled.variation[0].int()}"
    assert not env.prior.is_held_out(sampled).any()


def test_ml10_has_other_tasks_for_test_and_takes_as_many_of_each(make: Any) -> None:
    env = make(10, benchmark="ML10", num_threads=3)
    assert env.prior.num_train == 500 and env.prior.num_held_out == 250
    tested = env.prior.test_tasks()
    told = env.prior.describe(tested)
    assert len(told) == 50 and told[:2] == [
        "task drawer-open-v3, variation 50",
        "task door-close-v3, variation 50",
    ]
    assert [sum(name in line for line in told) for name in ML10_TEST] == [10] * 5
    ten = env.prior.test_tasks(10)
    expected = [sum(map(ord, ML10_TEST[k % 5])) + 0.001 * (50 + k // 5) for k in range(10)]
    assert goals(env, ten) == pytest.approx(expected)
    # The same worlds go on to tasks of training, and see what is theirs.
    seen = begun(env, env.prior.sample(10, torch.Generator().manual_seed(1)))
    names = [line.split()[1].rstrip(",") for line in env.prior.describe(env._episodes.tasks)]
    assert set(names) <= set(ML10) and seen[:, 1].tolist() == [len(name) for name in names]


def test_the_seed_draws_the_variations_and_is_part_of_the_problem(make: Any) -> None:
    one = make(1, task_name="reach-v3", horizon=10)
    other = make(1, task_name="reach-v3", horizon=10, tasks_seed=1)
    assert one.spec.spec_hash != other.spec.spec_hash
    assert goals(other, other.prior.test_tasks(1))[0] == pytest.approx(
        goals(one, one.prior.test_tasks(1))[0] + 1000
    )
    # Where the file lies is no part of it.
    assert str(Path(envs.__file__).parent) not in str(one.spec)


def test_a_robot_that_no_world_uses_is_taken_by_the_next(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes 20 MB."""
    monkeypatch.syspath_prepend(str(STAND_INS))
    import metaworld

    from envs.metaworld import world

    monkeypatch.setattr(world, "_SHELF", world.Shelf(most=2))
    made: list[str] = []
    makers = {
        name: lambda name=name, of=of, **settings: (made.append(name), of(**settings))[1]
        for name, of in metaworld.ALL_V3_ENVIRONMENTS.items()
    }
    monkeypatch.setattr(metaworld, "ALL_V3_ENVIRONMENTS", makers)
    one, other = (world.MetaWorld(tasks=["push-v3"], seed=0) for _ in range(2))
    assert made == []
    begin = lambda of, task: of.reset(options={"task": task, "variation": 3.0})
    for of, task in ((one, "reach-v3"), (other, "push-v3"), (one, "push-v3"), (other, "reach-v3")):
        begin(of, task)
    assert made == ["reach-v3", "push-v3", "push-v3"]
    goal = sum(map(ord, "push-v3")) + 0.003
    assert one.step(np.zeros(4))[1] == pytest.approx(goal)
    for task in ("sweep-v3", "basketball-v3", "door-open-v3"):
        begin(one, task)
    # The three that lay longest, two of them there before, are closed.
    begin(one, "push-v3")
    assert made[3:] == ["sweep-v3", "basketball-v3", "door-open-v3", "push-v3"]


def test_the_last_world_closes_all_that_lies_there(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(STAND_INS))
    import metaworld

    from envs.metaworld import world

    closed: list[object] = []
    monkeypatch.setattr(metaworld.Robot, "close", lambda robot: closed.append(robot))
    monkeypatch.setattr(world, "_SHELF", world.Shelf(most=5))
    one, other = (world.MetaWorld(tasks=["push-v3"], seed=0) for _ in range(2))
    for of, task in ((one, "push-v3"), (one, "reach-v3"), (other, "sweep-v3")):
        of.reset(options={"task": task, "variation": 3.0})
    for _ in range(2):
        one.close()
    assert closed == []
    other.close()
    assert len({*map(id, closed)}) == 3


def test_results_tell_versions_of_the_package_apart(
    make: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    now = make(1, task_name="reach-v3", horizon=4).spec
    info = tmp_path / "metaworld-9.9.9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: metaworld\nVersion: 9.9.9\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{STAND_INS}")
    later = make(1, task_name="reach-v3", horizon=4).spec
    assert later.spec_hash == now.spec_hash and later.made_by != now.made_by


def test_its_own_controllers_see_the_goal_and_stand_beside_the_learner(make: Any) -> None:
    env = make(2, task_name="push-v3", horizon=4, num_threads=2)
    paid = goals(env, env.prior.test_tasks(2))
    begun(env, env.prior.test_tasks(2))
    scripted = env.references.scripted
    for _ in range(2):
        expected = torch.tensor([[goal / 10_000, 1.0, 0.0, 0.0] for goal in paid])
        torch.testing.assert_close(scripted(), expected)
        env.step(scripted())


def test_films_have_the_speed_of_its_steps(make: Any) -> None:
    assert make(1, task_name="reach-v3", horizon=4).render_fps == 80


def test_the_goal_is_seen_where_it_is_asked_for(make: Any) -> None:
    hidden, shown = (make(2, task_name="reach-v3", horizon=4, shows_task=s) for s in (False, True))
    assert shown.observation_space == hidden.observation_space
    tasks = hidden.prior.test_tasks(2)
    assert begun(hidden, tasks)[:, -1].tolist() == [0, 0]
    assert begun(shown, tasks)[:, -1].tolist() == pytest.approx(goals(hidden, tasks))
    assert shown.spec.spec_hash != hidden.spec.spec_hash


def test_success_is_told_and_episodes_end_at_the_horizon(make: Any) -> None:
    env = make(2, task_name="reach-v3", horizon=4)
    begun(env, env.prior.test_tasks(2))
    action = torch.tensor([[1.0, 0, 0, 0], [0.1, 0, 0, 0]])
    steps = [env.step(action) for _ in range(4)]
    assert [step.terms["success"].tolist() for step in steps] == [[0, 0], [1, 0], [1, 0], [1, 0]]
    assert [step.truncated.all().item() for step in steps] == [False, False, False, True]
    assert not any(step.terminated.any() for step in steps)


def test_pictures_come_from_the_other_python_upright(make: Any) -> None:
    env = make(3, task_name="reach-v3", horizon=4, num_threads=2)
    begun(env, env.prior.test_tasks(3))
    picture = env.render(2, width=480, height=360)
    assert picture.shape == (360, 480, 3) and picture[-1, -1].tolist() == [255, 0, 0]
    assert env.render(0, width=40, height=30).shape == (30, 40, 3)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"task_name": "push"},
            r"task_name is 'push'; ML1 has one: expected one of .*did you mean push-v3",
        ),
        ({}, "task_name is None; ML1 has one"),
        (
            {"benchmark": "ML10", "task_name": "push-v3"},
            "expected None, for ML10 has all of its own",
        ),
        ({"benchmark": "ML3"}, "benchmark is 'ML3'; expected ML1, ML10 or ML45"),
        (
            {"task_name": "push-v3", "tasks_seed": 2**32 - 1},
            "tasks_seed is 4294967295; expected 0 to 4294967294",
        ),
        ({"task_name": "push-v3", "horizon": 501}, "horizon is 501; expected 1 to 500"),
        (
            {"task_name": "push-v3", "num_test_tasks": 51},
            "num_test_tasks is 51; expected 1, ..., 50",
        ),
    ],
)
def test_wrong_settings_are_named(make: Any, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingError, match=said):
        make(2, **settings)


def test_without_the_other_python_it_says_how_to_make_one(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PYTHON)
    with pytest.raises(UserError, match=r"(?s)METARL_METAWORLD_PYTHON isn't set.*pip install"):
        make(1, task_name="push-v3")
    monkeypatch.setenv(PYTHON, "/no/such")
    with pytest.raises(UserError, match=r"(?s)METARL_METAWORLD_PYTHON is '/no/such'.*pip inst"):
        make(1, task_name="push-v3")
    monkeypatch.setenv(PYTHON, sys.executable)
    monkeypatch.setenv("PYTHONPATH", "")
    with pytest.raises(UserError, match=r"(?s)lacks .*No module named 'metaworld'.*pip install"):
        make(1, task_name="push-v3")


def test_an_evaluation_says_it_of_each_task_apart(
    make: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = (
        *("env=metaworld_ml10", "env.horizon=5", "env.num_test_tasks=10", "algo=rl2_ppo"),
        *("algo.meta_batch_size=2", "algo.num_minibatches=1", "model.memory.hidden_size=8"),
        *("iterations=1", "device=cpu", "loggers=[]", f"run_dir={tmp_path}"),
    )
    assert call(monkeypatch, train, *words) == 0
    report = json.loads((tmp_path / "evaluation.json").read_text())
    assert set(report["returns_by_task"]) == set(ML10_TEST)
    rows = [of[-1] for of in report["returns_by_task"].values()]
    assert np.mean([row["success_rate"] for row in rows]) == pytest.approx(
        report["returns"][-1]["success_rate"]
    )
    assert "sweep-into-v3, ep. 2" in capsys.readouterr().out
    # One number has no interval.
    assert call(monkeypatch, evaluate, f"checkpoint={tmp_path}", "num_tasks=5") == 0
    lines = capsys.readouterr().out.splitlines()
    row = next(line for line in lines if "sweep-into-v3, ep. 2" in line)
    assert "[" not in row.partition("success")[0]


@pytest.mark.skipif(THEIRS is None, reason="METARL_METAWORLD_PYTHON isn't set")
def test_numbers_are_those_of_the_package() -> None:
    direct = """
import json, metaworld, numpy as np
out = []
for name, k in (("push-v3", 3), ("door-open-v3", 0)):
    ml = metaworld.ML1(name, seed=5)
    env = metaworld.ALL_V3_ENVIRONMENTS[name]()
    env.set_task(ml.test_tasks[k])
    obs, _ = env.reset()
    rows = [[*obs, 0.0]]
    for row in np.random.default_rng(0).uniform(-1, 1, (60, 4)).astype(np.float32):
        obs, reward, *_ = env.step(row)
        rows.append([*obs, reward])
    out.append(rows)
print(json.dumps(out))
"""
    assert THEIRS is not None
    told = subprocess.run([THEIRS, "-c", direct], capture_output=True, check=True, text=True)
    for (name, k), rows in zip(
        (("push-v3", 3), ("door-open-v3", 0)), json.loads(told.stdout), strict=True
    ):
        env = envs.make("envs.metaworld:meta_world", 2, task_name=name, tasks_seed=5, horizon=60)
        tasks = env.prior.test_tasks(k + 2)
        chosen = type(tasks)(variation=tasks.variation[[k, k + 1]])
        got = [[*begun(env, chosen)[0].tolist(), 0.0]]
        for row in np.random.default_rng(0).uniform(-1, 1, (60, 4)).astype(np.float32):
            step = env.step(torch.from_numpy(np.stack([row, -row])))
            got.append([*step.next_obs[0].tolist(), step.reward[0].item()])
        env.close()
        np.testing.assert_array_equal(np.float32(got), np.float32(rows))
