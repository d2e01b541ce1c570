"""TensorBoard: curves by iteration in the run's folder, by env steps (or tasks) in a folder below,
settings in the tab HParams, and the film at the end.

A run that goes on begins another file. What older ones say from there on is told to be void, by a
step; that is why curves by iteration and by env steps can't lie in one folder. TensorBoard reads a
folder's files in the order of their names, so the new one's has to come last.
"""

import logging
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from metarl.run.loggers.logger import EVALUATION, HELD_OUT, Begun, Results, named, settings
from metarl.run.loggers.moving_picture import gif
from metarl.types import Metrics

_LONGEST_WAIT = 5.0
"""Seconds that a run waits for the clock to pass the names of older files."""


class TensorBoard:
    """Writes two files of events at a time, one for each axis."""

    def __init__(self, begun: Begun, _: Mapping[str, Any]) -> None:
        self._count = begun.count
        by_count = begun.folder / f"by_{begun.count}"
        older, older_by_count = _files(begun.folder), _files(by_count)
        is_new, is_new_by_count = not older, not older_by_count
        first = begun.first_iteration
        _wait_for_a_name_after([*older, *older_by_count])
        self._by_iteration = SummaryWriter(str(begun.folder), purge_step=first)
        self._by_count = SummaryWriter(str(by_count), purge_step=begun.num + 1)
        self._settings = settings(begun.config)
        self._shows_settings = is_new or first == 0
        """Whether the tab HParams is yet to be filled."""
        for row in begun.metrics:
            self._add(row, "", by_iteration=is_new, by_count=is_new_by_count)
        for row in begun.evaluations:
            # One that was made where the run goes on has been voided with what came after it.
            again = is_new or row["iteration"] == first
            self._add(row, HELD_OUT, by_iteration=again, by_count=is_new_by_count)

    def metrics(self, row: Metrics) -> None:
        if self._shows_settings:
            self._show_settings(row)
        self._add(row, "")

    def evaluation(self, row: Metrics) -> None:
        self._add(row, HELD_OUT)

    def results(self, results: Results) -> None:
        place = {"iteration": results.iteration, self._count: results.count}
        self._add({**place, **results.numbers}, EVALUATION)
        if results.video is not None:
            picture = gif(results.video)
            image = Summary.Image(
                height=picture.height,
                width=picture.width,
                colorspace=3,
                encoded_image_string=picture.data,
            )
            summary = Summary(value=[Summary.Value(tag=results.video.stem, image=image)])
            self._by_iteration._get_file_writer().add_summary(summary, results.iteration)

    def flush(self) -> None:
        self._by_iteration.flush()
        self._by_count.flush()

    def close(self) -> None:
        try:
            self.flush()  # Closing alone doesn't tell what couldn't be written.
        finally:
            self._close()

    def _close(self) -> None:
        self._by_iteration.close()
        self._by_count.close()

    def _add(
        self, row: Metrics, prefix: str, *, by_iteration: bool = True, by_count: bool = True
    ) -> None:
        """Writes a row as one event for each axis: TensorBoard opens its file for each event."""
        iteration, count = int(row["iteration"]), int(row.get(self._count, 0))
        told = {k: v for k, v in named(row, prefix).items() if k != f"{prefix}iteration"}
        if by_iteration:
            self._by_iteration._get_file_writer().add_summary(_scalars(told), iteration)
        if by_count:
            told.pop(f"{prefix}{self._count}", None)
            under = _scalars({f"by_{self._count}/{name}": value for name, value in told.items()})
            self._by_count._get_file_writer().add_summary(under, count)

    def _show_settings(self, row: Metrics) -> None:
        """Fills the tab HParams: the settings, beside the numbers that runs are compared by."""
        returns = [name for name in row if name.startswith("return") and "tenth" not in name]
        shown = [*(returns or list(row)[1:2]), f"{HELD_OUT}score", f"{EVALUATION}score"]
        for summary in hparams(self._settings, dict.fromkeys(shown, 0.0)):
            self._by_iteration._get_file_writer().add_summary(summary)
        self._shows_settings = False


def _scalars(numbers: Mapping[str, float]) -> Summary:
    return Summary(
        value=[Summary.Value(tag=name, simple_value=value) for name, value in numbers.items()]
    )


def _files(folder: Path) -> list[Path]:
    return list(folder.glob("events.out.tfevents*"))


def _wait_for_a_name_after(older: Sequence[Path]) -> None:
    """Waits until a new file's name comes after those of older ones.

    A name begins with the second it is given in. What follows, host and process, has no order in
    time: of a run killed and resumed within one second the old file could be read as the newer.
    """
    seconds = [re.match(r"events\.out\.tfevents\.(\d+)\.", path.name) for path in older]
    latest = max((int(second[1]) for second in seconds if second), default=0)
    ahead = latest + 1 - time.time()
    if ahead > _LONGEST_WAIT:
        logging.getLogger("metarl").warning(
            "the files of TensorBoard in %s were begun %.0f seconds later than this machine's clock "
            "says it is: TensorBoard may show what was before the resume in place of what comes now",
            older[0].parent,
            ahead,
        )
    elif ahead > 0:
        time.sleep(ahead)
