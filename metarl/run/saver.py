"""Saves a run with its experience, and brings the experience back."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metarl.run import checkpoint
from metarl.run.iteration import RunState
from metarl.run.lock import FolderLock
from metarl.run.shards import KEY, Shards


class Saver:
    """Saves a run. The experience goes first: a checkpoint names only files that are on the
    disk.

    Args: provenance: what a checkpoint holds besides the run; keep: how many of the newest stay;
      lock: of the run folder, asked before each checkpoint whether it is still held.
    """

    def __init__(
        self, folder: Path, *, provenance: Mapping[str, Any], keep: int, lock: FolderLock | None
    ) -> None:
        self.folder = folder
        self._provenance = provenance
        self._keep = keep
        self._lock = lock
        self._shards = Shards(folder)
        self._names: list[str] | None = None
        """The files that the newest checkpoint needs."""
        self.saved: int | None = None
        """The iteration that is on the disk."""

    def write(self, run: RunState) -> Path:
        if self._lock is not None:
            self._lock.check()
        experience = run.learner.experience
        self._names = None if experience is None else self._shards.write(experience)
        path = checkpoint.save(self.folder, self.content(run), keep=self._keep)
        if self._names is not None:
            self._shards.tidy(path, self._names)
        self.saved = run.iteration
        return path

    def has_present(self, run: RunState) -> bool:
        """Whether the checkpoint of the present iteration lies among those that a run goes on
        from."""
        return checkpoint.path_of(self.folder, run.iteration).exists()

    def content(self, run: RunState) -> dict[str, Any]:
        """Returns what the checkpoint of the state holds that was saved last."""
        names = {} if self._names is None else {KEY: self._names}
        return {**self._provenance, **run.content(), **names}

    def load_experience(self, run: RunState, content: Mapping[str, Any]) -> None:
        """Brings back what the run's own checkpoint leaves out."""
        if run.learner.experience is not None:
            self._shards.load(run.learner.experience, content)
            self._names = content.get(KEY)
        self.saved = run.iteration
