"""Results have a place before their work begins."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.commands import SMALL_BANDIT, call

import metarl
from metarl.cli import evaluation, filming, outputs
from metarl.cli.commands import (
    benchmark,
    compare,
    estimators,
    evaluate,
    render,
    report,
    zoo,
)
from metarl.errors import UserError


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("outputs") / "run"
    return metarl.train("bandit", "rl2_ppo", **SMALL_BANDIT, run_dir=folder).folder


@pytest.fixture
def a_file(tmp_path: Path) -> Path:
    place = tmp_path / "notes.md"
    place.write_text("mine")
    return place


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (evaluate, ["checkpoint={run}", "output={file}/new/x.json"]),
        (evaluate, ["checkpoint={run}", "output={file}/new"]),
        (render, ["checkpoint={run}", "output={file}/new"]),
        (render, ["env=half_cheetah_vel", "output={file}"]),
        (zoo, ["run={run}", "output={file}/new"]),
        (zoo, ["run={run}", "output={folder}"]),
        (report, ["runs=[{run}]", "output={file}/new/page.html"]),
        (report, ["runs=[{run}]", "output={file}"]),
        (report, ["runs=[{run}]", "figures={file}/new"]),
        (compare, ["runs=[{run}]", "output={file}/new"]),
        (estimators, ["output={file}/new"]),
        (benchmark, ["sim", "output={file}/new"]),
    ],
)
def test_no_command_works_for_nothing(
    command: Any,
    words: list[str],
    run: Path,
    a_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def works(*_: Any, **__: Any) -> Any:
        raise AssertionError("it works before it knows where to write")

    for module, name in (
        (evaluation, "evaluate"),
        (filming, "trained"),
        (filming, "film"),
        (report, "run_places"),
        (compare, "run_places"),
        (estimators, "random_mdp"),
        (benchmark, "run_sim"),
    ):
        monkeypatch.setattr(module, name, works)
    (a_file.parent / "bandit").touch()  # where the zoo would have a folder
    given = [word.format(run=run, file=a_file, folder=a_file.parent) for word in words]
    assert call(monkeypatch, command, *given) == 2
    key = given[-1].partition("=")[0]
    assert f"{key}: " in capsys.readouterr().err
    assert a_file.read_text() == "mine"


def test_what_is_refused_later_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("update", "rows=[nope]", f"output={tmp_path}/new/rows.jsonl")
    assert call(monkeypatch, benchmark, *words) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_page_and_a_folder_of_one_name_are_refused(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (f"runs=[{run}]", f"output={tmp_path}/a.html", f"figures={tmp_path}/a.html")
    assert call(monkeypatch, report, *words) == 2
    assert "is the page's name; expected a folder" in capsys.readouterr().err


def test_a_name_of_the_zoo_that_is_taken_is_told_before_the_run_is_evaluated(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bandit").mkdir()
    (tmp_path / "bandit/rl2_ppo.pt").touch()
    monkeypatch.setattr(zoo, "packed", lambda *_, **__: pytest.fail("packed"))
    assert call(monkeypatch, zoo, f"run={run}", f"output={tmp_path}") == 2
    assert "is there already; expected another name" in capsys.readouterr().err


def test_from_python_the_run_folder_need_not_be_writable(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> Path:
        raise UserError("nothing is written")

    monkeypatch.setattr(outputs, "folder", refuse)
    assert metarl.load(run).evaluate(num_tasks=2).kept_in is None
    with pytest.raises(UserError, match="nothing is written"):
        metarl.load(run).evaluate(num_tasks=2, output="x.json")


def test_a_trial_leaves_all_as_it_was(tmp_path: Path) -> None:
    assert outputs.folder(tmp_path / "a/b") == tmp_path / "a/b"
    assert outputs.file(tmp_path / "a/page.html", (".html",)) == tmp_path / "a/page.html"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("found", [outputs.folder, outputs.file_to_append_to])
def test_home_is_where_it_always_is(
    found: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert found("~/x") == tmp_path / "x"


def test_a_page_is_written_over_and_a_device_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "old.HTML").write_text("old")
    assert outputs.file(tmp_path / "old.HTML", (".html",)).exists()
    (tmp_path / "link.html").symlink_to(tmp_path / "elsewhere/page.html")
    tried = []
    monkeypatch.setattr(outputs, "check_writable", tried.append)
    assert outputs.file("/dev/null", (".html",)) == Path("/dev/null")
    outputs.file(tmp_path / "link.html", (".html",))
    assert tried == [tmp_path / "elsewhere"]
