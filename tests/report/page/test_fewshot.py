"""The page on few-shot runs: what it says, and that nothing of it is complained of."""

import csv
import io
from pathlib import Path

import pytest
from support.run_folders import few_shot_folder

from metarl.errors import UserError
from metarl.report.fewshot_learners import few_shot_runs
from metarl.report.finished import configs_below
from metarl.report.page import fewshot, fewshot_figures
from metarl.report.page.html import Page, written

ROWS = [{"iteration": i, "tasks": 100 * (i + 1), "accuracy": 0.1 * i} for i in range(5)]


SETTINGS = {"names": None, "against": None, "command": "report"}
KINDS = ("pdf", "png")


def content(folder: Path, **settings: object) -> tuple[fewshot.Content, list[str]]:
    return fewshot.gathered(*few_shot_runs(configs_below([folder])), **settings)


def page(folder: Path, **more: object) -> tuple[Page, list[str]]:
    found, notes = content(folder, **{**SETTINGS, **more})
    return fewshot.page(found), notes


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for seed in (0, 1):
        few_shot_folder(tmp_path / f"a{seed}", [0.5, 0.75], seed=seed, rows=ROWS)
    few_shot_folder(tmp_path / "b", [0.75, 1.0], learner="protonet", means=[])
    (tmp_path / "b/tasks.png").write_bytes(b"png")
    (few_shot_folder(tmp_path / "going", [0.5], seed=9) / "evaluation.json").unlink()
    return tmp_path


def test_it_says_what_each_learner_comes_to(runs: Path) -> None:
    found, notes = page(runs)
    assert notes == [f"left out: {runs / 'going'} has no evaluation yet"]
    assert found.title == "digits, 5-way 1-shot"
    assert found.lead[1] == (
        "protonet (seed 0): a mean accuracy of 87.50 % [77.50, 97.50] after 0 updates."
    )
    assert [head for head, _ in found.columns] == ["before", "after", "beats maml"]
    maml, protonet = found.table
    assert maml[:2] == ("maml", "after 1 update; seeds 0, 1; 1k training tasks")
    assert maml[2][0][0] == "20.00 %" and maml[2][1][0] == "62.50 %" and maml[2][2] is None
    # Better on the first task; on the second 1 against 0.75.
    assert protonet[2][0] is None and protonet[2][2][0] == "100 %"
    assert ("maml: random initialisation", "25.00 %") in found.beside
    assert [picture.title for picture in found.pictures] == ["protonet, seed 0"]


def test_its_charts_have_numbers_and_words(runs: Path) -> None:
    adaptation, training = page(runs, names=["ours", "theirs"])[0].charts
    for chart in (adaptation, training):
        assert chart.words and chart.note and chart.figure["data"]
        assert {len(row) for row in chart.rows} == {len(chart.head)}
    assert adaptation.rows[1][:3] == ["ours", "1", "62.50 %"]
    assert {trace["name"] for trace in adaptation.figure["data"]} >= {"ours, seed 1", "theirs"}
    assert training.note.endswith("the band is the range of two seeds. Not told by theirs.")
    assert training.rows[-1] == ["ours", "500", "40.0"]


def test_errors_are_better_where_they_are_lower(tmp_path: Path) -> None:
    for learner, by_task in (("maml", [1.0, 2.0]), ("reptile", [0.5, 3.0])):
        few_shot_folder(tmp_path / learner, by_task, learner=learner, measure="mse", ways=1)
    (_, reptile) = page(tmp_path)[0].table
    assert [cell[0] for cell in reptile[2]] == ["0.2000", "1.7500", "50 %"]
    few_shot_folder(tmp_path / "reptile", [0.5, 1.0], learner="reptile", measure="mse", ways=1)
    assert page(tmp_path)[0].table[1][2][2][0] == "100 %"


def test_what_diverged_is_said_so(tmp_path: Path) -> None:
    few_shot_folder(tmp_path, [0.5, None], rows=ROWS[:1])
    found, _ = page(tmp_path)
    assert found.table[0][2][1] == ("diverged", "")
    assert "diverged after 1 update." in found.lead[0]
    (line,) = (t for t in found.charts[1].figure["data"] if t["name"] == "maml")
    assert line["mode"] == "markers"  # A single point is no line.
    assert "diverged" in written(found)
    few_shot_folder(tmp_path / "other", [0.25, 0.0], learner="reptile")
    *_, reptile = (row for _, _, row in page(tmp_path)[0].table)
    assert reptile[2][0] == "50 %"  # Worse on the first task; on the second anything is better.


def test_it_is_written_as_a_page(runs: Path) -> None:
    found, _ = page(runs)
    text = written(found)
    assert 'data-chart="training_tasks"' in text and "data:image/png;base64,cG5n" in text


def test_its_charts_and_its_table_are_written_for_a_paper(runs: Path) -> None:
    found = fewshot_figures.files(content(runs, **SETTINGS)[0])
    charts = {f"{name}.{kind}" for name in ("adaptation", "training_tasks") for kind in KINDS}
    assert set(found) == charts | {"table.csv", "table.md", "table.tex"}
    assert found["adaptation.pdf"].startswith(b"%PDF")
    assert found["training_tasks.png"].startswith(b"\x89PNG")
    maml, protonet = csv.DictReader(io.StringIO(found["table.csv"].decode()))
    assert (maml["seeds"], maml["num_seeds"], maml["trained_tasks"]) == ("0 1", "2", "1000")
    assert (maml["num_updates"], protonet["num_updates"], maml["better"]) == ("1", "0", "")
    numbers = [float(maml[key]) for key in ("before", "after", "after_ci_low")]
    assert numbers[:2] == [0.2, 0.625] and numbers[2] < 0.625
    assert protonet["before"] == "" and float(protonet["better"]) == 1.0
    tex = found["table.tex"].decode()
    assert r"protonet & after 0 updates; seed 0; 1k training tasks &  & $87.50\,\%$ {" in tex
    assert r"\begin{tabular}{llrrr}" in tex
    row = b"| protonet | after 0 updates; seed 0; 1k training tasks |  | 87.50 %"
    assert row in found["table.md"]


def test_a_chart_for_a_paper_shows_means_with_their_intervals(tmp_path: Path) -> None:
    for seed in (0, 1):
        few_shot_folder(tmp_path / f"a{seed}", [0.5, 0.75], seed=seed, means=[0.2, None])
    few_shot_folder(tmp_path / "b", [0.75, 1.0], learner="protonet", means=[])
    (axes,) = fewshot_figures.figures(content(tmp_path, **SETTINGS)[0])["adaptation"].axes
    (maml,) = axes.containers
    line, _, (bars,) = maml.lines
    # After one update a task diverged: no mean.
    assert [round(x) for x in line.get_xdata()] == [0, 2]
    assert line.get_ydata() == pytest.approx([20.0, 62.5])
    low, high = bars.get_segments()[1][:, 1]
    assert high - 62.5 == pytest.approx(62.5 - low) and high > 62.6
    across = {of.get_label(): of.get_ydata()[0] for of in axes.lines if len(of.get_xdata()) == 2}
    assert across["protonet"] == pytest.approx(87.5)
    assert axes.get_ylabel().startswith("accuracy in % on test tasks")


def test_mistakes_are_told(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="against=protnet: expected .*protonet"):
        page(runs, against="protnet")
    with pytest.raises(UserError, match=r"names=\[a\]: expected 2 different names"):
        page(runs, names=["a"])
    with pytest.raises(UserError, match="none of the 1 few-shot runs has an evaluation yet"):
        page(runs / "going")
