"""Worlds elsewhere give the numbers that they give here, and say what goes wrong there."""

import ast
import os
import pickle
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from envs.own import attribute, model_field, own_environment, reset_option
from envs.own.world import EnvironmentFailed, packed
from envs.own.worlds import WorldsEnded
from metarl.noise import Noise
from tests.envs.test_environments import assert_equal
from tests.support.own_examples import (
    Controlled,
    Drawn,
    Gain,
    Grid,
    Held,
    Paying,
    Point,
    Robot,
    Undefined,
    faster,
)

ROOT = Path(__file__).parents[3]
TASKS = {
    "speed": attribute("speed", between=(0.5, 2.0)),
    "goal": attribute("goal", one_of=(0.0, 1.5)),
}
make_point = partial(own_environment, Point, tasks=TASKS, horizon=6)


@pytest.fixture(scope="module")
def other_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with numpy and gymnasium and nothing else of what is installed here."""
    folder = tmp_path_factory.mktemp("other_python")
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True
    )
    (folder / "packages").mkdir()
    names = (
        "numpy",
        "numpy.libs",
        "gymnasium",
        "cloudpickle",
        "farama_notifications",
        "typing_extensions.py",
    )
    for name in names:
        found = [path / name for path in map(Path, sys.path) if (path / name).exists()]
        if found:
            (folder / "packages" / name).symlink_to(found[0])
    (site,) = (folder / "venv/lib").glob("python*/site-packages")
    (site / "packages.pth").write_text(str(folder / "packages"))
    python = folder / "venv/bin/python"
    lacks = "import importlib.util as u; assert u.find_spec('torch') is None and u.find_spec('mujoco') is None; import gymnasium"
    subprocess.run([str(python), "-c", lacks], check=True, env={})
    return python


def episodes(env: Any) -> list[Any]:
    """What two episodes give, the second of them in one world."""
    env.set_tasks(env.prior.test_tasks(env.num_worlds))
    told: list[Any] = [env.reset(Noise(torch.Generator().manual_seed(3)).starts(env))]
    rng = torch.Generator().manual_seed(4)
    for worlds in (None, torch.arange(env.num_worlds) == 1):
        if worlds is not None:
            told.append(env.reset(Noise(torch.Generator().manual_seed(5)).starts(env), worlds))
        for _ in range(7):
            shape = (env.num_worlds, *(env.action_space.shape or ()))
            is_choice = hasattr(env.action_space, "n")
            told.append(
                env.step(
                    torch.randint(9, shape, generator=rng)
                    if is_choice
                    else torch.randn(shape, generator=rng)
                )
            )
    return told


@pytest.mark.parametrize("processes", [True, 2, 3])
def test_processes_do_not_change_a_number(processes: Any) -> None:
    here, there = make_point(3), make_point(3, processes=processes)
    try:
        assert_equal(episodes(here), episodes(there))
    finally:
        there.close()
    assert here.spec.spec_hash == there.spec.spec_hash


@pytest.mark.parametrize("processes", [False, 2])
def test_another_python_does_not_change_a_number(other_python: Path, processes: Any) -> None:
    arguments: dict[str, Any] = {"settings": {"gains": np.array([1.0, 2.0])}, "after_task": faster}
    here = make_point(3, **arguments)
    there = make_point(3, **arguments, python=other_python, processes=processes)
    try:
        assert_equal(episodes(here), episodes(there))
        assert here.spec.spec_hash == there.spec.spec_hash
        assert here.observation_space == there.observation_space
        assert torch.equal(here.references.stand_still(), there.references.stand_still())
    finally:
        there.close()


def test_another_python_draws_what_draws_itself(other_python: Path) -> None:
    env = own_environment(Drawn, 3, tasks=TASKS, horizon=6, python=other_python, processes=2)
    try:
        env.set_tasks(env.prior.test_tasks(3))
        env.reset(Noise(torch.Generator().manual_seed(0)).starts(env))
        env.step(torch.tensor([[0.0], [0.5], [1.0]]))
        pictures = [env.render(world, width=20, height=20) for world in range(3)]
        assert [picture[10, 10, 0] for picture in pictures] == [0, 50, 100]
    finally:
        env.close()
    env = own_environment(Point, 1, tasks=TASKS, horizon=6, python=other_python)
    with pytest.raises(RuntimeError, match="Point can't be drawn: NotImplementedError"):
        env.render(0)
    env.close()


def test_plain_python_with_words_and_a_dict_runs_in_another_python(other_python: Path) -> None:
    tasks = {
        "surface": attribute("surface", one_of=("grass", "ice")),
        "flip": attribute("slippery", one_of=(False, True)),
    }
    here, there = (
        own_environment(Grid, 4, tasks=tasks, horizon=6, python=python)
        for python in (None, other_python)
    )
    try:
        assert_equal(episodes(here), episodes(there))
    finally:
        there.close()


def test_source_may_be_a_name_that_only_the_other_python_knows(
    other_python: Path, tmp_path: Path
) -> None:
    (tmp_path / "only_there.py").write_text(
        "from tests.support.own_examples import Point\nSPEED = 3.0\n"
    )
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", path)
        env = own_environment("only_there:Point", 2, tasks=TASKS, horizon=6, python=other_python)
    assert "only_there" not in sys.modules
    try:
        assert_equal(episodes(make_point(2)), episodes(env))
        cart_pole = own_environment(
            "CartPole-v1",
            1,
            tasks={"push": attribute("force_mag", between=(5.0, 15.0))},
            python=other_python,
        )
        assert cart_pole.spec.horizon == 500
        cart_pole.close()
    finally:
        env.close()


def test_mistakes_elsewhere_are_said_in_a_line(other_python: Path) -> None:
    with pytest.raises(ValueError, match=r"Point has no 'sped', .*; did you mean speed\?"):
        own_environment(
            Point, 1, tasks={"s": attribute("sped", between=(0, 1))}, horizon=5, python=other_python
        )
    with pytest.raises(
        EnvironmentFailed,
        match=r"breaks_down can't be made: ArithmeticError: it broke down \(.*, in breaks_down\)",
    ) as raised:
        own_environment(
            "tests.support.own_examples:breaks_down", 1, tasks=TASKS, horizon=5, python=other_python
        )
    assert "in breaks_down" in raised.value.__notes__[0]
    with pytest.raises(
        ValueError, match=r"can't be imported by another Python; expected an id, 'module:function'"
    ):
        own_environment(lambda: Point(), 1, tasks=TASKS, horizon=5, python=other_python)
    with pytest.raises(
        ValueError, match="python is '/no/such'; expected the path of a Python interpreter"
    ):
        own_environment(Point, 1, tasks=TASKS, horizon=5, python="/no/such")
    with pytest.raises(ValueError, match="ModuleNotFoundError: No module named 'torch'"):
        own_environment("envs.own:own_environment", 1, tasks=TASKS, horizon=5, python=other_python)


def test_first_episodes_find_elsewhere_what_they_find_here(other_python: Path) -> None:
    gain = {"gain": attribute("params.value", between=(0.0, 3.0))}
    for source, tasks, message in (
        (Held, gain, r"Held's worlds share gain \(params.value\)"),
        (
            Undefined,
            TASKS,
            r"Undefined breaks off all episodes, .*: observation\[0\] of step 0 is nan",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            own_environment(source, 1, tasks=tasks, horizon=5, python=other_python)
    env = own_environment(
        Paying, 2, tasks=gain, horizon=5, python=other_python, settings={"params": Gain()}
    )
    try:
        drawn = env.prior.test_tasks(2)
        env.set_tasks(drawn)
        env.reset(Noise(torch.Generator()).starts(env))
        assert torch.equal(env.step(torch.zeros(2, 1)).reward, drawn.gain.float())
    finally:
        env.close()


def test_python_without_gymnasium_is_refused(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path)], check=True)
    with pytest.raises(
        ValueError,
        match=r"which ended at once.*; expected Python 3.10 or newer with numpy and gymnasium",
    ):
        own_environment(Point, 1, tasks=TASKS, horizon=5, python=tmp_path / "bin/python")


def test_a_program_that_is_no_python_is_refused(tmp_path: Path) -> None:
    """One that has ended before it is told what to do."""
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)
    with pytest.raises(ValueError, match=r"which ended at once.*; expected Python 3.10 or newer"):
        own_environment(Point, 1, tasks=TASKS, horizon=5, python=program)


@pytest.mark.parametrize("where", ["processes", "python"])
def test_process_that_dies_is_said(where: str, other_python: Path) -> None:
    env: Any = own_environment(
        "tests.support.own_examples:Mortal",
        2,
        tasks={"speed": attribute("speed", between=(0.5, 2.0))},
        horizon=5,
        **({"processes": True} if where == "processes" else {"python": other_python}),
    )
    env.set_tasks(env.prior.test_tasks(2))
    env.reset(Noise(torch.Generator()).starts(env))
    inner = torch.tensor([[0.0], [1.0]])
    with pytest.raises(WorldsEnded, match="a process with worlds of .*Mortal has ended"):
        env.step(inner)
    env.close()


@pytest.mark.parametrize("where", ["here", "processes", "python"])
def test_a_controller_of_the_environments_own_is_a_reference(
    where: str, other_python: Path
) -> None:
    places: dict[str, Any] = {"processes": {"processes": 2}, "python": {"python": other_python}}
    env = own_environment(Controlled, 3, tasks=TASKS, horizon=6, **places.get(where, {}))
    try:
        env.set_tasks(env.prior.test_tasks(3))
        first = env.reset(Noise(torch.Generator().manual_seed(3)).starts(env))
        action = env.references.scripted()
        goal, speed = (getattr(env.prior.test_tasks(3), name) for name in ("goal", "speed"))
        # −1 and 1 stand for the bounds, −10 and 40.
        expected = ((goal[:, None] - first) / speed[:, None] - 15) / 25
        torch.testing.assert_close(action, expected.float())
        torch.testing.assert_close(env.step(action).reward, torch.zeros(3), atol=1e-6, rtol=0)
    finally:
        env.close()
    assert make_point(1).references.scripted is None


def test_a_world_that_has_ended_needs_no_controller() -> None:
    env = own_environment(Controlled, 2, tasks=TASKS, horizon=6)
    env.set_tasks(env.prior.test_tasks(2))
    env.reset(Noise(torch.Generator().manual_seed(3)).starts(env))
    assert env.step(torch.ones(2, 1)).terminated.all()
    assert torch.equal(env.references.scripted(), env.references.stand_still())


@pytest.mark.parametrize("does", ["left", [1.0, 2.0], [float("nan")], None])
def test_a_controller_that_gives_no_action_is_named(does: Any) -> None:
    env = own_environment(Controlled, 1, tasks=TASKS, horizon=6, settings={"does": does})
    env.set_tasks(env.prior.test_tasks(1))
    env.reset(Noise(torch.Generator().manual_seed(3)).starts(env))
    with pytest.raises(
        ValueError, match=r"Controlled\.scripted_action returned .*an action of Box"
    ):
        env.references.scripted()


@pytest.mark.parametrize("ends", ["closed", "gone while it works"])
def test_a_robot_is_closed_whoever_ends(
    ends: str, other_python: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Once, and quietly: the answer on its way needs no reader."""
    log = tmp_path / "log"
    env: Any = own_environment(
        Robot,
        1,
        settings={"log": str(log)},
        tasks={"speed": attribute("speed", between=(0.5, 2.0))},
        horizon=5,
        python=other_python,
    )
    log.unlink()  # Of what was tried once.
    env.set_tasks(env.prior.test_tasks(1))
    env.reset(Noise(torch.Generator()).starts(env))
    if ends == "closed":
        env.close()
    else:
        (connection,) = env._worlds._connections
        connection.send_bytes(packed(("step", (np.full((1, 1), 0.625),))))
        connection.close()
    for _ in range(100):
        if log.exists():
            break
        time.sleep(0.1)
    time.sleep(0.3)
    assert log.read_text() == "closed\n" and capfd.readouterr().err == ""


