"""What the rows of a report say, by hand, and that Markdown, CSV and LaTeX say the same."""

import csv
import io
from pathlib import Path

import pytest
from support.run_folders import run_folder

from metarl.errors import UserError
from metarl.report import csv_table
from metarl.report.finished import finished_runs
from metarl.report.learners import learners, side_by_side
from metarl.report.summary import Summary, summaries
from metarl.report.summary_table import as_csv, latex, markdown, seeds_in_words

SCALE = {"zero": [-40.0, -40.0], "one": [-10.0, 0.0]}


def read(folder: Path, against: str | None = None) -> tuple[list[Summary], str | None]:
    return read_of(folder, against=against)


def read_of(*folders: Path, against: str | None = None) -> tuple[list[Summary], str | None]:
    of = learners(finished_runs(folders)[0])
    return summaries(side_by_side(of), of, against)


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """Two seeds of each learner on two tasks, before and after an update."""
    for seed, first in (
        (0, [[-30.0, -20.0], [-10.0, -14.0]]),
        (1, [[-30.0, -22.0], [-12.0, -8.0]]),
    ):
        run_folder(tmp_path / f"a{seed}", first, seed=seed, scale=SCALE)
    for seed in (0, 1):
        second = [[-30.0, -21.0], [-20.0, -12.0]]
        run_folder(tmp_path / f"b{seed}", second, seed=seed, algo="rl2_ppo", scale=SCALE)
    return tmp_path


def test_numbers_by_hand(two: Path) -> None:
    (first, second), against = read(two, "rl2_ppo")
    assert against == "rl2_ppo" and second.better is None and second.difference is None
    assert first.mean["value"] == pytest.approx((-20 - 14 - 22 - 8) / 4)
    assert first.before and first.before["value"] == pytest.approx((-30 - 10 - 30 - 12) / 4)
    assert first.gain and first.gain["value"] == pytest.approx((10 - 4 + 8 + 4) / 4)
    assert first.made_worse and first.made_worse["value"] == 0.25
    # Missing to the best: 10 and 14, 12 and 8
    assert first.gap and first.gap["value"] == pytest.approx(11.0)
    # (-16 + 40) / 35
    assert first.normalised and first.normalised["value"] == pytest.approx(24 / 35)
    # Task 1: -20 beats -21 and -22 doesn't, task 2: -14 doesn't beat -12 and -8 does
    assert first.better and first.better["value"] == 0.5
    # 1 - 2 and -1 + 4 by seed
    assert first.difference and first.difference["value"] == pytest.approx(0.5)
    assert (first.stage, first.env_steps, first.seeds) == ("after 1 update", 2_000_000, [0, 1])


def test_the_first_learner_is_the_others_measure_unless_one_is_named(two: Path) -> None:
    assert read(two)[1] == "maml_ppo"
    with pytest.raises(UserError, match=r"against=rl2: expected maml_ppo or rl2_ppo$"):
        read(two, "rl2")


def test_learners_of_other_seeds_are_set_against_each_other_too(two: Path) -> None:
    more = [[-31.0, -24.0], [-20.0, -12.0]]
    run_folder(two / "b2", more, seed=2, algo="rl2_ppo", scale=SCALE)
    (first, _), _ = read(two, "rl2_ppo")
    # -16 less the mean of -16.5, -16.5 and -18
    assert first.difference and first.difference["value"] == pytest.approx(1.0)
    assert first.difference["ci_low"] < 1.0 < first.difference["ci_high"]


