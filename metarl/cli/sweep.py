"""A sweep (-m) from its first run to its end: headings, runs that fail without ending it, runs that
are started again, and what is said when all are done.

Runs of a sweep may be in processes or machines of their own, so what they leave behind lies in
files of the sweep's folder.
"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from metarl.cli import comparison
from metarl.cli.words import called, command_line, one_line
from metarl.errors import UserError
from metarl.files import make_folder
from metarl.report.run_places import BEGUN, DONE, begun, in_order, noted
from metarl.run.lock import FolderLock, is_locked

BASIC = "basic"
"""Hydra's own launcher, by which runs are in one process, one after the other; and its own sweeper, which
starts a run for each combination of values."""
_FULL_ERROR = "HYDRA_FULL_ERROR"
_FAILED = "failed"
"""A folder with a file for each run that has failed: the jobs of a cluster begin together, and lines
that several machines append to one file at a time may be lost."""
_WORDS = "multirun.yaml"
"""What Hydra keeps of a sweep: the same words in the same folder go on with it."""
_AT_THE_END = ("runs.jsonl", "comparison.md", "table*.csv", "table*.tex")
"""What else a sweep before may have left in the folder."""


def is_sweep() -> bool:
    """Tells whether the present run is one of a sweep."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def new_folder() -> Path:
    """A folder of this sweep's own, also if two begin within a second. Raises: UserError if it
    can't be made."""
    name = Path("runs") / "sweeps" / f"{datetime.now():%Y-%m-%d_%H-%M-%S}"
    folder, number = name, 1
    try:
        make_folder(name.parent)
        while True:
            try:
                folder.mkdir()
                return folder
            except FileExistsError:
                number += 1
                folder = name.with_name(f"{name.name}-{number}")
    except OSError as error:
        raise UserError(
            f"can't make the sweep's folder {folder}: {error.strerror or error}"
        ) from error


def begin_run(config: DictConfig) -> None:
    """Called by each run at its start, with its configuration.

    A cluster starts a job again, with the same words, after it was preempted, was out of time or
    lost its machine. The run goes on then: `config` says `resume`.
    """
    End.to_go_on = None
    if not is_sweep():
        return
    hydra = HydraConfig.get()
    # Ray's processes are where the cluster was started, which may have no such folder.
    if not hydra.job.chdir and Path(hydra.runtime.cwd).is_dir():
        os.chdir(hydra.runtime.cwd)
    print(f"\n--- {_heading()}", file=sys.stderr)
    if "resume" not in config or config.resume is not None or _done_in() is not None:
        return
    if (before := _begun()) is not None:
        print(f"it was begun before, and goes on: {before['to go on']}", file=sys.stderr)
        config.resume = before["folder"]


def note_folder(folder: Path, to_go_on: str) -> None:
    """Called by a run that has made its folder: if its job is started again, it goes on there.

    Args: to_go_on: the command for a user to do that.
    """
    End.to_go_on = (folder.resolve(), to_go_on)
    if is_sweep():
        run = {"run": _heading(), "folder": str(folder.resolve()), "to go on": to_go_on}
        comparison.keep(BEGUN, run)


def _begun() -> dict[str, str] | None:
    """What `note_folder` noted of the present run, if that folder is still there."""
    place = comparison.place_in(BEGUN)
    run = json.loads(place.read_text("utf-8")) if place.exists() else None
    # A sweep before in the same folder had runs of the same numbers.
    if run is None or run["run"] != _heading():
        return None
    return run if (Path(run["folder"]) / "config.yaml").exists() else None


def folder_of_run() -> Path | None:
    """The folder of the present run, if it has made one."""
    return End.to_go_on[0] if End.to_go_on is not None else None


def done_before() -> Path | None:
    """The folder of the present run, if it was done when its sweep was called before; tells the
    user, too."""
    if not is_sweep() or (folder := _done_in()) is None:
        return None
    place = comparison.place_in(BEGUN)
    print(f"it is done: {folder} (to make it again, remove {place})", file=sys.stderr)
    return Path(folder)


