"""Where the numbers of a report come from: problem, runs, code, library versions, computing."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import yaml

from metarl.report.finished import Begun, Finished
from metarl.report.learners import Learner
from metarl.report.plots import unit_of_time
from metarl.report.run_places import num_seeds_in
from metarl.run.shown import human

Facts = list[tuple[str, str]]
"""Names and what they are, to be read one below the other."""


def problem(learners: Sequence[Learner]) -> Facts:
    """The environment, and the tasks that all runs were evaluated on."""
    run = learners[0].runs[0]
    report = run.report
    hashes = _all(of.spec_hash for learner in learners for of in learner.runs)
    held_out = (
        "the same as in training: there are no others"
        if report["split"] == "none"
        else "held out: training never saw them"
    )
    episodes = _all(str(learner.runs[0].episodes_per_task) for learner in learners)
    found = [
        ("environment", str(report["env"])),
        ("variant", str(report.get("variant", ""))),
        ("spec hash", hashes),
        ("horizon", _horizon(run)),
        ("tasks", f"{len(run.tasks)}, {held_out}"),
        ("episodes of a task", f"{episodes} in each state of a learner"),
    ]
    return [(name, text) for name, text in found if text]


@runtime_checkable
class Evaluated(Protocol):
    """A run with an evaluation, of whichever kind."""

    @property
    def place(self) -> Path: ...
    @property
    def seed(self) -> int: ...
    @property
    def config(self) -> dict[str, Any]: ...
    @property
    def report(self) -> dict[str, Any]: ...
    @property
    def metrics(self) -> list[dict[str, Any]]: ...


COUNTED = {"env_steps": "environment steps", "tasks": "training tasks"}
"""What rows of metrics count, in words."""


def code(runs: Sequence[Evaluated], begun: Sequence[Begun], count: str = "env_steps") -> Facts:
    """Commits, versions, and what computing it took. Args: count: what a training counts."""
    commits = _all(run.report.get("commit") for run in runs)
    versions = _all(
        ", ".join(f"{name} {version}" for name, version in run.report["versions"].items())
        for run in runs
        if "versions" in run.report
    )
    own = _all(
        f"{name} {digest}"
        for run in runs
        for name, digest in run.report.get("own_code", {}).items()
    )
    metrics = [run.metrics for run in runs] + [run.metrics for run in begun]
    ends = [rows[-1] for rows in metrics if rows]
    trained = sum(row.get("seconds", 0.0) for row in ends)
    counted = sum(row.get(count, 0) for row in ends)
    # "auto" says what was asked for, and not what it came to.
    named = [str(run.config.get("device") or "auto") for run in runs]
    devices = _all(name for name in named if name != "auto")
    computing = [f"{human(int(counted))} {COUNTED[count]}"] if counted else []
    computing += [f"{in_words(trained)} of training in all"] if trained else []
    computing += [f"on {devices}"] if devices else []
    found = [("commit", commits), ("own code", own), ("versions", versions)]
    found.append(("computing", ", ".join(computing)))
    return [(name, text) for name, text in found if text]


RUN_HEAD = ["learner", "seed", "steps", "training", "memory", "commit", "evaluation"]


def run_rows(learners: Sequence[Learner]) -> list[list[str]]:
    """A row for each run."""
    rows = []
    for learner in learners:
        for run in learner.runs:
            last = run.metrics[-1] if run.metrics else {}
            steps = run.report.get("trained_env_steps", last.get("env_steps"))
            rows.append(run_row(learner.name, run, steps))
    return rows


def run_row(name: str, run: Evaluated, count: float | None) -> list[str]:
    """A run of the learner of this name. Args: count: of steps, or of tasks, that it took."""
    last = run.metrics[-1] if run.metrics else {}
    memory = last.get("peak_memory_mib")
    seeds = num_seeds_in(run.place.parent.parent)
    share = f", its share of {seeds} seeds together" if seeds > 1 else ""
    return [
        name,
        str(run.seed),
        "" if count is None else human(int(count)),
        in_words(last["seconds"]) + share if "seconds" in last else "",
        "" if memory is None else f"{memory:.0f} MiB",
        str(run.report.get("commit") or ""),
        str(run.place),
    ]


def commands(runs: Sequence[Evaluated]) -> list[str]:
    """The commands that the evaluations name, each once."""
    found = [run.report["command"] for run in runs if run.report.get("command")]
    return [
        f"python {command}" if command.partition(" ")[0].endswith(".py") else command
        for command in dict.fromkeys(found)
    ]


def settings(runs: Sequence[Evaluated]) -> str:
    """The configuration of the first run, as YAML."""
    config = {key: value for key, value in runs[0].config.items() if key != "composed"}
    return str(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))


def in_words(seconds: float) -> str:
    """How long it took, in a unit that reads well."""
    name, size = unit_of_time(seconds)
    return f"{seconds / size:.0f} {name}" if size < 3600 else f"{seconds / size:.1f} {name}"


def _horizon(run: Finished) -> str:
    horizon = run.config["env"].get("horizon")
    return "" if horizon is None else f"{horizon} control steps an episode"


def _all(values: Any) -> str:
    """The one value that all have, or each of several."""
    return "; ".join(dict.fromkeys(str(value) for value in values if value is not None))
