"""Makes the loggers that are asked for, and keeps the trouble of a distant server away from the
training."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from tqdm import tqdm

from metarl.errors import UserError
from metarl.run.loggers.logger import Begun, Logger, Results
from metarl.struct import struct
from metarl.types import Metrics

LOGGERS = {
    "tensorboard": "metarl.run.loggers.tensorboard.TensorBoard",
    "csv": "metarl.run.loggers.csv_tables.CsvTables",
    "wandb": "metarl.run.loggers.wandb_run.WandbRun",
    "mlflow": "metarl.run.loggers.mlflow_run.MlflowRun",
}
"""The class of each logger, called with what has begun and the settings of its name."""

DISTANT = ("wandb", "mlflow")
"""The loggers that need a library of their own, and may speak with a server."""


@struct
class Tracking:
    """Which loggers a run has, and the settings of those that have any."""

    names: tuple[str, ...] = ("tensorboard",)
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)


def check(names: Sequence[str]) -> None:
    """Raises: UserError naming the extra that a logger lacks."""
    for name in names:
        if name in DISTANT and find_spec(name) is None:
            raise UserError(
                f"loggers: {name} isn't installed; expected it (pip install 'metarl[{name}]'), or "
                f"loggers without {name}"
            )


class Loggers:
    """All loggers of a run as one.

    Raises: UserError if one of them can't begin.
    """

    def __init__(self, tracking: Tracking, begun: Begun) -> None:
        check(tracking.names)
        self._all: list[Logger] = []
        try:
            for name in dict.fromkeys(tracking.names):
                self._all.append(_opened(name, tracking.settings.get(name, {}), begun))
        except BaseException:
            self.close()
            raise

    def metrics(self, row: Metrics) -> None:
        for logger in self._all:
            logger.metrics(row)

    def evaluation(self, row: Metrics) -> None:
        for logger in self._all:
            logger.evaluation(row)

    def results(self, results: Results) -> None:
        for logger in self._all:
            logger.results(results)

    def flush(self) -> None:
        for logger in self._all:
            logger.flush()

    def close(self) -> None:
        for logger in self._all:
            logger.close()


def _opened(name: str, settings: Mapping[str, Any], begun: Begun) -> Logger:
    module, _, of = LOGGERS[name].rpartition(".")
    make: Callable[..., Logger] = getattr(import_module(module), of)
    if name not in DISTANT:
        own = make(begun, settings)
        # Its thread writes later, and what it shows is in metrics.jsonl, too.
        return Tolerant(name, own) if name == "tensorboard" else own
    try:
        return Tolerant(name, make(begun, settings))
    except UserError:
        raise
    except Exception as error:  # whatever a library raises for a name, a key or a server
        raise UserError(f"loggers: {name} can't begin: {_brief(error)}") from error


class Tolerant:
    """A logger whose failures are said and don't end the run, whose numbers are in its folder."""

    def __init__(self, name: str, logger: Logger) -> None:
        self._name = name
        self._logger = logger
        self._is_in_trouble = False

    def metrics(self, row: Metrics) -> None:
        with self._said():
            self._logger.metrics(row)

    def evaluation(self, row: Metrics) -> None:
        with self._said():
            self._logger.evaluation(row)

    def results(self, results: Results) -> None:
        with self._said():
            self._logger.results(results)

    def flush(self) -> None:
        with self._said():
            self._logger.flush()

    def close(self) -> None:
        with self._said():
            self._logger.close()

    @contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # of a library, a network, a server
            if not self._is_in_trouble:
                line = f"{self._name}: {_brief(error)}; the run goes on, its folder has all numbers"
                tqdm.write(line, file=sys.stderr)
            self._is_in_trouble = True
        else:
            self._is_in_trouble = False


def _brief(error: Exception) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0][:200]
