import errno
import hashlib
import io
import os
import pickle
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from metarl.errors import UserError
from metarl.run import archive, checkpoint

ROOT = Path(__file__).resolve().parents[2]


def content(iteration: int) -> dict:
    generator = torch.Generator().manual_seed(iteration)
    return {
        "iteration": iteration,
        "learner": {"w": torch.randn(50, generator=generator)},
        "config": {"seed": 1},
    }


def test_what_is_loaded_is_what_was_saved(tmp_path):
    saved = content(7)
    loaded = checkpoint.load(checkpoint.save(tmp_path, saved, keep=3))
    assert torch.equal(loaded["learner"]["w"], saved["learner"]["w"])
    assert loaded["config"] == {"seed": 1} and loaded["version"] == archive.VERSION


def test_only_the_newest_checkpoints_stay(tmp_path):
    for iteration in (0, 5, 10, 15):
        checkpoint.save(tmp_path, content(iteration), keep=2)
    assert [path.name for path in checkpoint.list_checkpoints(tmp_path)] == [
        "iteration_00000010.pt",
        "iteration_00000015.pt",
    ]


@pytest.mark.parametrize("keep", [1, 2, 5])
def test_a_branch_from_an_older_checkpoint_replaces_the_newer_ones(tmp_path, keep):
    for iteration in (10, 20, 30):
        checkpoint.save(tmp_path, content(iteration), keep=3)
    checkpoint.save(tmp_path, content(11), keep=keep)
    found = [int(path.stem[-2:]) for path in checkpoint.list_checkpoints(tmp_path)]
    assert found == [10, 11][-keep:]


@pytest.mark.parametrize("where", [0.1, 0.5, 0.99])
def test_a_truncated_file_is_named(tmp_path, where):
    path = checkpoint.save(tmp_path, content(1), keep=1)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * where)])
    with pytest.raises(UserError, match="iteration_00000001.pt is damaged"):
        checkpoint.load(path)


def test_any_changed_byte_is_found(tmp_path):
    path = checkpoint.save(tmp_path, content(1), keep=1)
    whole = path.read_bytes()
    for position in range(0, len(whole), len(whole) // 60):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(UserError, match="damaged"):
            checkpoint.load(path)


def test_the_newest_whole_checkpoint_is_used_and_the_damaged_one_named(tmp_path):
    for iteration in (1, 2):
        path = checkpoint.save(tmp_path, content(iteration), keep=3)
    path.write_bytes(path.read_bytes()[:100])
    used, loaded, problems = checkpoint.load_newest(tmp_path)
    assert used.name == "iteration_00000001.pt" and loaded["iteration"] == 1
    assert len(problems) == 1 and "iteration_00000002.pt" in problems[0]


def test_loading_executes_no_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "pwned"),)

    path = tmp_path / "iteration_00000001.pt"
    memory = io.BytesIO()
    torch.save({"version": archive.VERSION, "learner": Evil()}, memory)
    for payload in (pickle.dumps(Evil(), protocol=2), memory.getvalue()):
        path.write_bytes(
            b"metarl-checkpoint " + hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload
        )
        with pytest.raises(UserError, match="holds more than tensors"):
            checkpoint.load(path)
    assert not (tmp_path / "pwned").exists()


def test_a_file_that_grows_when_it_is_unpacked_is_refused(tmp_path):
    stored, deflated = io.BytesIO(), io.BytesIO()
    torch.save({"version": archive.VERSION, "zeros": torch.zeros(1 << 20)}, stored)
    with (
        zipfile.ZipFile(stored) as old,
        zipfile.ZipFile(deflated, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    payload = deflated.getvalue()
    assert torch.load(io.BytesIO(payload), weights_only=True)["zeros"].shape == (1 << 20,)
    path = tmp_path / "iteration_00000001.pt"
    path.write_bytes(
        b"metarl-checkpoint " + hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload
    )
    with pytest.raises(UserError, match="is packed, as no metarl does"):
        checkpoint.load(path)


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (np.float64(1.5), "a float64 of numpy"),
        (np.zeros(3), "a ndarray of numpy"),
        (len, "a builtin_function_or_method"),
        (lambda: 0, "a function,"),
    ],
)
def test_what_could_not_be_loaded_is_not_saved(tmp_path, value, named):
    with pytest.raises(UserError, match=rf"learner\.best\[0\] is {named}.*can't be saved"):
        checkpoint.save(tmp_path, content(3) | {"learner": {"best": [value]}}, keep=1)
    assert not list(tmp_path.iterdir())
    # Torch knows more types than we name.
    checkpoint.load(checkpoint.save(tmp_path, content(3) | {"more": torch.Size([2])}, keep=1))


