"""The folder that a sweep makes for itself, and what its runs leave there."""

import json
import os
import sys
from pathlib import Path

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from metarl.cli import sweep
from metarl.errors import UserError
from metarl.run.lock import FolderLock


def test_sweeps_that_start_in_the_same_second_get_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = {sweep.new_folder() for _ in range(3)}
    assert len(folders) == 3 and all(folder.is_dir() for folder in folders)


@pytest.mark.parametrize("in_the_way", ["runs", "runs/sweeps"])
def test_a_file_where_its_folder_should_be_is_told(tmp_path, monkeypatch, in_the_way):
    """And doesn't let it look for a free name for ever."""
    monkeypatch.chdir(tmp_path)
    Path(in_the_way).parent.mkdir(exist_ok=True)
    Path(in_the_way).touch()
    with pytest.raises(UserError, match=r"can't make the sweep's folder runs/sweeps/.*: Not a dir"):
        sweep.new_folder()


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Pretends that this process does the run of a number, of a sweep in the folder `sweep`."""
    monkeypatch.chdir(tmp_path)

    def pretend(number):
        hydra = {
            "job": {"num": number, "chdir": None},
            "overrides": {"task": [f"seed={number}"]},
            "runtime": {"cwd": str(tmp_path)},
            "sweep": {"dir": "sweep"},
        }
        monkeypatch.setattr(HydraConfig, "get", lambda: OmegaConf.create(hydra))
        monkeypatch.setattr(sweep, "is_sweep", lambda: True)

    Path("sweep").mkdir()
    pretend(0)
    yield pretend
    sweep.let_go()


def begun(number):
    """The folder of a run that was begun."""
    folder = Path(f"run{number}")
    folder.mkdir()
    sweep.note_folder(folder, f"go on {number}")
    (folder / "config.yaml").touch()
    return folder


def resumed():
    """Where the present run goes on if it is started now."""
    config = OmegaConf.create({"resume": None})
    sweep.begin_run(config)
    return config.resume


def test_a_run_that_is_started_again_goes_on(runs):
    assert resumed() is None
    folder = begun(0)
    assert resumed() == str(folder.resolve())
    runs(1)
    assert resumed() is None
    runs(0)
    (folder / "config.yaml").unlink()  # It was stopped before it had that.
    assert resumed() is None


def test_a_run_of_a_process_that_is_elsewhere_comes_to_the_sweeps_folder(runs, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    os.chdir("elsewhere")
    resumed()
    assert Path.cwd() == tmp_path


def test_a_run_that_hydra_lets_go_elsewhere_leaves_its_notes_in_the_sweeps_folder(runs, tmp_path):
    hydra = HydraConfig.get()
    hydra.job.chdir = True
    HydraConfig.get = lambda: hydra
    (tmp_path / "elsewhere").mkdir()
    os.chdir("elsewhere")
    sweep.note_failure("no")
    assert (tmp_path / "sweep" / "failed" / "0.json").exists()


def test_a_sweep_begins_without_what_one_before_it_left_in_its_folder(runs):
    begun(0)
    sweep.note_failure("no")
    Path("sweep/done").mkdir()
    for left in ("done/0.json", "runs.jsonl", "comparison.md", "table_bandit.csv", "table.tex"):
        Path("sweep", left).touch()
    start()
    assert resumed() is None and sweep.sum_up(Path("sweep")) == 0
    sweep.let_go()
    assert not [path for path in Path("sweep").rglob("*") if path.is_file()]


def start(launcher="basic", folder="sweep", words=None):
    config = {"sweep": {"dir": folder}, "runtime": {"choices": {"hydra/launcher": launcher}}}
    if words is not None:
        config |= {"overrides": {"task": words}, "job": {"config_name": "train"}}
    sweep.End().on_multirun_start(OmegaConf.create({"hydra": config}))
    if words is not None:  # as Hydra does then
        OmegaConf.save({"hydra": config}, Path(folder, "multirun.yaml"))


def test_a_sweep_that_is_called_again_goes_on_where_it_was(runs, capsys):
    """Run 0 is done, 1 was begun and 2 was not."""
    start(words=["seed=0,1,2"])
    for number in (0, 1):
        runs(number)
        folder = begun(number)
        if number == 0:
            sweep.comparison.keep(sweep.DONE, {"folder": str(folder.resolve())})
    sweep.note_failure("stopped")
    sweep.let_go()
    start(words=["seed=0,1,2"])
    found = []
    for number in range(3):
        runs(number)
        found.append((sweep.done_before() is not None, resumed()))
    before = [str(Path(f"run{number}").resolve()) for number in range(2)]
    assert found == [(True, None), (False, before[1]), (False, None)]
    assert (
        f"it is done: {before[0]} (to make it again, remove sweep/begun/0"
        in capsys.readouterr().err
    )
    assert not list(Path("sweep/failed").iterdir())
    sweep.let_go()
    start(words=["seed=0,1"])  # another sweep
    assert not list(Path("sweep/done").iterdir()) and not list(Path("sweep/begun").iterdir())
    sweep.let_go()


def test_where_a_sweep_is_stopped_it_is_said_how_to_go_on(runs, capsys, monkeypatch):
    monkeypatch.setattr(sweep.comparison, "show", lambda folder, failed: None)
    monkeypatch.setattr(sys, "argv", ["scripts/train.py", "-m", "seed=0,1"])

    def stopped():
        start(words=["seed=0,1"])
        begun(0)
        raise SystemExit(130)

    with pytest.raises(SystemExit), sweep.told_where_stopped():
        stopped()
    said = capsys.readouterr().err
    assert "run 1: seed=0\n    its process was ended; to go on: go on 0" in said
    assert (
        "to go on with the sweep: python scripts/train.py -m seed=0,1 hydra.sweep.dir=sweep" in said
    )
    assert sweep.End.going is None


def test_a_sweeps_folder_is_not_cleared_under_another_that_goes_on_there(runs, capsys):
    folder = begun(0)
    kept = Path("sweep/begun")
    with FolderLock(Path("sweep")), pytest.raises(SystemExit, match="2"):
        start()
    assert "error: the folder sweep is in use by process" in capsys.readouterr().err
    with FolderLock(folder), pytest.raises(SystemExit, match="2"):  # Its own process was killed.
        start()
    said = f"error: hydra.sweep.dir=sweep: a run of the sweep before still goes on, in {folder.absolute()}"
    assert said in capsys.readouterr().err and len(list(kept.iterdir())) == 1
    start()
    assert Path("sweep/run.lock").exists() and not list(kept.iterdir())
    sweep.let_go()
    assert not Path("sweep/run.lock").exists()


@pytest.mark.parametrize("in_the_way", ["a file", "a file/in it"])
def test_a_sweeps_folder_that_cannot_be_had_is_told(runs, capsys, in_the_way):
    """Hydra only warns of an exception at its start."""
    Path("a file").touch()
    with pytest.raises(SystemExit, match="2"):
        start(folder=in_the_way)
    assert (
        f"error: hydra.sweep.dir={in_the_way}: Not a directory: a file\n" == capsys.readouterr().err
    )


def test_a_sweep_that_cannot_be_summed_up_does_not_end_as_if_all_was_well(runs, capsys):
    """Hydra only warns of an exception at its end."""
    Path("sweep/begun").mkdir()
    Path("sweep/begun/0.json").write_text("{damaged")
    with pytest.raises(SystemExit, match="1"):
        sweep.End().on_multirun_end(OmegaConf.create({"hydra": {"sweep": {"dir": "sweep"}}}))
    assert "error: the sweep can't be summed up: Expecting" in capsys.readouterr().err


def test_the_end_tells_of_runs_that_failed_were_lost_or_still_go(runs, capsys, monkeypatch):
    """Run 1 is done though it was stopped once, 2 was killed, 3 goes on in its new job, 4 failed."""
    told = []
    monkeypatch.setattr(sweep.comparison, "show", lambda folder, failed: told.append(failed))
    for number in range(4):
        runs(number)
        folder = begun(number)
        if number != 1:
            sweep.note_failure(f"stopped{sweep.how_to_go_on()}" if number < 3 else "diverged")
        if number == 0:
            Path("sweep/done").mkdir()
            Path("sweep/done/0.json").write_text(json.dumps({"folder": str(folder.resolve())}))
    capsys.readouterr()
    with FolderLock(Path("run2")):
        assert sweep.sum_up(Path("sweep")) == 2
    assert [list(failed) for failed in told] == [["run 2: seed=1", "run 4: seed=3"]]
    said = capsys.readouterr().err
    assert "1 run of the sweep not at an end (jobs of Slurm go on, others stop with" in said
    assert "run 3: seed=2\n    to go on, once it has stopped: go on 2\n" in said
    assert said.endswith(
        "error: 2 runs of the sweep failed:\n"
        "  run 2: seed=1\n    its process was ended; to go on: go on 1\n"
        "  run 4: seed=3\n    diverged\n"
    )


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (
            RuntimeError("the job\nis gone\nsaid:"),
            1,
            "error: the job is gone (HYDRA_FULL_ERROR=1 shows more)",
        ),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_a_launcher_that_gives_up_is_told_in_a_line_before_what_was_done(
    runs, capsys, monkeypatch, error, code, said
):
    monkeypatch.setattr(sweep.comparison, "show", lambda folder, failed: None)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)

    def gives_up():
        start("ray")
        assert os.environ["HYDRA_FULL_ERROR"] == "1"
        begun(0)
        raise error

    with pytest.raises(SystemExit) as stop, sweep.to_its_end("ray"):
        gives_up()
    assert stop.value.code == code and "HYDRA_FULL_ERROR" not in os.environ
    told = capsys.readouterr().err
    assert told.startswith(f"hydra/launcher=ray: {said}\n")
    assert "run 1: seed=0\n    its process was ended; to go on: go on 0" in told


def test_a_run_of_another_sweep_in_the_folder_is_not_gone_on_with(runs):
    """Sweeps in one folder have runs of the same numbers."""
    folder = Path("theirs")
    folder.mkdir()
    (folder / "config.yaml").touch()
    sweep.note_folder(folder, "train resume=theirs")
    assert sweep._begun()["to go on"] == "train resume=theirs"
    file = sweep.comparison.place_in(sweep.BEGUN)
    file.write_text(file.read_text().replace("seed=0", "seed=7"))
    assert sweep._begun() is None


def test_a_failure_that_cannot_be_noted_counts_all_the_same(runs, monkeypatch, capsys):
    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(sweep.End, "num_unnoted", 0)
    monkeypatch.setattr(sweep.comparison, "keep", full)
    sweep.note_failure("the disk is full")
    said = capsys.readouterr().err
    assert "error: the disk is full" in said and "can't note that it failed: No space" in said
    monkeypatch.setattr(sweep, "sum_up", lambda folder: 0)
    config = OmegaConf.create({"hydra": {"sweep": {"dir": "sweep"}}})
    with pytest.raises(SystemExit):
        sweep.End().on_multirun_end(config)
