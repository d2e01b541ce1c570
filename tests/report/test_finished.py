"""Finished runs are found where they lie, by what they hold."""

import gzip
import json
from pathlib import Path

import pytest
from support.run_folders import run_folder

from metarl.errors import UserError
from metarl.report.finished import all_runs, configs_below, finished_runs, numbers_of
from metarl.run.lock import FolderLock

ROWS = [{"iteration": 0, "env_steps": 10, "return_after": 1.0}]


def test_runs_are_found_below_a_folder_once_each_and_unfinished_ones_are_told(
    tmp_path: Path,
) -> None:
    first = run_folder(tmp_path / "b/run1", [[1.0, 2.0]], seed=1, rows=ROWS)
    second = run_folder(tmp_path / "a/run0", [[3.0, 4.0]], seed=0)
    (second / "evaluation_1.json").write_text("{}")  # another evaluation of the same run
    going_on = tmp_path / "a/going_on"
    going_on.mkdir()
    (going_on / "config.yaml").write_text("seed: 3\n")
    runs, unfinished = finished_runs([tmp_path, first])
    assert [(run.place.parent.name, run.seed) for run in runs] == [("run0", 0), ("run1", 1)]
    assert runs[1].metrics == ROWS and runs[0].metrics == []
    assert runs[1].returns.tolist() == [
        [[0.0, 2.0], [1.0, 3.0]]
    ]  # one task, before and after, two episodes
    assert unfinished == [going_on]


@pytest.mark.parametrize("value", ["NaN", "Infinity", '"x"', "null", "[1]", "{}"])
@pytest.mark.parametrize("key", ["return_after", "env_steps", "seconds"])
def test_a_row_counts_for_the_numbers_that_it_has(tmp_path: Path, key: str, value: str) -> None:
    rows = [{"iteration": i, "env_steps": i, "return_after": 0.5, "seconds": 1.5} for i in range(3)]
    folder = run_folder(tmp_path, [[1.0, 2.0]], rows=rows)
    lines = [json.dumps(row) for row in rows]
    lines[1] = json.dumps(rows[1] | {key: "here"}).replace('"here"', value)
    (folder / "metrics.jsonl").write_text("\n".join(lines))
    ((run,), _) = finished_runs([tmp_path])
    del rows[1][key]
    assert run.metrics == ([rows[0], *([] if key != "seconds" else rows[1:2]), rows[2]])


def test_a_folder_of_results_holds_several_seeds(tmp_path: Path) -> None:
    for seed in (0, 1):
        run = run_folder(tmp_path, [[seed + 1.0]], seed=seed)
        (run / "evaluation.json").rename(run / f"evaluation_seed{seed}.json")
        with gzip.open(run / f"metrics_seed{seed}.jsonl.gz", "wt") as file:
            file.write(json.dumps(ROWS[0] | {"return_after": float(seed)}) + "\n")
    runs, _ = finished_runs([tmp_path])
    assert [(run.seed, run.metrics[0]["return_after"]) for run in runs] == [(0, 0.0), (1, 1.0)]


def test_the_seed_is_the_trainings_where_another_evaluated_it(tmp_path: Path) -> None:
    run_folder(tmp_path, [[1.0]], seed=5, training_seed=2)
    assert finished_runs([tmp_path])[0][0].seed == 2


def test_results_of_earlier_versions_are_read(tmp_path: Path) -> None:
    """They have no episodes and no unit."""
    folder = run_folder(tmp_path, [[1.0, 2.0]], algo="rl2_ppo", settings={"episodes_per_trial": 2})
    report = json.loads((folder / "evaluation.json").read_text())
    del report["unit"], report["algo"], report["tasks"][0]["episodes"]
    (folder / "evaluation.json").write_text(json.dumps(report))
    ((run,), _) = finished_runs([tmp_path])
    assert (run.unit, run.algo, run.returns.tolist()) == ("episode", "rl2_ppo", [[[1.0], [2.0]]])


def test_runs_that_have_no_evaluation_are_told_apart(tmp_path: Path) -> None:
    run_folder(tmp_path / "done", [[1.0]])
    (run_folder(tmp_path / "begun", [[1.0]], seed=4, rows=ROWS) / "evaluation.json").unlink()
    (finished,), (begun,) = all_runs(configs_below([tmp_path]))
    assert (finished.seed, begun.seed, begun.algo, begun.metrics) == (0, 4, "maml_ppo", ROWS)
    assert not begun.goes_on
    with FolderLock(begun.place):
        assert begun.goes_on
    assert not begun.goes_on