def test_another_format_version_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "VERSION", 99)
    path = checkpoint.save(tmp_path, content(1), keep=1)
    monkeypatch.undo()
    with pytest.raises(UserError, match="format version 99"):
        checkpoint.load(path)


@pytest.mark.parametrize("step", ["open", "fsync", "replace"])
def test_a_failure_at_any_moment_of_a_write_leaves_the_older_checkpoint_whole(
    tmp_path, monkeypatch, step
):
    checkpoint.save(tmp_path, content(1), keep=1)

    def fail(*args):
        raise OSError(28, "No space left on device")

    target = {
        "fsync": (os, "fsync"),
        "replace": (checkpoint.Path, "replace"),
        "open": (checkpoint.Path, "open"),
    }[step]
    monkeypatch.setattr(*target, fail)
    with pytest.raises(UserError, match="iteration_00000002.pt: No space left"):
        checkpoint.save(tmp_path, content(2), keep=1)
    monkeypatch.undo()
    assert checkpoint.load_newest(tmp_path)[1]["iteration"] == 1
    assert [path.name for path in tmp_path.iterdir()] == [
        "iteration_00000001.pt"
    ]  # nothing half-written lies about


@pytest.mark.parametrize("step", ["fsync", "rename"])
def test_a_process_killed_in_the_middle_of_a_write_leaves_the_older_checkpoint_to_go_on_from(
    tmp_path, step
):
    """By SIGKILL, after which nothing can tidy up: before the new file has reached the disk, and
    before it has its name."""
    program = f"""
import os, pathlib, signal, sys
from metarl.run import checkpoint
folder = pathlib.Path(sys.argv[1])
checkpoint.save(folder, {{"iteration": 1}}, keep=1)
def die(*args):
    os.kill(os.getpid(), signal.SIGKILL)
{"os.fsync = die" if step == "fsync" else "pathlib.Path.replace = die"}
checkpoint.save(folder, {{"iteration": 2}}, keep=1)
"""
    killed = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    assert killed.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2  # the whole one and what was being written
    used, saved, problems = checkpoint.load_newest(tmp_path)
    assert (used.name, saved["iteration"], problems) == ("iteration_00000001.pt", 1, [])
    checkpoint.save(tmp_path, content(2), keep=1)
    assert [path.name for path in tmp_path.iterdir()] == [
        "iteration_00000002.pt"
    ]  # nothing half-written stays


def test_a_missing_checkpoint_says_what_was_expected(tmp_path):
    with pytest.raises(UserError, match="expected a run folder"):
        checkpoint.resolve(tmp_path / "nowhere")


def test_a_name_that_is_nearly_right_is_answered_with_the_right_one(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/iteration_00000300.pt").touch()
    for place in (tmp_path / "checkpoints/iteration_300", tmp_path / "iteration_00000300"):
        with pytest.raises(UserError, match="did you mean iteration_00000300.pt?"):
            checkpoint.resolve(place)


def test_a_checkpoint_that_cannot_be_read_now_is_not_passed_by(tmp_path, monkeypatch):
    """It may be whole: an older one in its place would be a step back, and whoever goes on from
    that removes it."""
    for iteration in (1, 2):
        path = checkpoint.save(tmp_path, content(iteration), keep=3)

    def fails(self):
        raise OSError(errno.EIO, "Input/output error", str(self))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", fails)
        with pytest.raises(UserError, match="can't read the checkpoint .*2.pt: Input/output error"):
            checkpoint.load_newest(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(archive, "VERSION", 2)
        archive.write(path, "checkpoint", archive.packed(content(2)))
    with pytest.raises(UserError, match="2.pt has format version 2, this metarl reads 1"):
        checkpoint.load_newest(tmp_path)


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory")])
def test_too_little_memory_is_no_damage(tmp_path, monkeypatch, error):
    path = checkpoint.save(tmp_path, content(1), keep=1)

    def fails(*args, **kwargs):
        raise error

    monkeypatch.setattr(torch, "load", fails)
    with pytest.raises(type(error)):
        checkpoint.load(path)