def _done_in() -> str | None:
    """The folder of the present run, if it was done before and is still there."""
    run, place = _begun(), comparison.place_in(DONE)
    return run["folder"] if run is not None and place.exists() else None


def how_to_go_on() -> str:
    """The end of a line of a run that was stopped; nothing where it has no folder yet."""
    if is_sweep():
        run = _begun()
        return f"; to go on: {run['to go on']}" if run else ""
    if End.to_go_on is None or not (End.to_go_on[0] / "config.yaml").exists():
        return ""
    return f"; to go on: {End.to_go_on[1]}"


def note_failure(message: str) -> None:
    """Called by a run that failed: the sweep goes on and tells of it at its end."""
    print(f"error: {message}", file=sys.stderr)
    failed = {"run": _heading(), "error": message.strip().splitlines()[-1]}
    try:
        comparison.keep(_FAILED, failed)
    except OSError as failure:  # a full disk, which may have ended the run, too
        print(f"error: can't note that it failed: {failure}", file=sys.stderr)
        End.num_unnoted += 1


def _heading() -> str:
    job = HydraConfig.get()
    return f"run {job.job.num + 1}: {' '.join(job.overrides.task)}"


def _number(heading: str) -> int:
    return int(heading.partition(":")[0].removeprefix("run "))


class End(Callback):
    """Hydra makes it and calls it, see main.py."""

    going: Path | None = None
    """The folder of the sweep that this process has begun and not ended."""
    to_go_on: tuple[Path, str] | None = None
    """The folder of the present run and the command to go on with it, where it has one."""
    num_unnoted = 0
    """How many runs have failed of which no file tells."""
    lock: FolderLock | None = None
    """What holds the sweep's folder, from its start to `let_go`."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        folder = Path(config.hydra.sweep.dir)
        try:
            End.lock = _taken(folder)
        except UserError as error:  # Of which Hydra would only warn.
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(2) from None
        End.going, End.num_unnoted = folder, 0
        # Of a sweep before in the same folder, which hydra.sweep.dir=... can name.
        gone = [_FAILED] if _is_called_again(folder, config) else [DONE, _FAILED, BEGUN]
        for pattern in (*(f"{name}/*.json" for name in gone), *_AT_THE_END):
            for left in End.going.glob(pattern):
                left.unlink(missing_ok=True)
        if config.hydra.runtime.choices["hydra/launcher"] != BASIC:
            os.environ[_FULL_ERROR] = "1"  # Hydra raises errors then, for `to_its_end`.

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        End.going = None
        try:
            failed = sum_up(Path(config.hydra.sweep.dir))
        except Exception as error:
            # Hydra would only warn, and end as if no run had failed.
            print(f"error: the sweep can't be summed up: {_beginning(error)}", file=sys.stderr)
            raise SystemExit(1) from error
        if failed or End.num_unnoted:
            raise SystemExit(1)


def _is_called_again(folder: Path, config: DictConfig) -> bool:
    """Tells whether the sweep before in this folder had the same words."""
    try:
        before = OmegaConf.load(folder / _WORDS)
    except Exception:  # There is none, or it is damaged.
        return False
    names = ("hydra.job.config_name", "hydra.overrides.task")
    return all(OmegaConf.select(before, key) == OmegaConf.select(config, key) for key in names)


@contextmanager
def told_where_stopped() -> Iterator[None]:
    """Inside, a sweep is done in this process. Where Ctrl-C ends it, what was done is summed up, and
    a line says how to go on."""
    try:
        yield
    except SystemExit as stop:
        folder, End.going = End.going, None
        if stop.code == 130 and folder is not None:
            sum_up(folder)
            again = f"{called()} hydra.sweep.dir={folder}"
            print(f"\nto go on with the sweep: {again}", file=sys.stderr)
        raise


def _taken(folder: Path) -> FolderLock:
    """Takes the folder for a sweep, which clears it of what one before has left there. Raises:
    UserError if another goes on there, or a job of one whose own process has ended."""
    try:
        make_folder(folder)
    except OSError as error:
        raise UserError(f"hydra.sweep.dir={folder}: {error.strerror}: {error.filename}") from error
    lock = FolderLock(folder, say=lambda words: print(words, file=sys.stderr))
    for run in begun(folder):
        if is_locked(Path(run["folder"])):
            lock.release()
            raise UserError(
                f"hydra.sweep.dir={folder}: a run of the sweep before still goes on, in "
                f"{run['folder']}; wait for it, or name another folder"
            )
    return lock


def let_go() -> None:
    """Another process may have the sweep's folder now."""
    if End.lock is not None:
        End.lock.release()
    End.lock = None


