"""Several learners, each with the finished runs of its seeds: what they say together.

`learners` puts runs of one setting together, `side_by_side` works out the numbers that a table
(learners_table.py) and a picture (learners_plot.py) show. Intervals are over seeds and tasks, see
metarl/rl/evaluation/several_runs.py.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from metarl.errors import UserError
from metarl.report.finished import Begun, Finished
from metarl.report.seeds import success
from metarl.rl.evaluation.several_runs import (
    across_runs,
    made_worse_across_runs,
    normalised_across_runs,
)
from metarl.run.loggers.logger import CHANGES_NO_NUMBER

_OF_A_RUN = ("seed", "device", "sim", "composed", *CHANGES_NO_NUMBER)
"""Keys of a configuration in which runs of one setting may differ."""

_MOST_DIFFERENCES = 2  # settings that a learner's name tells


@dataclass(frozen=True, kw_only=True)
class Learner:
    """Runs that differ in their seeds alone."""

    name: str
    runs: list[Finished]

    @property
    def returns(self) -> Tensor:
        """[S, N, K + 1, E] float64."""
        return torch.stack([run.returns for run in self.runs])

    @property
    def unit(self) -> str:
        """What an update is called, see `metarl.rl.types.Sizes`."""
        return self.runs[0].unit


def learners(runs: Sequence[Finished]) -> list[Learner]:
    """Puts the runs of one setting together, in order of their first appearance.

    Raises: UserError naming two runs of one seed, or two that weren't evaluated alike.
    """
    found = [Learner(name=name, runs=of) for name, of in by_setting(runs).items()]
    _check_alike(runs)
    return found


@runtime_checkable
class AnyRun(Protocol):
    """What tells runs apart, of whichever kind."""

    @property
    def place(self) -> Path: ...
    @property
    def config(self) -> dict[str, Any]: ...
    @property
    def seed(self) -> int: ...
    @property
    def algo(self) -> str: ...
    @property
    def shows_task(self) -> bool: ...


R = TypeVar("R", bound=AnyRun)


def by_setting(runs: Sequence[R]) -> dict[str, list[R]]:
    """Returns the runs of each setting, in order of their seeds, by the name of the learner.

    Raises: UserError naming two runs of one seed.
    """
    groups: dict[str, list[R]] = {}
    for run in runs:
        groups.setdefault(_key(run), []).append(run)
    names = _names([group[0] for group in groups.values()])
    found = {}
    for name, group in zip(names, groups.values(), strict=True):
        ordered = found[name] = sorted(group, key=lambda run: run.seed)
        for first, second in itertools.pairwise(ordered):
            if first.seed == second.seed:
                raise UserError(
                    f"{first.place} and {second.place} are both {name} with seed {first.seed}; "
                    "expected one run of each seed"
                )
    return found


def renamed(of: Sequence[Learner], names: Sequence[str] | None) -> list[Learner]:
    """The learners under other names. Raises: as `checked_names` does."""
    found = checked_names(names, [learner.name for learner in of])
    return [Learner(name=name, runs=learner.runs) for name, learner in zip(found, of, strict=True)]


def checked_names(names: Sequence[str] | None, present: Sequence[str]) -> list[str]:
    """The names that learners are to have instead of their present ones, None for these. Raises:
    UserError unless there is one for each, and no two are the same."""
    if names is None:
        return list(present)
    if len(names) != len(present) or len(set(names)) != len(present):
        raise UserError(
            f"names=[{', '.join(names)}]: expected {len(present)} different names, of "
            f"{'; '.join(present)}"
        )
    return list(names)


def named_like(run: Begun, of: Sequence[Learner]) -> str | None:
    """The learner that the run is a further seed of; None if there is none."""
    return next((learner.name for learner in of if _key(learner.runs[0]) == _key(run)), None)


def _key(run: AnyRun | Begun) -> str:
    """What tells runs of one setting from those of others: equal for two of the same."""
    return repr((run.algo, sorted(setting(run).items())))


def setting(run: AnyRun | Begun) -> dict[str, Any]:
    """The settings that make a learner, by their full names, without what it is called: files of
    earlier versions don't say that."""
    own = {k: v for k, v in run.config.items() if k not in _OF_A_RUN}
    return {key: value for key, value in _leaves(own) if key != "algo.name"}


