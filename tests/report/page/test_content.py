"""What a report gathers: charts with their numbers, runs that still go, videos, and where all comes
from."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.run_folders import run_folder

from metarl.errors import UserError
from metarl.report.finished import all_runs, configs_below
from metarl.report.page import films
from metarl.report.page.charts import BEFORE
from metarl.report.page.content import Content, gathered
from metarl.report.page.figures import figures, files
from metarl.report.page.provenance import RUN_HEAD, commands, run_rows

ROWS = [
    {
        "iteration": i,
        "env_steps": 10 * (i + 1),
        "seconds": 30.0 * (i + 1),
        "return_before": -300.0 + i,
        "return_after": -200.0 + i,
        "peak_memory_mib": 100.0,
    }
    for i in range(5)
]
TOLD = {
    "spec_hash": "abc",
    "variant": "default",
    "commit": "1234567",
    "command": "scripts/train.py",
    "versions": {"torch": "2"},
}


def content(folder: Path, **more: Any) -> tuple[Content, list[str]]:
    settings = {"names": None, "against": None, "num_videos": 12, "command": "report", **more}
    return gathered(*all_runs(configs_below([folder])), **settings)


def begun(folder: Path, rows: list[dict[str, float]], **more: Any) -> Path:
    """A run that has no evaluation yet."""
    run_folder(folder, [[0.0]], rows=rows, **more)
    (folder / "evaluation.json").unlink()
    return folder


def test_each_chart_has_its_numbers_and_words(tmp_path: Path) -> None:
    for seed in (0, 1):
        run_folder(
            tmp_path / f"a{seed}", [[-9.0, -4.0], [-8.0, -5.0]], seed=seed, rows=ROWS, **TOLD
        )
        run_folder(
            *(tmp_path / f"b{seed}", [[-9.0], [-8.0]]),
            seed=seed,
            rows=ROWS,
            algo="memoryless_ppo",
            unit="episode",
        )
    found, notes = content(tmp_path)
    assert notes == [] and found.against == "maml_ppo"
    charts = {chart.key: chart for chart in found.charts}
    assert list(charts) == [
        *("adaptation", "training_steps", "training_time", "profiles", "tasks_1", "tasks_2")
    ]
    for chart in charts.values():
        assert chart.words and chart.note and chart.figure["data"]
        assert {len(row) for row in chart.rows} == {len(chart.head)}
    # Half an hour isn't 500m, as counts of steps are 500k.
    formats = [charts[f"training_{key}"].figure["layout"]["xaxis"] for key in ("steps", "time")]
    assert [axis.get("tickformat") for axis in formats] == ["~s", None]
    rows = charts["adaptation"].rows
    assert rows[1][:3] == ["maml_ppo", "after 1 update", "-4.50"]
    assert ["standing still", "", "-350.0", ""] in rows
    names = {trace.get("name") for trace in charts["adaptation"].figure["data"]}
    assert {"maml_ppo", "maml_ppo, seed 1", "memoryless_ppo", "standing still"} <= names
    # Dotted lines of all learners are one row of a legend.
    for key in ("training_steps", "profiles"):
        before = [t for t in charts[key].figure["data"] if t.get("name") == BEFORE]
        assert sum(trace["showlegend"] for trace in before) == 1 == len(before) - (key[0] == "t")
    lines = {trace.get("name") for trace in charts["training_steps"].figure["data"]}
    assert {"maml_ppo, seed 0", "maml_ppo, seed 1"} <= lines
    assert charts["training_time"].head[1] == "minutes of training"
    # 2 of 2 tasks are better after the update.
    assert charts["tasks_1"].rows == [
        ["target 1.00 m/s", "-9.00", "-4.00"],
        ["target 2.00 m/s", "-8.00", "-5.00"],
    ]
    assert found.lead[0].startswith(
        "maml_ppo (seeds 0, 1): a mean return of -8.50 at first and -4.50 ["
    )


def test_how_often_a_task_is_solved_has_a_chart_and_files(tmp_path: Path) -> None:
    run_folder(
        *(tmp_path / "a", [[-9.0, -4.0], [-8.0, -5.0]]),
        success=[0.0, 0.5],
        solved=[[[False, False], [True, True]], [[False, False], [False, False]]],
        references={"scripted": {"mean": 3.0, "success_rate": 1.0}},
    )
    for seed in (0, 1):  # of an earlier version: no interval
        run_folder(tmp_path / f"b{seed}", [[-9.0], [-8.0]], algo="grbal", seed=seed, success=[0.25])
    found, _ = content(tmp_path)
    (chart,) = [chart for chart in found.charts if chart.key == "success"]
    assert "maml_ppo has the highest, 50 %" in chart.words
    told = {(row[0], row[1]): row[2:] for row in chart.rows}
    assert told["maml_ppo", "after 1 update"][0] == "50.0 %"
    assert told["grbal", "before adaptation"] == ["25.0 %", "[–, –]"]
    assert told["scripted", ""] == ["100.0 %", ""]
    names = {trace["name"]: trace["y"] for trace in chart.figure["data"]}
    assert names["maml_ppo"] == [0, 0.5] and names["scripted"] == [1, 1]
    assert {"success.pdf", "success.png"} <= set(files(found))
    drawn = figures(found)
    reaches = [drawn[name].axes[0].get_ylim() for name in ("tasks_1", "tasks_2")]
    assert reaches[0] == reaches[1] and reaches[0][0] < -9 and reaches[0][1] > -4


def test_it_says_where_the_numbers_come_from(tmp_path: Path) -> None:
    run_folder(tmp_path / "a", [[-9.0, -4.0]], rows=ROWS, **TOLD)
    run_folder(tmp_path / "b", [[-9.0, -4.0]], seed=1, rows=ROWS, **(TOLD | {"commit": "7654321"}))
    found, _ = content(tmp_path)
    problem, code = dict(found.problem), dict(found.code)
    assert problem["spec hash"] == "abc" and problem["tasks"].startswith("1, held out")
    assert code["commit"] == "1234567; 7654321" and code["versions"] == "torch 2"
    # Twice 150 s
    assert code["computing"].startswith("100 environment steps, 5 minutes of training in all")
    # Seeds of one process took their 150 s together: each has half of it.
    (tmp_path / "config.yaml").write_text("num_seeds: 2\n")
    found, _ = content(tmp_path)
    together = dict(found.code)["computing"]
    assert together.startswith("100 environment steps, 2 minutes of training in all")
    assert found.rows[0].seconds == 75.0
    assert {chart.key: chart for chart in found.charts}["training_time"].rows[-1][1] == "75"
    row = dict(zip(RUN_HEAD, run_rows(found.learners)[0], strict=True))
    assert (row["steps"], row["memory"], row["commit"]) == ("2M", "100 MiB", "1234567")
    assert row["training"] == "75 seconds, its share of 2 seeds together"
    assert commands(found.learners[0].runs) == ["python scripts/train.py"]


def test_a_run_that_still_goes_is_shown_as_far_as_it_is(tmp_path: Path) -> None:
    run_folder(tmp_path / "done", [[-9.0, -4.0]], rows=ROWS)
    (begun(tmp_path / "going", ROWS[:2], seed=1) / "run.lock").write_text("")
    begun(tmp_path / "stopped", ROWS[:3], algo="rl2_ppo")
    begun(tmp_path / "empty", [], seed=3)
    found, notes = content(tmp_path)
    assert [(run.name, run.learner) for run in found.going] == [
        ("maml_ppo, seed 1 (still going at iteration 2)", "maml_ppo"),
        ("rl2_ppo, seed 0 (stopped at iteration 3)", None),
    ]
    assert notes == [
        f"left out: {tmp_path}/empty has neither an evaluation nor an iteration yet",
        f"not evaluated yet: {tmp_path}/going, still going at iteration 2; its training is shown",
        f"not evaluated yet: {tmp_path}/stopped, stopped at iteration 3; its training is shown",
    ]
    (steps,) = (chart for chart in found.charts if chart.key == "training_steps")
    lines = {trace["name"]: trace for trace in steps.figure["data"] if trace.get("name")}
    # The finished seeds' curve isn't cut to where the others are.
    assert lines["maml_ppo"]["x"][-1] == 50 and lines[found.going[0].name]["x"][-1] == 20


def test_without_any_evaluation_there_are_curves_alone(tmp_path: Path) -> None:
    begun(tmp_path / "going", ROWS)
    found, _ = content(tmp_path)
    assert [chart.key for chart in found.charts] == ["training_steps", "training_time"]
    assert found.rows == [] and found.title == "half_cheetah_vel"


def test_what_does_not_belong_together_is_refused_with_the_difference(tmp_path: Path) -> None:
    run_folder(tmp_path / "a", [[1.0]], spec_hash="abc")
    other = run_folder(tmp_path / "b", [[1.0]], seed=1, spec_hash="def")
    config = yaml.safe_load((other / "config.yaml").read_text())
    for folder, horizon in ((tmp_path / "a", 200), (other, 100)):
        config["env"]["horizon"] = horizon
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(
        UserError, match=r"spec hash def and abc \(env.horizon=100 and 200\); expected runs of one"
    ):
        content(tmp_path)


def test_an_oracle_stands_beside_though_its_spec_is_another(tmp_path: Path) -> None:
    run_folder(tmp_path / "a", [[1.0]], spec_hash="abc")
    run_folder(tmp_path / "b", [[1.0]], spec_hash="def", shows_task=True)
    found, _ = content(tmp_path)
    assert [row.name for row in found.rows] == ["maml_ppo", "maml_ppo, shown the task"]


def test_others_that_still_go_are_refused_and_damaged_ones_named(tmp_path: Path) -> None:
    run_folder(tmp_path / "a", [[1.0]])
    going = begun(tmp_path / "b", ROWS, env="ant_vel")
    with pytest.raises(
        UserError, match=r"b is of ant_vel; expected half_cheetah_vel, as the other"
    ):
        content(tmp_path)
    (going / "config.yaml").write_text(
        (tmp_path / "a/config.yaml").read_text().replace("shows_task", "horizon: 100\n  shows_task")
    )
    config = tmp_path / "a/config.yaml"
    config.write_text(config.read_text().replace("shows_task", "horizon: 200\n  shows_task"))
    with pytest.raises(UserError, match=r"b has env.horizon=100; expected 200, as the other runs"):
        content(tmp_path)
    (going / "config.yaml").write_text("seed: 0\n")
    with pytest.raises(UserError, match="b/config.yaml: has no env; expected the configuration"):
        content(tmp_path)


def test_nothing_to_show_is_said(tmp_path: Path) -> None:
    begun(tmp_path / "a", [])
    with pytest.raises(UserError, match="runs: none of the 1 runs has anything to show yet"):
        content(tmp_path)


def test_learners_may_have_other_names(tmp_path: Path) -> None:
    run_folder(tmp_path / "a", [[1.0]])
    run_folder(tmp_path / "b", [[1.0]], algo="rl2_ppo")
    found, _ = content(tmp_path, names=["ours", "theirs"], against="theirs")
    assert [row.name for row in found.rows] == ["ours", "theirs"] and found.against == "theirs"
    for names in (["ours"], ["ours", "ours"]):
        with pytest.raises(UserError, match="expected 2 different names, of maml_ppo; rl2_ppo"):
            content(tmp_path, names=names)


def test_videos_are_taken_in_turn_up_to_a_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for algo in ("maml_ppo", "rl2_ppo"):
        folder = run_folder(tmp_path / algo, [[1.0]], algo=algo)
        (folder / "videos").mkdir()
        for name in ("adaptation", "videos/grid", "videos/task_0"):
            (folder / f"{name}.mp4").write_bytes(b"film of " + algo.encode())
    found, notes = content(tmp_path, num_videos=3)
    assert [film.title for film in found.films] == [
        "maml_ppo, seed 0: adaptation",
        "rl2_ppo, seed 0: adaptation",
        "maml_ppo, seed 0: task 0",
    ]
    assert found.films[0].source == "data:video/mp4;base64,ZmlsbSBvZiBtYW1sX3Bwbw==" and notes == []
    monkeypatch.setattr(films, "MOST_BYTES", 20)
    _, notes = content(tmp_path)
    assert (
        notes[0] == f"left out: {tmp_path}/rl2_ppo/adaptation.mp4 makes the page larger than 0 MB"
    )


def test_returns_that_are_damaged_are_named(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "a", [[1.0]])
    report = json.loads((folder / "evaluation.json").read_text())
    report["tasks"][0]["episodes"] = [[1.0, None]]
    (folder / "evaluation.json").write_text(json.dumps(report))
    with pytest.raises(UserError, match=r"a/evaluation.json: the returns of its tasks are damaged"):
        content(tmp_path)