@contextmanager
def to_its_end(launcher: str) -> Iterator[None]:
    """Inside, Hydra has a sweep done by a launcher, which gives up where it has lost a run: its job
    was killed, its machine is gone. A line says why, and the runs so far are summed up."""
    set_by_user = os.environ.get(_FULL_ERROR)
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        if End.going is None or set_by_user == "1":
            raise
        stopped = isinstance(error, KeyboardInterrupt)
        said = "interrupted" if stopped else f"error: {_beginning(error)}"
        print(f"hydra/launcher={launcher}: {said}", file=sys.stderr)
        sum_up(End.going)
        raise SystemExit(130 if stopped else 1) from None
    finally:
        End.going = None
        if set_by_user is None:
            os.environ.pop(_FULL_ERROR, None)
        else:
            os.environ[_FULL_ERROR] = set_by_user


def _beginning(error: BaseException) -> str:
    """What an error says in its first two lines; launchers add what the job has printed."""
    lines = [line for line in str(error).splitlines() if line.strip()] or [repr(error)]
    more = f" ({_FULL_ERROR}=1 shows more)" if len(lines) > 2 else ""
    return f"{one_line(' '.join(lines[:2]))}{more}"


def sum_up(folder: Path) -> int:
    """Prints the table of the runs that are done, and which are not and why. Returns how many have
    failed."""
    done = {run["folder"] for run in noted(folder)}
    failed = {run["run"]: run["error"] for run in _each(folder / _FAILED)}
    going = []
    for run in _each(folder / BEGUN):
        if run["folder"] in done or is_locked(Path(run["folder"])):
            failed.pop(run["run"], None)  # Where it was stopped, it was started again since.
            going += [run] if run["folder"] not in done else []
        elif run["run"] not in failed:
            failed[run["run"]] = f"its process was ended; to go on: {run['to go on']}"
    failed = dict(sorted(failed.items(), key=lambda run: _number(run[0])))
    comparison.show(folder, failed)
    if going:
        where = "jobs of Slurm go on, others stop with this process"
        print(f"\n{_counted(len(going))} of the sweep not at an end ({where}):", file=sys.stderr)
        for run in going:
            print(f"  {run['run']}", file=sys.stderr)
            print(f"    to go on, once it has stopped: {run['to go on']}", file=sys.stderr)
        print(f"when they are done: {command_line('report')} runs=[{folder}]", file=sys.stderr)
    if failed:
        print(f"\nerror: {_counted(len(failed))} of the sweep failed:", file=sys.stderr)
        for name, error in failed.items():
            print(f"  {name}\n    {error}", file=sys.stderr)
    return len(failed)


def _each(folder: Path) -> list[dict[str, str]]:
    """What the files of a folder hold, in order of their runs."""
    places = in_order(folder.glob("*.json"))
    return [json.loads(place.read_text("utf-8")) for place in places]


def _counted(runs: int) -> str:
    return f"{runs} run{'s' if runs > 1 else ''}"
