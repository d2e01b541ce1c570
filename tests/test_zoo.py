"""The zoo: weights alone in files that load without executing code, and a command that packs
them."""

import json
import re
import warnings
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from support.commands import SMALL_BANDIT, call

import metarl
from metarl import zoo
from metarl.cli import checkpoints, fewshot_build
from metarl.cli.commands import evaluate as evaluate_command
from metarl.cli.commands import train as train_command
from metarl.cli.commands import zoo as zoo_command
from metarl.errors import UserError


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> metarl.Run:
    return metarl.train(
        "bandit", "rl2_ppo", **SMALL_BANDIT, run_dir=tmp_path_factory.mktemp("z") / "run"
    )


@pytest.fixture
def own_zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A zoo of the test's own in the place of ours."""
    monkeypatch.setattr(zoo, "FOLDER", tmp_path)
    return tmp_path


@pytest.mark.parametrize("half", [False, True])
def test_a_packed_run_is_evaluated_as_its_file_says(
    run: metarl.Run, own_zoo: Path, monkeypatch: pytest.MonkeyPatch, half: bool
) -> None:
    monkeypatch.chdir(own_zoo)
    words = (f"run={run.folder}", f"half={str(half).lower()}", f"output={own_zoo}")
    assert call(monkeypatch, zoo_command, *words) == 0
    assert zoo.names() == ["bandit/rl2_ppo"]
    content = zoo.read("bandit/rl2_ppo")
    assert "optimizer" not in content["learner"] and "generators" not in content
    assert content["training"]["command"].startswith("metarl-train env=bandit algo=rl2_ppo")
    kept = [row["iqm"] for row in content["evaluation"]["returns"]]
    agent = metarl.load("bandit/rl2_ppo")
    found = agent.evaluate(num_tasks=2, device="cpu")
    assert [row["iqm"] for row in found.report["returns"]] == kept
    if not half:
        own = run.evaluation.report["returns"]
        assert [row["iqm"] for row in own] == kept
    before = checkpoints.load(str(run.folder)).content["learner"]["model"]
    after = checkpoints.load("zoo:bandit/rl2_ppo").content["learner"]["model"]
    # float16 has 11 binary digits.
    torch.testing.assert_close(after, before, rtol=2**-11 if half else 0, atol=2**-24 * half)
    assert call(monkeypatch, evaluate_command, "checkpoint=zoo:bandit/rl2_ppo", "num_tasks=2") == 0
    assert (own_zoo / "runs/zoo/bandit/rl2_ppo/evaluation_1.json").exists()


