"""run.log: what a run's commands said, and how each ended."""

import logging
import re
import sys
import threading
from pathlib import Path

import pytest
from support.commands import call
from tqdm import tqdm

from metarl.cli.commands import train
from metarl.cli.console import Notices
from metarl.cli.transcript import NAME, Transcript
from metarl.run.iteration import RunState

TINY = (
    *("env=point_navigation_2d", "env.horizon=5", "algo.meta_batch_size=2"),
    *("algo.episodes_per_task=2", "model.hidden_sizes=[4]", "evaluation.num_tasks=2"),
    *("evaluation.video=false", "algo.num_inner_steps=1", "algo.num_epochs=1", "device=cpu"),
)


def lines(folder: Path) -> list[str]:
    """Without the time of day."""
    stamped = (folder / NAME).read_text("utf-8").splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d{4} ", line) for line in stamped)
    return [line.split(" ", 2)[2] for line in stamped]


def test_what_is_said_before_and_after_the_folder_is_made_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stderr = sys.stderr
    with Transcript() as transcript:
        print("before", file=sys.stderr)
        transcript.begin(tmp_path)
        print("half", end="", file=sys.stderr)
        print(" and half\n\nthird", file=sys.stderr)
    assert sys.stderr is stderr
    assert capsys.readouterr().err == "before\nhalf and half\n\nthird\n"
    begins, place, versions, *said, ends = lines(tmp_path)
    assert begins.startswith("begins: ") and str(Path.cwd()) in place
    assert "torch" in versions and "commit" in versions
    assert said == ["before", "half and half", "third"]
    assert ends == "ends"


def test_beside_a_thread_that_trains_other_threads_are_not_heard(tmp_path: Path) -> None:
    entered, said = threading.Event(), threading.Event()

    def train_there() -> None:
        with Transcript() as transcript:
            transcript.begin(tmp_path)
            entered.set()
            said.wait(10)
            print("of the training", file=sys.stderr)

    thread = threading.Thread(target=train_there)
    thread.start()
    entered.wait(10)
    print("of another cell", file=sys.stderr)
    said.set()
    thread.join()
    assert "of the training" in lines(tmp_path)
    assert "of another cell" not in lines(tmp_path)


def test_notices_of_libraries_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.Logger("any")
    log.addHandler(Notices())
    with Transcript() as transcript:
        transcript.begin(tmp_path)
        log.warning("noted")
    log.warning("after")
    assert capsys.readouterr().err == "noted\nafter\n"
    assert lines(tmp_path)[-2:] == ["noted", "ends"]


def test_bars_are_left_out_but_for_their_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Transcript() as transcript:
        transcript.begin(tmp_path)
        with tqdm(total=3, desc="bar", file=sys.stderr, mininterval=0, ascii=True) as bar:
            for k in range(3):
                bar.update()
                tqdm.write(f"\x1b[31mnote {k}\x1b[0m", file=sys.stderr)
    assert capsys.readouterr().err.count("bar:") > 3
    notes = lines(tmp_path)[3:-1]
    assert notes[:3] == ["note 0", "note 1", "note 2"]
    assert len(notes) == 4 and notes[3].startswith("bar: 100%")


@pytest.mark.parametrize(
    ("error", "last"),
    [
        (ValueError("what\nit was"), "fails: ValueError: what it was"),
        (KeyboardInterrupt(), "ends by Ctrl-C or a signal"),
        (SystemExit(130), "ends by exit 130"),
    ],
)
def test_how_it_ended_is_the_last_line(error: BaseException, last: str, tmp_path: Path) -> None:
    transcript = Transcript()
    transcript.begin(tmp_path)
    with pytest.raises(type(error)), transcript:
        raise error
    assert lines(tmp_path)[-1] == last


def test_without_a_folder_there_is_no_file_and_a_full_disk_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError), Transcript():
        raise ValueError("before the folder")
    assert not list(tmp_path.iterdir())
    with pytest.raises(OSError), Transcript() as transcript:
        transcript.begin(tmp_path / "nowhere")
    (tmp_path / NAME).symlink_to("/dev/full")
    with Transcript() as transcript:
        transcript.begin(tmp_path)
        print("one", file=sys.stderr)
        print("two", file=sys.stderr)
    told = "No space left on device; no more comes there"
    assert capsys.readouterr().err == f"{tmp_path / NAME}: {told}\none\ntwo\n"


def test_a_run_tells_of_every_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"
    assert call(monkeypatch, train, *TINY, "iterations=1", f"run_dir={folder}") == 0
    first = lines(folder)
    assert f"run_dir={folder}" in first[0] and first[-1] == "ends"
    assert sum(line.startswith("run folder") for line in first) == 1

    def broken(*_args: object, **_named: object) -> None:
        raise RuntimeError("the roof fell in")

    monkeypatch.setattr(RunState, "iterate", broken)
    call(monkeypatch, train, f"resume={folder}", "iterations=2")
    later = lines(folder)
    assert later[: len(first)] == first and f"resume={folder}" in later[len(first)]
    assert later[-1] == "fails: RuntimeError: the roof fell in"
    assert any("in broken" in line for line in later)


def test_seeds_that_share_a_simulation_have_one_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    words = (*TINY, "iterations=1", "num_seeds=2", f"run_dir={folder}")
    assert call(monkeypatch, train, *words) == 0
    assert call(monkeypatch, train, f"resume={folder}", "iterations=2") == 0
    told = lines(folder)
    assert [line for line in told if line == "ends"] == ["ends"] * 2
    assert [place.parent for place in folder.rglob(NAME)] == [folder]
