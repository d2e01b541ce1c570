"""metarl from Python: the words, the numbers and the run folder are those of the command line."""

import importlib.metadata
import json
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from omegaconf import OmegaConf
from support.commands import call, numbers

import metarl
from metarl import zoo
from metarl.api.training import _all_words
from metarl.cli.commands import evaluate as evaluate_command
from metarl.cli.commands import train as train_command
from metarl.cli.session import as_words, session, texts
from metarl.errors import UserError
from metarl.run.progress import shows_bars
from metarl.run.timing import without_timing

pytestmark = pytest.mark.usefixtures("undrawn")

SMALL = {
    "iterations": 1,
    "device": "cpu",
    "algo": {"meta_batch_size": 2, "episodes_per_task": 2},
    "model": {"hidden_sizes": [4]},
    "env": {"horizon": 5},
    "evaluation": {"num_tasks": 2, "num_updates": 1, "video": False},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> metarl.Run:
    folder = tmp_path_factory.mktemp("runs") / "python"
    return metarl.train("point_navigation_2d", "maml_ppo", **SMALL, run_dir=folder)


def test_import_metarl_loads_neither_torch_nor_an_environment_nor_hydra() -> None:
    program = (
        "import sys, metarl; print([m for m in ('torch', 'envs', 'hydra') if m in sys.modules]); "
        "assert 'train' in dir(metarl); print(metarl.train.__name__, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["[]", "train True"], done.stderr


def test_names_of_the_module_are_those_of_the_room() -> None:
    assert set(metarl.API) == set(__import__("metarl.api").api.__all__)
    stub = (Path(metarl.__file__).parent / "__init__.pyi").read_text()
    names = {line.split()[-1] for line in stub.splitlines() if line.startswith("from")}
    assert names == {*metarl.API, *metarl.ROOMS}
    assert metarl.__version__ == importlib.metadata.version("metarl")
    with pytest.raises(AttributeError, match="'metarl' has no attribute 'trian'"):
        metarl.trian


def test_numbers_and_configuration_are_those_of_the_command_line(
    run: metarl.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["env=point_navigation_2d", "algo=maml_ppo", *as_words(SMALL)]
    assert call(monkeypatch, train_command, *words, f"run_dir={tmp_path / 'typed'}") == 0
    typed = tmp_path / "typed"
    assert numbers(typed) == numbers(run.folder) == [without_timing(row) for row in run.metrics]
    configs = [yaml.safe_load((f / "config.yaml").read_text()) for f in (typed, run.folder)]
    for config in configs:
        config.pop("run_dir")
        (begun,) = config["composed"].pop("commands")
        assert begun.startswith(("python ", "metarl-train "))
    assert configs[0] == configs[1]
    assert {p.name for p in typed.iterdir()} - {p.name for p in run.folder.iterdir()} <= {
        p.name for p in typed.glob("events*")
    }
    asked = ["num_tasks=2", "num_updates=1", "device=cpu"]
    assert call(monkeypatch, evaluate_command, f"checkpoint={typed}", *asked) == 0
    theirs = json.loads((typed / "evaluation_1.json").read_text())
    ours = run.evaluate(num_tasks=2, num_updates=1, device="cpu")
    assert ours.report["returns"] == theirs["returns"]
    assert ours.returns.shape == (2, 2, 2)
    assert np.array_equal(ours.returns, [task["episodes"] for task in theirs["tasks"]])
    assert not (run.folder / "evaluation_1.json").exists()


def test_the_default_folder_and_the_recorded_command_are_as_if_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = list(sys.argv)
    made = metarl.train("point_navigation_2d", "maml_ppo", **SMALL, seed=3)
    assert made.folder.parent == tmp_path / "runs/point_navigation_2d/maml_ppo"
    assert made.folder.name.endswith("-seed3")
    recorded = made.evaluation.report["command"]
    assert recorded.startswith("metarl-train env=point_navigation_2d algo=maml_ppo ")
    assert "seed=3" in recorded and sys.argv == before
    before_going_on = made.agent
    longer = metarl.train(resume=made.folder, iterations=2)
    assert longer.folder == made.folder and len(longer.metrics) == 2
    assert made.agent is not before_going_on and "iteration 2" in repr(made.agent)
    assert made.agent is made.agent
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert len(made.metrics) == 2
    both = longer.evaluation.report["command"]
    assert both == f"{recorded} && metarl-train resume={made.folder} iterations=2"
    again = metarl.train(resume=made.folder).evaluation.report["command"]
    assert again == both  # Going on without a change tells nothing.


def test_a_function_of_the_users_sees_each_iteration_and_may_say_that_it_is_enough(
    tmp_path: Path,
) -> None:
    rows = list[dict[str, Any]]()

    def enough(row: dict[str, Any]) -> bool:
        rows.append(row)
        return len(rows) == 2

    asked = SMALL | {"iterations": 4, "eval_every": 2, "checkpoint_every": 3}
    folder = tmp_path / "run"
    run = metarl.train(
        "point_navigation_2d", "maml_ppo", **asked, run_dir=folder, on_iteration=enough
    )
    assert run.interrupted and "iteration 2" in repr(run.agent)
    assert [row["return_after"] for row in rows] == [row["return_after"] for row in run.metrics]
    assert "held_out/score" not in rows[0] and rows[1]["held_out/iteration"] == 2

    class Pruned(Exception):
        pass

    def prune(row: dict[str, Any]) -> None:
        raise Pruned

    with pytest.raises(Pruned):
        metarl.train(resume=folder, on_iteration=prune)
    assert "iteration 3" in repr(metarl.load(folder))
    assert len(metarl.train(resume=folder).metrics) == 4


def test_a_function_of_the_users_sees_rows_of_few_shot_learning(tmp_path: Path) -> None:
    rows = list[dict[str, Any]]()
    small = {"iterations": 20, "log_every": 5, "checkpoint_every": 10, "device": "cpu"}
    run = metarl.train_fewshot(
        *("sinusoid", "maml"),
        **small,
        run_dir=tmp_path / "run",
        evaluation={"num_tasks": 2},
        on_iteration=lambda row: rows.append(row),
    )
    assert not run.interrupted and [row["iteration"] for row in rows] == [4, 9, 14, 19]


def test_who_wants_it_quiet_has_all_in_the_folder_alone(tmp_path: Path, capfd: Any) -> None:
    """Also where another thread prints meanwhile."""
    said = threading.Thread(target=print, args=("of another thread",))

    def beside(row: dict[str, Any]) -> None:
        said.start()
        said.join()

    folder = tmp_path / "run"
    small = SMALL | {"iterations": 1}
    run = metarl.train(
        "point_navigation_2d",
        "maml_ppo",
        **small,
        run_dir=folder,
        quiet=True,
        on_iteration=beside,
    )
    run.evaluate(num_tasks=1, quiet=True)
    assert capfd.readouterr() == ("of another thread\n", "")
    assert "return" in (folder / "run.log").read_text()
    with pytest.raises(metarl.Error, match="there is no"):
        metarl.train("point_navigation_3d", "maml_ppo", quiet=True)
    run.evaluate(num_tasks=1)
    assert "evaluating on 1 held-out task" in capfd.readouterr().err


def test_a_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    gone = metarl.Run(tmp_path / "gone")
    for ask in (lambda: gone.metrics, lambda: gone.evaluation, lambda: gone.agent):
        with pytest.raises(
            metarl.UserError, match="gone isn't there; expected the folder of a run"
        ):
            ask()


def test_notebooks_show_mistakes_as_a_line() -> None:
    for words in ({"seeed": 1}, {"algo": {"meta_batch_size": 0}}, {"algo": {"num_updates": 0}}):
        with pytest.raises((metarl.UserError, metarl.SettingError)) as caught:
            metarl.train("point_navigation_2d", "maml_ppo", **words)
        error: Any = caught.value  # IPython asks an error for this.
        (line,) = error._render_traceback_()
        assert line == f"{type(error).__name__}: {error}"
        assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert not hasattr(metarl.SettingError("of a user's own call"), "_render_traceback_")


def test_tables_are_shown_as_text_and_kept_where_asked(run: metarl.Run, tmp_path: Path) -> None:
    found = run.evaluate(num_tasks=2, num_updates=0, output=tmp_path / "x.json")
    assert found.kept_in == tmp_path / "x.json" and found.kept_in.exists()
    assert repr(found.table()) == found.table() == repr(found)
    assert "before adaptation" in found.table()
    assert "<pre>point_navigation_2d" in found._repr_html_()


def test_python_values_become_words() -> None:
    settings = {
        "seed": np.int64(2),
        "algo": {"inner_lr": 0.1, "adapt_only": None},
        "model.hidden_sizes": (4, 4),
        "evaluation": {"video": False},
        "run_dir": Path("a b/x,y"),
        "name": "1",
        "lr": np.float64(0.01),
        "rates": np.array([1, 2]),
        "sizes": OmegaConf.create({"of": [3, 4]}).of,
    }
    assert as_words(settings) == [
        *("seed=2", "algo.inner_lr=0.1", "algo.adapt_only=null", "model.hidden_sizes=[4,4]"),
        *("evaluation.video=false", 'run_dir="a b/x,y"', 'name="1"'),
        *("lr=0.01", "rates=[1,2]", "sizes=[3,4]"),
    ]
    with pytest.raises(metarl.UserError, match="env is a object; expected a number, a string"):
        as_words({"env": object()})
    assert as_words({"device": torch.device("cpu")}) == ["device=cpu"]
    rule = {"_target_": "my_rule.Rule", "lr": 0.1, "of": {"names": ["a", "b"]}}
    assert as_words({"learner": {"inner_rule": rule}}) == [
        "learner.inner_rule={_target_:my_rule.Rule,lr:0.1,of:{names:[a,b]}}"
    ]
    assert as_words({"learner": {"inner_rule": "sgd"}}) == ["learner.inner_rule=sgd"]
    assert texts(("seed=1",)) == ["seed=1"]
    with pytest.raises(
        metarl.UserError, match="3 is no word of the command line; expected settings"
    ):
        texts((3,))


def test_mistakes_are_a_line_with_what_is_closest(run: metarl.Run) -> None:
    for mistake, message in (
        (lambda: metarl.train("half_cheta"), "env=half_cheta: .* did you mean half_cheetah_vel"),
        (lambda: metarl.train("bandit", "maml_pp"), "algo=maml_pp: .* did you mean maml_ppo"),
        (lambda: metarl.train("bandit", iteration=3), "iteration: .* did you mean iterations"),
        (lambda: metarl.train("bandit", seed=-1), "seed=-1: expected an integer"),
        (lambda: metarl.train("bandit", "iterations"), "algo=iterations: "),
        (lambda: metarl.train("bandit", config_dir="/no/such"), "there is no such folder"),
        (lambda: run.evaluate(num_task=2), "num_task: .* did you mean num_tasks"),
        (lambda: metarl.load("/no/such/run"), "there is no file or folder /no/such/run"),
        (
            lambda: metarl.load(zoo.FOLDER / "bandit/rl2_ppo"),
            r"did you mean .*/bandit/rl2_ppo\.pt\?",
        ),
        (lambda: metarl.load(run.folder.parent), "no checkpoint at"),
    ):
        with pytest.raises(metarl.UserError, match=message):
            mistake()


def test_what_a_session_changes_is_as_before_after_an_error() -> None:
    from hydra.core.hydra_config import HydraConfig

    before = (list(sys.argv), HydraConfig.instance().cfg)

    def fail() -> None:
        with session("train", ["env=bandit"]) as config:
            assert config.env.name == "bandit" and sys.argv[0] == "metarl-train"
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (list(sys.argv), HydraConfig.instance().cfg) == before


def test_a_notebook_has_a_progress_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class ZMQInteractiveShell:
        """What Jupyter's IPython calls its shell."""

    assert not sys.stderr.isatty() and not shows_bars()
    jupyter = SimpleNamespace(get_ipython=ZMQInteractiveShell)
    monkeypatch.setitem(sys.modules, "IPython", jupyter)
    assert shows_bars()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: None))
    assert not shows_bars()


def test_a_folder_of_several_seeds_is_not_gone_on_from(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("num_seeds: 4\n")
    with pytest.raises(UserError, match=f"resume={tmp_path}, a folder of several seeds: from"):
        metarl.train(resume=tmp_path)


def test_a_folder_may_be_text_and_a_damaged_evaluation_is_named(run, tmp_path):
    again = metarl.Run(str(run.folder))
    assert again.metrics == run.metrics and again.evaluation.report == run.evaluation.report
    (tmp_path / "evaluation.json").write_text('{"returns": [')
    with pytest.raises(UserError, match=r"evaluation\.json: can't be read"):
        metarl.Run(tmp_path).evaluation


def test_what_names_no_choice_or_another_agent_is_refused(run):
    with pytest.raises(UserError, match=r"env=\['bandit'\]: expected one name"):
        _all_words({"env": ["bandit"], "algo": None}, (), {})
    for words, settings in ((("checkpoint=zoo:bandit/rl2_ppo",), {}), ((), {"checkpoint": "x"})):
        with pytest.raises(UserError, match="checkpoint: this agent's is meant"):
            run.agent.evaluate(*words, **settings)


@pytest.mark.parametrize(
    ("words", "env", "algo"),
    [
        ((), "half_cheetah_vell", "maml_ppo"),
        (("algo.clip=-1",), "point_navigation_2d", "maml_ppo"),
    ],
    ids=["a name", "a setting"],
)
def test_one_class_catches_what_a_user_can_do_wrong(words, env, algo, tmp_path):
    with pytest.raises(metarl.Error):
        metarl.train(env, algo, *words, run_dir=str(tmp_path / "run"))
