"""run.log in the folder of a run: what its commands said, where and when, and how each ended."""

import os
import re
import socket
import sys
import threading
import time
import traceback
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from metarl.cli import origins
from metarl.cli.words import called, one_line

NAME = "run.log"

_COLOURS_AND_MOVES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class Transcript:
    """Inside the `with`, what is written to stderr is also kept for the file: from `begin` on there,
    and with what was said before. Bars that are drawn over are left out.

    A file without an `ends` or `fails` tells of a process that was killed. One that can't be
    written any more costs no training: stderr says so once. Beside a program's thread that trains
    the program goes on: what its other threads say isn't kept.
    """

    def __init__(self) -> None:
        self._waiting: list[str] = []  # for the file
        self._file: TextIO | None = None
        self._part = ""  # of a line
        self._one_at_a_time = threading.RLock()
        self._console: Any = None
        self._both: Any = None
        self._thread = threading.current_thread()

    def begin(self, folder: Path) -> None:
        """Raises: OSError if the file can't be made."""
        versions = ", ".join(f"{name} {number}" for name, number in origins.versions().items())
        with self._one_at_a_time:
            self._file = (folder / NAME).open("a", encoding="utf-8", errors="backslashreplace")
            before, self._waiting = self._waiting, []
            self._line(f"begins: {called()}")
            self._line(f"in {Path.cwd()} on {socket.gethostname()}, process {os.getpid()}")
            self._line(f"commit {origins.commit() or 'unknown'}, {versions}")
            self._waiting += before
            self._write()

    def heard(self, text: str) -> None:
        """Takes what is written to stderr, which may be parts of lines."""
        if self._thread not in (threading.main_thread(), threading.current_thread()):
            return
        with self._one_at_a_time:
            *lines, self._part = (self._part + text).split("\n")
            self._part = self._part[self._part.rfind("\r", 0, -1) + 1 :]
            for line in lines:
                shown = _COLOURS_AND_MOVES.sub("", line.rstrip("\r").rpartition("\r")[2]).rstrip()
                if shown:
                    self._line(shown)
            self._write()

    def __enter__(self) -> "Transcript":
        self._console = sys.stderr
        sys.stderr = self._both = _Both(sys.stderr, self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if sys.stderr is self._both:
            sys.stderr = self._console
        if self._file is None:
            return
        with self._one_at_a_time:
            if error is None:
                self._line("ends")
            elif isinstance(error, KeyboardInterrupt | SystemExit):
                self._line(f"ends by {_asked(error)}")
            else:
                for line in "".join(traceback.format_exception(error)).splitlines():
                    self._line(line)
                self._line(f"fails: {type(error).__name__}: {one_line(error)}")
            self._write()
            if self._file is not None:
                with suppress(OSError):
                    self._file.close()

    def _line(self, text: str) -> None:
        self._waiting.append(f"{time.strftime('%Y-%m-%d %H:%M:%S%z')} {text}\n")

    def _write(self) -> None:
        if self._file is None or not self._waiting:
            return
        try:
            self._file.write("".join(self._waiting))
            self._file.flush()
        except OSError as error:
            file, self._file = self._file, None
            with suppress(OSError):
                file.close()
            print(f"{file.name}: {error.strerror}; no more comes there", file=self._console)
        self._waiting.clear()


class _Both:
    """A stream that is also heard; all else is that of the stream."""

    def __init__(self, stream: Any, transcript: Transcript) -> None:
        self._stream = stream
        self._transcript = transcript

    def write(self, text: str) -> int:
        self._transcript.heard(text)
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _asked(error: KeyboardInterrupt | SystemExit) -> str:
    return "Ctrl-C or a signal" if isinstance(error, KeyboardInterrupt) else f"exit {error.code}"
