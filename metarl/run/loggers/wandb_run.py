"""Weights & Biases: a run there for each run folder, which goes on where the folder's goes on."""

from collections.abc import Mapping
from typing import Any

import wandb

from metarl.run.loggers.logger import EVALUATION, HELD_OUT, Begun, Results, named
from metarl.run.loggers.sent import Identity, Sent
from metarl.types import Metrics


class WandbRun:
    """Charts are against `iteration`, those of held-out evaluations against env steps (or tasks);
    what was logged before a crash isn't logged again."""

    def __init__(self, begun: Begun, settings: Mapping[str, Any]) -> None:
        identity = Identity(begun.folder)
        is_known = identity.is_known_to("wandb")
        self._run = wandb.init(
            id=identity.id,
            resume="allow",
            name=begun.name,
            group=begun.name.rpartition("/")[0],
            config=dict(begun.config),
            dir=str(begun.folder),
            # Several seeds of one process have a run each.
            reinit="create_new",
            settings=wandb.Settings(console="off"),
            **{key: value for key, value in settings.items() if value is not None},
        )
        identity.note("wandb")
        self._run.define_metric("*", step_metric="iteration")
        steps = f"{HELD_OUT}{begun.count}"
        self._run.define_metric(f"{HELD_OUT}*", step_metric=steps)
        self._sent = Sent(begun, dict(self._run.summary), is_known=is_known)
        for row in self._sent.metrics:
            self._run.log(dict(row))
        for row in self._sent.evaluations:
            self._run.log(named(row, HELD_OUT))

    def metrics(self, row: Metrics) -> None:
        if self._sent.lacks_metrics(row):
            self._run.log(dict(row))

    def evaluation(self, row: Metrics) -> None:
        if self._sent.lacks_evaluation(row):
            self._run.log(named(row, HELD_OUT))

    def results(self, results: Results) -> None:
        self._run.summary.update(named(results.numbers, EVALUATION))
        shown: dict[str, Any] = {
            file.stem: wandb.Image(str(file)) for file in results.files if file.suffix == ".png"
        }
        if results.video is not None:
            shown[results.video.stem] = wandb.Video(str(results.video), format="mp4")
        if shown:
            # Beside the last row, because W&B keeps the iteration that it heard of last.
            self._run.log({"iteration": results.iteration - 1, **shown})

    def flush(self) -> None:
        """A process of W&B's own has the rows already."""

    def close(self) -> None:
        self._run.finish()