@pytest.mark.parametrize("where", ["processes", "python"])
def test_after_an_interruption_no_answer_is_taken_for_another(
    where: str, other_python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env: Any = own_environment(
        Robot,
        2,
        settings={"log": str(tmp_path / "log")},
        tasks={"speed": attribute("speed", between=(0.5, 2.0))},
        horizon=5,
        **({"processes": 2} if where == "processes" else {"python": other_python}),
    )
    env.set_tasks(env.prior.test_tasks(2))
    env.reset(Noise(torch.Generator()).starts(env))
    receive = env._worlds._receive

    def interrupted(connection: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(env._worlds, "_receive", interrupted)
    with pytest.raises(KeyboardInterrupt):
        env.step(torch.ones(2, 1))
    monkeypatch.setattr(env._worlds, "_receive", receive)
    with pytest.raises(WorldsEnded, match="a process with worlds of .*Robot has ended"):
        env.step(torch.ones(2, 1))
    env.close()


def test_a_program_that_cannot_be_run_is_named(tmp_path: Path) -> None:
    (tmp_path / "python").write_text("no program")
    for mode, reason in ((0o644, "Permission denied"), (0o755, "Exec format error")):
        (tmp_path / "python").chmod(mode)
        said = rf"python is '.*/python', which can't be run \({reason}\); expected the path of a Py"
        with pytest.raises(ValueError, match=said):
            own_environment(Point, 1, tasks=TASKS, horizon=5, python=tmp_path / "python")


@pytest.mark.parametrize("processes", [0, 4, -1])
def test_number_of_processes_is_checked(processes: Any) -> None:
    with pytest.raises(
        ValueError,
        match=r"processes is .*; expected True, False, or at most one for each of 3 worlds",
    ):
        make_point.func(Point, 3, **make_point.keywords, processes=processes)


def test_worker_imports_numpy_and_gymnasium_only() -> None:
    tree = ast.parse((ROOT / "envs/own/world.py").read_text())
    modules = {
        name
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or "."]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    tops = {module.partition(".")[0] for module in modules}
    assert tops - set(sys.stdlib_module_names) == {"numpy", "gymnasium"}


def test_messages_name_nothing_that_differs_between_versions_of_numpy() -> None:
    message = {
        "a": np.arange(6.0).reshape(2, 3)[:, ::2],
        "b": np.float32(2.5),
        "c": [np.bool_(True)],
        "d": np.array(["x"]),
    }
    sent = packed(message)
    assert b"core" not in sent
    got = pickle.loads(sent)
    np.testing.assert_array_equal(got["a"], [[0, 2], [3, 5]])
    got["a"][0] = 7.0
    assert (got["b"], type(got["b"]), got["c"], got["d"].tolist()) == (
        2.5,
        np.float32,
        [True],
        ["x"],
    )


@pytest.mark.parametrize("name", ["Hopper-v5", "CartPole-v1"])
def test_gymnasiums_own_run_in_another_python(name: str) -> None:
    place = {
        "Hopper-v5": model_field("body_mass", scale=(0.5, 2.0)),
        "CartPole-v1": attribute("length", between=(0.3, 0.9)),
    }
    here, there = (
        own_environment(name, 2, tasks={"it": place[name]}, horizon=6, python=python)
        for python in (None, sys.executable)
    )
    try:
        assert_equal(played(here), played(there))
    finally:
        there.close()


def test_physics_that_blows_up_elsewhere_is_diverged_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tasks = {"dt": model_field("opt.timestep", between=(5.0, 50.0))}
    env = own_environment("Hopper-v5", 2, tasks=tasks, horizon=6, python=sys.executable)
    try:
        assert any(step.diverged.all() for step in played(env)[1:])
    finally:
        env.close()
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr().err == ""


def played(env: Any) -> list[Any]:
    env.set_tasks(env.prior.test_tasks(2))
    told: list[Any] = [env.reset(Noise(torch.Generator().manual_seed(3)).starts(env))]
    for k in range(4):
        is_choice = hasattr(env.action_space, "n")
        told.append(
            env.step(torch.tensor([0, k % 2]) if is_choice else torch.full((2, 3), 0.3 * k - 0.5))
        )
    return told


def test_options_reach_another_python(other_python: Path) -> None:
    tasks = {**TASKS, "start": reset_option("start", between=([0.0, 0.0], [1.0, 1.0]))}
    with pytest.warns(UserWarning, match="start"):
        own_environment(Point, 1, tasks=tasks, horizon=3, python=other_python).close()


def test_processes_end_with_the_one_that_asks_however_it_ends() -> None:
    """Later ones are forked with its end of the connection to earlier ones."""
    script = f"""
import os, signal, sys
sys.path[:0] = {[str(ROOT), str(ROOT / "tests")]!r}
from envs.own import world
world._SECONDS_TO_LOOK = 0.1
from tests.envs.own.test_worlds import make_point
several = [make_point(3, processes=3) for _ in range(2)]
import multiprocessing
print(*(child.pid for child in multiprocessing.active_children()), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    told = subprocess.run(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=ROOT, check=False
    )
    workers = [int(pid) for pid in told.stdout.split()]
    assert len(workers) == 6
    deadline = time.monotonic() + 60
    while left := [pid for pid in workers if _lives(pid)]:
        assert time.monotonic() < deadline, f"{left} outlive who asks"
        time.sleep(0.05)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not (state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z")


def test_worlds_that_nobody_holds_any_more_end_with_their_processes(other_python: Path) -> None:
    for where in ({"processes": True}, {"python": other_python}):
        env: Any = own_environment(
            "tests.support.own_examples:Point", 2, tasks=TASKS, horizon=5, **where
        )
        env.set_tasks(env.prior.test_tasks(2))
        env.reset(Noise(torch.Generator()).starts(env))
        before = children()
        del env
        assert before and not before & children()


def test_a_fork_that_drops_its_copy_leaves_the_worlds_alone() -> None:
    """As it does with what other threads were at when it was made."""
    env: Any = make_point(2, processes=True)
    env.set_tasks(env.prior.test_tasks(2))
    child = os.fork()
    if child == 0:
        del env
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    env.reset(Noise(torch.Generator()).starts(env))
    env.close()


def children() -> set[int]:
    """The processes that this one has begun and that go on."""
    found = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    alive = lambda number: "Z" not in Path(f"/proc/{number}/stat").read_text().rpartition(")")[2]
    return {int(number) for number in found if alive(number)}