def test_a_packed_file_is_taken_by_its_path(
    run: metarl.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (f"run={run.folder}", "name=mine/arms", f"output={tmp_path}")
    assert call(monkeypatch, zoo_command, *words) == 0
    monkeypatch.chdir(tmp_path)
    words = (f"checkpoint={tmp_path / 'mine/arms.pt'}", "num_tasks=2", "device=cpu")
    assert call(monkeypatch, evaluate_command, *words) == 0
    assert (tmp_path / "runs/zoo/mine/arms/evaluation_1.json").exists()


def test_a_few_shot_learner_answers_without_its_data(
    tmp_path: Path, own_zoo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {"iterations": 1, "evaluation": {"num_tasks": 2, "pictures": False}, "device": "cpu"}
    run = metarl.train_fewshot("digits", "protonet", **small, run_dir=tmp_path / "run")
    packed = zoo_command.packed(zoo_command.finished(str(run.folder)), half=False)
    zoo.write("digits/protonet", packed)

    def gone(*_: Any) -> None:
        raise metarl.UserError("no pictures here")

    monkeypatch.setattr(fewshot_build, "source", gone)
    agent = metarl.load("digits/protonet")
    pictures = torch.rand(3, *agent.spec.input_shape)
    assert list(agent.fit(pictures, ["a", "b", "c"])(pictures)) == ["a", "b", "c"]
    with pytest.raises(metarl.UserError, match="no pictures here"):
        agent.evaluate(num_tasks=2)


@pytest.mark.parametrize(
    "name", ["bandit/rl2", "bandit/rl2_ppo/", "BANDIT/RL2_PPO", " bandit/rl2_ppo"]
)
def test_a_name_that_is_nearly_right_is_answered_with_the_right_one(name: str) -> None:
    assert zoo.unknown(name).endswith("; did you mean bandit/rl2_ppo?")


def test_a_name_without_its_prefix_is_told_on_the_command_line() -> None:
    with pytest.raises(
        metarl.UserError, match="no checkpoint at bandit/rl2_ppo; did you mean zoo:"
    ):
        checkpoints.read("bandit/rl2_ppo")


@pytest.mark.parametrize(
    ("command", "kept"),
    [
        ("/home/me/metarl/scripts/train.py env=bandit run_dir=/home/me/r", "env=bandit"),
        ("scripts/train.py +hydra.mode=MULTIRUN seed=1", "seed=1"),
        ("scripts/train.py resume=/home/me/r iterations=9", "resume=<run folder> iterations=9"),
        ("python /me/scripts/train.py 'a=[1,2]' 'run_dir=/a b' seed=1", "'a=[1,2]' seed=1"),
        (
            "python scripts/train.py seed=1 && python scripts/train.py resume='/a b' iterations=9",
            "seed=1 && scripts/train.py resume=<run folder> iterations=9",
        ),
        ("python scripts/train.py 'a=b && c' 'run_dir=/a && b'", "'a=b && c'"),
        ("metarl-train seed=1 run_dir=/a/b.py", "seed=1"),
        ("torchrun --nproc-per-node=2 /me/scripts/train.py seed=1", "seed=1"),
        ("scripts/train.py names=[it's]", """'names=[it'"'"'s]'"""),
    ],
)
def test_what_made_a_file_says_nothing_of_the_machines_folders(command: str, kept: str) -> None:
    found = zoo_command._to_repeat(command).removeprefix("torchrun --nproc-per-node=2 ")
    assert found.replace("metarl-train", "scripts/train.py") == f"scripts/train.py {kept}"


def test_mistakes_are_a_line(
    run: metarl.Run,
    own_zoo: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    content = zoo_command.packed(zoo_command.finished(str(run.folder)), half=False)
    zoo.write("bandit/rl2_ppo", content)
    with pytest.raises(
        metarl.UserError, match="the zoo has no bandit/rl2_pp; did you mean bandit/"
    ):
        metarl.load("bandit/rl2_pp")
    with pytest.raises(
        metarl.UserError, match="bytes beside 0 of the others; expected at most 100"
    ):
        zoo.write("bandit/rl2_ppo", content, replace=True, largest=100)
    assert call(monkeypatch, zoo_command, f"run={run.folder}") == 2
    assert "is there already; expected another name" in capsys.readouterr().err
    assert call(monkeypatch, zoo_command, "name=bandit/rl2_ppo") == 2
    assert "nothing is packed without run=<run folder>" in capsys.readouterr().err
    assert call(monkeypatch, zoo_command, "output=typo") == 2
    assert "output=typo: there is no such folder" in capsys.readouterr().err
    zoo.write("bandit/other", {**content, "spec_hash": "0" * 12})
    with pytest.raises(metarl.UserError, match="the environment's definition has changed"):
        metarl.load("bandit/other")
    assert call(monkeypatch, train_command, "resume=zoo:bandit/rl2_ppo", "iterations=2") == 2
    assert "the zoo has weights alone" in capsys.readouterr().err
    (own_zoo / "bandit/other.pt").write_bytes(b"metarl-policy 0\nx")
    with pytest.raises(metarl.UserError, match="is damaged"):
        metarl.load("zoo:bandit/other")


def test_what_is_shipped_is_small_named_and_loads() -> None:
    files = {name: zoo.path(name) for name in zoo.names()}
    assert sum(file.stat().st_size for file in files.values()) <= zoo.LARGEST
    for name, file in files.items():
        content = zoo.read_file(file)
        assert {"config", "spec_hash", "curve", "evaluation", "training", "commit"} <= set(content)
        assert re.fullmatch(r"[0-9a-f]{12}", content["commit"]), name
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Nothing has changed since.
            loaded = metarl.load(name)
        assert loaded.spec.spec_hash == content["spec_hash"]
        # A place on the machine that made it is no use to others.
        assert not {"run_dir", "data_dir"} & set(
            re.findall(r"(\w+)=", content["training"]["command"])
        )
        assert content["config"]["run_dir"] is None
        assert content["config"].get("dataset", {}).get("data_dir") is None


def test_what_training_alone_needs_is_forgotten_before_a_file_is_judged():
    state = {
        "params": torch.ones(2),
        "optimizer": {"m": torch.ones(2)},
        "of": {"moments": torch.ones(1)},
    }
    found = zoo.without_training(state)
    assert found["params"].tolist() == [1, 1] and found["of"]["moments"].tolist() == [0]
    assert found["optimizer"]["m"].tolist() == [0, 0]


@pytest.mark.parametrize("name", ["bandit", "../bandit/a", "/bandit/a", "bandit/../a", "a/b/c", ""])
def test_a_name_that_could_not_be_found_again_is_refused(own_zoo: Path, name: str) -> None:
    with pytest.raises(UserError, match=f"name={re.escape(name)}: expected <environment"):
        zoo.write(name, {})
    assert zoo.names() == []


def test_a_long_curve_is_kept_in_parts_with_its_end(tmp_path: Path) -> None:
    rows = [json.dumps({"iteration": i, "return": 1.0}) + "\n" for i in range(1001)]
    (tmp_path / "metrics.jsonl").write_text("".join(rows))
    kept = [row["iteration"] for row in zoo_command._curve(tmp_path)]
    assert kept[-1] == 1000 and len(kept) <= zoo_command.CURVE_ROWS
    assert len(set(numpy.diff(kept))) == 1
