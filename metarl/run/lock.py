"""One writer per folder of a run or a sweep: a file in it says who writes there, and doesn't outlive
that process.

The file is made exclusively, which every file system can do, those of networks too. A process of
this machine can be asked whether it lives. One of another machine shows it by touching its file;
who wants the folder watches for that, so that no two clocks need to agree.
"""

import functools
import json
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from metarl.errors import UserError

NAME = "run.lock"
TOUCHED_EVERY = 10.0  # s
# s that a process of another machine may go without touching its file before it counts as dead
PATIENCE = 45.0
_HALF_WRITTEN = 2.0  # s in which a file that was made gets its content


def is_locked(folder: Path) -> bool:
    """Tells whether a process has the folder, as far as can be seen at once: a process of another
    machine counts as alive while its file is there."""
    found = _content(folder / NAME)
    holder = None if found is None else _parsed(found)
    if holder is None:
        return found is not None  # half written
    return holder["machine"] != _machine() or _is_alive(holder["pid"], holder["started"])


class FolderLock:
    """Holds a folder from its making to `release`, or to the end of the `with`.

    Raises: UserError that tells process, machine and since when, if another process holds it; or if
    it can't be written to.
    """

    def __init__(self, folder: Path, *, say: Callable[[str], None] = lambda _: None) -> None:
        """Args: say: is told why it takes a while, where it does."""
        self.path = folder / NAME
        self._say = say
        own = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.now().astimezone().isoformat(" ", "seconds"),
            "machine": _machine(),
            "started": _started(os.getpid()),
            "token": secrets.token_hex(8),
        }
        self._own = json.dumps(own).encode()
        self._released = threading.Event()
        try:
            self._take()
        except OSError as error:
            raise UserError(
                f"can't write the folder {folder}: {error.strerror or error}"
            ) from error
        threading.Thread(target=self._touch, daemon=True, name="metarl-lock").start()

    def check(self) -> None:
        """Checks that the folder is still ours; call it before something is written that must not
        meet another's.

        Raises: UserError if the folder is another's by now, which took this process for dead.
        """
        found = _content(self.path)
        # Somebody removed it, and somebody else was faster.
        if found is None and not _make(self.path, self._own):
            found = _content(self.path)
        if found is not None and found != self._own:
            raise UserError(
                f"{self._held_by(found)}; it took this run for dead, which stops here and writes "
                "no more"
            )

    def release(self) -> None:
        self._released.set()
        if _content(self.path) == self._own:
            self.path.unlink(missing_ok=True)

    def __enter__(self) -> "FolderLock":
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _take(self) -> None:
        while not _make(self.path, self._own):
            found = _content(self.path)
            if found is None:  # Its holder has just ended.
                if self.path.is_symlink():
                    raise UserError(f"{self.path} is a link that leads nowhere; expected none")
                continue
            if not self._is_stale(self.path, found):
                raise UserError(
                    f"{self._held_by(found)}; wait for it, or stop it (if it is gone for certain, "
                    f"remove {self.path})"
                )
            self._remove_stale(found)

    def _remove_stale(self, found: bytes) -> None:
        """Removes a stale lock. Several may find it stale: one at a time may remove it, and only
        while it is the one that was judged."""
        guard = self.path.with_name(f"{NAME}.removal")
        if not _make(guard, self._own):
            time.sleep(0.02)
            at_it = _content(guard)
            if at_it is not None and self._is_stale(guard, at_it):
                guard.unlink(missing_ok=True)
            return
        try:
            if _content(self.path) == found:
                self.path.unlink()
        finally:
            guard.unlink(missing_ok=True)

    def _is_stale(self, path: Path, found: bytes) -> bool:
        """Tells whether the process that left this content is dead."""
        holder = _parsed(found)
        if holder is None:  # Half written, or its writer died over it.
            return _stays(path, found, _HALF_WRITTEN)
        if holder["machine"] == _machine():
            return not _is_alive(holder["pid"], holder["started"])
        self._say(
            f"{self._held_by(found)}; watching for a sign of life of it, up to {PATIENCE:.0f} s"
        )
        return _stays(path, found, PATIENCE)

    def _held_by(self, found: bytes) -> str:
        holder = _parsed(found) or {"pid": "?", "host": "?", "since": "?"}
        return (
            f"the folder {self.path.parent} is in use by process {holder['pid']} on "
            f"{holder['host']}, "
            f"since {holder['since']}"
        )

    def _touch(self) -> None:
        while not self._released.wait(TOUCHED_EVERY):
            try:
                if _content(self.path) == self._own:
                    os.utime(self.path)
            # A network that is away for a while; `check` finds out whether it was for too long.
            except OSError:
                continue


def _make(path: Path, content: bytes) -> bool:
    """Makes the file, unless there is one."""
    try:
        file = path.open("xb")
    except FileExistsError:
        return False
    try:
        with file:
            file.write(content)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return True


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _parsed(content: bytes) -> dict[str, Any] | None:
    try:
        holder = json.loads(content)
    except ValueError:
        return None
    names = ("pid", "host", "since", "machine", "started")
    complete = (
        isinstance(holder, dict)
        and all(name in holder for name in names)
        and isinstance(holder["pid"], int)
    )
    return holder if complete else None


def _stays(path: Path, content: bytes, seconds: float) -> bool:
    """Tells whether the file stays as it is for so long: same content, not touched."""
    first, end = _touched(path), time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(min(0.5, seconds / 10))
        if _content(path) != content or _touched(path) != first:
            return False
    return True


def _touched(path: Path) -> int | None:
    try:
        with path.open("rb") as file:  # Opened, because network file systems ask their server then.
            return os.fstat(file.fileno()).st_mtime_ns
    except FileNotFoundError:
        return None


def _is_alive(pid: int, started: str | None) -> bool:
    """Tells whether a process of this machine lives and is the one that started then: numbers are
    used again."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        pass
    now = _started(pid)
    return now != "" and (started is None or now is None or now == started)


def _started(pid: int) -> str | None:
    """Returns when a process started, in whatever form its system says it; "" if it has ended and
    only waits to be noticed (a zombie); None if that can't be known."""
    try:
        if sys.platform == "linux":
            # Fields from the third on: the second, the command, may hold spaces and brackets.
            fields = (
                Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
            )
            state, started = fields[0], fields[19]
        else:
            command = ["ps", "-o", "state=", "-o", "lstart=", "-p", str(pid)]
            found = subprocess.run(
                command,
                capture_output=True,
                text=True,
                check=True,
                timeout=10,
                # The same words for whoever asks, wherever the computer has been taken since.
                env={**os.environ, "LC_ALL": "C", "TZ": "UTC"},
            ).stdout.split()
            state, started = found[0], " ".join(found[1:])
    except (OSError, IndexError, subprocess.SubprocessError):
        return None
    return "" if state[0] in "ZX" else started


@functools.cache
def _machine() -> str:
    """What tells this boot of this machine, and the processes that see each other there, from all
    others."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("utf-8").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    if sys.platform == "darwin":  # A Mac's name changes with the network that it is in.
        with suppress(OSError, subprocess.SubprocessError):
            command = ["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"]
            said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
            return f"{sys.platform} {said.stdout.strip()}"
    return f"{sys.platform} {socket.gethostname()}"
