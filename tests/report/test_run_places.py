"""Runs are found by the folders, patterns and sweeps that a user names."""

import json
from pathlib import Path

import pytest
from support.run_folders import run_folder

from metarl.errors import UserError
from metarl.report.run_places import in_order, run_places


def sweep(folder: Path, runs: list[Path], in_lines: bool = False) -> Path:
    folder.mkdir(parents=True)
    lines = [json.dumps({"number": n, "folder": str(run)}) for n, run in enumerate(runs)]
    if in_lines:
        (folder / "runs.jsonl").write_text("\n".join([*lines, '{"number": 2, "fold']) + "\n")
    else:
        (folder / "done").mkdir()
        for number, line in enumerate([*lines, '{"number": 2, "fold']):
            (folder / f"done/{number}.json").write_text(line)
    return folder


def test_folders_are_themselves_and_patterns_are_what_has_runs(tmp_path: Path) -> None:
    for name in ("a/seed0", "a/seed1", "b/seed0"):
        run_folder(tmp_path / name, [[1.0]])
    (tmp_path / "c/seed0").mkdir(parents=True)
    (tmp_path / "a/seed_file").write_text("")
    found, notes = run_places([f"{tmp_path}/*/seed0", f"{tmp_path}/a"])
    assert found == [tmp_path / "a/seed0", tmp_path / "b/seed0", tmp_path / "a"] and notes == []
    assert run_places([str(tmp_path / "nowhere")])[0] == [tmp_path / "nowhere"]


def test_signs_of_patterns_in_the_name_of_a_folder_are_letters(tmp_path: Path) -> None:
    run_folder(tmp_path / "a[1]", [[1.0]])
    assert run_places([f"{tmp_path}/a[1]"])[0] == [tmp_path / "a[1]"]


@pytest.mark.parametrize("in_lines", [False, True])
def test_a_sweep_leads_to_its_runs_and_tells_which_are_gone(tmp_path: Path, in_lines: bool) -> None:
    """Sweeps of earlier versions list them in lines."""
    run = run_folder(tmp_path / "runs/x", [[1.0]])
    folder = sweep(tmp_path / "sweeps/one", [run, tmp_path / "runs/gone"], in_lines)
    found, notes = run_places([str(folder)])
    assert found == [run]
    assert notes == [
        f"left out: {tmp_path}/runs/gone is not there, where the sweep {folder} has it"
    ]


def test_a_sweep_leads_to_its_runs_that_are_not_done_too(tmp_path: Path) -> None:
    done, going = (run_folder(tmp_path / name, [[1.0]]) for name in ("b", "a"))
    folder = sweep(tmp_path / "sweep", [done])
    (folder / "begun").mkdir()
    for number, run in enumerate((done, going)):
        (folder / f"begun/{number}.json").write_text(json.dumps({"folder": str(run)}))
    assert run_places([str(folder)]) == ([done, going], [])


def test_nothing_found_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"runs: no folder with a run matches .*/\*"):
        run_places([f"{tmp_path}/*"])
    folder = sweep(tmp_path / "sweep", [tmp_path / "gone"])
    with pytest.raises(UserError, match="runs: none of the 1 runs that .* lists is there"):
        run_places([str(folder)])


def test_what_lies_in_folders_is_shown_as_people_count() -> None:
    names = ["run9/seed0", "run10/seed1", "run10/seed2", "run10/seed10", "run10/seed10b", "runs/0"]
    places = [Path(name) for name in names]
    assert in_order(reversed(places)) == places
