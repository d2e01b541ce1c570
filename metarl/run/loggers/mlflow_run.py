"""MLflow: a run there for each run folder, which goes on where the folder's goes on."""

import time
from collections.abc import Mapping
from typing import Any

from mlflow.entities import Metric, Param
from mlflow.tracking import MlflowClient

from metarl.run.loggers.logger import EVALUATION, HELD_OUT, Begun, Results, named, settings
from metarl.run.loggers.sent import Identity, Sent
from metarl.types import Metrics

_INTERVAL, _LONGEST_INTERVAL = 5.0, 600.0
"""s between two messages to the server, and at most while it doesn't answer: the client tries for
minutes by itself, and the training waits meanwhile."""
_IN_A_MESSAGE = 900  # numbers; MLflow takes 1000
_PARAMS_IN_A_MESSAGE, _LONGEST_PARAM = 100, 500  # characters
_TAG = "metarl.id"


class MlflowRun:
    """Metrics have the iteration as their step. Rows go to the server every few seconds, so that it
    costs a fast training little; what a crash keeps from it is sent when the run goes on."""

    def __init__(self, begun: Begun, asked: Mapping[str, Any]) -> None:
        self._client = MlflowClient(tracking_uri=asked.get("tracking_uri"))
        identity = Identity(begun.folder)
        experiment = _experiment(self._client, asked.get("experiment") or "metarl")
        of_ours = f"tags.`{_TAG}` = '{identity.id}'"
        found = self._client.search_runs([experiment], of_ours)
        if found:
            self._run_id, latest = found[0].info.run_id, found[0].data.metrics
            self._client.update_run(self._run_id, status="RUNNING")
        else:
            tags = {_TAG: identity.id}
            run = self._client.create_run(experiment, tags=tags, run_name=begun.name)
            self._run_id, latest = run.info.run_id, {}
            self._log_params(settings(begun.config))
        identity.note("mlflow")
        self._sent = Sent(begun, latest, is_known=False)
        self._waiting: list[Metric] = []
        self._last_sent = -float("inf")
        self._interval = _INTERVAL
        self._num_done, self._num_planned = (
            begun.first_iteration,
            begun.config.get("iterations") or 0,
        )
        for row in self._sent.metrics:
            self._take(row, "")
        for row in self._sent.evaluations:
            self._take(row, HELD_OUT)
        self.flush()

    def metrics(self, row: Metrics) -> None:
        self._num_done = int(row["iteration"]) + 1
        if self._sent.lacks_metrics(row):
            self._take(row, "")
            self._send_if_due()

    def evaluation(self, row: Metrics) -> None:
        if self._sent.lacks_evaluation(row):
            self._take(row, HELD_OUT)
            self._send_if_due()

    def results(self, results: Results) -> None:
        self._take({"iteration": results.iteration, **results.numbers}, EVALUATION)
        self.flush()
        for file in [*([] if results.video is None else [results.video]), *results.files]:
            self._client.log_artifact(self._run_id, str(file))

    def flush(self) -> None:
        """Sends what is waiting; what fails goes on waiting, longer each time."""
        self._interval = min(2 * self._interval, _LONGEST_INTERVAL)
        try:
            while self._waiting:
                part = self._waiting[:_IN_A_MESSAGE]
                self._client.log_batch(self._run_id, metrics=part)
                del self._waiting[: len(part)]
            self._interval = _INTERVAL
        finally:
            self._last_sent = time.monotonic()

    def close(self) -> None:
        self.flush()
        is_over = self._num_done >= self._num_planned
        self._client.set_terminated(self._run_id, "FINISHED" if is_over else "KILLED")

    def _take(self, row: Metrics, prefix: str) -> None:
        step, now = int(row["iteration"]), int(time.time() * 1000)
        for name, value in named(row, prefix).items():
            self._waiting.append(Metric(name, float(value), now, step))

    def _send_if_due(self) -> None:
        if time.monotonic() - self._last_sent >= self._interval:
            self.flush()

    def _log_params(self, of: Mapping[str, Any]) -> None:
        params = [Param(key, str(value)[:_LONGEST_PARAM]) for key, value in of.items()]
        for first in range(0, len(params), _PARAMS_IN_A_MESSAGE):
            part = params[first : first + _PARAMS_IN_A_MESSAGE]
            self._client.log_batch(self._run_id, params=part)


def _experiment(client: MlflowClient, name: str) -> str:
    found = client.get_experiment_by_name(name)
    return str(client.create_experiment(name) if found is None else found.experiment_id)