def test_the_folder_above_several_seeds_is_no_run(tmp_path: Path) -> None:
    """Its evaluation says what all seeds say together."""
    for seed in (0, 1):
        run_folder(tmp_path / f"runs/seed{seed}", [[1.0]], seed=seed)
    (tmp_path / "runs/config.yaml").write_text("seed: 0\nnum_seeds: 2\n")
    (tmp_path / "runs/evaluation.json").write_text('{"seeds": [0, 1]}')
    assert [run.seed for run in finished_runs([tmp_path])[0]] == [0, 1]


def test_rows_that_tell_no_return_are_left_out(tmp_path: Path) -> None:
    run_folder(tmp_path, [[1.0]], rows=[*ROWS, {"iteration": 1}])
    assert finished_runs([tmp_path])[0][0].metrics == ROWS


def test_packed_metrics_that_are_damaged_are_named(tmp_path: Path) -> None:
    (run_folder(tmp_path, [[1.0]]) / "metrics.jsonl.gz").write_bytes(b"no archive")
    with pytest.raises(UserError, match=r"metrics.jsonl.gz: can't be read: Not a gzipped file"):
        finished_runs([tmp_path])


def test_few_shot_runs_are_others(tmp_path: Path) -> None:
    run_folder(tmp_path / "rl", [[1.0]])
    few_shot = run_folder(tmp_path / "few_shot", [[1.0]])
    (few_shot / "config.yaml").write_text("dataset: {}\nseed: 0\n")
    assert len(finished_runs([tmp_path])[0]) == 1


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("evaluation.json", "{", "evaluation.json: can't be read: Expecting"),
        ("evaluation.json", "[]", r"evaluation.json: expected keys and values, found \[\]"),
        ("evaluation.json", '{"tasks": []}', "evaluation.json: has no env; expected an evaluation"),
        ("config.yaml", "a: [", "config.yaml: can't be read: "),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, file: str, content: str, said: str) -> None:
    folder = run_folder(tmp_path / "run", [[1.0]])
    (folder / file).write_text(content)
    with pytest.raises(UserError, match=said) as caught:
        finished_runs([tmp_path])
    assert "\n" not in str(caught.value)


def test_a_folder_without_finished_runs_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"runs: {tmp_path} has no finished run; expected"):
        finished_runs([tmp_path])
    with pytest.raises(UserError, match="nowhere is not there"):
        finished_runs([tmp_path / "nowhere"])


def test_the_time_of_seeds_together_is_shared_as_long_as_they_were(tmp_path: Path) -> None:
    """Two seeds for 20 s, then this one alone for 8: 10 + 8. Rows of earlier versions don't say how
    many they were: there all seeds of the folder count."""
    (tmp_path / "config.yaml").write_text("num_seeds: 2\n")
    (tmp_path / "seed0").mkdir()
    file = tmp_path / "seed0" / "metrics.jsonl"
    of_both = [{"seconds": seconds, "seeds_together": 2} for seconds in (12.0, 20.0)]
    for rows, seconds in (
        ([*of_both, {"seconds": 28.0}], [6.0, 10.0, 18.0]),
        ([{"seconds": 12.0}, {"iteration": 1}, {"seconds": 20.0}], [6.0, None, 10.0]),
    ):
        file.write_text("".join(json.dumps({"iteration": 0} | row) + "\n" for row in rows))
        assert [row.get("seconds") for row in numbers_of(file)] == seconds


def test_files_that_never_end_are_told_in_a_line(tmp_path: Path) -> None:
    """Lists of one another, and lists inside of lists."""
    run = run_folder(tmp_path / "run", [[1.0, 2.0]], seed=0)
    config = (run / "config.yaml").read_text()
    aliases = "".join(f"l{i}: &l{i} [{f'*l{i - 1}, ' * 9 if i else 1}]\n" for i in range(9))
    (run / "config.yaml").write_text(config + aliases)
    with pytest.raises(UserError, match=r"config.yaml: can't be read: it has an alias"):
        finished_runs([tmp_path])
    (run / "config.yaml").write_text(config)
    (run / "metrics.jsonl").write_text("[" * 100_000)
    assert numbers_of(run / "metrics.jsonl") == []
    (run / "metrics.jsonl").unlink()
    with gzip.open(run / "metrics.jsonl.gz", "wt") as file:
        file.write("[1]\n")
    assert numbers_of(run / "metrics.jsonl") == []
    with gzip.open(run / "metrics.jsonl.gz", "wt") as file:
        file.write('{"iteration": 0}\n' + " " * 1_000_001)
    with pytest.raises(UserError, match="it has a line of more than 1000000 characters"):
        numbers_of(run / "metrics.jsonl")
    (run / "metrics.jsonl.gz").unlink()
    (run / "evaluation.json").write_text("[" * 100_000)
    with pytest.raises(UserError, match=r"evaluation.json: can't be read"):
        finished_runs([tmp_path])
