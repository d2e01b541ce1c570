"""The command `render`, on the small environments, whose pictures need no GL, and once on
MuJoCo."""

import re
import sys
from pathlib import Path

import imageio_ffmpeg
import pytest

from metarl.cli.commands import render, train


def call(monkeypatch: pytest.MonkeyPatch, command, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", [f"{command.__name__}.py", "device=cpu", *words])
    command.main()


def num_frames_and_size(path: Path) -> tuple[int, tuple[int, int]]:
    reader = imageio_ffmpeg.read_frames(str(path))
    size = next(reader)["size"]
    return sum(1 for _ in reader), size


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as monkeypatch:
        call(
            monkeypatch,
            train,
            *(
                "env=bandit",
                "env.horizon=6",
                "iterations=1",
                "algo.meta_batch_size=2",
                "algo.episodes_per_task=3",
            ),
            *(
                "evaluation.video=false",
                "evaluation.num_tasks=2",
                "evaluation.num_updates=1",
                f"run_dir={folder}",
            ),
        )
    return folder


def test_a_checkpoint_gives_a_video_of_each_task_before_beside_after(
    run_folder, monkeypatch, capsys
):
    call(monkeypatch, render, f"checkpoint={run_folder}", "num_tasks=2", "width=160", "height=120")
    videos = run_folder / "videos"
    assert names(videos) == ["grid.mp4", "task_0.mp4", "task_1.mp4"]
    frames, (width, _) = num_frames_and_size(videos / "task_1.mp4")
    assert frames == 6
    assert 2 * 160 <= width < 2 * 160 + 20
    assert f"written to {videos}" in capsys.readouterr().err
    (videos / "task_of_mine.mp4").touch()
    call(monkeypatch, render, f"checkpoint={run_folder}", "num_tasks=1", "width=160", "height=120")
    assert names(videos) == ["task_0.mp4", "task_of_mine.mp4"], "older films would be shown as its"


def test_without_updates_there_is_one_panel(run_folder, monkeypatch, tmp_path):
    sizes = (
        "num_tasks=1",
        "num_updates=0",
        "width=160",
        "height=120",
        f"output={tmp_path / 'here'}",
    )
    call(monkeypatch, render, f"checkpoint={run_folder}", *sizes)
    assert names(tmp_path / "here") == ["task_0.mp4"]
    assert num_frames_and_size(tmp_path / "here" / "task_0.mp4")[1][0] == 160


def test_any_environment_can_be_looked_at_without_a_checkpoint(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    call(
        monkeypatch,
        render,
        "env=point_navigation_2d",
        "env.horizon=3",
        "num_tasks=2",
        "width=160",
        "height=120",
    )
    assert names(tmp_path / "videos" / "point_navigation_2d") == [
        "grid.mp4",
        "task_0.mp4",
        "task_1.mp4",
    ]


def test_a_learner_can_be_filmed_on_another_variant_of_what_it_was_trained_on(
    run_folder, monkeypatch, tmp_path, capsys
):
    sizes = ("num_tasks=1", "num_updates=0", "width=160", "height=120", f"output={tmp_path}")
    call(monkeypatch, render, f"checkpoint={run_folder}", "env=bandit", "env.horizon=9", *sizes)
    assert num_frames_and_size(tmp_path / "task_0.mp4")[0] == 9
    # Films of where it was trained stay.
    call(monkeypatch, render, f"checkpoint={run_folder}", "env=bandit", "env.horizon=9", *sizes[:4])
    assert num_frames_and_size(run_folder / "videos" / "bandit" / "task_0.mp4")[0] == 9
    with pytest.raises(SystemExit) as stop:
        call(monkeypatch, render, f"checkpoint={run_folder}", "env=point_navigation_2d", *sizes)
    assert stop.value.code == 2
    assert "its observation_space is" in capsys.readouterr().err


@pytest.mark.gl
def test_mujoco_is_filmed_at_the_speed_of_the_world(monkeypatch, tmp_path):
    call(
        monkeypatch,
        render,
        "env=half_cheetah_vel_maml",
        "env.horizon=3",
        "num_tasks=1",
        f"output={tmp_path}",
    )
    reader = imageio_ffmpeg.read_frames(str(tmp_path / "task_0.mp4"))
    assert next(reader)["fps"] == 100  # a control step is 0.01 s
    reader.close()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give checkpoint=.* or env="),
        (["checkpoint=/no/such/folder"], "no checkpoint at /no/such/folder"),
        (["env=bandit", "num_tasks=0"], "num_tasks=0: expected an integer, 1 or more"),
        (["env=bandit", "width=8"], "width=8: expected an integer from 64 to 8192"),
    ],
)
def test_mistakes_are_answered_in_a_line(words, message, monkeypatch, capsys):
    with pytest.raises(SystemExit) as stop:
        call(monkeypatch, render, *words)
    assert stop.value.code == 2
    assert re.search(f"error: {message}", capsys.readouterr().err)


def test_a_folder_that_cannot_be_written_to_is_named(monkeypatch, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as stop:
        call(
            monkeypatch,
            render,
            "env=bandit",
            "env.horizon=2",
            f"output={tmp_path / 'file' / 'videos'}",
        )
    assert stop.value.code == 2
    assert str(tmp_path / "file") in capsys.readouterr().err
