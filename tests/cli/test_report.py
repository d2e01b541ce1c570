"""The command report: what it leaves behind, and how it answers mistakes."""

import sys
from pathlib import Path

import pytest
import yaml
from support.commands import call
from support.run_folders import few_shot_folder, run_folder

from metarl.cli.commands import report

ROWS = [{"iteration": 0, "env_steps": 1, "return_before": -9.0, "return_after": -8.0}]


def test_it_writes_a_page_that_tells_how_it_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for algo in ("maml_ppo", "maml_trpo"):
        run_folder(tmp_path / f"runs/{algo}", [[-8.0, -4.0]], algo=algo, rows=ROWS)
    words = [f"runs=[{tmp_path}/runs/*]", f"output={tmp_path}/new/page.html", "against=maml_trpo"]
    assert call(monkeypatch, report, *words) == 0
    told = capsys.readouterr()
    assert told.out == "" and told.err.endswith(f"written to {tmp_path}/new/page.html\n")
    text = (tmp_path / "new/page.html").read_text()
    assert "beats maml_trpo" in text and text.startswith("<!DOCTYPE html>")
    assert f"&#39;runs=[{tmp_path}/runs/*]&#39; output={tmp_path}/new/page.html" in text


def test_it_writes_charts_and_tables_for_a_paper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_folder(tmp_path / "runs/a", [[-8.0, -4.0], [-9.0, -5.0]], rows=ROWS)
    (run_folder(tmp_path / "runs/b", [[0.0]], seed=1, rows=ROWS) / "evaluation.json").unlink()
    words = [f"runs=[{tmp_path}/runs]", f"output={tmp_path}/page.html", f"figures={tmp_path}/paper"]
    assert call(monkeypatch, report, *words) == 0
    charts = ("adaptation", "profiles", "tasks_1", "training_steps")
    files = {file.name: file.read_bytes() for file in (tmp_path / "paper").iterdir()}
    assert sorted(files) == sorted(
        [f"{name}.{kind}" for name in charts for kind in ("pdf", "png")]
        + ["table.csv", "table.md", "table.tex"]
    )
    assert all(files[f"{name}.pdf"].startswith(b"%PDF") for name in charts)
    assert all(files[f"{name}.png"].startswith(b"\x89PNG") for name in charts)
    # Letters stay letters.
    assert b"/FontFile2" in files["adaptation.pdf"] and b"/Type3" not in files["adaptation.pdf"]
    assert b"| maml_ppo | 0 | 2M | after 1 update |" in files["table.md"]
    page = (tmp_path / "page.html").read_text()
    assert all(f'data-chart="{name}"' in page for name in charts)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["runs=[{}/nowhere]"], "runs: {}/nowhere is not there"),
        (["runs=[{}/x*]"], "runs: no folder with a run matches {}/x*"),
        (["runs=[{}/run]", "output={}"], "output: {} is a folder; expected the name of a file"),
        (
            ["runs=[{}/run]", "output={}/new/"],
            "output: {}/new/ is a folder; expected the name of a file",
        ),
        (
            ["runs=[{}/run]", "output={}/run/config.yaml/a.html"],
            "output: can't write {}/run/config.yaml/a.html: Not a directory",
        ),
        (
            ["runs=[{}/run]", "figures={}/run/config.yaml"],
            "figures: can't write {}/run/config.yaml: Not a directory",
        ),
        (["runs=[{}/run]", "output=/proc/page.html"], "/proc/page.html: No such file or directory"),
        (["runs=[{}/run]", "against=rl2"], "against=rl2: expected maml_ppo"),
        (
            ["runs=[{}]"],
            "{}/z_other/evaluation.json has 1 task of ant_vel; expected the 1 task of",
        ),
        ([], "runs"),
    ],
)
def test_mistakes_are_answered_in_a_line_and_nothing_is_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
) -> None:
    run_folder(tmp_path / "run", [[-8.0, -4.0]])
    run_folder(tmp_path / "z_other", [[-8.0, -4.0]], env="ant_vel")
    words = [*(word.format(tmp_path) for word in words)]
    words += [] if any(w.startswith("output=") for w in words) else [f"output={tmp_path}/page.html"]
    assert call(monkeypatch, report, *words) == 2
    told = capsys.readouterr()
    assert said.format(tmp_path) in told.err and told.err.count("\n") == 1
    assert not (tmp_path / "page.html").exists()


def test_few_shot_runs_have_a_page_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few_shot_folder(tmp_path / "few/a", [0.5, 0.75])
    words = [f"runs=[{tmp_path}/few]", f"output={tmp_path}/page.html", f"figures={tmp_path}/paper"]
    assert call(monkeypatch, report, *words) == 0
    assert "a mean accuracy of" in (tmp_path / "page.html").read_text()
    files = {file.name for file in (tmp_path / "paper").iterdir()}
    assert files == {"adaptation.pdf", "adaptation.png", "table.csv", "table.md", "table.tex"}
    # Beside others they are left out.
    run_folder(tmp_path / "few/b", [[-8.0, -4.0]])
    assert call(monkeypatch, report, *words[:2]) == 0
    assert "left out: few-shot runs; they have a page of their own" in capsys.readouterr().err
    assert "a mean accuracy of" not in (tmp_path / "page.html").read_text()


def test_the_configuration_of_a_run_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_folder(tmp_path / "runs/a", [[-8.0, -4.0]])
    read, load = [], yaml.load

    def counted(text: str, Loader: type) -> object:
        read.append(text)
        return load(text, Loader)

    monkeypatch.setattr(yaml, "load", counted)
    assert call(monkeypatch, report, f"runs=[{tmp_path}/runs]", f"output={tmp_path}/page.html") == 0
    assert read.count((tmp_path / "runs/a/config.yaml").read_text()) == 1


def test_without_its_libraries_it_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("metarl.report.page")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    assert call(monkeypatch, report, f"runs=[{tmp_path}]") == 2
    assert "a report needs plotly: pip install 'metarl[report]'" in capsys.readouterr().err
