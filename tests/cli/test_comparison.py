"""What a sweep ends with besides a row for each run: its learners, where they can be set side by
side."""

from pathlib import Path

import pytest
from support.run_folders import run_folder

from metarl.cli import comparison
from metarl.cli.comparison import of_learners


def test_there_is_a_table_of_each_environment(tmp_path: Path) -> None:
    folders = [
        run_folder(tmp_path / f"{env}{seed}", [[-8.0, -4.0]], seed=seed, env=env)
        for env in ("ant_vel", "my:env")
        for seed in (0, 1)
    ]
    texts, files = of_learners(folders)
    assert [text.partition(":")[0] for text in texts] == ["ant_vel, 1 held-out task", "my"]
    assert "| maml_ppo | 0, 1 | 2M | after 1 update |" in texts[0]
    assert sorted(files) == [
        *("table_ant_vel.csv", "table_ant_vel.tex", "table_my_env.csv", "table_my_env.tex")
    ]
    assert sorted(of_learners(folders[:2])[1]) == ["table.csv", "table.tex"]


def test_what_cannot_be_set_side_by_side_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A sweep over the number of tasks, for instance."""
    folders = [run_folder(tmp_path / str(n), [[1.0]] * n, seed=n) for n in (1, 2)]
    assert of_learners(folders) == ([], {})
    assert "no table of learners: " in (said := capsys.readouterr().err) and "2 tasks of" in said


def test_one_episode_of_one_task_has_no_interval() -> None:
    row = {"iqm": 1.5, "ci_low": 1.5, "ci_high": 1.5}
    assert comparison._cell(row) == "1.50"
    assert comparison._cell(row | {"ci_high": 2.5}) == "1.50 [1.50, 2.50]"
