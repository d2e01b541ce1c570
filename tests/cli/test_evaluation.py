"""The command evaluate: what it writes where, other problems than that of the training, and the
policy's mode."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from support.commands import command

from metarl.cli import build, checkpoints, evaluation
from metarl.cli.commands import evaluate as evaluate_command
from metarl.cli.commands import render as render_command
from metarl.cli.commands import train as train_command
from metarl.errors import UserError
from metarl.report.evaluation import Evaluation

SMALL = [
    "env=half_cheetah_vel",
    "env.horizon=8",
    "env.num_train_tasks=3",
    "iterations=1",
    "device=cpu",
    "evaluation.video=false",
]
SMALL += ["algo.meta_batch_size=2", "evaluation.num_tasks=2", "sim.num_threads=1"]
NOTHING = [
    "env=point_navigation_2d",
    "iterations=0",
    "device=cpu",
    "evaluation.num_tasks=2",
    "evaluation.video=false",
]
FEW = ("num_tasks=2", "episodes_per_task=2", "num_updates=1", "device=cpu")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    words = {
        "maml_ppo": ["algo=maml_ppo", "algo.episodes_per_task=2", "model.hidden_sizes=[4]"],
        "rl2_ppo": [
            "algo=rl2_ppo",
            "model=transformer",
            "model.memory.context=20",
            "algo.episodes_per_trial=2",
        ],
    }
    words["rl2_ppo"] += [
        "algo.num_minibatches=1",
        "model.memory.width=8",
        "model.memory.num_heads=2",
    ]
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in words:
            assert (
                command(
                    train_command.main,
                    monkeypatch,
                    *SMALL,
                    *words[name],
                    f"run_dir={folder / name}",
                )
                == 0
            )
    return {name: folder / name for name in words}


@pytest.fixture
def evaluate(monkeypatch: pytest.MonkeyPatch, trained: dict[str, Path]) -> Any:
    def evaluate(name: str, *words: str, code: int = 0) -> Path:
        assert (
            command(evaluate_command.main, monkeypatch, f"checkpoint={trained[name]}", *FEW, *words)
            == code
        )
        return trained[name]

    return evaluate


def read(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def test_the_trainings_evaluation_stays_and_further_ones_are_numbered(
    evaluate: Any, trained: Any, capsys: Any
) -> None:
    before = (trained["maml_ppo"] / "evaluation.json").read_text()
    picture = (trained["maml_ppo"] / "adaptation_curve.png").read_bytes()
    taken = len(list(trained["maml_ppo"].glob("evaluation_*.json")))
    for number in (taken + 1, taken + 2):
        folder = evaluate("maml_ppo", f"seed={number}")
        file = folder / f"evaluation_{number}.json"
        assert read(file)["seed"] == number and (folder / f"adaptation_curve_{number}.png").exists()
        assert (
            f"written to {file}; the training's own evaluation.json is as it was"
            in capsys.readouterr().err
        )
    assert (folder / "evaluation.json").read_text() == before
    assert (folder / "adaptation_curve.png").read_bytes() == picture


def test_output_is_a_folder_or_a_file(evaluate: Any, tmp_path: Path) -> None:
    evaluate("maml_ppo", f"output={tmp_path}/mine")
    evaluate("maml_ppo", f"output={tmp_path}/mine", "seed=7")
    assert read(tmp_path / "mine" / "evaluation.json")["seed"] == 0
    assert read(tmp_path / "mine" / "evaluation_1.json")["seed"] == 7
    evaluate("maml_ppo", f"output={tmp_path}/deep/x.json", "seed=3")
    assert (
        read(tmp_path / "deep" / "x.json")["seed"] == 3 and (tmp_path / "deep" / "x.png").exists()
    )
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["x.json", "x.png"]


def test_unless_told_otherwise_it_measures_what_the_training_measured_at_its_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run, again = tmp_path / "run", tmp_path / "again.json"
    own = ["num_tasks=3", "num_updates=2", "episodes_per_task=4", "inner_lr_decay=0.5"]
    own = [f"evaluation.{word}" for word in [*own, "deterministic=true"]]
    small = ["model.hidden_sizes=[4]", "algo.inner_rule=sgd", "algo.episodes_per_task=2"]
    assert command(train_command.main, monkeypatch, *NOTHING, *own, *small, f"run_dir={run}") == 0
    words = [f"checkpoint={run}", f"output={again}", "device=cpu"]
    assert command(evaluate_command.main, monkeypatch, *words) == 0
    measured, at_end = read(again), read(run / "evaluation.json")
    for key in ("returns", "tasks", "episodes_per_task", "inner_lr_decay", "deterministic"):
        assert measured[key] == at_end[key], key
    words += ["deterministic=false", "num_tasks=1"]
    assert command(evaluate_command.main, monkeypatch, *words) == 0
    assert not read(again)["deterministic"] and len(read(again)["tasks"]) == 1
    assert len(read(again)["returns"]) == 3  # what isn't said stays the training's
    words = [*words[:3], "env=point_navigation_2d", "num_tasks=1", "episodes_per_task=1"]
    assert command(evaluate_command.main, monkeypatch, *words) == 0
    assert len(read(again)["returns"]) == 4 and "inner_lr_decay" not in read(again)


def test_another_variant_and_horizon_are_evaluated_with_a_note(
    evaluate: Any, tmp_path: Path, capsys: Any
) -> None:
    evaluate("maml_ppo", "env=half_cheetah_vel", "env.horizon=12", f"output={tmp_path}/longer.json")
    result = read(tmp_path / "longer.json")
    assert (
        result["trained_on"]["env"]
        == "half_cheetah_vel"
        != result["trained_on"]["spec_hash"]
        != result["spec_hash"]
    )
    assert (
        "trained on half_cheetah_vel, horizon=8 where it is 12 here, num_train_tasks=3 where it is "
        "100 here" in result["note"]
    )
    assert result["note"] in capsys.readouterr().out
    assert result["env_steps"] == 2 * 2 * 2 * 12  # tasks, episodes, before and after, steps
    evaluate(
        "maml_ppo", "env=half_cheetah_vel_long", "env.horizon=8", f"output={tmp_path}/long.json"
    )
    assert read(tmp_path / "long.json")["env"] == "half_cheetah_vel_long" and "note" in read(
        tmp_path / "long.json"
    )


def test_the_problem_of_the_training_has_no_note(evaluate: Any, tmp_path: Path) -> None:
    evaluate(
        "maml_ppo",
        "env=half_cheetah_vel",
        "env.horizon=8",
        "env.num_train_tasks=3",
        f"output={tmp_path}/x.json",
    )
    assert not {"note", "trained_on"} & read(tmp_path / "x.json").keys()


def test_tasks_that_training_has_seen_are_counted(trained: Any) -> None:
    loaded = checkpoints.load(str(trained["maml_ppo"]))
    tasks: Any = build.environment(loaded.config, 1).prior.train_tasks()

    found = Evaluation(report={"spec_hash": "another"}, tasks=tasks, states=[])
    assert (
        "; 3 of these tasks were in training"
        in evaluation.trained_elsewhere(loaded, loaded.config, found)["note"]
    )


@pytest.mark.parametrize(
    ("name", "words", "said"),
    [
        ("maml_ppo", ["env=ant_vel"], "env=ant_vel: its observation_space is Box("),
        (
            "maml_ppo",
            ["env=half_cheetah_vel", "env.action_scale=2.0"],
            "its action_space is Box(-2.0, 2.0",
        ),
        ("rl2_ppo", ["env=half_cheetah_vel", "env.horizon=12"], "a trial has 24 steps"),
    ],
)
def test_where_the_learner_cannot_see_act_or_remember_is_refused(
    evaluate: Any, capsys: Any, name: str, words: list[str], said: str
) -> None:
    evaluate(name, *words, code=2)
    shown = capsys.readouterr().err.splitlines()[-1]
    assert shown.startswith("error: ") and said in shown


def test_modes_are_played_again_alike_and_gradients_still_come_from_samples(
    evaluate: Any, tmp_path: Path, capsys: Any
) -> None:
    for name in ("maml_ppo", "rl2_ppo"):
        evaluate(name, "deterministic=true", f"output={tmp_path}/{name}.json")
        assert "with the policy's most likely actions" in capsys.readouterr().out
        evaluate(name, f"output={tmp_path}/{name}_sampled.json")
    chosen, sampled = read(tmp_path / "maml_ppo.json"), read(tmp_path / "maml_ppo_sampled.json")
    assert (chosen["deterministic"], sampled["deterministic"]) == (True, False)
    # Before any update every episode of the mode differs by its start alone, so they lie closer
    # together than samples.
    spread = [
        torch.tensor([task["episodes"][0] for task in result["tasks"]]).std(1).mean()
        for result in (chosen, sampled)
    ]
    assert spread[0] < spread[1]
    before, after = (
        torch.tensor([task["episodes"][k] for task in chosen["tasks"]]) for k in (0, 1)
    )
    assert not torch.equal(
        before, after
    )  # Sampled episodes have moved the policy: those of the mode have no gradient.


def test_devices_are_named_by_number(monkeypatch: Any) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    assert build.device("cuda:1") == torch.device("cuda:1") and build.device(
        "cuda"
    ) == torch.device("cuda")
    with pytest.raises(
        UserError,
        match=r"device=cuda:2: torch finds no such device here; there are cpu, cuda:0, cuda:1",
    ):
        build.device("cuda:2")
    for name in ("cuda:", "cuda:-1", "cuda:x", "gpu", "cpu:1"):
        with pytest.raises(UserError, match=f"device={name}: expected cpu, cuda or auto"):
            build.device(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="device=cuda:1: torch finds no CUDA device here"):
        build.device("cuda:1")


def test_every_command_takes_a_numbered_device(trained: Any, monkeypatch: Any, capsys: Any) -> None:
    for main, word in (
        (train_command.main, f"resume={trained['maml_ppo']}"),
        (evaluate_command.main, f"checkpoint={trained['maml_ppo']}"),
        (render_command.main, f"checkpoint={trained['maml_ppo']}"),
    ):
        assert command(main, monkeypatch, word, "device=cuda:97") == 2
        assert "device=cuda:97: torch finds no" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ([], ""),
        (
            ["model=gru", "algo=rl2_ppo", "algo.num_minibatches=1", "algo.episodes_per_trial=1"],
            "episodes_per_trial_1-gru-num_minibatches_1",
        ),
        (
            ["algo.inner_lr=0.1", "env.horizon=4", "evaluation.num_updates=0"],
            "env.horizon_4-inner_lr_0.1",
        ),
        (["model.hidden_sizes=[4,4]", "checkpoint_every=3"], "model.hidden_sizes_4_4"),
    ],
)
def test_a_run_folders_name_tells_models_and_settings_apart(
    tmp_path: Path, monkeypatch: Any, words: list[str], name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command(train_command.main, monkeypatch, *NOTHING, *words) == 0
    (folder,) = (tmp_path / "runs" / "point_navigation_2d").glob("*/*")
    date, rest = folder.name[:19], folder.name[19:]
    assert datetime.strptime(date, "%Y-%m-%d_%H-%M-%S")

    assert rest == (f"-{name}" if name else "") + "-seed0"


def test_a_long_name_is_cut_and_still_tells_apart(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    long = [
        "algo.num_epochs=2",
        "algo.inner_lr_decay=0.5",
        "algo.meta_batch_size=3",
        "algo.episodes_per_task=2",
    ]
    for last in ("algo.outer_lr=0.01", "algo.outer_lr=0.02"):
        assert command(train_command.main, monkeypatch, *NOTHING, *long, last) == 0
    names = {folder.name[19:] for folder in (tmp_path / "runs" / "point_navigation_2d").glob("*/*")}
    assert len(names) == 2 and all(len(name) <= 1 + 60 + len("-seed0") for name in names)