def test_one_task_of_one_seed_is_compared_by_its_episodes(tmp_path: Path) -> None:
    scale = {"zero": [-40.0], "one": [0.0]}
    run_folder(tmp_path / "a", [[-30.0, -20.0]], scale=scale)
    run_folder(tmp_path / "b", [[-30.0, -20.5]], algo="rl2_ppo", scale=scale)
    run_folder(tmp_path / "c", [[-30.0, -22.0]], algo="rl2_ppo", seed=1, scale=scale)
    (first, _), _ = read(tmp_path, "rl2_ppo")
    assert first.gain and first.gain["value"] == pytest.approx(10.0)
    assert first.gain["ci_low"] < 10.0 < first.gain["ci_high"]
    assert first.gap is None and first.better and first.better["value"] == 1.0
    (_, alone), _ = read_of(tmp_path / "a", tmp_path / "b")
    # -21.5 and -19.5 against -21 and -19
    assert alone.better and alone.better["value"] == 0.25
    assert alone.difference and alone.difference["ci_low"] < -0.5 < alone.difference["ci_high"]


def test_a_learner_alone_and_one_that_has_no_updates_leave_cells_out(tmp_path: Path) -> None:
    run_folder(tmp_path, [[1.0], [2.0]])
    (row,), against = read(tmp_path)
    assert against is None and row.before is row.gain is row.made_worse is row.better is None
    assert (
        markdown([row], None).splitlines()[0]
        == "| learner | seeds | steps | measured | mean | IQM |"
    )


def test_tables_say_the_same(two: Path) -> None:
    rows, against = read(two)
    lines = markdown(rows, against).splitlines()
    assert lines[0].endswith("| beats maml_ppo | minus maml_ppo |")
    assert lines[2].startswith("| maml_ppo | 0, 1 | 2M | after 1 update | -20.5 [")
    assert "| 25 % [" in lines[2] and lines[2].endswith("|  |  |")
    ours, theirs = csv.DictReader(io.StringIO(as_csv(rows, against)))
    assert (ours["learner"], ours["num_seeds"], ours["env_steps"]) == ("maml_ppo", "2", "2000000")
    assert float(ours["mean"]) == rows[0].mean["value"] and ours["better"] == ""
    assert float(theirs["better"]) == 0.5 and theirs["against"] == "maml_ppo"
    assert float(ours["mean_ci_low"]) == rows[0].mean["ci_low"]
    text = latex(rows, against, "50 % of half_cheetah_vel")
    assert (
        r"\caption{50 \% of half\_cheetah\_vel}" in text
        and r"maml\_ppo & 0, 1 & 2M & $-20.5$" in text
    )
    assert r"$25\,\%$ {\scriptsize $[" in text
    widths = {line.count(" & ") for line in text.splitlines() if line.endswith(r"\\")}
    assert len(widths) == 1


def test_solved_episodes_stand_in_all_tables(tmp_path: Path) -> None:
    solved = [[[False, False], [True, True]]] * 4
    run_folder(tmp_path / "a", [[1.0, 2.0]] * 4, success=[0.0, 1.0], solved=solved)
    # Of an earlier version, whose several seeds have no interval
    for seed in (0, 1):
        run_folder(
            *(tmp_path / f"b{seed}", [[1.0, 2.0]] * 4),
            algo="promp",
            seed=seed,
            success=[0.0, 0.5],
        )
    rows, against = read(tmp_path)
    texts = markdown(rows, against).splitlines()
    assert "| solved |" in texts[0]
    assert "| 100 % [40, 100] |" in texts[2] and "| 50 % |" in texts[3]
    ours, theirs = csv.DictReader(io.StringIO(as_csv(rows, against)))
    assert (ours["solved"], theirs["solved"], theirs["solved_ci_low"]) == ("1.0", "0.5", "")
    text = latex(rows, against, "")
    assert r"& $100\,\%$ {\scriptsize $[40, 100]$}" in text and r"& $50\,\%$ &" in text


def test_seeds_in_a_row_are_shortened() -> None:
    assert [seeds_in_words(seeds) for seeds in ([3], [0, 1], [0, 1, 2], [0, 2, 3])] == [
        "3",
        "0, 1",
        "0–2",
        "0, 2, 3",
    ]


def test_a_spreadsheet_takes_no_name_for_a_formula() -> None:
    text = csv_table.table(
        ["name"], ["return"], [(["=1+1"], {"return": None}), ([-2.5], {"return": None})]
    )
    assert text.splitlines()[1:] == ["'=1+1,,,", "-2.5,,,"]
