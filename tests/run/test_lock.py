"""One writer per folder: of several processes one gets it, the others are told who has it, and the
dead keep nobody out."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from metarl.errors import UserError
from metarl.run import lock
from metarl.run.lock import FolderLock

ROOT = Path(__file__).resolve().parents[2]

HOLD = """
import pathlib, sys, time
from metarl.errors import UserError
from metarl.run.lock import FolderLock
try:
    held = FolderLock(pathlib.Path(sys.argv[1]))
except UserError as error:
    print("refused", error, flush=True)
    raise SystemExit
print("held", flush=True)
time.sleep(float(sys.argv[2]))
held.release()
"""


def start(folder, seconds):
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), str(seconds)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


def leave(folder, **changes):
    """A lock as another process would have left it."""
    with FolderLock(folder):
        holder = json.loads((folder / lock.NAME).read_text())
    (folder / lock.NAME).write_text(json.dumps(holder | {"token": "another"} | changes))


def test_the_second_is_told_who_has_the_folder_and_since_when(tmp_path):
    first = start(tmp_path, 60)
    assert first.stdout.readline() == "held\n"
    since = re.escape(time.strftime("%Y-%m-%d "))
    with pytest.raises(
        UserError, match=rf"process {first.pid} on {socket.gethostname()}, since {since}"
    ):
        FolderLock(tmp_path)
    first.kill()  # It has no time to tidy up, and nobody waits for it yet: it stays a zombie.
    while lock._is_alive(first.pid, None):
        time.sleep(0.01)
    FolderLock(tmp_path).release()
    assert list(tmp_path.iterdir()) == []
    first.wait()


def test_what_is_released_can_be_had_again(tmp_path):
    for _ in range(3):
        with FolderLock(tmp_path) as held:
            held.check()
            with pytest.raises(UserError, match=f"process {os.getpid()}"):
                FolderLock(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_of_many_that_find_a_dead_lock_one_gets_it(tmp_path):
    for _ in range(20):
        leave(tmp_path, pid=2**22 + 1)
        together, outcomes, held = threading.Barrier(8), [], []

        def take(together=together, outcomes=outcomes, held=held):
            together.wait()
            try:
                held.append(FolderLock(tmp_path))
                outcomes.append("held")
            except UserError:
                outcomes.append("refused")

        threads = [threading.Thread(target=take) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(outcomes) == ["held"] + ["refused"] * 7
        held[0].check()
        held[0].release()


def test_a_number_that_is_used_again_by_another_process_does_not_block(tmp_path):
    leave(tmp_path, started="long ago")  # the number is ours
    FolderLock(tmp_path).release()


def test_another_users_process_is_alive(monkeypatch):
    monkeypatch.setattr(os, "kill", lambda *_: (_ for _ in ()).throw(PermissionError()))
    monkeypatch.setattr(lock, "_started", lambda _: None)  # and the system hides it
    assert lock._is_alive(1, "then")


@pytest.mark.parametrize("content", [b"", b'{"pid": 17', b"[]", b'{"pid": "x"}'])
def test_a_lock_whose_writer_died_over_it_does_not_block(tmp_path, monkeypatch, content):
    monkeypatch.setattr(lock, "_HALF_WRITTEN", 0.1)
    (tmp_path / lock.NAME).write_bytes(content)
    (tmp_path / f"{lock.NAME}.removal").write_bytes(
        content
    )  # nor does one that died while it removed another's
    FolderLock(tmp_path).release()
    assert list(tmp_path.iterdir()) == []


def test_a_process_of_another_machine_that_shows_no_sign_of_life_does_not_block(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(lock, "PATIENCE", 0.3)
    leave(tmp_path, machine="elsewhere", host="node17", pid=4711)
    said = []
    FolderLock(tmp_path, say=said.append).release()
    assert len(said) == 1 and "process 4711 on node17" in said[0] and "watching" in said[0]


def test_a_process_of_another_machine_that_lives_keeps_its_folder(tmp_path, monkeypatch):
    """It is played by a lock of this process, of which we are made to believe that it is
    elsewhere."""
    monkeypatch.setattr(lock, "TOUCHED_EVERY", 0.05)
    monkeypatch.setattr(lock, "PATIENCE", 5.0)
    monkeypatch.setattr(lock, "_machine", lambda: "elsewhere")
    with FolderLock(tmp_path) as held:
        monkeypatch.undo()
        with pytest.raises(UserError, match="in use by process"):
            FolderLock(tmp_path)
        held.check()


def test_who_was_taken_for_dead_writes_no_more(tmp_path):
    held = FolderLock(tmp_path)
    leave_path = tmp_path / lock.NAME
    other = json.loads(leave_path.read_text()) | {"token": "another", "pid": 99, "host": "node17"}
    leave_path.write_text(json.dumps(other))
    with pytest.raises(UserError, match="process 99 on node17.*took this run for dead"):
        held.check()
    held.release()
    assert json.loads(leave_path.read_text()) == other  # the other's stays


def test_a_lock_that_somebody_removed_is_made_again(tmp_path):
    with FolderLock(tmp_path) as held:
        (tmp_path / lock.NAME).unlink()
        held.check()
        with pytest.raises(UserError, match="in use"):
            FolderLock(tmp_path)


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=f"can't write the folder {tmp_path}/file: "):
        FolderLock(tmp_path / "file")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_processes_that_are_killed_leave_the_folder_to_the_next(tmp_path, number):
    first = start(tmp_path, 60)
    assert first.stdout.readline() == "held\n"
    first.send_signal(number)
    first.wait()
    second = start(tmp_path, 0)
    assert second.communicate()[0] == "held\n"


def test_a_mac_is_the_same_machine_under_another_name(monkeypatch):
    """Its name changes with the network; its start doesn't."""
    monkeypatch.setattr(lock.Path, "read_text", lambda *_: (_ for _ in ()).throw(OSError()))
    monkeypatch.setattr(lock.sys, "platform", "darwin")
    asked = []

    def run(command, **_):
        asked.append(command)
        return subprocess.CompletedProcess(command, 0, stdout="6E8F\n")

    monkeypatch.setattr(lock.subprocess, "run", run)
    for name in ("home", "work"):
        monkeypatch.setattr(lock.socket, "gethostname", lambda name=name: name)
        assert lock._machine.__wrapped__() == "darwin 6E8F"
    assert asked[0] == ["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"]
    monkeypatch.setattr(lock.subprocess, "run", lambda *_, **__: (_ for _ in ()).throw(OSError()))
    assert lock._machine.__wrapped__() == "darwin work"


def test_a_link_that_leads_nowhere_is_no_lock_to_wait_for(tmp_path):
    (tmp_path / lock.NAME).symlink_to("/nowhere/at/all")
    with pytest.raises(UserError, match=f"{lock.NAME} is a link that leads nowhere"):
        FolderLock(tmp_path)
