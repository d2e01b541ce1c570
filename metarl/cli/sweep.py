"""A sweep (-m) from its first run to its end: headings, runs that fail without ending it, and what
is said when all are done.

Runs of a sweep may be in processes or machines of their own, so what they leave behind lies in
files of the sweep's folder.
"""

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from metarl.cli import comparison
from metarl.errors import UserError
from metarl.files import make_folder

_FAILED = "failed.jsonl"


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


def begin_run() -> None:
    if is_sweep():
        print(f"\n--- {_heading()}", file=sys.stderr)


def note_failure(message: str) -> None:
    """Called by a run that failed: the sweep goes on and tells of it at its end."""
    print(f"error: {message}", file=sys.stderr)
    with (Path(HydraConfig.get().sweep.dir) / _FAILED).open("a", encoding="utf-8") as file:
        file.write(
            json.dumps({"run": _heading(), "error": message.strip().splitlines()[-1]}) + "\n"
        )


def _heading() -> str:
    job = HydraConfig.get()
    return f"run {job.job.num + 1}: {' '.join(job.overrides.task)}"


class End(Callback):
    """Hydra makes it and calls it, see cli.py."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        folder = Path(config.hydra.sweep.dir)
        comparison.show(folder)
        if (folder / _FAILED).exists():
            _stop([json.loads(line) for line in (folder / _FAILED).read_text("utf-8").splitlines()])


def _stop(failed: list[dict[str, str]]) -> NoReturn:
    print(
        f"\nerror: {len(failed)} run{'s' if len(failed) > 1 else ''} of the sweep failed:",
        file=sys.stderr,
    )
    for failure in failed:
        print(f"  {failure['run']}\n    {failure['error']}", file=sys.stderr)
    raise SystemExit(1)
