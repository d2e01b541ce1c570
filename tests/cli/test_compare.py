"""The command compare: what it prints and leaves behind, and how it answers mistakes."""

import json
from pathlib import Path

import pytest
from support.commands import call
from support.run_folders import run_folder

from metarl.cli.commands import compare

NOTES = "# source: a log\n# label: theirs\n# env: half_cheetah_vel\n"
CURVE = NOTES + "env_steps,return_before,return_after\n1,-9,-8\n"
ROWS = [
    {"iteration": 0, "env_steps": 1, "return_before": -9.0, "return_after": -8.0, "seconds": 1.0}
]


def test_it_prints_what_it_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for algo in ("maml_ppo", "maml_trpo"):
        for seed in (0, 1):
            run_folder(
                tmp_path / f"runs/{algo}{seed}", [[-8.0, -4.0]], algo=algo, seed=seed, rows=ROWS
            )
    (tmp_path / "runs/begun").mkdir()
    (tmp_path / "runs/begun/config.yaml").write_text("seed: 0\n")
    (tmp_path / "theirs.csv").write_text(CURVE)
    words = [
        f"runs=[{tmp_path}/runs]",
        f"recorded=[{tmp_path}/theirs.csv]",
        f"output={tmp_path}/all",
    ]
    assert call(monkeypatch, compare, *words) == 0
    told = capsys.readouterr()
    assert told.out == (tmp_path / "all/side_by_side.md").read_text()
    assert "| maml_trpo | 0, 1 | 2M | -8.00 [" in told.out
    assert f"left out: {tmp_path}/runs/begun has no evaluation yet" in told.err
    found = json.loads((tmp_path / "all/side_by_side.json").read_text())
    assert [learner["name"] for learner in found["learners"]] == ["maml_ppo", "maml_trpo"]
    assert (tmp_path / "all/side_by_side.png").read_bytes().startswith(b"\x89PNG")


def test_a_table_of_other_tasks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_folder(tmp_path / "run", [[-8.0, -4.0], [-9.0, -5.0]])  # 1 and 2 m/s
    notes = "# source: a log\n# label: theirs\n# env: half_cheetah_vel\n"
    words = [f"runs=[{tmp_path}/run]", f"recorded=[{tmp_path}/theirs.csv]"]
    for second, said in ((2.0, 0), (1.5, 1)):
        rows = f"target,after_0,after_1\n1.0,-9,-8\n{second},-7,-6\n"
        (tmp_path / "theirs.csv").write_text(notes + rows)
        assert call(monkeypatch, compare, *words) == 0
        assert capsys.readouterr().err.count("theirs.csv: its 2 targets have a mean of") == said


def test_runs_may_be_patterns_and_sweeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for algo in ("maml_ppo", "maml_trpo", "promp"):
        run_folder(tmp_path / algo, [[-8.0, -4.0]], algo=algo)
    (tmp_path / "sweep").mkdir()
    lines = [{"folder": str(tmp_path / name)} for name in ("promp", "gone")]
    (tmp_path / "sweep/runs.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    words = f"runs=[{tmp_path}/maml_*,{tmp_path}/sweep]"
    assert call(monkeypatch, compare, words) == 0
    told = capsys.readouterr()
    assert all(f"| {name} | 0 |" in told.out for name in ("maml_ppo", "maml_trpo", "promp"))
    assert f"left out: {tmp_path}/gone is not there" in told.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["runs=[{}/nowhere]"], "runs: {}/nowhere is not there"),
        (
            ["runs=[{}]", "recorded=[{}/other.csv]"],
            "recorded: {}/other.csv is of ant_vel; expected half_cheetah_vel",
        ),
        (["runs=[{}]", "recorded=[{}/none.csv]"], "recorded: {}/none.csv can't be read: "),
        ([], "runs"),
    ],
)
def test_mistakes_are_answered_in_a_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
) -> None:
    run_folder(tmp_path / "run", [[-8.0, -4.0]])
    (tmp_path / "other.csv").write_text(CURVE.replace("half_cheetah_vel", "ant_vel"))
    assert call(monkeypatch, compare, *(word.format(tmp_path) for word in words)) == 2
    told = capsys.readouterr()
    assert said.format(tmp_path) in told.err and told.out == "" and told.err.count("\n") == 1