def _leaves(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _names(firsts: Sequence[AnyRun]) -> list[str]:
    """Names of learners, no two alike: the algorithm's, and what tells it from others of that name:
    the values of settings that both have, or else the settings that the other one lacks."""
    names = [run.algo + (", shown the task" if run.shows_task else "") for run in firsts]
    told = []
    for name, run in zip(names, firsts, strict=True):
        alike = [setting(other) for n, other in zip(names, firsts, strict=True) if n == name]
        own = setting(run)
        differing = [
            _in_words(key, value)
            for key, value in own.items()
            if any(key in other and other[key] != value for other in alike)
        ] or [
            _in_words(key, value)
            for key, value in own.items()
            if any(key not in other for other in alike)
        ]
        more = ", ..." if len(differing) > _MOST_DIFFERENCES else ""
        words = ", ".join(differing[:_MOST_DIFFERENCES]) + more
        told.append(f"{name} ({words})" if words else name)
    # Two may differ in a setting too many to be told.
    return [
        f"{name}, {told[: place + 1].count(name)}" if told.count(name) > 1 else name
        for place, name in enumerate(told)
    ]


def named_settings(settings: Mapping[str, Any]) -> str:
    """Settings as the command line says them."""
    return ", ".join(_in_words(key, value) for key, value in settings.items())


def _in_words(key: str, value: Any) -> str:
    """Says a setting as the command line does; of what is called, the last part of its name."""
    name = key.removesuffix("._target_")
    return f"{name}={str(value).rpartition('.')[2] if name != key else value}"


def _check_alike(runs: Sequence[Finished]) -> None:
    """Raises: UserError naming two runs that weren't evaluated in the same environment on the same
    tasks, or two of one learner with other numbers of updates or episodes, or played otherwise."""
    first, of_setting, shown = runs[0], dict[str, Finished](), dict[bool, Finished]()
    for run in runs:
        _check_environment(run, first)
        # To see the task makes another definition, whose like is another such.
        _check_environment(run, shown.setdefault(run.shows_task, run))
        if (run.report["env"], run.tasks) != (first.report["env"], first.tasks):
            has, asked = (_tasks_of(r) for r in (run, first))
            raise UserError(
                f"{run.place} has {has}{', other ones' if has == asked else ''}; expected the "
                f"{asked} that {first.place} has"
            )
        like = of_setting.setdefault(_key(run), run)
        (_, rows, episodes), (_, asked_rows, asked_episodes) = run.returns.shape, like.returns.shape
        if (rows, episodes) != (asked_rows, asked_episodes):
            raise UserError(
                f"{run.place} has {rows - 1} updates of {episodes} episodes; expected "
                f"{asked_rows - 1} of {asked_episodes}, as {like.place} has"
            )
        if run.played != like.played:
            own, asked = (named_settings(of.played) or "none of that" for of in (run, like))
            raise UserError(
                f"{run.place} was evaluated with {own}, {like.place} with {asked}; expected the "
                "same of all seeds"
            )


def _tasks_of(run: Finished) -> str:
    return f"{len(run.tasks)} task{'s' if len(run.tasks) > 1 else ''} of {run.report['env']}"


def _check_environment(run: Finished, first: Finished) -> None:
    """Raises: UserError if the definitions of their environments differ in more than whether the
    task is shown, with what their settings say of it."""
    hashes = run.spec_hash, first.spec_hash
    are_told = None not in hashes  # not by evaluations of earlier versions
    if (are_told and hashes[0] == hashes[1]) or run.report["env"] != first.report["env"]:
        return
    keys = differing_in(run, first)
    if not keys and (run.shows_task != first.shows_task or not are_told):
        return
    differing = ", ".join(f"env.{key}={own} and {other}" for key, (own, other) in keys.items())
    raise UserError(
        f"{run.place} is of another problem than {first.place}: spec hash {hashes[0]} and "
        f"{hashes[1]} ({differing or 'by another version of metarl, or evaluated elsewhere'}); "
        "expected runs of one environment, evaluated there"
    )


def differing_in(run: AnyRun | Begun, first: AnyRun) -> dict[str, tuple[Any, Any]]:
    """The settings of their environments that both runs tell otherwise, but for whether the task is
    shown: which make another problem."""
    own, other = (
        {k: v for k, v in _leaves(of.config["env"]) if k != "shows_task"} for of in (run, first)
    )
    keys = [key for key in own if key in other and own[key] != other[key]]
    return {key: (own[key], other[key]) for key in keys}


def side_by_side(of: Sequence[Learner]) -> dict[str, Any]:
    """The numbers of a comparison, as JSON values.

    `learners`: of each its `name`, `unit`, `episodes_per_update` (None where that isn't the unit),
    `played` (what its evaluations were asked to do otherwise than training does),
    `made_by` of its environments where these are a user's (see `metarl.rl.spec.EnvSpec`),
    `diverged_episodes` of all `episodes`, `seeds`, `env_steps` and `seconds` of each seed, and in
    `returns` for each update the `mean`, `iqm` and `median` with their intervals, the mean of each
    seed (`by_seed`), where the tasks have a scale, `normalised`, and where the environment tells
    it, `success`, the share of solved episodes; `made_worse` by each update.
    `beside`: what doesn't learn, as means over the runs: `stand_still`, `random_initialisation` of
    each learner after each update, `references`, and `fixed_speeds`; in `success` the first three
    once more, as shares of solved episodes.
    """
    runs = [run for learner in of for run in learner.runs]
    ends = scale(runs)
    return {
        "env": runs[0].report["env"],
        "split": runs[0].report["split"],
        "num_tasks": len(runs[0].tasks),
        "learners": [_of_learner(learner, ends) for learner in of],
        "beside": _beside(of),
    }


def _of_learner(learner: Learner, ends: tuple[Tensor, Tensor] | None) -> dict[str, Any]:
    returns, runs = learner.returns, learner.runs
    # Of its own, so that its intervals are the same whoever stands beside it, and whether or not
    # it has a score.
    generator, of_scores = (torch.Generator().manual_seed(0) for _ in range(2))
    rows: list[dict[str, Any]] = []
    for update, after in enumerate(returns.unbind(2)):
        row = {
            "update": update,
            **across_runs(after, generator),
            "by_seed": after.mean((1, 2)).tolist(),
        }
        if ends is not None:
            row["normalised"] = normalised_across_runs(after, *ends, of_scores)
        rows.append(row)
    found: dict[str, Any] = {
        "name": learner.name,
        "unit": learner.unit,
        "episodes_per_update": runs[0].episodes_per_task if learner.unit == "update" else None,
        "played": runs[0].played,
        "diverged_episodes": sum(run.report.get("diverged_episodes", 0) for run in runs),
        "episodes": len(rows) * sum(len(run.tasks) * run.episodes_per_task for run in runs),
        "seeds": [run.seed for run in runs],
        "env_steps": [run.report.get("trained_env_steps") for run in runs],
        "seconds": [run.metrics[-1].get("seconds") if run.metrics else None for run in runs],
        "returns": rows,
        "made_worse": made_worse_across_runs(returns),
    }
    if made_by := {run.report["made_by"] for run in runs if "made_by" in run.report}:
        found["made_by"] = sorted(made_by)
    for row, of_row in zip(rows, success([run.report for run in runs]), strict=False):
        row["success"] = of_row
    return found


def scale(runs: Sequence[Finished]) -> tuple[Tensor, Tensor] | None:
    """[N] of each task what scores 0 and what scores 1, means over the runs that tell it, which
    evaluations of earlier versions don't; None if none does."""
    scales = [run.report["scale"] for run in runs if "scale" in run.report]
    if not scales:
        return None
    zero, one = (
        torch.tensor([scale[end] for scale in scales], dtype=torch.float64).mean(0)
        for end in ("zero", "one")
    )
    return zero, one


def _beside(of: Sequence[Learner]) -> dict[str, Any]:
    runs = [run for learner in of for run in learner.runs]
    found = _means_beside(of, "mean")
    told = [
        learner
        for learner in of
        if all("success_rate" in run.report["random_initialisation"][0] for run in learner.runs)
    ]
    if told:
        found["success"] = _means_beside(told, "success_rate")
    speeds = [run.report["fixed_speeds"] for run in runs if "fixed_speeds" in run.report]
    if speeds:
        found["fixed_speeds"] = speeds[0]
    return found


def _means_beside(of: Sequence[Learner], key: str) -> dict[str, Any]:
    runs = [run for learner in of for run in learner.runs]
    found: dict[str, Any] = {
        "random_initialisation": {
            learner.name: _means([run.report["random_initialisation"] for run in learner.runs], key)
            for learner in of
        }
    }
    still = [run.report["stand_still"] for run in runs if key in run.report.get("stand_still", ())]
    if still:
        found["stand_still"] = _means(still, key)[0]
    found["references"] = _references(runs, key)
    return found


def _references(runs: Sequence[Finished], key: str) -> dict[str, list[float]]:
    """Means over the runs by name, of the references that tell `key`. Who knows how long a trial is
    plays otherwise in a longer one: where trials differ, each length has a reference of its own."""
    by_length: dict[str, dict[int, list[Any]]] = {}
    for run in runs:
        for name, rows in run.report.get("references", {}).items():
            if key not in (rows if isinstance(rows, Mapping) else rows[0]):
                continue
            length = 1 if isinstance(rows, Mapping) else len(rows)
            by_length.setdefault(name, {}).setdefault(length, []).append(rows)
    return {
        name if len(of_name) == 1 else f"{name}, of {length} in all": _means(rows, key)
        for name, of_name in by_length.items()
        for length, rows in of_name.items()
    }


def _means(summaries: Sequence[Any], key: str) -> list[float]:
    """The mean over runs of what was summed up as `key` after each update, or once for all."""
    rows = [[summary] if isinstance(summary, Mapping) else summary for summary in summaries]
    return [
        sum(row[key] for row in of_update) / len(of_update) for of_update in zip(*rows, strict=True)
    ]
